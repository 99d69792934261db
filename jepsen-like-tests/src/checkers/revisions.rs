//! The main check of keys: the order of revisions explains every answer, and every revision has one cause.
//!
//! The store says itself in which order things happened: each change has a revision, each answer names one. So there is
//! nothing to search for. Each request that was done must follow from the state at its place, each revision
//! must be the doing of exactly one request (or of a lease's end), and real time must agree. What
//! was acknowledged is thereby in the history, once.

use std::collections::{BTreeMap, HashMap};

use super::execute::execute;
use super::matching::assign;
use super::past::Past;
use super::real_time::{self, Place};
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, History, Operation, Request};

/// How much of what happened the history holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All: each revision needs a cause.
    Whole,
    /// Some requests and watches, with all revisions: a revision without a cause is not looked at.
    Excerpt,
}

/// Where each request stands that was done, and which revisions have a cause among them.
struct Explained {
    places: Vec<(usize, Place)>,
    causes: BTreeMap<i64, usize>,
}

/// Checks linearizability of everything that reads or changes keys.
#[must_use]
pub fn check(history: &History, past: &Past, extent: Extent) -> Verdict {
    Verdict::of(explain_all(history, past, extent).and_then(|places| real_time::check(history, &places)))
}

/// The open requests that did change something, by their index, with the revision. `None` when nothing explains the
/// history.
#[must_use]
pub fn pinned(history: &History, past: &Past) -> Option<HashMap<usize, i64>> {
    let mut explained = explain(history, past).ok()?;
    pin(history, past, &mut explained).ok()?;
    let open = explained.causes.into_iter().filter(|(_, index)| history.operations[*index].is_open());
    Some(open.map(|(revision, index)| (index, revision)).collect())
}

fn explain_all(history: &History, past: &Past, extent: Extent) -> Result<Vec<(usize, Place)>, Violation> {
    let mut explained = explain(history, past)?;
    if extent == Extent::Whole {
        pin(history, past, &mut explained)?;
    }
    Ok(explained.places)
}

/// Explains every answer by the state at the revision that it names.
fn explain(history: &History, past: &Past) -> Result<Explained, Violation> {
    let mut explained = Explained { places: Vec::new(), causes: BTreeMap::new() };
    for (index, operation) in history.operations.iter().enumerate() {
        let Some((revision, answer)) = operation.ok() else { continue };
        let place = match &operation.request {
            Request::LeaseGrant { .. }
            | Request::LeaseKeepAlive { .. }
            | Request::Compact { .. }
            | Request::AuthGrant
            | Request::AuthRevoke
            | Request::AuthEnable
            | Request::AuthDisable => {
                // The header tells how far the member was, not where the request stands.
                continue;
            }
            Request::LeaseRevoke { id } => {
                if let Some(key) = past.keys_of_lease(*id, revision).next() {
                    let what = format!(
                        "lease {id} was revoked by operation {}, but at revision {revision} the key `{key}` still hangs \
                         on it",
                        operation.id.0
                    );
                    return Err(Violation::new(what).by([operation.id]).at(revision));
                }
                continue;
            }
            // What a serializable read answers is judged on its own; a right one still tells how far the store was.
            request if request.is_serializable() => match place_of(operation, revision, answer, past) {
                Ok(place) => place,
                Err(_) => continue,
            },
            _ => place_of(operation, revision, answer, past)?,
        };
        if let Place::Wrote(revision) = place
            && let Some(other) = explained.causes.insert(revision, index)
        {
            let other = history.operations[other].id;
            let what = format!(
                "operations {} and {} were both told that they made revision {revision}",
                other.0, operation.id.0
            );
            return Err(Violation::new(what).by([other, operation.id]).at(revision));
        }
        explained.places.push((index, place));
    }
    Ok(explained)
}

