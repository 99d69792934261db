//! What a member does for its clients right now: counted only while somebody looks, in bounded memory.
//!
//! While nobody looks, recording is one relaxed load. Each one who looks has counters of his own, emptied each
//! time he reads them. Never keeps a client waiting for longer than it takes to count.

pub mod sketch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::grouping::Grouping;
use sketch::{Followed, Sketch, Tally};

/// So many may look at once; each costs every request some counting.
pub const MAX_VIEWERS: usize = 8;
/// Prefixes, clients and watched ranges that are followed for one viewer, at least.
const MIN_FOLLOWED: usize = 512;
/// Followed for each one that is told, so that the top is nearly exact.
const FOLLOWED_PER_TOLD: usize = 8;

/// Groups with longer names are told cut off, and counted as one.
const MAX_GROUP_BYTES: usize = 1024;

/// Requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Ranges.
    pub reads: u64,
    /// Bytes of the records in their answers.
    pub read_bytes: u64,
    /// Puts and deletions.
    pub writes: u64,
    /// Bytes of their keys and values.
    pub written_bytes: u64,
}

impl Traffic {
    /// One range.
    #[must_use]
    pub fn read(bytes: usize) -> Self {
        Self { reads: 1, read_bytes: bytes as u64, ..Self::default() }
    }

    /// One put or deletion.
    #[must_use]
    pub fn write(bytes: usize) -> Self {
        Self { writes: 1, written_bytes: bytes as u64, ..Self::default() }
    }

    fn operations(&self) -> u64 {
        self.reads + self.writes
    }
}

impl Tally for Traffic {
    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
    }
}

impl Tally for () {
    fn add(&mut self, (): Self) {}
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// From where, if that is known.
    pub address: Option<SocketAddr>,
    /// As whom; `None` without a name.
    pub user: Option<Arc<str>>,
}

/// A watched range, as in a watch request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchedRange {
    /// First key.
    pub key: Bytes,
    /// First key behind it; empty for one key alone, `\0` for no end.
    pub range_end: Bytes,
}

/// What happened since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// All of it.
    pub total: Traffic,
    /// The busiest groups of keys.
    pub prefixes: Vec<Followed<Bytes, Traffic>>,
    /// The busiest clients.
    pub clients: Vec<Followed<ClientId, Traffic>>,
    /// The watched ranges with the most events.
    pub watches: Vec<Followed<WatchedRange, ()>>,
}

#[derive(Debug)]
struct Counters {
    total: Traffic,
    prefixes: Sketch<Bytes, Traffic>,
    clients: Sketch<ClientId, Traffic>,
    watches: Sketch<WatchedRange, ()>,
}

#[derive(Debug)]
struct Counting {
    grouping: Grouping,
    top: usize,
    counters: Mutex<Counters>,
}

/// What a member counts for those who look.
#[derive(Debug, Default)]
pub struct Activity {
    /// How many look; read by every request.
    looking: AtomicUsize,
    viewers: RwLock<Vec<Arc<Counting>>>,
}

/// Too many look already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_VIEWERS} others look at the activity of this member already")]
pub struct TooManyViewers;

impl Activity {
    /// Whether anybody looks. One relaxed load.
    #[inline]
    #[must_use]
    pub fn is_looked_at(&self) -> bool {
        self.looking.load(Ordering::Relaxed) > 0
    }

    /// Counts from now on until the viewer is dropped. `top` of each kind will be told.
    ///
    /// # Errors
    /// When too many look.
    pub fn look(self: &Arc<Self>, grouping: Grouping, top: usize) -> Result<Viewer, TooManyViewers> {
        let mut viewers = self.viewers.write();
        if viewers.len() >= MAX_VIEWERS {
            return Err(TooManyViewers);
        }
        let followed = top.saturating_mul(FOLLOWED_PER_TOLD).max(MIN_FOLLOWED);
        let counting = Arc::new(Counting {
            grouping,
            top,
            counters: Mutex::new(Counters {
                total: Traffic::default(),
                prefixes: Sketch::new(followed),
                clients: Sketch::new(followed),
                watches: Sketch::new(followed),
            }),
        });
        viewers.push(Arc::clone(&counting));
        self.looking.store(viewers.len(), Ordering::Relaxed);
        Ok(Viewer { activity: Arc::clone(self), counting })
    }

