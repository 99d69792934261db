//! Leases never end early: what hangs on one is there for at least the time that its last renewal promised.
//!
//! A promise counts from when the renewal was sent, which is the earliest that the store can have counted from; an end
//! counts from when the first client saw it, which is the latest that it can have been. So a verdict of "early" is certain. [`super::clocks`] says what fast clocks excuse.

use std::collections::HashMap;

use super::clocks::surely_until;
use super::execute::execute;
use super::past::Past;
use super::verdict::{Verdict, Violation};
use crate::history::{Answer, History, OperationId, Request};

/// The first time at which somebody knew that a revision was there.
struct FirstSeen {
    /// Times with the highest revision seen by then, both growing.
    steps: Vec<(u64, i64)>,
}

impl FirstSeen {
    fn of(history: &History) -> Self {
        let answered = history.operations.iter().filter_map(|operation| {
            let (revision, _) = operation.ok()?;
            Some((operation.ended_ns()?, revision))
        });
        let watched = history.watches.iter().flat_map(|watch| {
            let last = |answer: &crate::history::WatchAnswer| answer.events.last().map(|e| e.kv.mod_revision);
            watch.answers.iter().filter_map(move |answer| Some((answer.time_ns, last(answer)?)))
        });
        let mut seen: Vec<(u64, i64)> = answered.chain(watched).collect();
        seen.sort_unstable();
        let mut steps: Vec<(u64, i64)> = Vec::new();
        for (time_ns, revision) in seen {
            if steps.last().is_none_or(|(_, highest)| revision > *highest) {
                steps.push((time_ns, revision));
            }
        }
        Self { steps }
    }

    fn of_revision(&self, revision: i64) -> Option<u64> {
        let earlier = self.steps.partition_point(|(_, seen)| *seen < revision);
        self.steps.get(earlier).map(|(time_ns, _)| *time_ns)
    }
}

/// Checks every lease's end that deleted a key.
#[must_use]
pub fn check(history: &History, past: &Past) -> Verdict {
    let seen = FirstSeen::of(history);
    let mut promised: HashMap<i64, Vec<(u64, i64, OperationId)>> = HashMap::new();
    let mut revoked: HashMap<i64, u64> = HashMap::new();
    for operation in &history.operations {
        match operation.request {
            Request::LeaseGrant { id, .. } | Request::LeaseKeepAlive { id } => {
                if let Some((_, Answer::Lease { ttl_s: ttl_s @ 1.. })) = operation.ok() {
                    let promise = (operation.invoked_ns, *ttl_s, operation.id);
                    promised.entry(id).or_default().push(promise);
                }
            }
            Request::LeaseRevoke { id } if !operation.has_failed() => {
                let sent_ns = revoked.entry(id).or_insert(operation.invoked_ns);
                *sent_ns = operation.invoked_ns.min(*sent_ns);
            }
            _ => {}
        }
    }
    let mut checked = 0;
    for revision in past.revisions() {
        let Some(lease) = past.ended_lease(revision) else { continue };
        let Some(gone_ns) = seen.of_revision(revision) else { continue };
        if deleted_by_request(history, past, revision) {
            continue;
        }
        if revoked.get(&lease).is_some_and(|sent_ns| *sent_ns <= gone_ns) {
            continue;
        }
        for (sent_ns, ttl_s, operation) in promised.get(&lease).into_iter().flatten() {
            let until_ns = surely_until(&history.faults, *sent_ns, *ttl_s);
            if *sent_ns <= gone_ns && gone_ns < until_ns {
                let what = format!(
                    "lease {lease} was promised for {ttl_s} s by operation {}, but its keys were seen deleted (revision \
                     {revision}) {} ms before that was over",
                    operation.0,
                    (until_ns - gone_ns) / 1_000_000
                );
                return Verdict::of(Err(Violation::new(what).by([*operation]).at(revision)));
            }
        }
        checked += 1;
    }
    Verdict::Passed { checked }
}

/// Whether a client deleted the very keys that hang on a lease.
fn deleted_by_request(history: &History, past: &Past, revision: i64) -> bool {
    let events = past.events(revision);
    history.operations.iter().any(|operation| {
        let at = operation.ok().map(|(at, _)| at);
        operation.request.may_write()
            && (at == Some(revision) || operation.is_open())
            && operation.request.spans().iter().any(|span| span.contains(&events[0].kv.key))
            && execute(&operation.request, past, revision - 1).events == events
    })
}
