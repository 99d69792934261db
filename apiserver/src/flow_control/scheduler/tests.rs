//! What holds whatever comes: never more seats than there are, nobody forgotten, nobody starved.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::level::Queuing;
use super::*;

fn level(name: &str, shares: u32, lendable_percent: u32, response: Response) -> Arc<Level> {
    Arc::new(Level {
        name: name.into(),
        uid: "".into(),
        shares,
        lendable_percent,
        borrowing_percent: None,
        response,
    })
}

fn queue() -> Response {
    Response::Queue(Queuing { queues: 8, hand_size: 2, queue_length_limit: 3 })
}

fn levels() -> Vec<Arc<Level>> {
    vec![
        level("a", 10, 50, queue()),
        level("b", 10, 100, queue()),
        level(CATCH_ALL, 1, 0, Response::Reject),
        level("exempt", 0, 0, Response::Exempt),
    ]
}

fn scheduler() -> Scheduler {
    let mut scheduler = Scheduler::new(21);
    assert!(scheduler.configure(&levels()).is_empty());
    scheduler
}

/// Lets requests come until one does not begin.
fn fill(scheduler: &mut Scheduler, level: &str) -> Vec<Place> {
    let mut places = Vec::new();
    while let Arrival::Begins(place) = scheduler.arrive(Ticket(1000), level, 0, 1) {
        places.push(place);
    }
    places
}

#[test]
fn a_level_borrows_what_is_lent_and_gives_it_back() {
    let mut scheduler = scheduler();
    // Half of a's ten and all of b's; b leaves what a and the rest keep.
    let borrowed = fill(&mut scheduler, "b");
    assert_eq!(borrowed.len(), 10 + 5);
    // What a kept is there at once.
    let own = fill(&mut scheduler, "a");
    assert_eq!(own.len(), 5);
    // Now one of each waits: what becomes free is a's first, as it has less than its part.
    let mut began = Vec::new();
    for place in borrowed.iter().take(2) {
        began.extend(scheduler.end(place).into_iter().map(|(_, place)| place.level));
    }
    assert_eq!(began, ["a".into(), "b".into()]);
    // And b borrows nothing while a waits.
    let wide = scheduler.arrive(Ticket(2000), "a", 0, 4);
    let narrow = scheduler.arrive(Ticket(2001), "b", 0, 1);
    assert!(matches!((wide, narrow), (Arrival::Waits(_), Arrival::Waits(_))));
    let mut began = Vec::new();
    for place in borrowed.iter().skip(2).take(4) {
        began.extend(scheduler.end(place).into_iter().map(|(ticket, _)| ticket));
    }
    assert_eq!(began, [Ticket(2000)]);
}

#[test]
fn levels_that_reject_let_nobody_wait() {
    let mut scheduler = scheduler();
    let place = fill(&mut scheduler, CATCH_ALL);
    assert!(!place.is_empty());
    let refused = Arrival::Refused(Refusal::ConcurrencyLimit);
    assert_eq!(scheduler.arrive(Ticket(1), CATCH_ALL, 0, 1), refused);
    assert_eq!(scheduler.waiting(), 0);
}

#[test]
fn exempt_requests_never_wait() {
    let mut scheduler = scheduler();
    fill(&mut scheduler, "b");
    fill(&mut scheduler, "a");
    for _ in 0..100 {
        assert!(
            matches!(scheduler.arrive(Ticket(1), "exempt", 0, 9), Arrival::Begins(place) if place.seats == 0)
        );
    }
}

#[test]
fn a_full_queue_sends_away() {
    let mut scheduler = scheduler();
    fill(&mut scheduler, "a");
    let mut waiting = 1;
    while matches!(scheduler.arrive(Ticket(waiting), "a", 7, 1), Arrival::Waits(_)) {
        waiting += 1;
    }
    // Two queues of three for the flow, and one request of another flow that waits in one of them or not.
    assert!((5..=7).contains(&waiting), "{waiting}");
    assert_eq!(scheduler.arrive(Ticket(99), "a", 7, 1), Arrival::Refused(Refusal::QueueFull));
}

#[test]
fn no_request_is_wider_than_its_level() {
    let mut scheduler = scheduler();
    let Arrival::Begins(place) = scheduler.arrive(Ticket(1), "a", 0, 1000) else { panic!() };
    assert_eq!(place.seats, 10);
}

