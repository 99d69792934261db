//! What can be wrong, planted into a history that is right.

use crate::history::{ClientId, OperationId};
use crate::masters::checkers::truth::Truth;
use crate::masters::entry::{LeaseVersion, Object, Outcome, Request, Told};
use crate::masters::history::{History, Operation, Step, Steps};

use super::model::SECOND_US;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Two informers are told different things of one version.
    Contradiction,
    /// An object has another uid all at once.
    AnotherUid,
    /// A write that was acknowledged is in no history.
    LostWrite,
    /// A write is done once more.
    DoubleApply,
    /// An update is done over another version than it demanded.
    IgnoredCondition,
    /// A deletion is done over another version than it demanded.
    IgnoredDeleteCondition,
    /// What was refused is done.
    RefusedButDone,
    /// A guard held, and the write was refused.
    RefusedWithoutReason,
    /// Something that nobody wrote.
    ForeignValue,
    /// The answer tells another version than informers are told.
    WrongAnswer,
    /// A write is put before one that had been acknowledged when it was sent.
    BackInTime,
    /// A deletion is acknowledged twice.
    DeletedTwice,
    /// A read by default tells what was long ago.
    StaleGet,
    /// A list by default is of a version of long ago.
    StaleList,
    /// A read tells what was written later.
    FutureRead,
    /// With `resourceVersion=0` too.
    FutureStaleRead,
    /// A read tells a state that never was.
    NeverWas,
    /// A list lacks an object.
    ListLacks,
    /// A list has an object in an older version.
    ListTorn,
    /// An event is not told.
    Dropped,
    /// An event is told twice.
    Repeated,
    /// Two events change places.
    Reordered,
    /// A change is told as a new object.
    WrongKind,
    /// A bookmark is ahead of the events.
    BookmarkTooFar,
    /// After an end the watch goes on later.
    ResumedTooLate,
    /// A list is older than what the informer has seen.
    RelistedOlder,
    /// Somebody acts who never had the Lease.
    ActOfStranger,
    /// Somebody acts after another one had the Lease.
    ActAfterPassing,
    /// The same with a write whose version nobody tells.
    UntoldActAfterPassing,
    /// The Lease is taken before it had run out.
    TakenEarly,
    /// The Lease passes without being counted.
    NotCounted,
}

impl Fault {
    pub(super) const ALL: [Self; 31] = [
        Self::Contradiction,
        Self::AnotherUid,
        Self::LostWrite,
        Self::DoubleApply,
        Self::IgnoredCondition,
        Self::IgnoredDeleteCondition,
        Self::RefusedButDone,
        Self::RefusedWithoutReason,
        Self::ForeignValue,
        Self::WrongAnswer,
        Self::BackInTime,
        Self::DeletedTwice,
        Self::StaleGet,
        Self::StaleList,
        Self::FutureRead,
        Self::FutureStaleRead,
        Self::NeverWas,
        Self::ListLacks,
        Self::ListTorn,
        Self::Dropped,
        Self::Repeated,
        Self::Reordered,
        Self::WrongKind,
        Self::BookmarkTooFar,
        Self::ResumedTooLate,
        Self::RelistedOlder,
        Self::ActOfStranger,
        Self::ActAfterPassing,
        Self::UntoldActAfterPassing,
        Self::TakenEarly,
        Self::NotCounted,
    ];

