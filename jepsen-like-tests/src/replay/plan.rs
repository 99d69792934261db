//! From a record to calls in one order: the order in which the store that was recorded did them.

use std::collections::{BTreeMap, BTreeSet};

use barque_proto::etcdserverpb as pb;
use bytes::Bytes;

use super::known;
use crate::call::Call;
use crate::checkers::{Inconsistent, Past, revisions};
use crate::history::{Answer, History, Operation, OperationId, Outcome, Request, Span, WatchId};
use crate::workload;

/// What leases live longer than in the record, so that none ends by its time.
const LONGER_S: i64 = 3600;

/// The watch that both stores hold besides those of the record: everything, from the beginning.
pub(super) const EVERYTHING: WatchId = WatchId(0);

/// Refusals with these codes follow from the state of the store, so that they come again.
const REFUSALS: [&str; 5] =
    ["InvalidArgument:", "NotFound:", "AlreadyExists:", "FailedPrecondition:", "OutOfRange:"];

/// One thing that is done at both stores.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A call, with the request of the record that it is, if it is one.
    Call(Call, Option<OperationId>),
    /// A watch is opened.
    Watch(WatchId, pb::WatchCreateRequest),
    /// A watch is asked for its progress and cancelled.
    Unwatch(WatchId),
}

/// What to do, and what of the record is not done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Everything in its order.
    pub steps: Vec<Step>,
    /// Requests that are not among them: they never happened, or nobody knows.
    pub requests_left_out: usize,
    /// Watches that are not among them, because the stores are known to differ.
    pub watches_left_out: usize,
    /// The newest revision of the record.
    pub newest: i64,
}

/// A record cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayable {
    /// It ends too early.
    #[error(
        "the history holds no revisions, because its run did not come to its end; give the history of a run that did"
    )]
    Unfinished,
    /// Its order is unknown.
    #[error("the history has no order in which it could be replayed: {0}; see what `check` says of it")]
    Inconsistent(#[from] Inconsistent),
}

/// Where something stands: the revision that it made or saw, those that made it first, then by time.
type Place = (i64, bool, u64);

