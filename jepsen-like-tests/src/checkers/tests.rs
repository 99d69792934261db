//! Every checker on correct histories, which it must pass, and on histories with a planted fault, which it must find.

use std::time::Duration;

use proptest::prelude::*;

use super::planted::{Fault, RequestFault, WatchFault, run};
use super::search::Found;
use super::{Past, Verdict, check_all, end, values};
use crate::excerpt;
use crate::history::{ClientId, History, Operation, OperationId, Outcome, Request};

const REQUESTS: usize = 400;
/// Histories in which each fault must find a place and be found.
const HISTORIES: usize = 12;
/// Seeds that are tried to find a place.
const SEEDS: u64 = 400;

/// Each fault, and the checkers that must find it.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::StaleRead, &["revisions", "registers"]),
    (Fault::OldValue, &["revisions"]),
    (Fault::LostWrite, &["revisions"]),
    (Fault::DoubleApply, &["revisions"]),
    (Fault::RefusedButDone, &["revisions"]),
    (Fault::ConditionIgnored, &["revisions"]),
    (Fault::EarlyLease, &["lease"]),
    (Fault::RevokeIgnored, &["revisions"]),
    (Fault::NeverTrue, &["serializable"]),
    (Fault::MemberLacksKey, &["end"]),
    (Fault::OtherHash, &["end"]),
    (Fault::Watch(WatchFault::Dropped), &["watch"]),
    (Fault::Watch(WatchFault::LastDropped), &["watch"]),
    (Fault::Watch(WatchFault::Reordered), &["watch"]),
    (Fault::Watch(WatchFault::Repeated), &["watch"]),
    (Fault::Watch(WatchFault::BackInTime), &["watch"]),
    (Fault::Watch(WatchFault::Split), &["watch"]),
    (Fault::Watch(WatchFault::WrongPrev), &["watch"]),
    (Fault::Watch(WatchFault::NoPrev), &["watch"]),
    (Fault::Watch(WatchFault::ProgressTooFar), &["watch"]),
    (Fault::Watch(WatchFault::NotAskedFor), &["watch"]),
    (Fault::Watch(WatchFault::WrongIsCreate), &["watch"]),
    (Fault::Watch(WatchFault::WrongValue), &["watch"]),
    (Fault::Request(RequestFault::RelationIgnored), &["revisions"]),
    (Fault::Request(RequestFault::FirstKeyOnly), &["revisions"]),
    (Fault::Request(RequestFault::OrderIgnored), &["revisions"]),
    (Fault::Request(RequestFault::BoundsIgnored), &["revisions"]),
    (Fault::Request(RequestFault::LeaseForgotten), &["revisions"]),
];

fn verdict(history: &History, checker: &str) -> Verdict {
    let finding = check_all(history).into_iter().find(|finding| finding.checker == checker);
    finding.unwrap_or_else(|| panic!("no checker is called {checker}")).verdict
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn correct_histories_pass(seed in any::<u64>()) {
        let planted = run(seed, REQUESTS, None);
        for finding in check_all(&planted.history) {
            prop_assert!(finding.verdict.passed(), "{}: {}", finding.checker, finding.verdict);
        }
    }
}

#[test]
fn correct_histories_hold_something_for_every_checker() {
    let planted = run(1, 4 * REQUESTS, None);
    // The model knows no users; rights are judged on histories written by hand.
    for finding in check_all(&planted.history).into_iter().filter(|finding| finding.checker != "auth") {
        assert!(
            matches!(finding.verdict, Verdict::Passed { checked: 5.. }),
            "{}: {}",
            finding.checker,
            finding.verdict
        );
    }
}

#[test]
fn planted_faults_are_found() {
    for (fault, checkers) in FAULTS {
        let histories: Vec<(u64, History)> = (0..SEEDS)
            .map(|seed| (seed, run(seed, REQUESTS, Some(*fault))))
            .filter(|(_, planted)| planted.applied)
            .map(|(seed, planted)| (seed, planted.history))
            .take(HISTORIES)
            .collect();
        assert_eq!(histories.len(), HISTORIES, "{fault:?} hardly ever finds a place");
        for (seed, history) in histories {
            for checker in *checkers {
                let verdict = verdict(&history, checker);
                assert!(verdict.violation().is_some(), "{fault:?} with seed {seed}: {checker} {verdict}");
            }
        }
    }
}

/// Each checker that stands on its own, without the main one, finds what is its subject.
#[test]
fn broken_conditions_break_locks_counters_and_lists() {
    for checker in ["lock", "counter", "list-append"] {
        let found = (0..SEEDS)
            .filter(|&seed| {
                let planted = run(seed, REQUESTS, Some(Fault::ConditionIgnored));
                verdict(&planted.history, checker).violation().is_some()
            })
            .take(3)
            .count();
        assert_eq!(found, 3, "{checker} finds no ignored condition");
    }
}

