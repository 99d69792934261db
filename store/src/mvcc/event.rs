//! The words of history: versions with their exact place, the events that made them, and what disk keeps.

use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::tree::Keyed;

/// A version of a key with its place inside its revision. The record alone knows only the main revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version, or a tombstone.
    pub record: Record,
    /// Its place in the transaction that wrote it.
    pub sub: u32,
    /// The low bits of the number, in this member's history, of the event that wrote it. Right for the newest version
    /// of a key; elsewhere nobody asks for it.
    pub(super) event: u32,
}

impl Version {
    /// One whose event nobody asks for.
    pub(super) fn past(record: Record, sub: u32) -> Self {
        Self { record, sub, event: 0 }
    }

    /// Where the version was written.
    #[must_use]
    pub fn at(&self) -> SubRevision {
        SubRevision { main: self.record.mod_revision(), sub: self.sub }
    }
}

impl Keyed for Version {
    fn key(&self) -> &[u8] {
        self.record.key()
    }
}

pub use crate::event::{Event, EventKind};
pub use crate::stored::StoredVersion;

/// Reads back from disk the history that left memory. May block; it is called by reads of old revisions only.
pub trait ColdHistory: Send + Sync {
    /// Up to `limit` stored versions from `from` on, in order.
    ///
    /// # Errors
    /// When disk cannot be read.
    fn scan(&self, from: SubRevision, limit: usize) -> Result<Vec<StoredVersion>, String>;

    /// The version written at exactly `at`, if it is still kept.
    ///
    /// # Errors
    /// When disk cannot be read.
    fn get(&self, at: SubRevision) -> Result<Option<Record>, String>;
}

/// The first place of a revision.
#[must_use]
pub(super) fn start_of(main: Revision) -> SubRevision {
    SubRevision { main, sub: 0 }
}
