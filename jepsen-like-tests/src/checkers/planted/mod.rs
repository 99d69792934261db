//! A model store with clients at work, which makes histories: correct ones, and ones with a fault of a given kind.
//!
//! The fault is in the model, not painted over the history, so that everything after it follows as it would in a real
//! store. Whatever a correct history holds, a checker must accept.

mod clients;
mod requests;
mod watches;

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::execute::{Executed, execute};
use super::past::Past;
use crate::history::{
    Answer, ClientId, History, MemberState, Operation, OperationId, Outcome, Request, RevisionEvents, Span,
};
use clients::Mind;

/// Clients at work.
const CLIENTS: u32 = 6;
const SECOND_NS: u64 = 1_000_000_000;

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A read sees a state that was over before it began.
    StaleRead,
    /// A read names the right revision and tells an older value.
    OldValue,
    /// A write is acknowledged and not done.
    LostWrite,
    /// A write is done twice.
    DoubleApply,
    /// A write is refused and done.
    RefusedButDone,
    /// A transaction is done though its condition does not hold.
    ConditionIgnored,
    /// A lease ends before its time.
    EarlyLease,
    /// A revoked lease keeps its keys.
    RevokeIgnored,
    /// A serializable read tells a state that never was.
    NeverTrue,
    /// One member lacks a key in the end.
    MemberLacksKey,
    /// One member has another hash in the end.
    OtherHash,
    /// A fault of a watch.
    Watch(WatchFault),
    /// A request that is misread.
    Request(RequestFault),
}

/// What of a transaction or a range is misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestFault {
    /// Every condition is taken for one of equality.
    RelationIgnored,
    /// A condition over a span looks at one key.
    FirstKeyOnly,
    /// A range comes in the order of its keys.
    OrderIgnored,
    /// A range tells keys outside of its bounds.
    BoundsIgnored,
    /// A key does not hang on its lease.
    LeaseForgotten,
}

/// What is wrong with a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchFault {
    /// An event is left out.
    Dropped,
    /// The last event is left out.
    LastDropped,
    /// Two events change places.
    Reordered,
    /// An event comes twice.
    Repeated,
    /// An older answer comes again.
    BackInTime,
    /// A revision comes in two answers.
    Split,
    /// The key before a change is another one.
    WrongPrev,
    /// The key before a change is missing.
    NoPrev,
    /// Progress tells more than has come.
    ProgressTooFar,
    /// An event that was not asked for.
    NotAskedFor,
    /// A created key looks changed.
    WrongIsCreate,
    /// Another value.
    WrongValue,
}

/// A history, and whether the fault found a place in it.
pub(super) struct Planted {
    pub(super) history: History,
    pub(super) applied: bool,
}

/// A request that will take effect at `at_ns`.
struct Pending {
    operation: Operation,
    at_ns: u64,
    ends_ns: u64,
}

pub(super) struct World {
    rng: StdRng,
    past: Past,
    /// When each revision was made, from revision 2 on.
    times: Vec<u64>,
    /// Leases with their ends.
    leases: BTreeMap<i64, u64>,
    fault: Option<Fault>,
    applied: bool,
    history: History,
    /// When clients learnt of revisions.
    learnt: Vec<(u64, i64)>,
}

/// A run of `count` requests with `fault`, if any.
pub(super) fn run(seed: u64, count: usize, fault: Option<Fault>) -> Planted {
    let mut world = World {
        rng: StdRng::seed_from_u64(seed),
        past: Past::default(),
        times: Vec::new(),
        leases: BTreeMap::new(),
        fault,
        applied: false,
        history: History::default(),
        learnt: Vec::new(),
    };
    let mut minds: Vec<Mind> = (0..CLIENTS).map(Mind::new).collect();
    let mut pending: Vec<Pending> = Vec::new();
    for (number, mind) in minds.iter_mut().enumerate() {
        pending.push(world.invoke(number as u64 + 1, mind, 0));
    }
    for number in 0..count {
        let next = (0..pending.len()).min_by_key(|&index| pending[index].at_ns).expect("clients are at work");
        let Pending { mut operation, at_ns, ends_ns } = pending.swap_remove(next);
        world.expire(at_ns);
        operation.completed =
            world.effect(&operation, at_ns, ends_ns, number * 2 > count && number * 10 < count * 9);
        if let (Some(ended_ns), Some((revision, _))) = (operation.ended_ns(), operation.ok()) {
            world.learnt.push((ended_ns, revision));
        }
        let mind = &mut minds[operation.client.0 as usize];
        mind.learn(&operation);
        world.history.operations.push(operation);
        pending.push(world.invoke(number as u64 + 1 + u64::from(CLIENTS), mind, ends_ns));
    }
    world.finish()
}

