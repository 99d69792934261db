//! The proposals of this member that are on their way through Raft, and who waits for them.
//!
//! Pure bookkeeping without clock, I/O or async: the proposer task and the state machine drive it.
//!
//! A batch is tagged with the term in which it was handed to the leader, and a leader takes it only in
//! that term. Terms never decrease along the log. So once an entry of a later term is applied, a batch of
//! an earlier term that was not applied yet never will be, and can be proposed again without the danger
//! of executing it twice. That is how writes survive a change of leader without their clients noticing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::command::{Command, CommandError, Outcome};
use crate::ids::{MemberId, Revision};
use crate::state::batch::{self, BatchId};

/// What a proposal came to.
pub type Reply = Result<Applied, ProposeError>;

/// A command was executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision right after the command.
    pub revision: Revision,
    /// What it answered.
    pub outcome: Outcome,
}

/// A command was not executed, or it is not known whether it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was executed and changed nothing.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Too many proposals wait already; nothing was done.
    #[error("too many requests")]
    TooMany,
    /// There was no leader for the whole time; nothing was done.
    #[error("request timed out")]
    TimedOut,
    /// It was handed to a leader that is gone; the outcome is unknown.
    #[error("request timed out, possibly due to previous leader failure")]
    LeaderGone,
    /// It was handed to a leader that did not answer; the outcome is unknown.
    #[error("request timed out, possibly due to connection lost")]
    ConnectionLost,
    /// This member stops.
    #[error("server stopped")]
    Stopped,
}

/// Who waits for a command.
pub type Waiter = oneshot::Sender<Reply>;

/// Commands in one entry, at most.
pub const BATCH_COMMANDS: usize = 1024;
/// Bytes in one entry, at most, unless a single command is larger.
pub const BATCH_BYTES: usize = 1 << 20;
/// Commands that may wait in this member; beyond it clients are told to slow down.
const QUEUE_COMMANDS: usize = 100_000;
/// Bytes that may wait in this member.
const QUEUE_BYTES: usize = 256 << 20;

/// All proposals of this process.
#[derive(Debug)]
pub struct Proposals {
    origin: MemberId,
    boot: u64,
    next_sequence: u64,
    queued: VecDeque<Queued>,
    queued_bytes: usize,
    in_flight: BTreeMap<u64, InFlight>,
    applied_term: u64,
}

#[derive(Debug)]
struct Queued {
    command: Command,
    size: usize,
    waiter: Waiter,
    deadline_ms: u64,
}

#[derive(Debug)]
struct InFlight {
    payload: Bytes,
    waiters: Vec<Waiter>,
    deadline_ms: u64,
    state: Flight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    /// Certainly not in any log.
    Waiting,
    /// Handed to the leader of this term.
    Sent(u64),
    /// Handed to the leader of this term, which did not take it or is gone: it may be in the log.
    Unknown(u64),
}

/// A batch to hand to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its number.
    pub sequence: u64,
    /// The only term in which it may enter the log.
    pub term: u64,
    /// The log entry's payload.
    pub payload: Bytes,
}

impl Proposals {
    /// None yet.
    #[must_use]
    pub fn new(origin: MemberId, boot: u64) -> Self {
        Self {
            origin,
            boot,
            next_sequence: 0,
            queued: VecDeque::new(),
            queued_bytes: 0,
            in_flight: BTreeMap::new(),
            applied_term: 0,
        }
    }

    /// Takes a command. Its waiter is told at once when too many wait already.
    pub fn push(&mut self, command: Command, size: usize, waiter: Waiter, deadline_ms: u64) {
        if self.queued.len() >= QUEUE_COMMANDS || self.queued_bytes + size > QUEUE_BYTES {
            let _ = waiter.send(Err(ProposeError::TooMany));
            return;
        }
        self.queued_bytes += size;
        self.queued.push_back(Queued { command, size, waiter, deadline_ms });
    }

