//! The consensus library's log storage on top of the write-ahead log. Translates types, nothing else.
//!
//! The library never sees how the log is stored, and the log never sees the library's types. All calls that
//! write come from one task, in order; the log keeps that order on disk.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};

use bincode::config;
use bytes::Bytes;
use futures::{Stream, stream};
use openraft::errors::LeaderChanged;
use openraft::storage::{IOFlushed, LeaderBoundedStreamError, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};

use super::types::{Batch, Entry, LogId, Membership, TypeConfig, Vote, log_id};
use crate::wal::{LogEntry, Payload, Position, SavedVote, Wal};

/// One answer to a replication read is not made larger than this, in bytes of log, by a further entry: the
/// cap of one AppendEntries.
pub const READ_LIMIT_BYTES: u64 = 1 << 20;

/// First byte of a stored membership.
const MEMBERSHIP_VERSION: u8 = 1;

type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;

/// Storage and reader of Raft's log. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
}

impl LogStore {
    /// On an open log.
    #[must_use]
    pub fn new(wal: Wal) -> Self {
        Self { wal }
    }

    /// The log below.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// The last entry up to which everything is on disk.
    #[must_use]
    pub fn last_durable_log_id(&self) -> Option<LogId> {
        self.wal.last_durable().map(to_log_id)
    }

    /// The term that this member is in, as the log has it: Raft's metrics may lag behind.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.wal.vote().ok().flatten().map_or(0, |vote| vote.term)
    }

    async fn read(&self, range: Range<u64>, limit_bytes: u64) -> io::Result<Vec<Entry>> {
        self.wal.read(range, limit_bytes).await?.into_iter().map(to_entry).collect()
    }

    fn saved_vote(&self) -> io::Result<Option<Vote>> {
        Ok(self.wal.vote()?.map(to_vote))
    }

    /// `None` while that leader's vote stands.
    fn leader_change(&self, leader: &LeaderId) -> io::Result<Option<LeaderChanged<TypeConfig>>> {
        let vote = self.saved_vote()?;
        let stands = vote.as_ref().is_some_and(|vote| vote.is_committed() && vote.leader_id() == leader);
        Ok((!stands).then(|| LeaderChanged::new(*leader, vote)))
    }
}

fn to_range(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn to_position(log_id: &LogId) -> Position {
    Position { term: log_id.leader_id.term, index: log_id.index }
}

fn to_log_id(position: Position) -> LogId {
    log_id(position.term, position.index)
}

fn to_vote(saved: SavedVote) -> Vote {
    if saved.committed {
        Vote::new_committed(saved.term, saved.voted_for)
    } else {
        Vote::new(saved.term, saved.voted_for)
    }
}

fn to_saved_vote(vote: &Vote) -> SavedVote {
    SavedVote { term: vote.leader_id.term, voted_for: vote.leader_id.voted_for, committed: vote.committed }
}

fn encode_membership(membership: &Membership) -> io::Result<Bytes> {
    let mut bytes = vec![MEMBERSHIP_VERSION];
    bincode::serde::encode_into_std_write(membership, &mut bytes, config::standard())
        .map_err(io::Error::other)?;
    Ok(bytes.into())
}

fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    match bytes.split_first() {
        Some((&MEMBERSHIP_VERSION, body)) => {
            let (membership, used) = bincode::serde::decode_from_slice(body, config::standard())
                .map_err(|error| invalid(format!("a membership in the log cannot be read: {error}")))?;
            if used != body.len() {
                return Err(invalid("a membership in the log is followed by something else".into()));
            }
            Ok(membership)
        }
        Some((version, _)) => {
            Err(invalid(format!("a membership in the log has the unknown version {version}")))
        }
        None => Err(invalid("a membership in the log is empty".into())),
    }
}

fn to_log_entry(entry: Entry) -> io::Result<LogEntry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Batch(bytes)) => Payload::Batch(bytes),
        EntryPayload::Membership(membership) => Payload::Membership(encode_membership(&membership)?),
    };
    Ok(LogEntry { position: to_position(&entry.log_id), payload })
}

fn to_entry(entry: LogEntry) -> io::Result<Entry> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Batch(bytes) => EntryPayload::Normal(Batch(bytes)),
        Payload::Membership(bytes) => EntryPayload::Membership(decode_membership(&bytes)?),
    };
    Ok(Entry { log_id: to_log_id(entry.position), payload })
}

/// Where a stream stands: what was read and not yet given out, and what is still to be read.
struct Cursor {
    read: std::vec::IntoIter<Entry>,
    rest: Range<u64>,
}

impl Cursor {
    fn new(range: Range<u64>) -> Self {
        Self { read: Vec::new().into_iter(), rest: range }
    }

    /// Reads on when everything read was given out and there is more to read.
    async fn fill(&mut self, store: &LogStore) -> io::Result<()> {
        if self.read.len() == 0 && !self.rest.is_empty() {
            let entries = store.read(self.rest.clone(), READ_LIMIT_BYTES).await?;
            self.rest.start = entries.last().map_or(self.rest.end, |last| last.log_id.index + 1);
            self.read = entries.into_iter();
        }
        Ok(())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    /// Reads in pieces, and looks at the vote after each: entries read while the leader changed are not given out.
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let state = Some((self.clone(), Cursor::new(to_range(&range))));
        Box::pin(stream::unfold(state, move |state| async move {
            let (store, mut cursor) = state?;
            let filled = cursor.fill(&store).await;
            // A change that came after the read, or while entries waited here, ends the stream too.
            let result = match filled.and_then(|()| store.leader_change(&leader)) {
                Ok(None) => Ok(cursor.read.next()?),
                Ok(Some(changed)) => Err(changed.into()),
                Err(error) => Err(error.into()),
            };
            let next = result.is_ok().then_some((store, cursor));
            Some((result, next))
        }))
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let state = Some((self.clone(), Cursor::new(to_range(&range))));
        Box::pin(stream::unfold(state, |state| async move {
            let (store, mut cursor) = state?;
            match cursor.fill(&store).await {
                Ok(()) => Some((Ok(cursor.read.next()?), Some((store, cursor)))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(to_range(&range), u64::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.saved_vote()
    }

    /// Nothing when the first entry is gone: a replication whose stream broke may still ask for what was purged
    /// meanwhile, and takes what it gets for what follows its last entry. With nothing it goes on as a heartbeat, until it
    /// hears that its member gets a snapshot instead.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.read(start..end, READ_LIMIT_BYTES).await?;
        if entries.first().is_some_and(|first| first.log_id.index != start) {
            entries.clear();
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (purged, last) = self.wal.bounds()?;
        Ok(LogState { last_purged_log_id: purged.map(to_log_id), last_log_id: last.map(to_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.wal.save_vote(to_saved_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // It never becomes unknown again.
        committed.map_or(Ok(()), |committed| self.wal.save_committed(to_position(&committed)))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.wal.committed()?.map(to_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(to_log_entry).collect::<Result<Vec<_>, _>>()?;
        self.wal.append(entries, Box::new(|result| callback.io_completed(result))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.wal.truncate_after(last_log_id.as_ref().map(to_position)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.wal.purge(to_position(&log_id)).await
    }
}

#[cfg(test)]
mod tests;