fn place_of(operation: &Operation, revision: i64, answer: &Answer, past: &Past) -> Result<Place, Violation> {
    if revision > past.newest() {
        let what = format!(
            "{} {} was answered with revision {revision}, but the history ends with {}",
            operation.request.name(),
            operation.id.0,
            past.newest()
        );
        return Err(Violation::new(what).by([operation.id]).at(revision));
    }
    if operation.request.may_write() {
        let written = execute(&operation.request, past, revision - 1);
        if !written.events.is_empty() && written.events == past.events(revision) && written.answer == *answer
        {
            return Ok(Place::Wrote(revision));
        }
    }
    let read = execute(&operation.request, past, revision);
    if read.events.is_empty() && read.answer == *answer {
        return Ok(match operation.request.is_serializable() {
            true => Place::Stale(revision),
            false => Place::Read(revision),
        });
    }
    let mut what = format!(
        "{} {} ({:?}) was answered at revision {revision} with {answer:?}, which does not follow from the history",
        operation.request.name(),
        operation.id.0,
        operation.request
    );
    match operation.request.may_write() {
        true => what += &format!("; revision {revision} holds {:?}", past.events(revision)),
        false => what += &format!("; the state there answers {:?}", read.answer),
    }
    Err(Violation::new(what).by([operation.id]).at(revision))
}

/// Finds a cause for every revision that has none yet: a lease's end, or an open request of its own.
fn pin(history: &History, past: &Past, explained: &mut Explained) -> Result<(), Violation> {
    let orphans: Vec<i64> = past
        .revisions()
        .filter(|revision| !explained.causes.contains_key(revision) && past.ended_lease(*revision).is_none())
        .collect();
    let open: Vec<usize> = (0..history.operations.len())
        .filter(|&index| history.operations[index].is_open() && history.operations[index].request.may_write())
        .collect();
    let floors = floors(history, explained, &open);
    let causes = |revision: i64, operation: &Operation| {
        let events = past.events(revision);
        let named = |span: &crate::history::Span| events.iter().any(|event| span.contains(&event.kv.key));
        operation.request.may_write()
            && operation.request.spans().iter().any(named)
            && execute(&operation.request, past, revision - 1).events == events
    };
    let wants: Vec<Vec<usize>> = orphans
        .iter()
        .map(|&revision| {
            let able = |&candidate: &usize| {
                floors[candidate] < revision && causes(revision, &history.operations[open[candidate]])
            };
            (0..open.len()).filter(able).collect()
        })
        .collect();
    match assign(&wants, open.len()) {
        Ok(chosen) => {
            for (revision, candidate) in orphans.iter().zip(chosen) {
                explained.causes.insert(*revision, open[candidate]);
                explained.places.push((open[candidate], Place::Wrote(*revision)));
            }
            Ok(())
        }
        Err(without) => {
            let revision = orphans[without];
            let able = |operation: &&Operation| causes(revision, operation);
            Err(no_cause(revision, past, history.operations.iter().filter(able).collect()))
        }
    }
}

/// For each open request the highest revision that was known before it was sent; it can only make a later one.
fn floors(history: &History, explained: &Explained, open: &[usize]) -> Vec<i64> {
    let mut seen: Vec<(u64, i64)> = Vec::new();
    for &(index, place) in &explained.places {
        let (Place::Wrote(revision) | Place::Read(revision) | Place::Stale(revision)) = place;
        if let Some(ended_ns) = history.operations[index].ended_ns() {
            seen.push((ended_ns, revision));
        }
    }
    seen.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut seen {
        highest = highest.max(*revision);
        *revision = highest;
    }
    let floor = |&index: &usize| {
        let before = seen.partition_point(|(time_ns, _)| *time_ns < history.operations[index].invoked_ns);
        before.checked_sub(1).map_or(0, |last| seen[last].1)
    };
    open.iter().map(floor).collect()
}

fn no_cause(revision: i64, past: &Past, able: Vec<&Operation>) -> Violation {
    let events = past.events(revision);
    let told = format!("revision {revision} ({events:?})");
    let of = |test: fn(&Operation) -> bool| able.iter().find(|operation| test(operation));
    let found = if let Some(failed) = of(Operation::has_failed) {
        let what = format!(
            "{told} is what {} {} would do, which was refused and must never happen",
            failed.request.name(),
            failed.id.0
        );
        Violation::new(what).by([failed.id])
    } else if let Some(done) = of(|operation| operation.ok().is_some()) {
        let what = format!(
            "{told} is what {} {} does, which was acknowledged at revision {}: it happened twice",
            done.request.name(),
            done.id.0,
            done.ok().map_or(0, |(revision, _)| revision)
        );
        Violation::new(what).by([done.id])
    } else if let Some(open) = of(Operation::is_open) {
        let what = format!(
            "{told} is what {} {} does, which made another revision too or was sent later",
            open.request.name(),
            open.id.0
        );
        Violation::new(what).by([open.id])
    } else {
        Violation::new(format!("{told} is no request's doing"))
    };
    found.at(revision)
}