    /// Who must find it.
    pub(super) fn checker(self) -> &'static str {
        match self {
            Self::Contradiction | Self::AnotherUid => "truth",
            Self::LostWrite
            | Self::DoubleApply
            | Self::IgnoredCondition
            | Self::IgnoredDeleteCondition
            | Self::RefusedButDone
            | Self::RefusedWithoutReason
            | Self::ForeignValue
            | Self::WrongAnswer
            | Self::BackInTime
            | Self::DeletedTwice => "writes",
            Self::StaleGet
            | Self::StaleList
            | Self::FutureRead
            | Self::FutureStaleRead
            | Self::NeverWas
            | Self::ListLacks
            | Self::ListTorn => "reads",
            Self::Dropped
            | Self::Repeated
            | Self::Reordered
            | Self::WrongKind
            | Self::BookmarkTooFar
            | Self::ResumedTooLate
            | Self::RelistedOlder => "watches",
            _ => "leader",
        }
    }

    /// Plants it; the seed decides where.
    pub(super) fn plant(self, history: &mut History, seed: u64) {
        let truth = Truth::of(history).unwrap();
        match self {
            Self::Contradiction => event(history, seed, is_any, |object| object.value = "other".to_owned()),
            Self::AnotherUid => {
                let version = updated(history, seed).1;
                everywhere(history, version, |object| object.uid = "other".to_owned());
            }
            Self::LostWrite => {
                let version = updated(history, seed).1;
                for steps in history.informers.values_mut() {
                    steps.retain(|(_, _, step)| of(step).is_none_or(|object| object.version != version));
                }
            }
            Self::DoubleApply => {
                let version = updated(history, seed).1;
                let object = truth.at(version).unwrap().object.clone();
                let last = truth.changes().next_back().unwrap().object.version;
                // As another object of its kind, so that the guard alone does not tell.
                for steps in history.informers.values_mut() {
                    let again = Object {
                        version: last + 1,
                        name: "o-again".to_owned(),
                        uid: "again".to_owned(),
                        ..object.clone()
                    };
                    steps.push((u64::MAX, "m1".to_owned(), Step::Told(Told::Added { object: again })));
                }
            }
            Self::IgnoredCondition => {
                let index = updated(history, seed).0;
                let Request::Update { version, .. } = &mut history.operations[index].request else {
                    unreachable!()
                };
                *version -= 1;
            }
            Self::IgnoredDeleteCondition => {
                let index = any(history, seed, |operation| {
                    matches!(operation.request, Request::Delete { .. }) && operation.done().is_some()
                });
                let Request::Delete { version, .. } = &mut history.operations[index].request else {
                    unreachable!()
                };
                *version = Some(1);
            }
            Self::RefusedButDone => {
                let index = updated(history, seed).0;
                let (time_ns, _) = history.operations[index].completed.clone().unwrap();
                history.operations[index].completed = Some((time_ns, refusal()));
            }
            Self::RefusedWithoutReason => {
                let object = history_end(&truth);
                let Object { name, version, .. } = object;
                let request = Request::Update { name, version, value: "late".to_owned() };
                at_end(history, request, refusal());
            }
            Self::ForeignValue => {
                let version = truth.changes().find(|change| !change.deleted).unwrap().object.version;
                // Also where it goes with it.
                let object = truth.at(version).unwrap().object.clone();
                for each in truth.changes().filter(|change| change.object.value == object.value) {
                    everywhere(history, each.object.version, |object| object.value = "foreign".to_owned());
                }
            }
            Self::WrongAnswer => {
                let index = updated(history, seed).0;
                let Some((_, Outcome::Done { object: Some(object) })) =
                    &mut history.operations[index].completed
                else {
                    unreachable!()
                };
                object.version += 1;
            }
            Self::BackInTime => {
                let (index, version) = updated(history, seed);
                assert!(truth.after(version).is_some(), "there are later ones");
                let end_ns = end_ns(history);
                let operation = &mut history.operations[index];
                operation.invoked_ns = end_ns + 1;
                operation.completed.as_mut().unwrap().0 = end_ns + 2;
            }
            Self::DeletedTwice => {
                let index = any(history, seed, |operation| {
                    matches!(operation.request, Request::Delete { .. }) && operation.done().is_some()
                });
                let request = history.operations[index].request.clone();
                at_end(history, request, Outcome::Done { object: None });
            }
            Self::StaleGet => {
                let object = outdated(&truth);
                let request = Request::Get { name: object.name.clone(), stale: false };
                at_end(history, request, Outcome::Found { object });
            }
            Self::StaleList => {
                let version = outdated(&truth).version;
                let objects = truth.all_at(version).into_values().cloned().collect();
                at_end(history, Request::List { stale: false }, Outcome::Listed { version, objects });
            }
            Self::FutureRead | Self::FutureStaleRead => {
                let stale = self == Self::FutureStaleRead;
                let object = history_end(&truth);
                let request = Request::Get { name: object.name.clone(), stale };
                push(history, 0, request, Outcome::Found { object });
            }
            Self::NeverWas => {
                let object = Object { value: "never".to_owned(), ..history_end(&truth) };
                let request = Request::Get { name: object.name.clone(), stale: true };
                at_end(history, request, Outcome::Found { object });
            }
            Self::ListLacks => {
                let version = truth.changes().next_back().unwrap().object.version;
                let objects = truth.all_at(version).into_values().skip(1).cloned().collect();
                at_end(history, Request::List { stale: false }, Outcome::Listed { version, objects });
            }
            Self::ListTorn => {
                let old = outdated(&truth);
                let version = truth.changes().next_back().unwrap().object.version;
                let mut all = truth.all_at(version);
                all.insert(&old.name, &old);
                let objects = all.into_values().cloned().collect();
                at_end(history, Request::List { stale: true }, Outcome::Listed { version, objects });
            }
            Self::Dropped => {
                let (steps, index) = place(history, seed, is_any);
                steps.remove(index);
            }
            Self::Repeated => {
                let (steps, index) = place(history, seed, is_any);
                steps.insert(index + 1, steps[index].clone());
            }
            Self::Reordered => {
                let (steps, index) = place(history, seed, is_any);
                let next = (index + 1..steps.len()).find(|next| of(&steps[*next].2).is_some()).unwrap();
                steps.swap(index, next);
            }
            Self::WrongKind => {
                let (steps, index) = place(history, seed, |told| matches!(told, Told::Modified { .. }));
                let object = of(&steps[index].2).unwrap().clone();
                steps[index].2 = Step::Told(Told::Added { object });
            }
            Self::BookmarkTooFar => {
                let (steps, index) = place(history, seed, is_any);
                let version = of(&steps[index].2).unwrap().version;
                steps.insert(index, (0, "m1".to_owned(), Step::Told(Told::Bookmark { version })));
            }
            Self::ResumedTooLate => {
                let (steps, index) = place(history, seed, is_any);
                let version = of(&steps[index].2).unwrap().version;
                steps[index].2 = Step::Resumed { version };
            }
            Self::RelistedOlder => {
                let (steps, index) = place(history, seed, is_any);
                let objects = Vec::new();
                steps.insert(index + 1, (0, "m1".to_owned(), Step::Relisted { version: 10, objects }));
            }
            Self::ActOfStranger => {
                let index = seed as usize % history.acts.len();
                let act = &mut history.acts[index];
                act.process = "m3-1".to_owned();
                act.version = act.version.or(Some(1_000_002));
            }
            Self::ActAfterPassing | Self::UntoldActAfterPassing => {
                // What the first one does in his last turn but one, as late as the other one's turn.
                let late = history.acts.iter().rposition(|act| act.process == "m2-1").unwrap();
                let (received_us, version) =
                    (history.acts[late].received_us, history.leases.last().unwrap().1.version);
                let early = history.acts.iter_mut().find(|act| act.process == "m1-1").unwrap();
                early.received_us = received_us;
                early.version = (self == Self::ActAfterPassing).then_some(version + 1);
            }
            Self::TakenEarly => {
                let turn = 1 + seed as i64 % 3;
                for lease in turn_of(history, turn) {
                    lease.acquired_us -= 3 * SECOND_US;
                }
            }
            Self::NotCounted => {
                let turn = 1 + seed as i64 % 3;
                for lease in turn_of(history, turn) {
                    lease.transitions -= 1;
                }
            }
        }
    }
}

