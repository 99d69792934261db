//! The write-ahead log: the one thing that is synced before anything is answered.
//!
//! It keeps Raft's entries, vote, truncations, purges and committed position in one serial order, in segment
//! files of its own format (`format`). It knows nothing of the consensus library and nothing of what entries mean.
//! It must never acknowledge what is not synced, never go on after a failed write or sync, and never
//! open a damaged log as if it were whole (`recovery`).
//!
//! - `format`: the bytes; `segment`: the files; [`disk`]: the seam to the file system
//! - `journal`: writes batches; `writer`: the thread that owns it, group commit, failure
//! - `index`: where entries are, and the recent ones; `recovery`: opening
//! - [`read_only`]: what is in the log of a member that does not run

pub mod disk;
mod error;
pub mod format;
mod index;
mod journal;
pub mod read_only;
mod recovery;
mod segment;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod sim_disk;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::disk::{Disk, OsDisk, Syncs};
pub use self::error::{WalError, WalFailure};
pub use self::format::{LogEntry, Payload, Position, SavedVote};
use self::format::{MAX_RECORD_BYTES, Record, SEGMENT_HEADER_BYTES, SegmentHeader, Standing};
use self::index::LogIndex;
use self::journal::{Journal, JournalConfig};
use self::recovery::{Recovery, RecoveryConfig};
use self::segment::Housekeeper;
pub use self::writer::{Completion, OwnThread, Round, Writer, WriterHost};
use self::writer::{Message, State, read_stored};
use crate::blocking::Blocking;
use crate::ids::{ClusterId, MemberId};

const MIN_SEGMENT_BYTES: u32 = 2 * SEGMENT_HEADER_BYTES;
const MAX_SEGMENT_BYTES: u32 = 1 << 30;

/// Who makes new segments and deletes old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// A thread, before they are needed.
    AheadOfTime,
    /// The writer itself, when they are needed: in a fixed order.
    InOrder,
}

/// Whose log it is. Written into every segment; a log of somebody else is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member.
    pub member_id: MemberId,
}

impl Identity {
    fn of(header: &SegmentHeader) -> Self {
        Self { cluster_id: ClusterId(header.cluster_id), member_id: MemberId(header.member_id) }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of cluster {}", self.member_id, self.cluster_id)
    }
}

/// Hears what the log does to the disk. Called on the log's thread: must be quick.
pub trait WalMetrics: Send + Sync + 'static {
    /// A sync of records succeeded, and took so long.
    fn synced(&self, took: Duration);
    /// A write of records succeeded: its size, and how long it took.
    fn written(&self, bytes: u64, took: Duration);
}

impl WalMetrics for () {
    fn synced(&self, _took: Duration) {}
    fn written(&self, _bytes: u64, _took: Duration) {}
}

/// How to open a log.
#[derive(Clone)]
pub struct WalConfig {
    /// The log's own directory; created when its parent exists.
    pub dir: PathBuf,
    /// Whose log it is.
    pub identity: Identity,
    /// Size of a segment file. 8 KiB to 1 GiB.
    pub segment_bytes: u32,
    /// Recent entries kept in memory. Entries that are not synced yet are kept in any case.
    pub cache_bytes: u64,
    /// A write is not made larger than this by adding further records.
    pub batch_bytes: u32,
    /// Calls that may wait for the writer; more make the caller wait.
    pub inbox_messages: usize,
    /// Bytes of entries that may wait for the writer; more make the caller wait.
    pub inbox_bytes: u64,
    /// Whether what is written is synced before it is acknowledged. Of no account on another disk than the system's.
    pub syncs: Syncs,
    /// Hears of writes and syncs.
    pub metrics: Arc<dyn WalMetrics>,
    /// Does the reading of what is not in memory.
    pub blocking: Blocking,
}