#[test]
fn a_lost_element_of_a_set_is_found() {
    let mut history = run(3, REQUESTS, None).history;
    for member in &mut history.members {
        let element =
            member.kvs.iter().position(|kv| kv.key.starts_with("set/")).expect("sets have elements");
        member.kvs.remove(element);
    }
    assert!(verdict(&history, "set").violation().is_some());
    let past = Past::of(&history.revisions).expect("the revisions are untouched");
    assert!(end::check(&history, &past).violation().is_some());
}

#[test]
fn a_watch_that_goes_on_before_its_end_is_found() {
    let mut history = run(4, REQUESTS, None).history;
    let resumed = history.watches.iter_mut().find(|watch| watch.request.resumes.is_some());
    resumed.expect("some watches are resumed").request.start_revision -= 1;
    assert!(verdict(&history, "watch").violation().is_some());
}

#[test]
fn a_history_with_a_gap_is_no_history() {
    let mut history = run(5, REQUESTS, None).history;
    history.revisions.remove(10);
    let findings = check_all(&history);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].verdict.violation().is_some());
}

/// A search that cannot end in time says so, and the run with it fails by that name.
#[test]
fn a_search_without_time_is_no_pass() {
    let operation = |number: u64, request, answer| Operation {
        id: OperationId(number),
        client: ClientId(number as u32),
        member: "m1".to_owned(),
        request,
        invoked_ns: number,
        completed: Some((1000, Outcome::Ok { revision: 1, answer })),
    };
    let mut history = History::default();
    for number in 0..30 {
        let put = Request::put("register/0", number.to_string());
        history.operations.push(operation(number, put, crate::history::Answer::Put));
    }
    let absent = crate::history::Answer::Range {
        kvs: vec![crate::history::KeyValue { value: "never".to_owned(), ..Default::default() }],
        count: 1,
        more: false,
    };
    history.operations.push(operation(31, Request::get("register/0"), absent));
    let verdict = values::check(&history, "register/", None, Duration::ZERO);
    assert!(matches!(verdict, Verdict::Unknown { .. }), "{verdict} ({:?})", Found::OutOfTime);
}

/// People are shown a few requests and not the run, and what they are shown still fails.
#[test]
fn excerpts_are_small_and_fail() {
    for (fault, checker, most) in [
        (Fault::StaleRead, "revisions", 2),
        (Fault::StaleRead, "registers", 12),
        (Fault::OldValue, "revisions", 1),
        (Fault::LostWrite, "revisions", 2),
        (Fault::Watch(WatchFault::Reordered), "watch", 4),
        (Fault::Watch(WatchFault::Dropped), "watch", 4),
        (Fault::Watch(WatchFault::WrongPrev), "watch", 1),
        (Fault::EarlyLease, "lease", 1),
    ] {
        let planted = (0..SEEDS).map(|seed| run(seed, REQUESTS, Some(fault))).find(|planted| planted.applied);
        let history = planted.unwrap_or_else(|| panic!("{fault:?} finds no place")).history;
        let finding = check_all(&history).into_iter().find(|finding| finding.checker == checker);
        let finding = finding.unwrap_or_else(|| panic!("no checker is called {checker}"));
        let excerpt =
            excerpt::of(&history, &finding).unwrap_or_else(|| panic!("{fault:?}: {}", finding.verdict));
        let size =
            excerpt.operations.len() + excerpt.watches.iter().map(|watch| watch.answers.len()).sum::<usize>();
        assert!(
            (1..=most).contains(&size),
            "{fault:?}, {checker}: {size} of {most}\n{}",
            excerpt::text(&excerpt)
        );
        let past = Past::of(&history.revisions).expect("the revisions are in order");
        let still = match checker {
            "revisions" => super::revisions::check(&excerpt, &past, super::Extent::Excerpt),
            "registers" => values::check(&excerpt, super::REGISTERS, None, Duration::from_secs(60)),
            "watch" => super::watch::check(&excerpt, &past),
            _ => continue,
        };
        assert!(still.violation().is_some(), "{fault:?}: the excerpt passes\n{}", excerpt::text(&excerpt));
    }
}

#[test]
fn a_history_makes_its_lines_again() {
    let mut history = run(6, REQUESTS, None).history;
    history.watches.sort_by_key(|watch| watch.opened_ns);
    let mut again = History::of(history.entries()).expect("the lines fit together");
    again.watches.sort_by_key(|watch| (watch.opened_ns, watch.id));
    history.watches.sort_by_key(|watch| (watch.opened_ns, watch.id));
    assert_eq!(again, history);
}
