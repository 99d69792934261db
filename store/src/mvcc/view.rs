//! A state of the keyspace that never changes, for reading.
//!
//! A view costs a few pointer copies to take, shares everything with the writer, and never blocks it. Reads at
//! any revision that is not compacted are answered from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::event::{ColdHistory, Version};
use super::history::{History, Past};
use crate::command::CommandError;
use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::tree::Tree;

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub struct View {
    /// Current versions.
    pub(super) live: Tree<Version>,
    /// Tombstones of keys whose newest event, since the compact revision, is a deletion.
    pub(super) graves: Tree<Version>,
    pub(super) history: History,
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
    pub(super) live_bytes: u64,
    pub(super) cold: Cold,
}

/// The way to history that left memory.
#[derive(Clone)]
pub(super) struct Cold {
    source: Option<Arc<dyn ColdHistory>>,
    /// The writer's compact revision: tells a reader with an old view why something is gone from disk.
    compacted: Arc<AtomicI64>,
}

impl Cold {
    pub(super) fn new(source: Option<Arc<dyn ColdHistory>>, compacted: Revision) -> Self {
        Self { source, compacted: Arc::new(AtomicI64::new(compacted.0)) }
    }

    pub(super) fn source(&self) -> Result<&Arc<dyn ColdHistory>, CommandError> {
        self.source.as_ref().ok_or_else(|| CommandError::History("there is no disk behind it".to_owned()))
    }

    pub(super) fn is_there(&self) -> bool {
        self.source.is_some()
    }

    /// Says that a compaction happened. Called before anything is dropped because of it.
    pub(super) fn compacted_to(&self, revision: Revision) {
        self.compacted.store(revision.0, Ordering::Release);
    }

    /// The error for a version that disk should have: compacted meanwhile, or truly lost.
    pub(super) fn missing(&self, at: SubRevision, compact_revision: Revision) -> CommandError {
        if self.compacted.load(Ordering::Acquire) > compact_revision.0 {
            CommandError::Compacted
        } else {
            CommandError::History(format!("the version at {}/{} is missing", at.main, at.sub))
        }
    }
}

impl View {
    /// The newest revision in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read; -1 when nothing was ever compacted.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// How many keys exist now.
    #[must_use]
    pub fn live_keys(&self) -> usize {
        self.live.len()
    }

    /// Bytes of all keys and their current values.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Bytes of memory that history takes beyond the current versions.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// Events that history has, also those on disk alone; what was compacted counts until it is collected.
    #[must_use]
    pub fn history_events(&self) -> u64 {
        self.history.events()
    }

    /// The current version of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        self.live.get(key).map(|version| &version.record)
    }

    /// All current versions in the order of their keys, for example to rebuild what hangs on leases.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.live.iter().map(|version| &version.record)
    }

    /// The revision that a request means, whose own says 0 or less for the current one.
    ///
    /// # Errors
    /// `FutureRevision` and `Compacted`.
    pub(super) fn readable(&self, revision: Revision) -> Result<Revision, CommandError> {
        if revision > self.revision {
            return Err(CommandError::FutureRevision);
        }
        let revision = if revision.0 <= 0 { self.revision } else { revision };
        if revision < self.compact_revision {
            return Err(CommandError::Compacted);
        }
        Ok(revision)
    }

    /// What a key with this newest version (live, or a tombstone) was at a readable revision.
    pub(super) fn past(&self, newest: &Version, tombstone: bool, revision: Revision) -> Past {
        if newest.record.mod_revision() > revision {
            self.history.before(newest, revision)
        } else if tombstone {
            Past::Absent
        } else {
            Past::Here(newest.clone())
        }
    }

    /// Reads a version that history named.
    pub(super) fn fetch(&self, past: Past) -> Result<Option<Record>, CommandError> {
        match past {
            Past::Absent => Ok(None),
            Past::Here(version) => Ok(Some(version.record)),
            Past::Cold(at) => {
                let found = self.cold.source()?.get(at).map_err(CommandError::History)?;
                found.map(Some).ok_or_else(|| self.cold.missing(at, self.compact_revision))
            }
        }
    }
}