    /// Counts one request of a client, which did these things with these keys.
    pub fn record(&self, client: &ClientId, operations: &[(Bytes, Traffic)]) {
        for viewer in self.viewers.read().iter() {
            let mut all = Traffic::default();
            let mut counters = viewer.counters.lock();
            for (key, traffic) in operations {
                all.add(*traffic);
                let group = viewer.grouping.group_of(0, key);
                let group = &group[..group.len().min(MAX_GROUP_BYTES)];
                // A copy: a slice would keep the whole request in memory.
                counters.prefixes.add(group, Bytes::copy_from_slice, traffic.operations(), *traffic);
            }
            counters.total.add(all);
            counters.clients.add(client, Clone::clone, all.operations(), all);
        }
    }

    /// Counts events in watched ranges.
    pub fn record_events(&self, events: &[(WatchedRange, u64)]) {
        for viewer in self.viewers.read().iter() {
            let mut counters = viewer.counters.lock();
            for (range, times) in events {
                counters.watches.add(range, Clone::clone, *times, ());
            }
        }
    }
}

/// Has a member count, as long as it lives.
#[derive(Debug)]
pub struct Viewer {
    activity: Arc<Activity>,
    counting: Arc<Counting>,
}

impl Viewer {
    /// What was counted since the last call.
    #[must_use]
    pub fn take(&self) -> Recorded {
        let top = self.counting.top;
        let mut counters = self.counting.counters.lock();
        Recorded {
            total: std::mem::take(&mut counters.total),
            prefixes: counters.prefixes.take_top(top),
            clients: counters.clients.take_top(top),
            watches: counters.watches.take_top(top),
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = self.activity.viewers.write();
        viewers.retain(|counting| !Arc::ptr_eq(counting, &self.counting));
        self.activity.looking.store(viewers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(port: u16) -> ClientId {
        ClientId { address: Some(SocketAddr::from(([127, 0, 0, 1], port))), user: None }
    }

    #[test]
    fn counts_only_while_somebody_looks_and_for_each_who_looks() {
        let activity = Arc::new(Activity::default());
        assert!(!activity.is_looked_at());
        let one = activity.look(Grouping::default(), 10).unwrap();
        activity.record(&client(1), &[(Bytes::from("/a/x"), Traffic::write(7))]);
        let other = activity.look(Grouping::new(b"/", 2), 10).unwrap();
        let txn = [(Bytes::from("/a/y/z"), Traffic::write(5)), (Bytes::from("/b/y/z"), Traffic::read(3))];
        activity.record(&client(2), &txn);

        let seen = one.take();
        let both = Traffic { reads: 1, read_bytes: 3, writes: 2, written_bytes: 12 };
        assert_eq!(seen.total, both);
        let prefixes: Vec<_> = seen.prefixes.iter().map(|p| (&p.item[..], p.count)).collect();
        assert_eq!(prefixes, [(&b"/a/"[..], 2), (b"/b/", 1)]);
        assert_eq!((&seen.clients[0].item, seen.clients[0].count), (&client(2), 2));
        assert_eq!(other.take().prefixes[0].item.len(), "/b/y/".len());
        assert_eq!(one.take(), Recorded::default(), "what was told is not told again");

        drop(one);
        assert!(activity.is_looked_at());
        drop(other);
        assert!(!activity.is_looked_at());
    }

    #[test]
    fn not_too_many_look() {
        let activity = Arc::new(Activity::default());
        let look = || activity.look(Grouping::default(), 1);
        let mut viewers: Vec<_> = (0..MAX_VIEWERS).map(|_| look().unwrap()).collect();
        assert!(look().is_err());
        viewers.pop();
        assert!(look().is_ok());
    }
}
