//! Records written behind: every version of a key goes to disk in large batches off the apply path, so that
//! a restart is fast and memory need not hold all of history.
//!
//! Never the only copy: the truth is the log plus the last verified snapshot, and nothing acknowledged waits
//! for this. What cannot be trusted is thrown away and built anew from there. The engine sits behind
//! [`RecordStore`], so that replacing it touches one file.

use std::ops::ControlFlow;

use crate::ids::SubRevision;
use crate::stored::{StateMeta, StoredVersion};

mod engine;
mod marker;
pub mod memory;
pub mod rewrite_rule;
pub mod sled;
pub mod value;
pub mod writer;

pub use self::memory::MemoryRecords;
pub use self::rewrite_rule::RewriteRule;
pub use self::sled::{Opened, SledOptions, SledRecords};
pub use self::writer::{Persisted, RecordWriter, RecordsMetrics, WriterOptions};

/// What is written in one piece: all of it or nothing survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch {
    /// New versions. A version never changes: writing one again writes the same.
    pub put: Vec<StoredVersion>,
    /// Versions that compaction dropped; those in `put` are dropped too. Absent ones are ignored.
    pub remove: Vec<SubRevision>,
    /// The state after this batch. `None` while the store is filled from a snapshot: until a batch with a
    /// state comes, [`RecordStore::meta`] answers `None` and a restart starts over.
    pub meta: Option<StateMeta>,
}

impl RecordBatch {
    /// Adds a later batch; the result does what both did one after the other.
    pub fn merge(&mut self, later: Self) {
        if self.put.is_empty() {
            self.put = later.put;
        } else {
            self.put.extend(later.put);
        }
        if self.remove.is_empty() {
            self.remove = later.remove;
        } else {
            self.remove.extend(later.remove);
        }
        self.meta = later.meta;
    }

    /// Leaves out of `put` what is also removed; `remove` is sorted then.
    fn cancel_out(&mut self) {
        self.remove.sort_unstable();
        self.remove.dedup();
        if !self.remove.is_empty() {
            let remove = &self.remove;
            self.put.retain(|v| remove.binary_search(&v.at).is_err());
        }
    }
}

/// How far [`RecordStore::shrink`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// Nothing is under way: it is not worth it, or not possible now.
    Idle,
    /// A part of it is done.
    More,
    /// The file system has its space back.
    Done {
        /// Bytes on disk when it began.
        before_bytes: u64,
        /// And now.
        after_bytes: u64,
    },
    /// It could not be done. What is stored is where it was.
    GaveUp {
        /// Why.
        why: String,
    },
}

/// The record store failed. Nothing is lost: log and snapshot have everything.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// What is on disk is not what was written.
    #[error("the record store in {dir} is damaged: {what}; it will be built anew from snapshot and log")]
    Damaged {
        /// Its directory.
        dir: String,
        /// What is wrong.
        what: String,
    },
    /// The engine or the disk failed, now or earlier; nothing works until [`RecordStore::clear`].
    #[error("the record store in {dir} failed: {what}; check the disk, then restart the member")]
    Failed {
        /// Its directory.
        dir: String,
        /// The first failure.
        what: String,
    },
    /// Used after [`RecordStore::close`].
    #[error("the record store is closed")]
    Closed,
}

/// Where records are kept. All methods block the thread.
///
/// One thread writes (`apply`, `flush`, `shrink`, `clear`, `close`), any number reads meanwhile. A read sees whole
/// records, but a scan is no snapshot: a concurrent batch may show in part.
pub trait RecordStore: Send + Sync {
    /// Takes a batch. On disk after the next flush, together with all batches since the last one.
    ///
    /// # Errors
    /// When the engine fails.
    fn apply(&self, batch: RecordBatch) -> Result<(), RecordsError>;

    /// Returns when everything applied is on disk.
    ///
    /// # Errors
    /// When the engine fails. Then nothing since the last flush may be on disk.
    fn flush(&self) -> Result<(), RecordsError>;

    /// Hands out all versions in the order of their sub-revisions and checks that none is missing, which is
    /// known only at the end: on an error, throw away what was handed out. To be used when nothing writes.
    ///
    /// # Errors
    /// When the store is damaged or the engine fails.
    fn load(&self, visit: &mut dyn FnMut(StoredVersion)) -> Result<(), RecordsError>;

    /// Hands out versions from `from` on, in order, until `visit` breaks. `visit` must not use the store.
    ///
    /// # Errors
    /// When a record is damaged or the engine fails.
    fn scan(
        &self,
        from: SubRevision,
        visit: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
    ) -> Result<(), RecordsError>;

    /// One version.
    ///
    /// # Errors
    /// When the record is damaged or the engine fails.
    fn get(&self, at: SubRevision) -> Result<Option<StoredVersion>, RecordsError>;

    /// The state that belongs to the records; `None` when the store is empty or was filled only in part.
    ///
    /// # Errors
    /// When it is damaged or the engine fails.
    fn meta(&self) -> Result<Option<StateMeta>, RecordsError>;

    /// Removes everything, on disk too. Mends a store that failed.
    ///
    /// # Errors
    /// When the disk fails.
    fn clear(&self) -> Result<(), RecordsError>;

    /// Gives space that nothing uses back to the file system: begins, if that is worth it, or does a bounded part of
    /// what it began. To be called again after [`Shrink::More`], between batches or after many of them. Whenever it
    /// is interrupted, everything that was flushed is there after a restart.
    ///
    /// # Errors
    /// When what is stored can no longer be used. That it could not be given back is no error.
    fn shrink(&self) -> Result<Shrink, RecordsError>;

    /// Bytes on disk.
    ///
    /// # Errors
    /// When the disk fails.
    fn size_on_disk(&self) -> Result<u64, RecordsError>;

    /// Flushes and notes on disk that nothing has to be checked at the next start. Nothing works after it.
    ///
    /// # Errors
    /// When the engine fails; the next start checks then.
    fn close(&self) -> Result<(), RecordsError>;
}

#[cfg(test)]
mod contract;