#[test]
fn a_level_that_is_gone_serves_who_came_before() {
    let mut scheduler = scheduler();
    let places = fill(&mut scheduler, "a");
    let rest: Vec<_> = levels().into_iter().filter(|level| &*level.name != "a").collect();
    scheduler.configure(&rest);
    assert!(scheduler.nominal("a") > 0);
    let mut running = places;
    while let Some(place) = running.pop() {
        running.extend(scheduler.end(&place).into_iter().map(|(_, place)| place));
    }
    assert_eq!((scheduler.nominal("a"), scheduler.used(), scheduler.waiting()), (0, 0, 0));
    // Whoever was told of it before comes to the level for everything else.
    let Arrival::Begins(place) = scheduler.arrive(Ticket(1), "a", 0, 1) else { panic!() };
    assert_eq!(&*place.level, CATCH_ALL);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive { level: usize, flow: u64, seats: u32 },
    End(usize),
    Leave(usize),
    Configure { a_is_there: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_usize, 0..6_u64, 1..6_u32).prop_map(|(level, flow, seats)| Step::Arrive { level, flow, seats }),
        4 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<bool>().prop_map(|a_is_there| Step::Configure { a_is_there }),
    ]
}

proptest! {
    #[test]
    fn seats_are_never_exceeded_and_nobody_is_forgotten(steps in proptest::collection::vec(step(), 0..200)) {
        let mut scheduler = scheduler();
        let mut running: Vec<Place> = Vec::new();
        let mut waiting: Vec<(Ticket, Place)> = Vec::new();
        let mut next = 0;
        let mut granted: HashMap<Ticket, usize> = HashMap::new();
        for step in steps {
            let grants = match step {
                Step::Arrive { level, flow, seats } => {
                    next += 1;
                    let name = ["a", "b", CATCH_ALL, "exempt"][level];
                    match scheduler.arrive(Ticket(next), name, flow, seats) {
                        Arrival::Begins(place) => running.push(place),
                        Arrival::Waits(place) => waiting.push((Ticket(next), place)),
                        Arrival::Refused(_) => {}
                    }
                    Vec::new()
                }
                Step::End(at) if !running.is_empty() => {
                    let place = running.swap_remove(at % running.len());
                    scheduler.end(&place)
                }
                Step::Leave(at) if !waiting.is_empty() => {
                    let (ticket, place) = waiting.swap_remove(at % waiting.len());
                    scheduler.leave(ticket, &place)
                }
                Step::Configure { a_is_there } => {
                    let levels: Vec<_> =
                        levels().into_iter().filter(|level| a_is_there || &*level.name != "a").collect();
                    scheduler.configure(&levels)
                }
                Step::End(_) | Step::Leave(_) => Vec::new(),
            };
            for (ticket, place) in grants {
                let before = waiting.len();
                waiting.retain(|(waits, _)| *waits != ticket);
                prop_assert_eq!(waiting.len() + 1, before, "only who waits is granted, once");
                *granted.entry(ticket).or_default() += 1;
                running.push(place);
            }
            let used: u32 = running.iter().map(|place| place.seats).sum();
            prop_assert_eq!(used, scheduler.used());
            prop_assert!(used <= scheduler.total());
            prop_assert_eq!(waiting.len(), scheduler.waiting());
            if used == 0 {
                prop_assert!(waiting.is_empty(), "nobody waits while nothing is worked on");
            }
        }
        // Whoever still waits is served as the others end.
        while let Some(place) = running.pop() {
            for (ticket, place) in scheduler.end(&place) {
                waiting.retain(|(waits, _)| *waits != ticket);
                running.push(place);
            }
        }
        prop_assert!(waiting.is_empty());
        prop_assert_eq!(scheduler.used(), 0);
    }
}

#[test]
fn a_flow_that_floods_its_level_does_not_starve_another() {
    let mut scheduler = Scheduler::new(4);
    let wide = Response::Queue(Queuing { queues: 64, hand_size: 4, queue_length_limit: 50 });
    scheduler.configure(&[level("a", 10, 0, wide), level(CATCH_ALL, 1, 0, Response::Reject)]);
    let mut running = Vec::new();
    let mut ticket = 0;
    let mut flood = |scheduler: &mut Scheduler, running: &mut Vec<Place>| {
        ticket += 1;
        if let Arrival::Begins(place) = scheduler.arrive(Ticket(ticket), "a", 0x1234_5678_9abc, 2) {
            running.push(place);
        }
    };
    for _ in 0..100 {
        flood(&mut scheduler, &mut running);
    }
    let mouse = Ticket(1_000_000);
    assert!(matches!(scheduler.arrive(mouse, "a", 0xfeed_beef_0bad, 1), Arrival::Waits(_)));
    let mut rounds = 0;
    'served: loop {
        rounds += 1;
        let place = running.remove(0);
        for (ticket, place) in scheduler.end(&place) {
            if ticket == mouse {
                break 'served;
            }
            running.push(place);
        }
        flood(&mut scheduler, &mut running);
    }
    assert!(rounds <= 6, "{rounds}");
}
