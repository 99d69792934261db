//! Counts of the watch system, for whoever reports them. Plain numbers; nothing depends on them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What the streams of a hub do.
#[derive(Debug, Default)]
pub struct WatchStats {
    pub(super) streams: AtomicI64,
    pub(super) watchers: AtomicI64,
    pub(super) slow_watchers: AtomicI64,
    pub(super) events: AtomicU64,
    pub(super) pending_events: AtomicI64,
}

impl WatchStats {
    /// Open streams.
    #[must_use]
    pub fn streams(&self) -> i64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Watches on all streams.
    #[must_use]
    pub fn watchers(&self) -> i64 {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Watches that read events which are not the newest.
    #[must_use]
    pub fn slow_watchers(&self) -> i64 {
        self.slow_watchers.load(Ordering::Relaxed)
    }

    /// Events handed to the RPC layer since the start; an event counts for each watch.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Events in answers that the RPC layer has not taken.
    #[must_use]
    pub fn pending_events(&self) -> i64 {
        self.pending_events.load(Ordering::Relaxed)
    }
}

pub(super) fn add(to: &AtomicI64, n: i64) {
    to.fetch_add(n, Ordering::Relaxed);
}