    /// How many commands wait or are on their way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queued.len() + self.in_flight.values().map(|batch| batch.waiters.len()).sum::<usize>()
    }

    /// Whether there is something that is not on its way.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.queued.is_empty() || self.in_flight.values().any(|batch| batch.state == Flight::Waiting)
    }

    /// The next batch for the leader of `term`, as long as fewer than `limit` are on their way: batches
    /// that must be sent again first, then new ones as large as what has gathered.
    pub fn next_parcel(&mut self, term: u64, limit: usize) -> Option<Parcel> {
        if term < self.applied_term {
            return None;
        }
        let waiting = self.in_flight.iter_mut().find(|(_, batch)| batch.state == Flight::Waiting);
        if let Some((&sequence, batch)) = waiting {
            batch.state = Flight::Sent(term);
            return Some(Parcel { sequence, term, payload: batch.payload.clone() });
        }
        if self.in_flight.len() >= limit {
            return None;
        }
        let (commands, waiters, bytes, deadline_ms) = self.gather()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let id = BatchId { origin: self.origin, boot: self.boot, sequence };
        let payload = batch::encode(id, &commands, bytes + commands.len() * 16);
        self.in_flight.insert(
            sequence,
            InFlight { payload: payload.clone(), waiters, deadline_ms, state: Flight::Sent(term) },
        );
        Some(Parcel { sequence, term, payload })
    }

    fn gather(&mut self) -> Option<(Vec<Command>, Vec<Waiter>, usize, u64)> {
        let mut commands = Vec::new();
        let mut waiters = Vec::new();
        let mut bytes = 0;
        let mut deadline_ms = 0;
        while let Some(next) = self.queued.front() {
            if commands.len() >= BATCH_COMMANDS || (bytes + next.size > BATCH_BYTES && !commands.is_empty()) {
                break;
            }
            let next = self.queued.pop_front()?;
            self.queued_bytes -= next.size;
            if next.waiter.is_closed() {
                continue;
            }
            bytes += next.size;
            deadline_ms = next.deadline_ms.max(deadline_ms);
            commands.push(next.command);
            waiters.push(next.waiter);
        }
        (!commands.is_empty()).then_some((commands, waiters, bytes, deadline_ms))
    }

    /// A batch was applied: who waits for it. `None` for batches of other members and other processes.
    pub fn applied(&mut self, id: BatchId) -> Option<Vec<Waiter>> {
        if id.origin != self.origin || id.boot != self.boot {
            return None;
        }
        self.in_flight.remove(&id.sequence).map(|batch| batch.waiters)
    }

    /// An entry of `term` was applied. Whether batches of earlier terms became free to be sent again.
    pub fn observe_term(&mut self, term: u64) -> bool {
        if term <= self.applied_term {
            return false;
        }
        self.applied_term = term;
        let mut freed = false;
        for batch in self.in_flight.values_mut() {
            if matches!(batch.state, Flight::Sent(sent) | Flight::Unknown(sent) if sent < term) {
                batch.state = Flight::Waiting;
                freed = true;
            }
        }
        freed
    }

    /// The state was replaced by a snapshot, in which batches on their way may be contained: their outcome
    /// stays unknown, and they must not be sent again.
    pub fn skipped(&mut self) {
        for (_, batch) in self.in_flight.extract_if(.., |_, batch| batch.state != Flight::Waiting) {
            for waiter in batch.waiters {
                let _ = waiter.send(Err(ProposeError::ConnectionLost));
            }
        }
    }

    /// The leader did not take a batch: `certain` when it is known not to be in the log.
    pub fn refused(&mut self, sequence: u64, term: u64, certain: bool) {
        let applied_term = self.applied_term;
        if let Some(batch) = self.in_flight.get_mut(&sequence)
            && batch.state == Flight::Sent(term)
        {
            let lost = certain || term < applied_term;
            batch.state = if lost { Flight::Waiting } else { Flight::Unknown(term) };
        }
    }

    /// The connection over which batches were handed to the leader of `term` broke.
    pub fn connection_lost(&mut self, term: u64) {
        for batch in self.in_flight.values_mut() {
            if batch.state == Flight::Sent(term) {
                batch.state = Flight::Unknown(term);
            }
        }
    }

    /// Tells those whose time is over, and forgets them.
    pub fn expire(&mut self, now_ms: u64) {
        while self.queued.front().is_some_and(|next| next.deadline_ms <= now_ms) {
            if let Some(next) = self.queued.pop_front() {
                self.queued_bytes -= next.size;
                let _ = next.waiter.send(Err(ProposeError::TimedOut));
            }
        }
        let applied_term = self.applied_term;
        let over = self.in_flight.extract_if(.., |_, batch| batch.deadline_ms <= now_ms);
        for (_, batch) in over {
            let error = match batch.state {
                Flight::Waiting => ProposeError::TimedOut,
                Flight::Sent(term) if term >= applied_term => ProposeError::TimedOut,
                Flight::Sent(_) => ProposeError::LeaderGone,
                Flight::Unknown(_) => ProposeError::ConnectionLost,
            };
            for waiter in batch.waiters {
                let _ = waiter.send(Err(error.clone()));
            }
        }
    }

    /// When [`Proposals::expire`] has something to do next.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let queued = self.queued.front().map(|next| next.deadline_ms);
        let in_flight = self.in_flight.values().map(|batch| batch.deadline_ms).min();
        queued.into_iter().chain(in_flight).min()
    }

    /// Tells everybody that this member stops.
    pub fn stop(&mut self) {
        for next in self.queued.drain(..) {
            let _ = next.waiter.send(Err(ProposeError::Stopped));
        }
        for (_, batch) in std::mem::take(&mut self.in_flight) {
            for waiter in batch.waiters {
                let _ = waiter.send(Err(ProposeError::Stopped));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Put;

    fn put(proposals: &mut Proposals, size: usize, deadline_ms: u64) -> oneshot::Receiver<Reply> {
        let (tx, rx) = oneshot::channel();
        proposals.push(Command::Put(Put::default()), size, tx, deadline_ms);
        rx
    }

    fn proposals() -> Proposals {
        Proposals::new(MemberId(1), 9)
    }

    fn id(sequence: u64) -> BatchId {
        BatchId { origin: MemberId(1), boot: 9, sequence }
    }

    #[test]
    fn what_gathers_while_batches_are_on_their_way_goes_together() {
        let mut p = proposals();
        let _waiters: Vec<_> = (0..3).map(|_| put(&mut p, 10, 100)).collect();
        let first = p.next_parcel(2, 1).unwrap();
        assert_eq!(batch::decode(&first.payload).unwrap().1.len(), 3);
        let _more: Vec<_> = (0..2).map(|_| put(&mut p, 10, 100)).collect();
        assert_eq!(p.next_parcel(2, 1), None, "one is on its way");
        assert_eq!(p.applied(id(0)).unwrap().len(), 3);
        assert_eq!(batch::decode(&p.next_parcel(2, 1).unwrap().payload).unwrap().1.len(), 2);
    }

    #[test]
    fn a_batch_keeps_to_its_limit_of_bytes() {
        let mut p = proposals();
        let _waiters: Vec<_> = (0..3).map(|_| put(&mut p, BATCH_BYTES / 2 + 1, 100)).collect();
        assert_eq!(batch::decode(&p.next_parcel(1, 9).unwrap().payload).unwrap().1.len(), 1);
        let _large = put(&mut p, BATCH_BYTES * 3, 100);
        assert!(p.next_parcel(1, 9).is_some());
        assert!(p.next_parcel(1, 9).is_some());
        assert!(p.next_parcel(1, 9).is_some(), "a large command goes alone");
    }

    #[test]
    fn a_batch_is_sent_again_only_once_it_is_certainly_lost() {
        let mut p = proposals();
        let _waiter = put(&mut p, 1, 100);
        let first = p.next_parcel(2, 4).unwrap();
        p.refused(0, 2, false);
        assert_eq!(p.next_parcel(2, 4), None, "it may be in the log");
        assert!(p.observe_term(3), "an entry of a later term was applied first");
        let again = p.next_parcel(3, 4).unwrap();
        assert_eq!((again.sequence, again.term, again.payload), (0, 3, first.payload));
        assert!(p.applied(id(0)).is_some());
    }

    #[test]
    fn a_certain_refusal_frees_at_once_and_a_late_one_for_an_older_term_does_nothing() {
        let mut p = proposals();
        let _waiter = put(&mut p, 1, 100);
        p.next_parcel(2, 4).unwrap();
        p.refused(0, 2, true);
        assert_eq!(p.next_parcel(2, 4).unwrap().term, 2);
        p.observe_term(3);
        assert_eq!(p.next_parcel(3, 4).unwrap().term, 3);
        p.refused(0, 2, true);
        assert_eq!(p.next_parcel(3, 4), None);
    }

    #[test]
    fn a_batch_that_a_snapshot_may_contain_is_never_sent_again() {
        let mut p = proposals();
        let mut sent = put(&mut p, 1, 100);
        p.next_parcel(2, 4).unwrap();
        p.skipped();
        p.observe_term(3);
        assert_eq!(p.next_parcel(3, 4), None);
        assert_eq!(sent.try_recv().unwrap(), Err(ProposeError::ConnectionLost));
    }

    #[test]
    fn a_term_behind_the_log_gets_nothing() {
        let mut p = proposals();
        let _waiter = put(&mut p, 1, 100);
        p.observe_term(5);
        assert_eq!(p.next_parcel(4, 4), None);
        assert!(p.next_parcel(5, 4).is_some());
    }

    #[test]
    fn time_runs_out_with_the_reason() {
        let mut p = proposals();
        let mut queued = put(&mut p, 1, 10);
        p.expire(10);
        assert_eq!(queued.try_recv().unwrap(), Err(ProposeError::TimedOut));
        let mut lost = put(&mut p, 1, 20);
        p.next_parcel(2, 4).unwrap();
        p.connection_lost(2);
        assert_eq!(p.next_deadline_ms(), Some(20));
        p.expire(19);
        assert!(lost.try_recv().is_err());
        p.expire(20);
        assert_eq!(lost.try_recv().unwrap(), Err(ProposeError::ConnectionLost));
        assert_eq!((p.pending(), p.next_deadline_ms()), (0, None));
    }

    #[test]
    fn other_processes_batches_are_nobody_s() {
        let mut p = proposals();
        let _waiter = put(&mut p, 1, 10);
        p.next_parcel(2, 4).unwrap();
        assert!(p.applied(BatchId { boot: 8, ..id(0) }).is_none());
        assert!(p.applied(BatchId { origin: MemberId(2), ..id(0) }).is_none());
        assert_eq!(p.pending(), 1);
    }
}
