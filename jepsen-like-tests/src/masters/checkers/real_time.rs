//! What a request can have seen at the least and at the most, by the clock that all clients share: what was known to be done
//! before it was sent, and what was not even asked for when it was answered. Pure.

use std::collections::HashMap;

use super::truth::Truth;
use crate::masters::entry::{Outcome, Request};
use crate::masters::history::{History, Operation, Step};

/// The least and the newest version for each moment.
#[derive(Debug)]
pub(super) struct RealTime {
    /// When which version was known to be there, the highest so far.
    known: Vec<(u64, i64)>,
    /// When the request for which version was sent; the lowest version of this and all later ones.
    asked: Vec<(u64, i64)>,
}

impl RealTime {
    pub(super) fn of(history: &History, truth: &Truth) -> Self {
        let mut known = Vec::new();
        for operation in &history.operations {
            let Some((time_ns, outcome)) = operation.known() else { continue };
            match outcome {
                Outcome::Done { object: Some(object) } => known.push((time_ns, object.version)),
                Outcome::Listed { version, .. } if !is_stale(&operation.request) => {
                    known.push((time_ns, *version));
                }
                Outcome::Found { object } => known.push((time_ns, object.version)),
                _ => {}
            }
        }
        for (time_ns, _, step) in history.informers.values().flatten() {
            if let Step::Relisted { version, .. } = step {
                known.push((*time_ns, *version));
            }
        }
        known.extend(truth.changes().map(|change| (change.told_ns, change.object.version)));
        known.sort_unstable();
        let mut highest = 0;
        for (_, version) in &mut known {
            highest = highest.max(*version);
            *version = highest;
        }

        let asked_at = first_asked(history);
        let mut asked: Vec<(u64, i64)> = truth
            .changes()
            .filter_map(|change| {
                Some((*asked_at.get(&cause(&change.object, change.deleted))?, change.object.version))
            })
            .collect();
        asked.sort_unstable();
        let mut lowest = i64::MAX;
        for (_, version) in asked.iter_mut().rev() {
            lowest = lowest.min(*version);
            *version = lowest;
        }
        Self { known, asked }
    }

    /// The newest version that was known before this moment.
    pub(super) fn least(&self, time_ns: u64) -> i64 {
        let before = self.known.partition_point(|(known_ns, _)| *known_ns < time_ns);
        before.checked_sub(1).map_or(0, |last| self.known[last].1)
    }

    /// The last version before the first one that was asked for after this moment.
    pub(super) fn most(&self, time_ns: u64) -> i64 {
        let first = self.asked.partition_point(|(asked_ns, _)| *asked_ns <= time_ns);
        self.asked.get(first).map_or(i64::MAX, |(_, version)| version - 1)
    }

    /// Between which versions a request saw the store, if it was answered.
    pub(super) fn window(&self, operation: &Operation) -> Option<(i64, i64)> {
        let (time_ns, _) = operation.known()?;
        Some((self.least(operation.invoked_ns), self.most(time_ns)))
    }
}

fn is_stale(request: &Request) -> bool {
    matches!(request, Request::Get { stale: true, .. } | Request::List { stale: true })
}

/// What a change comes from: the write of a value, or the deletion of an object.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Cause<'a> {
    Write(&'a str),
    Deletion(&'a str),
}

fn cause(object: &crate::masters::entry::Object, deleted: bool) -> Cause<'_> {
    if deleted { Cause::Deletion(&object.uid) } else { Cause::Write(&object.value) }
}

/// When each write, and the first deletion of each object, was sent.
fn first_asked(history: &History) -> HashMap<Cause<'_>, u64> {
    let mut first = HashMap::new();
    for operation in &history.operations {
        let cause = match &operation.request {
            Request::Create { value, .. } | Request::Update { value, .. } => Cause::Write(value),
            Request::Delete { uid, .. } => Cause::Deletion(uid),
            Request::Get { .. } | Request::List { .. } | Request::Other { .. } => continue,
        };
        let time_ns = first.entry(cause).or_insert(operation.invoked_ns);
        *time_ns = operation.invoked_ns.min(*time_ns);
    }
    first
}