impl WalConfig {
    /// The defaults: segments of 16 MiB, 32 MiB of recent entries.
    #[must_use]
    pub fn new(dir: PathBuf, cluster_id: ClusterId, member_id: MemberId) -> Self {
        Self {
            dir,
            identity: Identity { cluster_id, member_id },
            segment_bytes: 16 << 20,
            cache_bytes: 32 << 20,
            batch_bytes: 4 << 20,
            inbox_messages: 1024,
            inbox_bytes: 64 << 20,
            syncs: Syncs::On,
            metrics: Arc::new(()),
            blocking: Blocking::default(),
        }
    }
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The vote that was saved last.
    pub vote: Option<SavedVote>,
    /// Entries up to here were purged.
    pub purged: Option<Position>,
    /// Entries up to here were known to be committed. Never behind `last`.
    pub committed: Option<Position>,
    /// The last entry, or `purged` when there is none.
    pub last: Option<Position>,
    /// How many entries there are.
    pub entries: u64,
    /// Size of an unfinished write that was cut off.
    pub torn_bytes: u64,
}

impl Recovered {
    fn of(standing: &Standing, torn_bytes: u64) -> Self {
        Self {
            vote: standing.vote,
            purged: standing.purged,
            committed: not_behind(standing.committed, standing.last),
            last: standing.last,
            entries: standing.next_index().map_or(0, |next| next - standing.first_index),
            torn_bytes,
        }
    }
}

/// A handle to the log; clones share it.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<Mutex<State>>,
    /// `None` only while dropping.
    inbox: Option<mpsc::Sender<Message>>,
    inbox_space: Arc<Semaphore>,
    inbox_kib: u32,
    failed: watch::Receiver<Option<WalFailure>>,
    size_on_disk: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
    committed_changed: Arc<AtomicBool>,
    blocking: Blocking,
}

impl Wal {
    /// Opens the log, or creates it. Blocks: reads all of it.
    ///
    /// # Errors
    ///
    /// See [`WalError`]. Nothing was changed then, apart from an unfinished write at the end that was cut off.
    pub fn open(config: WalConfig) -> Result<(Self, Recovered), WalError> {
        let disk = OsDisk::open(&config.dir, config.syncs)
            .map_err(|source| WalError::Io { action: format!("open {}", config.dir.display()), source })?
            .ok_or_else(|| WalError::Locked { dir: config.dir.clone() })?;
        Self::open_on(Arc::new(disk), &config, &OwnThread, Segments::AheadOfTime)
    }

