//! Whether the order of revisions respects real time: what was over before something began comes before it.
//!
//! Each request has a place: the revision that it made, or the state that it read. Requests of one state that change
//! nothing can stand in any order, so places decide everything, and a sweep over time with the highest place seen so
//! far finds every contradiction.

use super::verdict::Violation;
use crate::history::{History, Operation, OperationId, WatchId};

/// Where a request stands in the order of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It made this revision.
    Wrote(i64),
    /// It saw the state of this revision.
    Read(i64),
    /// It saw the state of this revision, and might have seen an older one.
    Stale(i64),
}

impl Place {
    fn revision(self) -> i64 {
        match self {
            Self::Wrote(revision) | Self::Read(revision) | Self::Stale(revision) => revision,
        }
    }
}

/// Who has seen the highest revision so far.
#[derive(Clone, Copy, Debug)]
enum Witness {
    Nobody,
    Operation(OperationId),
    Watch(WatchId),
}

enum Moment<'a> {
    Begin(&'a Operation, Place),
    /// Somebody has learnt that this revision is there.
    Seen(i64, Witness),
}

/// Checks the places of requests against their times. Watches count as proof that a revision was there.
pub(super) fn check(history: &History, places: &[(usize, Place)]) -> Result<usize, Violation> {
    // At equal times beginnings come first: such requests overlap.
    let mut moments: Vec<(u64, bool, Moment<'_>)> = Vec::new();
    for &(index, place) in places {
        let operation = &history.operations[index];
        moments.push((operation.invoked_ns, false, Moment::Begin(operation, place)));
        if let Some(ended_ns) = operation.ended_ns() {
            let seen = Moment::Seen(place.revision(), Witness::Operation(operation.id));
            moments.push((ended_ns, true, seen));
        }
    }
    for watch in &history.watches {
        for answer in &watch.answers {
            if let Some(event) = answer.events.last() {
                let seen = Moment::Seen(event.kv.mod_revision, Witness::Watch(watch.id));
                moments.push((answer.time_ns, true, seen));
            }
        }
    }
    moments.sort_by_key(|(time_ns, ends, _)| (*time_ns, *ends));
    let (mut highest, mut witness) = (0, Witness::Nobody);
    for (_, _, moment) in moments {
        match moment {
            Moment::Seen(revision, by) => {
                if revision > highest {
                    (highest, witness) = (revision, by);
                }
            }
            Moment::Begin(operation, place) => {
                let wrong = match place {
                    Place::Wrote(revision) if revision <= highest => "made revision",
                    Place::Read(revision) if revision < highest => "saw the state of revision",
                    _ => continue,
                };
                return Err(violation(operation, wrong, place.revision(), highest, witness));
            }
        }
    }
    Ok(places.len())
}

fn violation(operation: &Operation, wrong: &str, revision: i64, highest: i64, witness: Witness) -> Violation {
    let what = |by: String| {
        format!(
            "{} {} of client {} {wrong} {revision}, although {by} had seen revision {highest} before it began",
            operation.request.name(),
            operation.id.0,
            operation.client.0
        )
    };
    let found = match witness {
        Witness::Operation(other) => {
            Violation::new(what(format!("operation {}", other.0))).by([other, operation.id])
        }
        Witness::Watch(watch) => {
            Violation::new(what(format!("watch {}", watch.0))).by([operation.id]).on(watch)
        }
        Witness::Nobody => Violation::new(what("nobody".to_owned())).by([operation.id]),
    };
    found.at(revision).at(highest)
}