enum Item<'a> {
    Request(&'a Operation),
    LeaseEnd(i64),
    Watch(&'a crate::history::Watch),
    Unwatch(WatchId),
}

/// The plan for a record.
///
/// # Errors
/// When the record does not say in which order things happened.
pub fn plan(history: &History) -> Result<Plan, NotReplayable> {
    if history.revisions.is_empty() {
        return Err(NotReplayable::Unfinished);
    }
    let past = Past::of(&history.revisions)?;
    let mut items = items(history, &past);
    items.sort_by_key(|(place, _)| *place);
    let mut plan = Plan { newest: past.newest(), ..Plan::default() };
    let mut believed = Believed { leases: BTreeSet::new(), compacted: 0 };
    for (_, item) in &items {
        match item {
            Item::Request(operation) => plan.request(operation, &mut believed),
            Item::LeaseEnd(id) => plan.revoke(*id, &mut believed),
            Item::Watch(watch) if known::of_watch(watch.request.start_revision, believed.compacted) => {
                plan.watches_left_out += 1;
            }
            Item::Watch(watch) => {
                plan.steps.push(Step::Watch(watch.id, workload::watch_of(&watch.request)));
            }
            Item::Unwatch(watch) => {
                let is_open = |step: &Step| matches!(step, Step::Watch(open, _) if open == watch);
                if plan.steps.iter().any(is_open) {
                    plan.steps.push(Step::Unwatch(*watch));
                }
            }
        }
    }
    plan.call(workload::call(&Request::range(Span::everything())));
    plan.call(Call::Leases(pb::LeaseLeasesRequest {}));
    plan.requests_left_out = history.operations.len()
        - plan.steps.iter().filter(|step| matches!(step, Step::Call(_, Some(_)))).count();
    Ok(plan)
}

/// What is known of the stores at a place.
struct Believed {
    leases: BTreeSet<i64>,
    compacted: i64,
}

impl Plan {
    fn call(&mut self, call: Call) {
        self.steps.push(Step::Call(call, None));
    }

    fn revoke(&mut self, id: i64, believed: &mut Believed) {
        believed.leases.remove(&id);
        self.call(Call::Revoke(pb::LeaseRevokeRequest { id }));
    }

    fn request(&mut self, operation: &Operation, believed: &mut Believed) {
        for id in gone(operation) {
            if believed.leases.contains(&id) {
                self.revoke(id, believed);
            }
        }
        let mut call = workload::call(&operation.request);
        if let Call::Grant(grant) = &mut call {
            grant.ttl += LONGER_S;
        }
        self.steps.push(Step::Call(call, Some(operation.id)));
        let touched = match operation.request {
            Request::LeaseGrant { id, .. } => {
                believed.leases.insert(id);
                id
            }
            Request::LeaseRevoke { id } => {
                believed.leases.remove(&id);
                id
            }
            Request::LeaseKeepAlive { id } => id,
            Request::Compact { revision } => {
                if operation.ok().is_some() {
                    believed.compacted = believed.compacted.max(revision);
                }
                return;
            }
            _ => return,
        };
        self.call(Call::TimeToLive(pb::LeaseTimeToLiveRequest { id: touched, keys: true }));
    }
}

fn items<'a>(history: &'a History, past: &Past) -> Vec<(Place, Item<'a>)> {
    let pinned = revisions::pinned(history, past).unwrap_or_default();
    let mut caused: BTreeSet<i64> = pinned.values().copied().collect();
    let mut items: Vec<(Place, Item<'a>)> = Vec::new();
    let floors = Floors::of(history);
    let ends: BTreeMap<i64, i64> =
        past.revisions().filter_map(|revision| Some((past.ended_lease(revision)?, revision))).collect();
    // Whoever found a lease gone came after its end, whatever revision was known where it was asked.
    let after_ends = |operation: &Operation, revision: i64| {
        gone(operation).iter().filter_map(|lease| ends.get(lease)).fold(revision, |last, end| last.max(*end))
    };
    for (index, operation) in history.operations.iter().enumerate() {
        let at_ns = operation.invoked_ns;
        let place = match &operation.completed {
            Some((_, Outcome::Ok { revision, answer })) => {
                let made = wrote(answer) || is_end_of(&operation.request, past.ended_lease(*revision));
                if made {
                    caused.insert(*revision);
                }
                (after_ends(operation, *revision), !made, at_ns)
            }
            Some((_, Outcome::Failed { error })) if REFUSALS.iter().any(|code| error.starts_with(code)) => {
                (after_ends(operation, floors.at(at_ns)), true, at_ns)
            }
            _ => match pinned.get(&index) {
                Some(revision) => (*revision, false, at_ns),
                None => continue,
            },
        };
        items.push((place, Item::Request(operation)));
    }
    for revision in past.revisions().filter(|revision| !caused.contains(revision)) {
        if let Some(lease) = past.ended_lease(revision) {
            items.push(((revision, false, 0), Item::LeaseEnd(lease)));
        }
    }
    for watch in &history.watches {
        let last_ns = watch.answers.last().map_or(watch.opened_ns, |answer| answer.time_ns);
        let ended_ns = last_ns.max(watch.opened_ns + 1);
        items.push(((floors.at(watch.opened_ns), true, watch.opened_ns), Item::Watch(watch)));
        items.push(((floors.at(ended_ns), true, ended_ns), Item::Unwatch(watch.id)));
    }
    items
}

/// Whether an answer tells of a change.
fn wrote(answer: &Answer) -> bool {
    match answer {
        Answer::Put => true,
        Answer::Delete { deleted } => *deleted > 0,
        Answer::Txn { answers, .. } => answers.iter().any(wrote),
        Answer::Range { .. } | Answer::Lease { .. } | Answer::Done => false,
    }
}

fn is_end_of(request: &Request, lease: Option<i64>) -> bool {
    matches!(request, Request::LeaseRevoke { id } if lease == Some(*id))
}

/// Leases that were gone when a request came, as its answer shows.
fn gone(operation: &Operation) -> Vec<i64> {
    match (&operation.request, &operation.completed) {
        (
            Request::LeaseKeepAlive { id },
            Some((_, Outcome::Ok { answer: Answer::Lease { ttl_s: 0 }, .. })),
        ) => vec![*id],
        (request, Some((_, Outcome::Failed { error }))) if error.contains("lease not found") => {
            let mut leases = Vec::new();
            leases_of(request, &mut leases);
            leases
        }
        _ => Vec::new(),
    }
}

fn leases_of(request: &Request, into: &mut Vec<i64>) {
    match request {
        Request::Put { lease, .. } => into.push(*lease),
        Request::LeaseKeepAlive { id } | Request::LeaseRevoke { id } => into.push(*id),
        Request::Txn { then, otherwise, .. } => {
            then.iter().chain(otherwise).for_each(|request| leases_of(request, into));
        }
        _ => {}
    }
}

/// The highest revision that anybody knew at a time.
struct Floors {
    known: Vec<(u64, i64)>,
}

impl Floors {
    fn of(history: &History) -> Self {
        let answered = history.operations.iter().filter_map(|operation| {
            let (revision, _) = operation.ok()?;
            Some((operation.ended_ns()?, revision))
        });
        let mut known: Vec<(u64, i64)> = answered.collect();
        known.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut known {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Self { known }
    }

    fn at(&self, time_ns: u64) -> i64 {
        let earlier = self.known.partition_point(|(at_ns, _)| *at_ns <= time_ns);
        earlier.checked_sub(1).map_or(0, |last| self.known[last].1)
    }
}

/// The watch of everything, with the key before each change.
pub(super) fn everything() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: 1,
        prev_kv: true,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;
    use crate::history::{ClientId, Event, KeyValue, RevisionEvents};

    fn operation(number: u64, request: Request, completed: Option<Outcome>) -> Operation {
        Operation {
            id: OperationId(number),
            client: ClientId(0),
            member: "m1".to_owned(),
            request,
            invoked_ns: number * 10,
            completed: completed.map(|outcome| (number * 10 + 15, outcome)),
        }
    }

    fn ok(revision: i64, answer: Answer) -> Option<Outcome> {
        Some(Outcome::Ok { revision, answer })
    }

    fn change(key: &str, revision: i64, lease: i64, deleted: bool) -> RevisionEvents {
        let (key, value) = (key.to_owned(), if deleted { String::new() } else { "v".to_owned() });
        let (create_revision, version) = if deleted { (0, 0) } else { (revision, 1) };
        let kv = KeyValue { key, value, create_revision, mod_revision: revision, version, lease };
        RevisionEvents { revision, events: vec![Event { kv, deleted, prev: None }] }
    }

    fn text(plan: &Plan) -> Vec<String> {
        let name = |step: &Step| match step {
            Step::Call(Call::Put(put), _) => format!("put {}", String::from_utf8_lossy(&put.key)),
            Step::Call(Call::Range(_), Some(_)) => "get".to_owned(),
            Step::Call(Call::Range(_), None) => "everything".to_owned(),
            Step::Call(Call::Grant(grant), _) => format!("grant {} for {}", grant.id, grant.ttl),
            Step::Call(Call::Revoke(revoke), _) => format!("revoke {}", revoke.id),
            Step::Call(Call::KeepAlive(renewal), _) => format!("renew {}", renewal.id),
            Step::Call(Call::TimeToLive(left), _) => format!("left of {}", left.id),
            Step::Call(Call::Leases(_), _) => "leases".to_owned(),
            other => panic!("{other:?}"),
        };
        plan.steps.iter().map(name).collect()
    }

    #[test]
    fn the_order_is_the_stores() {
        let operations = vec![
            // Sent first and done last; the read between them saw only the other.
            operation(1, Request::put("a", "v"), ok(3, Answer::Put)),
            operation(2, Request::get("b"), ok(2, Answer::Done)),
            operation(3, Request::put("b", "v"), ok(2, Answer::Put)),
            // Open: one happened, the other not.
            operation(4, Request::put("c", "v"), None),
            operation(5, Request::put("d", "v"), None),
            // Refused by a member that could not, and by the store.
            operation(6, Request::get("x"), Some(Outcome::Failed { error: "Unavailable: gone".to_owned() })),
            operation(7, Request::get("y"), Some(Outcome::Failed { error: "OutOfRange: old".to_owned() })),
        ];
        let revisions = vec![change("b", 2, 0, false), change("a", 3, 0, false), change("c", 4, 0, false)];
        let history = History { operations, revisions, ..History::default() };
        // The read's answer is none of a read, so that nothing explains the history: nobody knows about the open ones.
        let plan = plan(&history).unwrap();
        assert_eq!(text(&plan), ["put b", "get", "put a", "get", "everything", "leases"]);
        assert_eq!((plan.requests_left_out, plan.newest), (3, 4));
    }

    #[test]
    fn leases_end_where_the_record_shows_it() {
        let lease_put = |key: &str, lease| Request::Put { key: key.to_owned(), value: "v".to_owned(), lease };
        let operations = vec![
            operation(1, Request::LeaseGrant { id: 7, ttl_s: 1 }, ok(1, Answer::Lease { ttl_s: 1 })),
            operation(2, Request::LeaseGrant { id: 8, ttl_s: 1 }, ok(1, Answer::Lease { ttl_s: 1 })),
            operation(3, lease_put("a", 7), ok(2, Answer::Put)),
            // Its end is seen before the member knows the revision of it.
            operation(
                4,
                lease_put("b", 7),
                Some(Outcome::Failed { error: "NotFound: requested lease not found".to_owned() }),
            ),
            // Nothing hung on it, so only this tells that it is gone.
            operation(9, Request::LeaseKeepAlive { id: 8 }, ok(3, Answer::Lease { ttl_s: 0 })),
        ];
        let revisions = vec![change("a", 2, 7, false), change("a", 3, 0, true)];
        let history = History { operations, revisions, ..History::default() };
        let plan = plan(&history).unwrap();
        assert_eq!(
            text(&plan),
            [
                "grant 7 for 3601",
                "left of 7",
                "grant 8 for 3601",
                "left of 8",
                "put a",
                "revoke 7",
                "put b",
                "revoke 8",
                "renew 8",
                "left of 8",
                "everything",
                "leases"
            ]
        );
    }

    #[test]
    fn a_record_without_its_end_is_refused() {
        assert!(matches!(plan(&History::default()), Err(NotReplayable::Unfinished)));
        let revisions = vec![change("b", 3, 0, false)];
        let gap = History { revisions, ..History::default() };
        assert!(matches!(plan(&gap), Err(NotReplayable::Inconsistent(_))));
    }
}