fn refusal() -> Outcome {
    Outcome::Refused { code: 409, reason: "Conflict".to_owned() }
}

fn is_any(_: &Told) -> bool {
    true
}

fn of(step: &Step) -> Option<&Object> {
    match step {
        Step::Told(Told::Added { object } | Told::Modified { object } | Told::Deleted { object }) => {
            Some(object)
        }
        _ => None,
    }
}

fn any(history: &History, seed: u64, is: impl Fn(&Operation) -> bool) -> usize {
    let all: Vec<usize> =
        (0..history.operations.len()).filter(|index| is(&history.operations[*index])).collect();
    all[seed as usize % all.len()]
}

/// An update that was acknowledged, with its version, not one of the last.
fn updated(history: &History, seed: u64) -> (usize, i64) {
    let end = history.operations.len() * 2 / 3;
    let index = any(history, seed, |operation| {
        matches!(operation.request, Request::Update { .. })
            && operation.done().is_some()
            && operation.id.0 < end as u64
    });
    (index, history.operations[index].done().unwrap().1.unwrap().version)
}

/// Something that is there in the end.
fn history_end(truth: &Truth) -> Object {
    truth.all_at(i64::MAX - 1).into_values().next_back().unwrap().clone()
}

/// Something that was there, and was another one soon afterwards.
fn outdated(truth: &Truth) -> Object {
    let name = &truth.changes().next().unwrap().object.name;
    let mut of = truth.changes().filter(|change| change.object.name == *name && !change.deleted);
    let first = of.next().unwrap().object.clone();
    assert_ne!(truth.state(name, i64::MAX - 1), Some(&first), "it is another one");
    first
}