impl World {
    fn invoke(&mut self, id: u64, mind: &mut Mind, free_ns: u64) -> Pending {
        let invoked_ns = free_ns + self.rng.random_range(1..SECOND_NS / 20);
        let at_ns = invoked_ns + self.rng.random_range(1..SECOND_NS / 20);
        let ends_ns = at_ns + self.rng.random_range(1..SECOND_NS / 20);
        let request = mind.next(&mut self.rng);
        let client = ClientId(mind.client);
        let member = format!("m{}", client.0 % 3 + 1);
        let operation =
            Operation { id: OperationId(id), client, member, request, invoked_ns, completed: None };
        Pending { operation, at_ns, ends_ns }
    }

    fn commit(&mut self, events: Vec<crate::history::Event>, at_ns: u64) {
        if !events.is_empty() {
            self.past.push(events);
            self.times.push(at_ns);
        }
    }

    fn end_lease(&mut self, id: i64, at_ns: u64) {
        let keys: Vec<String> =
            self.past.keys_of_lease(id, self.past.newest()).map(ToOwned::to_owned).collect();
        let then = keys.into_iter().map(|key| Request::Delete { span: Span::one(key) }).collect();
        let all = Request::Txn { compares: vec![], then, otherwise: vec![] };
        let events = execute(&all, &self.past, self.past.newest()).events;
        self.commit(events, at_ns);
        self.leases.remove(&id);
    }

    fn expire(&mut self, now_ns: u64) {
        while let Some((&id, &end_ns)) = self.leases.iter().min_by_key(|(_, end_ns)| **end_ns)
            && end_ns < now_ns
        {
            self.end_lease(id, end_ns);
        }
    }

    fn has(&self, fault: Fault, late: bool) -> bool {
        self.fault == Some(fault) && late && !self.applied
    }

    /// The highest revision that was known before a time.
    fn known_before(&self, time_ns: u64) -> i64 {
        self.learnt
            .iter()
            .filter(|(at_ns, _)| *at_ns < time_ns)
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or(1)
    }

    fn effect(
        &mut self,
        operation: &Operation,
        at_ns: u64,
        ends_ns: u64,
        late: bool,
    ) -> Option<(u64, Outcome)> {
        let request = &operation.request;
        let chance = self.rng.random_range(0..100);
        if self.has(Fault::RefusedButDone, late) && request.may_write() {
            let executed = execute(request, &self.past, self.past.newest());
            self.applied = !executed.events.is_empty();
            self.commit(executed.events, at_ns);
            return Some((ends_ns, Outcome::Failed { error: "too many requests".to_owned() }));
        }
        if chance < 3 {
            return Some((ends_ns, Outcome::Failed { error: "too many requests".to_owned() }));
        }
        let Some((revision, answer)) = self.execute(operation, at_ns, late && chance >= 7) else {
            return Some((ends_ns, Outcome::Failed { error: "requested lease not found".to_owned() }));
        };
        match chance {
            // It happened, and nobody was told.
            3..7 => (chance % 2 == 0).then(|| (ends_ns, Outcome::Unknown { error: "timed out".to_owned() })),
            _ => Some((ends_ns, Outcome::Ok { revision, answer })),
        }
    }

    fn execute(&mut self, operation: &Operation, at_ns: u64, late: bool) -> Option<(i64, Answer)> {
        let newest = self.past.newest();
        match &operation.request {
            Request::LeaseGrant { id, ttl_s } => {
                self.leases.insert(*id, at_ns + *ttl_s as u64 * SECOND_NS);
                Some((newest, Answer::Lease { ttl_s: *ttl_s }))
            }
            Request::LeaseKeepAlive { id } => Some((newest, self.keep_alive(*id, at_ns, late))),
            Request::LeaseRevoke { id } => {
                let has_keys = self.past.keys_of_lease(*id, newest).next().is_some();
                if self.has(Fault::RevokeIgnored, late) && has_keys {
                    self.applied = true;
                    self.leases.remove(id);
                    return Some((newest, Answer::Done));
                }
                self.end_lease(*id, at_ns);
                Some((self.past.newest(), Answer::Done))
            }
            Request::Compact { .. } => Some((newest, Answer::Done)),
            Request::Range { serializable, .. } => {
                let at = self.read_at(operation, *serializable, late);
                let mut answer = execute(&operation.request, &self.past, at).answer;
                let older = execute(&operation.request, &self.past, (at - 10).max(1)).answer;
                let fault = if *serializable { Fault::NeverTrue } else { Fault::OldValue };
                if self.has(fault, late) && older != answer {
                    self.applied = true;
                    answer = older;
                }
                if let Some(executed) = self.misread(&operation.request, at, late) {
                    answer = executed.answer;
                }
                Some((at, answer))
            }
            request => self.write(request, at_ns, late),
        }
    }

