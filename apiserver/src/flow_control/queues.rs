//! The requests of one level: dealt to queues so that few flows meet in one, and taken from them so that the queue that uses
//! the fewest seats comes first, and among equals the one that had the fewest lately. Must never know how many seats there
//! are, nor wait.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::level::Queuing;

/// Names a request while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    seats: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_seats: u64,
    /// Seats of its requests that are worked on.
    seats: u64,
    /// Where it stands in virtual time: it moves by the seats it was given.
    turn: u64,
}

impl Queue {
    fn place(&self, number: u32) -> (u64, u64, u32) {
        (self.seats, self.turn, number)
    }
}

/// See the module's description. It holds only queues in which something waits or is worked on.
#[derive(Debug, Default)]
pub struct Queues {
    queues: HashMap<u32, Queue>,
    /// Those in which something waits, whoever comes first at the front.
    ready: BTreeSet<(u64, u64, u32)>,
    /// The turn of the queue that was served last.
    now: u64,
    waiting: usize,
}

impl Queues {
    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The queue to which a request of a flow belongs now: the emptiest of the flow's hand.
    #[must_use]
    pub fn deal(&self, flow: u64, queuing: &Queuing) -> u32 {
        let mut hand = Hand::new(flow, queuing.queues, queuing.hand_size);
        let weight =
            |number: u32| self.queues.get(&number).map_or((0, 0), |queue| (queue.waiting_seats, queue.seats));
        hand.by_ref().min_by_key(|number| weight(*number)).unwrap_or_default()
    }

    /// How many requests wait in a queue.
    #[must_use]
    pub fn len_of(&self, queue: u32) -> usize {
        self.queues.get(&queue).map_or(0, |queue| queue.waiting.len())
    }

    /// A request begins at once.
    pub fn begin(&mut self, number: u32, seats: u32) {
        self.change(number, |queue, now| {
            queue.turn = queue.turn.max(*now);
            *now = queue.turn;
            queue.turn += u64::from(seats);
            queue.seats += u64::from(seats);
        });
    }

    /// A request waits behind the others of its queue.
    pub fn wait(&mut self, number: u32, ticket: Ticket, seats: u32) {
        self.waiting += 1;
        self.change(number, |queue, now| {
            if queue.waiting.is_empty() {
                queue.turn = queue.turn.max(*now);
            }
            queue.waiting.push_back(Waiting { ticket, seats });
            queue.waiting_seats += u64::from(seats);
        });
    }

    /// The seats that the request wants whose turn it is.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        let (_, _, number) = self.ready.first()?;
        self.queues.get(number)?.waiting.front().map(|request| request.seats)
    }

    /// Begins the request whose turn it is, with at most so many seats: its ticket, queue and seats.
    pub fn take(&mut self, most: u32) -> Option<(Ticket, u32, u32)> {
        let (_, _, number) = *self.ready.first()?;
        let mut taken = None;
        self.change(number, |queue, now| {
            taken = queue.waiting.pop_front();
            if let Some(Waiting { seats, .. }) = &mut taken {
                queue.waiting_seats -= u64::from(*seats);
                *seats = (*seats).min(most);
                let seats = *seats;
                queue.seats += u64::from(seats);
                *now = (*now).max(queue.turn);
                queue.turn += u64::from(seats);
            }
        });
        let Waiting { ticket, seats } = taken?;
        self.waiting -= 1;
        Some((ticket, number, seats))
    }

    /// A request that waits goes away; whether there was one.
    pub fn leave(&mut self, number: u32, ticket: Ticket) -> bool {
        let mut left = false;
        self.change(number, |queue, _| {
            let at = queue.waiting.iter().position(|request| request.ticket == ticket);
            if let Some(request) = at.and_then(|at| queue.waiting.remove(at)) {
                queue.waiting_seats -= u64::from(request.seats);
                left = true;
            }
        });
        self.waiting -= usize::from(left);
        left
    }

    /// A request that was worked on is done.
    pub fn end(&mut self, number: u32, seats: u32) {
        self.change(number, |queue, _| queue.seats = queue.seats.saturating_sub(u64::from(seats)));
    }

    fn change(&mut self, number: u32, change: impl FnOnce(&mut Queue, &mut u64)) {
        let queue = self.queues.entry(number).or_default();
        if !queue.waiting.is_empty() {
            self.ready.remove(&queue.place(number));
        }
        change(queue, &mut self.now);
        if !queue.waiting.is_empty() {
            self.ready.insert(queue.place(number));
        } else if queue.seats == 0 {
            self.queues.remove(&number);
        }
    }
}