    /// As [`Wal::open`], on any disk; `host` runs the writer. What is in `config.dir` is not looked at.
    ///
    /// # Errors
    ///
    /// See [`Wal::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: &WalConfig,
        host: &dyn WriterHost,
        segments: Segments,
    ) -> Result<(Self, Recovered), WalError> {
        let size_on_disk = Arc::new(AtomicU64::new(0));
        let (journal, index, recovered) = open_journal(disk, config, &size_on_disk, segments)?;
        let wal = Self::start(journal, index, recovered, config, size_on_disk, host)?;
        Ok((wal, recovered))
    }

    /// Starts the writer that owns the files.
    fn start(
        journal: Journal,
        index: LogIndex,
        recovered: Recovered,
        config: &WalConfig,
        size_on_disk: Arc<AtomicU64>,
        host: &dyn WriterHost,
    ) -> Result<Self, WalError> {
        let (inbox, messages) = mpsc::channel(config.inbox_messages.max(1));
        let inbox_kib = u32::try_from(config.inbox_bytes / 1024).unwrap_or(u32::MAX >> 4).max(1);
        let inbox_space = Arc::new(Semaphore::new(inbox_kib as usize));
        let (failed, failed_receiver) = watch::channel(None);
        let state = Arc::new(Mutex::new(State::new(&journal, index, recovered.committed)));
        let committed_changed = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            journal,
            messages,
            state: state.clone(),
            failed,
            inbox_space: inbox_space.clone(),
            cache_bytes: config.cache_bytes,
            batch_bytes: u64::from(config.batch_bytes),
            committed_changed: committed_changed.clone(),
            close: None,
            failure: None,
        };
        let thread = host.start(writer).map_err(WalError::io("start the log's thread"))?;
        let inner = Inner {
            state,
            inbox: Some(inbox),
            inbox_space,
            inbox_kib,
            failed: failed_receiver,
            size_on_disk,
            thread: Mutex::new(thread),
            committed_changed,
            blocking: config.blocking.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Appends entries, in order and without holes. They can be read when this returns; `done` is called
    /// once, on the log's thread, when they are synced or when that failed. Waits while the inbox is full.
    ///
    /// # Errors
    ///
    /// The log stopped, or an entry does not follow the last one or is too large. `done` is dropped then.
    pub async fn append(&self, entries: Vec<LogEntry>, done: Completion) -> io::Result<()> {
        let bytes: usize = entries.iter().map(LogEntry::encoded_bytes).sum();
        if let Some(large) = entries.iter().find(|entry| entry.encoded_bytes() > MAX_RECORD_BYTES) {
            let reason =
                format!("log entry {} is over the limit of {MAX_RECORD_BYTES} bytes", large.position.index);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.inner.inbox_kib);
        let space = self.inner.inbox_space.clone().acquire_many_owned(kib).await;
        let space = space.map_err(|_| self.stopped())?;
        let slot = self.slot().await?;
        let mut state = self.inner.state.lock();
        state.check()?;
        let first_ordinal = state.append(&entries)?;
        // Under the lock: the inbox has the order in which the index was changed.
        slot.send(Message::Append { entries, first_ordinal, done, _space: space });
        Ok(())
    }

    /// Saves the vote. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub async fn save_vote(&self, vote: SavedVote) -> io::Result<()> {
        let slot = self.slot().await?;
        let (reply, saved) = oneshot::channel();
        {
            let mut state = self.inner.state.lock();
            state.check()?;
            // Readers that serve a leader must stop at once.
            state.standing.apply(&Record::Vote(vote));
            slot.send(Message::Vote { vote, reply });
        }
        saved.await.map_err(|_| self.stopped())?
    }

    /// Removes all entries behind `last`. The removal is on disk no later than any entry appended after it.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub async fn truncate_after(&self, last: Option<Position>) -> io::Result<()> {
        let slot = self.slot().await?;
        let mut state = self.inner.state.lock();
        state.check()?;
        if let Some(last) = state.truncate_after(last) {
            slot.send(Message::Truncate { last });
        }
        Ok(())
    }

    /// Drops the entries up to `upto`. Files go when that is on disk.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub async fn purge(&self, upto: Position) -> io::Result<()> {
        let slot = self.slot().await?;
        let mut state = self.inner.state.lock();
        state.check()?;
        if state.purge(upto) {
            slot.send(Message::Purge { upto });
        }
        Ok(())
    }

    /// Saves the committed position with the next write of something else, or when the log is closed.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub fn save_committed(&self, committed: Position) -> io::Result<()> {
        let mut state = self.inner.state.lock();
        state.check()?;
        state.standing.committed = Some(committed);
        self.inner.committed_changed.store(true, Ordering::Release);
        Ok(())
    }

    /// Entries of a range, as far as the log has them: a contiguous run, of at most `limit_bytes` of records, but never
    /// empty when the log has the first one.
    ///
    /// # Errors
    ///
    /// The log stopped, or an entry cannot be read back intact.
    pub async fn read(&self, range: Range<u64>, limit_bytes: u64) -> io::Result<Vec<LogEntry>> {
        let (stored, cached) = {
            let state = self.inner.state.lock();
            state.check()?;
            state.find(range, limit_bytes)?
        };
        if stored.is_empty() {
            return Ok(cached);
        }
        let read = self.inner.blocking.run(move || read_stored(&stored)).await;
        let mut entries = read.map_err(|error| io::Error::other(format!("reading the log: {error}")))??;
        entries.extend(cached);
        Ok(entries)
    }

    /// The vote that was saved last.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub fn vote(&self) -> io::Result<Option<SavedVote>> {
        let state = self.inner.state.lock();
        state.check()?;
        Ok(state.standing.vote)
    }

    /// The purged position, and the last entry (the purged position when there is none).
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub fn bounds(&self) -> io::Result<(Option<Position>, Option<Position>)> {
        let state = self.inner.state.lock();
        state.check()?;
        Ok((state.standing.purged, state.standing.last))
    }

    /// The committed position that was saved last. Never behind the last entry.
    ///
    /// # Errors
    ///
    /// The log stopped.
    pub fn committed(&self) -> io::Result<Option<Position>> {
        let state = self.inner.state.lock();
        state.check()?;
        Ok(not_behind(state.standing.committed, state.standing.last))
    }

    /// The last entry up to which everything is on disk. What was purged is: it is in a snapshot, which may have put
    /// itself in the place of entries that never came while the writer is still busy with a sync.
    #[must_use]
    pub fn last_durable(&self) -> Option<Position> {
        let state = self.inner.state.lock();
        state.durable_last.max(state.standing.purged)
    }

    /// Bytes of log behind the entry at `index`: what replaying from a snapshot at `index` would read.
    #[must_use]
    pub fn bytes_behind(&self, index: u64) -> u64 {
        self.inner.state.lock().index.bytes_behind(index)
    }

    /// Bytes that the log takes on disk, with what was allocated ahead.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.inner.size_on_disk.load(Ordering::Relaxed)
    }

    /// Becomes `Some` when the log stops because of a failed write or sync. The process must end then.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<WalFailure>> {
        self.inner.failed.clone()
    }

    /// Writes everything that was handed over, syncs, and gives the files back. Every later call fails.
    ///
    /// # Errors
    ///
    /// The log had stopped before, or stops with this write.
    pub async fn close(&self) -> io::Result<()> {
        let (reply, closed) = oneshot::channel();
        self.slot().await?.send(Message::Close { reply });
        closed.await.map_err(|_| self.stopped())?
    }

    async fn slot(&self) -> io::Result<mpsc::Permit<'_, Message>> {
        let inbox = self.inner.inbox.as_ref().expect("taken only when the last handle is dropped");
        inbox.reserve().await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> io::Error {
        let failure = self.inner.failed.borrow().clone();
        failure.unwrap_or_else(WalFailure::closed).to_io()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            // It ends with the sync that runs, if any. A panic in it was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn not_behind(committed: Option<Position>, last: Option<Position>) -> Option<Position> {
    let (committed, last) = (committed?, last?);
    Some(if committed.index > last.index { last } else { committed })
}

