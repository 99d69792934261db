//! A candidate's steps, and many candidates at random times: never two lead.

use proptest::prelude::*;

use super::*;

fn clock(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lease(holder: &str, renewed: i64, version: &str) -> Seen {
    let record = Record {
        holder: holder.to_owned(),
        duration_seconds: 15,
        acquired: clock(0),
        renewed: clock(renewed),
        transitions: 3,
    };
    Seen { record, version: version.to_owned() }
}

fn candidate() -> Election {
    Election::new("a", Settings::default())
}

#[test]
fn a_lease_that_is_not_there_is_created() {
    let mut election = candidate();
    assert_eq!(election.step(at(0), clock(0)), Step::Read);
    election.read(at(1), None, 0.0);
    let Step::Create(record) = election.step(at(1), clock(1)) else { panic!() };
    let expected = Record {
        holder: "a".to_owned(),
        duration_seconds: 15,
        acquired: clock(1),
        renewed: clock(1),
        transitions: 0,
    };
    assert_eq!(record, expected);
    assert!(!election.leads(at(1)));
    election.written(at(1), at(2), Seen { record, version: "1".to_owned() });
    assert!(election.leads(at(2)) && election.leads(at(10)) && !election.leads(at(11)));
}

#[test]
fn a_holder_is_waited_for_by_the_waiters_clock() {
    let mut election = candidate();
    // Its time of renewal is long past, or yet to come: that is its clock, not ours.
    for renewed in [-5000, 5000] {
        let mut now = 100;
        election.read(at(now), Some(lease("b", renewed, "7")), 0.0);
        while now < 114 {
            assert_eq!(election.step(at(now), clock(0)), Step::Wait(at(now + 2)));
            now += 2;
            assert_eq!(election.step(at(now), clock(0)), Step::Read);
            election.read(at(now), Some(lease("b", renewed, "7")), 0.0);
        }
        // Renewed just now: the wait begins again.
        election.read(at(114), Some(lease("b", renewed + 1, "8")), 0.0);
        election.read(at(128), Some(lease("b", renewed + 1, "8")), 0.0);
        assert_eq!(election.step(at(130), clock(0)), Step::Read);
        election.read(at(130), Some(lease("b", renewed + 1, "8")), 0.0);
        let Step::Replace(record, version) = election.step(at(130), clock(9)) else { panic!() };
        assert_eq!((record.holder.as_str(), record.transitions, version.as_str()), ("a", 4, "8"));
        assert_eq!((record.acquired, record.renewed), (clock(9), clock(9)));
        election = candidate();
    }
}

#[test]
fn a_lease_that_was_given_away_is_taken_at_once() {
    let mut election = candidate();
    election.read(at(0), Some(lease("", 0, "7")), 0.5);
    let Step::Replace(record, _) = election.step(at(0), clock(0)) else { panic!() };
    assert_eq!((record.holder.as_str(), record.transitions), ("a", 4));
}

#[test]
fn a_leader_renews_without_reading_and_keeps_since_when() {
    let mut election = candidate();
    election.written(at(0), at(1), lease("a", 0, "1"));
    assert_eq!(election.step(at(1), clock(1)), Step::Wait(at(3)));
    let Step::Replace(record, version) = election.step(at(3), clock(3)) else { panic!() };
    assert_eq!((record.acquired, record.renewed, record.transitions), (clock(0), clock(3), 3));
    assert_eq!(version, "1");
    // Somebody wrote a label: it is read and written anew, at once, and then with patience.
    election.conflict(at(4), 0.0);
    assert_eq!(election.step(at(4), clock(4)), Step::Read);
    election.read(at(4), Some(lease("a", 0, "2")), 0.0);
    assert!(matches!(election.step(at(4), clock(4)), Step::Replace(_, version) if version == "2"));
    assert!(election.leads(at(9)) && !election.leads(at(10)), "only a renewal makes it longer");
}

#[test]
fn a_leader_that_cannot_renew_stops_before_its_lease_ends() {
    let mut election = candidate();
    election.written(at(0), at(0), lease("a", 0, "1"));
    for now in [2, 4, 6, 8] {
        assert!(election.leads(at(now)));
        election.failed(at(now), 0.9);
        assert_eq!(election.step(at(now), clock(0)), Step::Wait(at(now + 2)));
    }
    assert!(!election.leads(at(10)));
    assert_eq!(election.held_until(), Some(at(15)));
}

#[test]
fn only_ones_own_lease_is_released() {
    let mut election = candidate();
    assert_eq!(election.release(clock(0)), None);
    election.read(at(0), Some(lease("b", 0, "7")), 0.0);
    assert_eq!(election.release(clock(0)), None);
    election.written(at(0), at(0), lease("a", 0, "8"));
    let (record, version) = election.release(clock(5)).unwrap();
    assert_eq!((record.holder.as_str(), record.duration_seconds, record.transitions), ("", 1, 3));
    assert_eq!(version, "8");
}

#[test]
fn settings_must_fit_together() {
    let good = Settings::default();
    assert_eq!(good.check(), Ok(()));
    assert_eq!(Settings { renew_deadline: at(15), ..good }.check(), Err(SettingsError::Lease));
    assert_eq!(Settings { retry_period: at(9), ..good }.check(), Err(SettingsError::Deadline));
    let short = Settings { lease_duration: Duration::from_millis(15_500), ..good };
    assert_eq!(short.check(), Err(SettingsError::Seconds));
}

/// What is on its way in the simulation.
#[derive(Debug)]
enum Message {
    Request { from: usize, sent: u64, step: Step },
    Answer { to: usize, sent: u64, step: Step, result: Result<Option<Seen>, ()> },
    Wake(usize),
}

/// Candidates over one lease; each message takes what chance says, some are lost. Answers how often somebody led.
fn simulate(candidates: usize, seed: &[u64]) -> usize {
    let mut chance = seed.iter().copied().cycle();
    let mut draw = |below: u64| chance.next().unwrap() % below;
    let settings = Settings::default();
    let mut elections: Vec<_> =
        (0..candidates).map(|at| Election::new(&format!("c{at}"), settings)).collect();
    // Clocks begin at different times.
    let offsets: Vec<u64> = (0..candidates).map(|_| draw(1_000_000)).collect();
    let mut waiting: Vec<Option<u64>> = vec![None; candidates];
    let mut lease: Option<Seen> = None;
    let mut version = 0;
    let mut queue = std::collections::BTreeMap::new();
    let mut number = 0_u64;
    let mut put = |queue: &mut std::collections::BTreeMap<_, _>, time: u64, message| {
        number += 1;
        queue.insert((time, number), message);
    };
    for candidate in 0..candidates {
        put(&mut queue, draw(3000), Message::Wake(candidate));
    }
    let mut led = std::collections::BTreeSet::new();
    for _ in 0..400 {
        let Some(((time, _), message)) = queue.pop_first() else { break };
        let own = |candidate: usize| Duration::from_millis(time + offsets[candidate]);
        match message {
            Message::Request { from, sent, step } => {
                let result = match &step {
                    Step::Read => Ok(lease.clone()),
                    Step::Create(record) if lease.is_none() => {
                        version += 1;
                        lease = Some(Seen { record: record.clone(), version: format!("{version}") });
                        Ok(lease.clone())
                    }
                    Step::Replace(record, over)
                        if lease.as_ref().is_some_and(|lease| lease.version == *over) =>
                    {
                        version += 1;
                        lease = Some(Seen { record: record.clone(), version: format!("{version}") });
                        Ok(lease.clone())
                    }
                    _ => Err(()),
                };
                put(&mut queue, time + delay(&mut draw), Message::Answer { to: from, sent, step, result });
            }
            Message::Answer { to, sent, step, result } => {
                // Its sender no longer waits for it.
                if waiting[to] == Some(sent) {
                    waiting[to] = None;
                    let sent = Duration::from_millis(sent + offsets[to]);
                    match (step, result) {
                        (Step::Read, Ok(lease)) => elections[to].read(own(to), lease, 0.3),
                        (_, Ok(lease)) => elections[to].written(sent, own(to), lease.unwrap()),
                        (_, Err(())) => elections[to].conflict(own(to), 0.7),
                    }
                    put(&mut queue, time, Message::Wake(to));
                }
            }
            Message::Wake(candidate) => {
                if let Some(sent) = waiting[candidate] {
                    // As `act` does: patience ends, and the answer no longer counts.
                    if time < sent + 10_000 {
                        continue;
                    }
                    waiting[candidate] = None;
                    elections[candidate].failed(own(candidate), 0.5);
                }
                match elections[candidate].step(own(candidate), clock(0)) {
                    Step::Wait(until) => {
                        let until = u64::try_from(until.as_millis()).unwrap() - offsets[candidate];
                        put(&mut queue, until, Message::Wake(candidate));
                    }
                    step => {
                        waiting[candidate] = Some(time);
                        put(&mut queue, time + 10_000, Message::Wake(candidate));
                        if draw(10) > 0 {
                            let message = Message::Request { from: candidate, sent: time, step };
                            put(&mut queue, time + delay(&mut draw), message);
                        }
                    }
                }
            }
        }
        let leaders: Vec<_> = (0..candidates).filter(|at| elections[*at].leads(own(*at))).collect();
        assert!(leaders.len() <= 1, "{leaders:?} lead at {time} ms: {elections:#?}");
        led.extend(leaders);
    }
    led.len()
}

/// Mostly short, sometimes much longer than anybody waits.
fn delay(draw: &mut impl FnMut(u64) -> u64) -> u64 {
    match draw(8) {
        0 => draw(60_000),
        1 => draw(9000),
        _ => draw(500),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_two_lead(candidates in 2_usize..6, seed in prop::collection::vec(any::<u64>(), 97)) {
        simulate(candidates, &seed);
    }
}

#[test]
fn the_simulation_has_leaders_that_change() {
    let led: Vec<_> = (1..40_u64)
        .map(|seed| {
            let mut state = seed;
            let draws: Vec<_> = (0..997)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    state >> 33
                })
                .collect();
            simulate(3, &draws)
        })
        .collect();
    assert!(led.iter().any(|leaders| *leaders > 1), "{led:?}");
}