    fn keep_alive(&mut self, id: i64, at_ns: u64, late: bool) -> Answer {
        let ttl_s = 2;
        let has_keys = self.past.keys_of_lease(id, self.past.newest()).next().is_some();
        let early = self.has(Fault::EarlyLease, late) && has_keys;
        match self.leases.get_mut(&id) {
            Some(end_ns) if early => {
                // Renewed in word only: it ends in a moment.
                *end_ns = at_ns + 1;
                self.applied = true;
                Answer::Lease { ttl_s }
            }
            Some(end_ns) => {
                *end_ns = at_ns + ttl_s as u64 * SECOND_NS;
                Answer::Lease { ttl_s }
            }
            None => Answer::Lease { ttl_s: 0 },
        }
    }

    fn read_at(&mut self, operation: &Operation, serializable: bool, late: bool) -> i64 {
        let newest = self.past.newest();
        if serializable {
            return (newest - self.rng.random_range(0..4)).max(1);
        }
        let known = self.known_before(operation.invoked_ns);
        let Request::Range { span, .. } = &operation.request else { return newest };
        let value = |at: i64| self.past.get(&span.key, at).map(|kv| &kv.value);
        // Older by so much that not even values can be explained.
        let stale = (1..known).rev().find(|&old| (known..=newest).all(|at| value(at) != value(old)));
        match stale {
            Some(old) if self.has(Fault::StaleRead, late) && span.key.starts_with(super::REGISTERS) => {
                self.applied = true;
                old
            }
            _ => newest,
        }
    }

    /// What a store that misreads the request does, where that is something else.
    fn misread(&mut self, request: &Request, at: i64, late: bool) -> Option<Executed> {
        // Of serializable reads another checker judges.
        let fault = self.fault.filter(|&fault| self.has(fault, late) && !request.is_serializable())?;
        let misread = execute(&requests::misread(request, fault)?, &self.past, at);
        self.applied = misread != execute(request, &self.past, at);
        self.applied.then_some(misread)
    }

    fn write(&mut self, request: &Request, at_ns: u64, late: bool) -> Option<(i64, Answer)> {
        let mut executed = execute(request, &self.past, self.past.newest());
        let mut leases = executed.events.iter().map(|event| event.kv.lease);
        if leases.any(|lease| lease != 0 && !self.leases.contains_key(&lease)) {
            return None;
        }
        if let Some(misread) = self.misread(request, self.past.newest(), late) {
            executed = misread;
        }
        if let (Request::Txn { then, .. }, Answer::Txn { succeeded: false, .. }) = (request, &executed.answer)
            && self.has(Fault::ConditionIgnored, late)
            && then.iter().any(Request::may_write)
        {
            let forced = Request::Txn { compares: vec![], then: then.clone(), otherwise: vec![] };
            executed = execute(&forced, &self.past, self.past.newest());
            self.applied = true;
        }
        if executed.events.is_empty() {
            return Some((self.past.newest(), executed.answer));
        }
        if self.has(Fault::LostWrite, late) {
            self.applied = true;
            return Some((self.past.newest() + 1, executed.answer));
        }
        let revision = self.past.newest() + 1;
        self.commit(executed.events, at_ns);
        if self.has(Fault::DoubleApply, late) {
            let again = execute(request, &self.past, self.past.newest());
            self.applied = !again.events.is_empty();
            self.commit(again.events, at_ns);
        }
        Some((revision, executed.answer))
    }

    fn finish(mut self) -> Planted {
        let revisions = self.past.revisions();
        self.history.revisions = revisions
            .map(|revision| RevisionEvents { revision, events: self.past.events(revision).to_vec() })
            .collect();
        self.watch();
        let newest = self.past.newest();
        let kvs: Vec<_> = self.past.range(&Span::everything(), newest).cloned().collect();
        for number in 1..=3 {
            let mut state = MemberState {
                member: format!("m{number}"),
                revision: newest,
                hash: 7,
                compact_revision: -1,
                kvs: kvs.clone(),
            };
            if number == 2 && self.fault == Some(Fault::OtherHash) {
                (state.hash, self.applied) = (8, true);
            }
            if number == 2 && self.fault == Some(Fault::MemberLacksKey) {
                self.applied = state.kvs.pop().is_some();
            }
            self.history.members.push(state);
        }
        // As a record has them: in the order in which they were sent.
        self.history.operations.sort_by_key(|operation| operation.invoked_ns);
        Planted { history: self.history, applied: self.applied }
    }
}