fn end_ns(history: &History) -> u64 {
    let steps = history.informers.values().flatten().map(|(time_ns, _, _)| *time_ns);
    let answers = history.operations.iter().filter_map(|operation| Some(operation.completed.as_ref()?.0));
    steps.chain(answers).max().unwrap()
}

fn push(history: &mut History, now_ns: u64, request: Request, outcome: Outcome) {
    history.operations.push(Operation {
        id: OperationId(history.operations.len() as u64 + 1),
        client: ClientId(99),
        member: "m1".to_owned(),
        request,
        invoked_ns: now_ns,
        completed: Some((now_ns + 1, outcome)),
    });
}

fn at_end(history: &mut History, request: Request, outcome: Outcome) {
    let now_ns = end_ns(history) + 1;
    push(history, now_ns, request, outcome);
}

/// An informer, and one of its events that is not one of the last.
fn place(history: &mut History, seed: u64, is: impl Fn(&Told) -> bool) -> (&mut Steps, usize) {
    let informer = seed as usize % history.informers.len();
    let steps = history.informers.values_mut().nth(informer).unwrap();
    let all: Vec<usize> = steps
        .iter()
        .enumerate()
        .filter(|(_, (_, _, step))| matches!(step, Step::Told(told) if of(step).is_some() && is(told)))
        .map(|(index, _)| index)
        .collect();
    (steps, all[seed as usize % (all.len() / 2)])
}

fn event(history: &mut History, seed: u64, is: impl Fn(&Told) -> bool, change: impl Fn(&mut Object)) {
    let (steps, index) = place(history, seed, is);
    alter(&mut steps[index].2, &change);
}

fn alter(step: &mut Step, change: &impl Fn(&mut Object)) {
    if let Step::Told(Told::Added { object } | Told::Modified { object } | Told::Deleted { object }) = step {
        change(object);
    }
}

/// As all informers are told of a version.
fn everywhere(history: &mut History, version: i64, change: impl Fn(&mut Object)) {
    for (_, _, step) in history.informers.values_mut().flatten() {
        if of(step).is_some_and(|object| object.version == version) {
            alter(step, &change);
        }
    }
}

/// The versions of the Lease from this turn on, or in it alone when it is the last.
fn turn_of(history: &mut History, turn: i64) -> impl Iterator<Item = &mut LeaseVersion> {
    history.leases.iter_mut().map(|(_, lease)| lease).filter(move |lease| lease.transitions == turn)
}
