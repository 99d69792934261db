//! The owner of the log's files, which has a thread for itself, and what it shares with the handles.
//!
//! Group commit: everything that arrives while a sync runs goes out with the next write. Calls are answered
//! in order, after the sync. After a failed write or sync nothing is acknowledged any more: what waits
//! and what comes later gets the error, and the `failed` notification lets the process end.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::error::{REPAIR, WalFailure};
use super::format::{LogEntry, Position, Record, RecordPlace, SavedVote, Standing, decode_record};
use super::index::{LogIndex, Place, StoredEntry};
use super::journal::Journal;
use super::segment::{Segment, segment_name};

/// Called when what was appended is synced, or when that failed.
pub type Completion = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Records that are close together on disk are read with one call, up to so many bytes.
const READ_BYTES: u32 = 4 << 20;

pub(super) enum Message {
    Append {
        entries: Vec<LogEntry>,
        first_ordinal: u32,
        done: Completion,
        /// Given back when the entries are synced.
        _space: OwnedSemaphorePermit,
    },
    Vote {
        vote: SavedVote,
        reply: oneshot::Sender<io::Result<()>>,
    },
    Truncate {
        last: Option<Position>,
    },
    Purge {
        upto: Position,
    },
    Close {
        reply: oneshot::Sender<io::Result<()>>,
    },
}

/// What handles and the writer share.
pub(super) struct State {
    /// The log as the callers see it, ahead of the disk.
    pub(super) standing: Standing,
    pub(super) index: LogIndex,
    pub(super) durable_last: Option<Position>,
    segments: BTreeMap<u32, Arc<Segment>>,
    next_ordinal: u32,
    failure: Option<WalFailure>,
}

impl State {
    pub(super) fn new(journal: &Journal, index: LogIndex, committed: Option<Position>) -> Self {
        let segments = journal.segments().map(|segment| (segment.sequence, segment.clone())).collect();
        let mut standing = *journal.standing();
        standing.committed = committed;
        Self { standing, index, durable_last: standing.last, segments, next_ordinal: 0, failure: None }
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.to_io()),
            None => Ok(()),
        }
    }

    /// Adds entries and returns the ordinal of the first one.
    pub(super) fn append(&mut self, entries: &[LogEntry]) -> io::Result<u32> {
        let mut next = self.standing.next_index();
        for entry in entries {
            let index = entry.position.index;
            if next.is_some_and(|next| next != index) {
                let reason = format!("log entry {index} does not follow the entry before it");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
            next = Some(index + 1);
        }
        let first_ordinal = self.next_ordinal;
        for entry in entries {
            self.standing.apply(&entry.record());
            self.index.append(entry.clone(), Place::Pending { ordinal: self.next_ordinal });
            self.next_ordinal = self.next_ordinal.wrapping_add(1);
        }
        Ok(first_ordinal)
    }

    /// Removes entries and returns the last that stays, if anything had to be removed.
    #[allow(clippy::option_option, reason = "the inner one is the position of an empty log")]
    pub(super) fn truncate_after(&mut self, last: Option<Position>) -> Option<Option<Position>> {
        let keep = last.map_or(0, |last| last.index + 1);
        if self.standing.is_empty() || self.standing.next_index().is_some_and(|next| next <= keep) {
            return None;
        }
        let last = match last {
            Some(Position { index, .. }) if index >= self.standing.first_index => {
                self.index.term(index).map(|term| Position { term, index })
            }
            _ => self.standing.purged,
        };
        self.standing.apply(&Record::Truncate { last });
        self.index.truncate(last.map(|last| last.index));
        Some(last)
    }

    /// Drops entries; whether that is news.
    pub(super) fn purge(&mut self, upto: Position) -> bool {
        if self.standing.purged.is_some_and(|purged| purged.index >= upto.index) {
            return false;
        }
        self.standing.apply(&Record::Purged(upto));
        self.index.purge(upto.index);
        true
    }

    /// See [`super::Wal::read`].
    #[allow(clippy::type_complexity, reason = "used once")]
    pub(super) fn find(
        &self,
        range: Range<u64>,
        limit_bytes: u64,
    ) -> io::Result<(Vec<(StoredEntry, Arc<Segment>)>, Vec<LogEntry>)> {
        let found = self.index.find(range, limit_bytes);
        let mut stored = Vec::with_capacity(found.stored.len());
        for entry in found.stored {
            let segment = self.segments.get(&entry.segment).ok_or_else(|| {
                io::Error::other(format!("log entry {} is in a deleted segment", entry.position.index))
            })?;
            stored.push((entry, segment.clone()));
        }
        Ok((stored, found.cached))
    }
}