/// The queues of one flow, each once: its hash is read as digits of a number system whose base shrinks with each card.
struct Hand {
    hash: u64,
    queues: u32,
    left: u32,
    /// In ascending order.
    dealt: Vec<u32>,
}

impl Hand {
    fn new(hash: u64, queues: u32, size: u32) -> Self {
        Self { hash, queues, left: size.min(queues), dealt: Vec::new() }
    }
}

impl Iterator for Hand {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let remaining = u64::from(self.queues) - self.dealt.len() as u64;
        let mut card = u32::try_from(self.hash % remaining).unwrap_or_default();
        self.hash /= remaining;
        let mut at = 0;
        while at < self.dealt.len() && self.dealt[at] <= card {
            card += 1;
            at += 1;
        }
        self.dealt.insert(at, card);
        Some(card)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take_all(queues: &mut Queues) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some((ticket, queue, seats)) = queues.take(9) {
            queues.end(queue, seats);
            order.push(ticket.0);
        }
        order
    }

    #[test]
    fn a_flow_with_many_requests_does_not_hold_up_another() {
        let mut queues = Queues::default();
        for ticket in 0..5 {
            queues.wait(1, Ticket(ticket), 1);
        }
        queues.wait(2, Ticket(10), 1);
        queues.wait(2, Ticket(11), 1);
        assert_eq!(take_all(&mut queues), [0, 10, 1, 11, 2, 3, 4]);
        assert_eq!(queues.waiting(), 0);
        assert!(queues.queues.is_empty());
    }

    #[test]
    fn wide_requests_wait_for_as_many_narrow_ones() {
        let mut queues = Queues::default();
        queues.begin(7, 1);
        for ticket in 0..2 {
            queues.wait(1, Ticket(ticket), 3);
        }
        for ticket in 10..15 {
            queues.wait(2, Ticket(ticket), 1);
        }
        // Both queues stay known while something of them is worked on.
        let mut order = Vec::new();
        let mut running: Vec<(u32, u32)> = Vec::new();
        while let Some((ticket, queue, seats)) = queues.take(9) {
            order.push(ticket.0);
            running.push((queue, seats));
        }
        assert_eq!(order, [0, 10, 11, 12, 1, 13, 14]);
        for (queue, seats) in running {
            queues.end(queue, seats);
        }
    }

    #[test]
    fn who_uses_fewer_seats_comes_first() {
        let mut queues = Queues::default();
        queues.begin(1, 1);
        queues.wait(1, Ticket(0), 1);
        queues.wait(2, Ticket(1), 1);
        assert_eq!(take_all(&mut queues), [1, 0]);
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut queues = Queues::default();
        queues.wait(1, Ticket(0), 1);
        queues.wait(1, Ticket(1), 1);
        assert!(queues.leave(1, Ticket(0)));
        assert!(!queues.leave(1, Ticket(0)));
        assert_eq!(take_all(&mut queues), [1]);
    }

    proptest! {
        #[test]
        fn nobody_waits_for_more_than_one_request_of_each_other_queue(
            floods in proptest::collection::vec(proptest::collection::vec(1..8_u32, 40), 1..6),
            before in 0..30_usize,
            wide in 1..8_u32,
        ) {
            let mut queues = Queues::default();
            for (number, flood) in (0_u32..).zip(&floods) {
                for seats in flood {
                    queues.wait(number, Ticket(0), *seats);
                }
            }
            for _ in 0..before {
                let (_, number, seats) = queues.take(9).unwrap();
                queues.end(number, seats);
            }
            queues.wait(99, Ticket(1), wide);
            let mut others = Vec::new();
            loop {
                let (ticket, number, seats) = queues.take(9).unwrap();
                queues.end(number, seats);
                if ticket == Ticket(1) {
                    break;
                }
                prop_assert!(!others.contains(&number), "queue {} came twice", number);
                others.push(number);
            }
        }

        #[test]
        fn a_hand_has_each_queue_once(hash: u64, queues in 1..200_u32, size in 1..20_u32) {
            let mut hand: Vec<u32> = Hand::new(hash, queues, size).collect();
            prop_assert_eq!(hand.len(), size.min(queues) as usize);
            prop_assert!(hand.iter().all(|card| *card < queues));
            hand.sort_unstable();
            hand.dedup();
            prop_assert_eq!(hand.len(), size.min(queues) as usize);
        }
    }
}