/// Recovers the log and makes it ready to be written.
fn open_journal(
    disk: Arc<dyn Disk>,
    config: &WalConfig,
    size_on_disk: &Arc<AtomicU64>,
    segments: Segments,
) -> Result<(Journal, LogIndex, Recovered), WalError> {
    if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&config.segment_bytes) {
        let range = format!("{MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}");
        return Err(WalError::Config(format!(
            "segments must have {range} bytes, not {}",
            config.segment_bytes
        )));
    }
    let segment_bytes = u64::from(config.segment_bytes);
    let ahead = segments == Segments::AheadOfTime;
    let housekeeper = Housekeeper::new(disk.clone(), segment_bytes, size_on_disk.clone(), ahead)
        .map_err(WalError::io("start the thread that prepares segments"))?;
    let recovery = RecoveryConfig { identity: config.identity, cache_bytes: config.cache_bytes };
    let Recovery { journal: found, index, torn_bytes } = recovery::recover(&*disk, &recovery, &housekeeper)?;
    size_on_disk.store(found.segments.iter().map(|held| held.bytes).sum(), Ordering::Relaxed);
    let recovered = Recovered::of(&found.standing, torn_bytes);
    let journal_config = JournalConfig {
        identity: config.identity,
        segment_bytes: config.segment_bytes,
        batch_bytes: config.batch_bytes.min(config.segment_bytes),
    };
    let mut journal =
        Journal::new(disk, journal_config, found, housekeeper, config.metrics.clone(), size_on_disk.clone());
    // Deletions that an end of the process prevented.
    journal.release_purged();
    Ok((journal, index, recovered))
}