/// Reads entries from disk and verifies each. They must be in the order of the log.
pub(super) fn read_stored(entries: &[(StoredEntry, Arc<Segment>)]) -> io::Result<Vec<LogEntry>> {
    let mut out = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while let Some((first, segment)) = rest.first() {
        let mut end = first.offset + first.record_bytes;
        let mut count = 1;
        for (next, _) in &rest[1..] {
            let next_end = next.offset.saturating_add(next.record_bytes);
            if next.segment != first.segment || next.offset < end || next_end - first.offset > READ_BYTES {
                break;
            }
            end = next_end;
            count += 1;
        }
        let mut bytes = vec![0; (end - first.offset) as usize];
        segment.file.read_at(&mut bytes, first.offset.into())?;
        for (entry, _) in &rest[..count] {
            let at = (entry.offset - first.offset) as usize;
            let place = RecordPlace { nonce: segment.nonce, offset: entry.offset };
            match decode_record(&bytes[at..at + entry.record_bytes as usize], place).map(|found| found.record)
            {
                Some(Record::Entry { position, kind, payload }) if position == entry.position => {
                    out.push(LogEntry::from_record(position, kind, payload));
                }
                _ => {
                    let (name, offset) = (segment_name(entry.segment), entry.offset);
                    let reason = format!(
                        "log entry {} is damaged on disk: {name}, offset {offset}; {}",
                        entry.position.index, REPAIR
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
            }
        }
        rest = &rest[count..];
    }
    Ok(out)
}

enum Waiting {
    Append(Completion, OwnedSemaphorePermit),
    Reply(oneshot::Sender<io::Result<()>>),
}

impl Waiting {
    fn answer(self, result: io::Result<()>) {
        match self {
            Self::Append(done, _space) => done(result),
            // Who asked may have gone; there is nobody else to tell.
            Self::Reply(reply) => drop(reply.send(result)),
        }
    }
}

/// Owns the log's files. Whoever runs it decides where: production gives it a thread, see [`WriterHost`].
pub struct Writer {
    pub(super) journal: Journal,
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) failed: watch::Sender<Option<WalFailure>>,
    pub(super) inbox_space: Arc<Semaphore>,
    pub(super) cache_bytes: u64,
    pub(super) batch_bytes: u64,
    pub(super) committed_changed: Arc<AtomicBool>,
    pub(super) close: Option<oneshot::Sender<io::Result<()>>>,
    pub(super) failure: Option<WalFailure>,
}

/// Gives a log's writer something to run on.
pub trait WriterHost: Send + Sync {
    /// Begins to run the writer: its rounds, until there are no more, then [`Writer::stop`]. The thread, if it is one, is
    /// waited for when the last handle of the log goes.
    ///
    /// # Errors
    /// When there is no thread to be had.
    fn start(&self, writer: Writer) -> io::Result<Option<JoinHandle<()>>>;
}

/// A thread for each writer.
#[derive(Clone, Copy, Debug)]
pub struct OwnThread;

impl WriterHost for OwnThread {
    fn start(&self, writer: Writer) -> io::Result<Option<JoinHandle<()>>> {
        let thread = std::thread::Builder::new().name("wal-writer".into());
        thread.spawn(move || writer.run()).map(Some)
    }
}

/// What one round takes out of the inbox, encoded but not written.
#[must_use = "a round that is not completed answers nobody"]
pub struct Round {
    waiting: Vec<Waiting>,
    bytes: u64,
    purges: bool,
    result: io::Result<()>,
}

impl Writer {
    /// Serves on this thread until the log is closed or the last handle is gone.
    fn run(mut self) {
        while self.close.is_none()
            && let Some(first) = self.messages.blocking_recv()
        {
            let round = self.gather(first);
            self.complete(round);
        }
        self.stop();
    }

    /// The next round, as soon as there is something to write; `None` when the log is closed or the last handle is gone.
    pub async fn next(&mut self) -> Option<Round> {
        if self.close.is_some() {
            return None;
        }
        let first = self.messages.recv().await?;
        Some(self.gather(first))
    }

    /// Takes what waits in the inbox, `first` before all.
    fn gather(&mut self, first: Message) -> Round {
        let mut round = Round { waiting: Vec::new(), bytes: 0, purges: false, result: Ok(()) };
        round.result = self.take(first, &mut round);
        while round.result.is_ok()
            && self.close.is_none()
            && round.bytes < self.batch_bytes
            && let Ok(message) = self.messages.try_recv()
        {
            round.result = self.take(message, &mut round);
        }
        round
    }

    /// Writes and syncs a round, then answers who waits for it. To be called before the next round is taken.
    pub fn complete(&mut self, round: Round) {
        let result = match round.result {
            Ok(()) => self.finish(round.purges),
            failed => failed,
        };
        if let Err(error) = &result
            && self.failure.is_none()
        {
            let stopped = WalFailure::new(error);
            tracing::error!("{stopped}");
            self.state.lock().failure = Some(stopped.clone());
            self.failed.send_replace(Some(stopped.clone()));
            self.failure = Some(stopped);
        }
        for waiting in round.waiting {
            waiting.answer(self.failure.as_ref().map_or(Ok(()), |failure| Err(failure.to_io())));
        }
    }

    fn take(&mut self, message: Message, round: &mut Round) -> io::Result<()> {
        match message {
            Message::Append { entries, first_ordinal, done, _space } => {
                // First of all: whatever happens, it is answered.
                round.waiting.push(Waiting::Append(done, _space));
                for (ordinal, entry) in entries.iter().enumerate() {
                    round.bytes += entry.encoded_bytes() as u64;
                    // Ordinals wrap around.
                    self.journal.push_entry(entry, first_ordinal.wrapping_add(ordinal as u32))?;
                }
                Ok(())
            }
            Message::Vote { vote, reply } => {
                round.waiting.push(Waiting::Reply(reply));
                self.journal.push(&Record::Vote(vote))
            }
            Message::Truncate { last } => self.journal.push(&Record::Truncate { last }),
            Message::Purge { upto } => {
                round.purges = true;
                self.journal.push(&Record::Purged(upto))
            }
            Message::Close { reply } => {
                self.close = Some(reply);
                Ok(())
            }
        }
    }

    fn finish(&mut self, purges: bool) -> io::Result<()> {
        if self.journal.is_dirty() {
            self.push_committed()?;
        }
        self.journal.commit()?;
        let released = if purges { Some(self.journal.release_purged()) } else { None };
        let (stored, opened) = self.journal.take_stored();
        let mut state = self.state.lock();
        for segment in opened {
            state.segments.insert(segment.sequence, segment);
        }
        for at in stored {
            state.index.stored(at.index, at.ordinal, at.segment, at.offset);
        }
        if let Some(first) = released {
            state.segments = state.segments.split_off(&first);
        }
        state.index.evict(self.cache_bytes);
        state.durable_last = self.journal.standing().last;
        Ok(())
    }

    /// Adds the committed position when it changed and its entry is in the log before it.
    fn push_committed(&mut self) -> io::Result<()> {
        if !self.committed_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let committed = self.state.lock().standing.committed;
        let written = *self.journal.standing();
        match committed {
            Some(committed) if written.last.is_none_or(|last| last.index < committed.index) => {
                // Its entry is still in the inbox.
                self.committed_changed.store(true, Ordering::Release);
                Ok(())
            }
            Some(committed) if written.committed != Some(committed) => {
                self.journal.push(&Record::Committed(committed))
            }
            _ => Ok(()),
        }
    }

    /// Vouches for everything written, stops the threads and closes the files. After the last round.
    pub fn stop(mut self) {
        let result = match self.failure.take() {
            Some(failure) => Err(failure.to_io()),
            None => self
                .push_committed()
                .and_then(|()| self.journal.push(&Record::Mark))
                .and_then(|()| self.journal.commit()),
        };
        let ended = match &result {
            Ok(()) => WalFailure::closed(),
            Err(error) => WalFailure::new(error),
        };
        self.state.lock().failure.get_or_insert(ended.clone());
        self.inbox_space.close();
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            let waiting = match message {
                Message::Append { done, _space, .. } => Waiting::Append(done, _space),
                Message::Vote { reply, .. } | Message::Close { reply } => Waiting::Reply(reply),
                Message::Truncate { .. } | Message::Purge { .. } => continue,
            };
            waiting.answer(Err(ended.to_io()));
        }
        let close = self.close.take();
        // The lock of the directory goes with it: who waits for the close may open it again.
        drop(self.journal);
        if let Some(close) = close {
            // Who asked may have gone.
            drop(close.send(result));
        }
    }
}
