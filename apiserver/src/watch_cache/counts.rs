//! What a cache holds and did, for whoever looks. Must never hold up the cache.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::Revision;

/// One look at a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects.
    pub objects: u64,
    /// Their bytes, as they are stored.
    pub bytes: u64,
    /// Events that are kept at most.
    pub capacity: u64,
    /// How new it is; 0 before it has listed.
    pub revision: Revision,
    /// Who waits for events.
    pub watchers: u64,
    /// Changes that came from the store.
    pub received: u64,
    /// Events that were handed to watchers.
    pub dispatched: u64,
    /// How often the collection was listed.
    pub initializations: u64,
}

/// Counted by the feed.
#[derive(Debug, Default)]
pub(super) struct FeedCounts {
    received: AtomicU64,
    initializations: AtomicU64,
}

impl FeedCounts {
    pub(super) fn received(&self, changes: usize) {
        self.received.fetch_add(changes as u64, Ordering::Relaxed);
    }

    pub(super) fn initialized(&self) {
        self.initializations.fetch_add(1, Ordering::Relaxed);
    }

    /// Received changes, and initializations.
    pub(super) fn look(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.initializations.load(Ordering::Relaxed))
    }
}
