//! Where the applier leaves events and streams find them. See the module's text for the argument.
//!
//! Publishing matches and marks and never waits for a stream: both locks here are only ever held for
//! work in memory, by readers for the copy of some pointers.

mod survey;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::encode::SharedEvent;
use super::matcher::{GroupId, Matcher};
use super::range::WatchRange;
use super::stats::WatchStats;
use crate::activity::{Activity, ClientId};
use crate::event::Event;
use crate::ids::Revision;

pub use survey::RangeState;

/// How much of the recent past is shared in memory. Streams further behind read history.
#[derive(Clone, Copy, Debug)]
pub struct HubLimits {
    /// Events in the ring.
    pub max_events: usize,
    /// Bytes that they hold, by [`SharedEvent::weight`].
    pub max_bytes: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self { max_events: 65_536, max_bytes: 32 << 20 }
    }
}

/// The events of one applied batch.
#[derive(Debug)]
pub(super) struct Batch {
    /// Not before the first event, and behind the batch before.
    first: Revision,
    last: Revision,
    pub(super) events: Box<[SharedEvent]>,
    bytes: usize,
}

/// The hub's side of a stream.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Start of the first batch that the stream wants and has not taken; 0 for none. Only touched
    /// under the ring's lock.
    mark: AtomicI64,
    /// Where the watch stands that is furthest behind of those that read history; 0 for none.
    pub(super) history_at: AtomicI64,
    pub(super) notify: Notify,
    /// Whose stream it is, once that is known.
    pub(super) client: OnceLock<ClientId>,
}

#[derive(Debug)]
struct Ring {
    published: Revision,
    /// All events from here to `published` are in `batches`.
    start: Revision,
    batches: VecDeque<Arc<Batch>>,
    events: usize,
    bytes: usize,
}

/// A stream with watches of one range.
#[derive(Debug)]
struct Listening {
    listener: Arc<Listener>,
    watches: usize,
}

#[derive(Debug, Default)]
struct Group {
    listeners: Vec<Listening>,
    /// The batch that last concerned this group.
    stamp: u64,
}

impl Group {
    fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().map(|listening| &*listening.listener)
    }
}

#[derive(Debug, Default)]
struct Registry {
    matcher: Matcher,
    groups: Vec<Group>,
    /// Streams to be woken when a revision is published.
    waiting: Vec<(Revision, Arc<Listener>)>,
    stamp: u64,
    concerned: Vec<GroupId>,
}

/// Spreads applied events to watch streams.
#[derive(Debug)]
pub struct WatchHub {
    registry: Mutex<Registry>,
    ring: RwLock<Ring>,
    limits: HubLimits,
    stats: Arc<WatchStats>,
    activity: Arc<Activity>,
}

/// What a stream has to look at.
pub(super) enum Taken {
    /// Nothing of interest up to this revision.
    Nothing { through: Revision },
    /// Nothing of interest before these batches, and what is behind `through` was not looked at.
    Batches { batches: Vec<Arc<Batch>>, through: Revision },
    /// The ring does not reach back to what is of interest, which begins at `from`.
    Lost { from: Revision, published: Revision },
}

impl WatchHub {
    /// A hub for a store that stands at `revision`.
    #[must_use]
    pub fn new(revision: Revision, limits: HubLimits) -> Self {
        let ring = Ring {
            published: revision,
            start: revision.next(),
            batches: VecDeque::new(),
            events: 0,
            bytes: 0,
        };
        Self {
            registry: Mutex::default(),
            ring: RwLock::new(ring),
            limits,
            stats: Arc::new(WatchStats::default()),
            activity: Arc::default(),
        }
    }

    /// Tells `activity` of events in watched ranges.
    #[must_use]
    pub fn with_activity(self, activity: Arc<Activity>) -> Self {
        Self { activity, ..self }
    }

    /// Counts over all streams.
    #[must_use]
    pub fn stats(&self) -> &Arc<WatchStats> {
        &self.stats
    }

    /// Makes the events of an applied batch known. To be called in order of revisions, by one caller,
    /// for every batch, after [`super::History`] shows it. `revision` is the store's after the batch.
    pub fn publish(&self, events: &[Event], revision: Revision) {
        let mut registry = self.registry.lock();
        let Registry { matcher, groups, waiting, stamp, concerned } = &mut *registry;
        if matcher.is_empty() {
            self.ring.write().clear(revision);
        } else if !events.is_empty() {
            *stamp += 1;
            concerned.clear();
            // Empty, and without memory of its own, while nobody looks.
            let (looked_at, mut counts) = (self.activity.is_looked_at(), HashMap::new());
            for event in events {
                matcher.for_each(event.record.key(), |group| {
                    if looked_at {
                        *counts.entry(group).or_insert(0) += 1;
                    }
                    if groups[group].stamp != *stamp {
                        groups[group].stamp = *stamp;
                        concerned.push(group);
                    }
                });
            }
            if looked_at {
                let counted = counts.into_iter().filter_map(|(group, events)| {
                    matcher.group(group).map(|(range, _)| (survey::watched(range), events))
                });
                self.activity.record_events(&counted.collect::<Vec<_>>());
            }
            let shared: Box<[_]> = events.iter().cloned().map(SharedEvent::new).collect();
            let bytes = shared.iter().map(SharedEvent::weight).sum();
            let mut ring = self.ring.write();
            let first = ring.published.next();
            ring.push(Batch { first, last: revision, events: shared, bytes }, self.limits);
            for &group in &*concerned {
                for Listening { listener, .. } in &groups[group].listeners {
                    listener.mark_at(first);
                }
            }
            drop(ring);
            for &group in &*concerned {
                for Listening { listener, .. } in &groups[group].listeners {
                    listener.notify.notify_one();
                }
            }
        } else {
            let mut ring = self.ring.write();
            ring.published = ring.published.max(revision);
        }
        if !waiting.is_empty() {
            waiting.retain(|(awaited, listener)| {
                let waits = *awaited > revision;
                if !waits {
                    listener.notify.notify_one();
                }
                waits
            });
        }
    }

    /// Tells that the whole state was replaced (by a snapshot of another member) and stands at
    /// `revision` now: events were skipped, so every watch must look into history.
    pub fn restored(&self, revision: Revision) {
        let mut registry = self.registry.lock();
        let mut ring = self.ring.write();
        let first = ring.published.next();
        ring.clear(revision);
        for Listening { listener, .. } in registry.groups.iter().flat_map(|group| &group.listeners) {
            listener.mark_at(first);
        }
        drop(ring);
        for Listening { listener, .. } in registry.groups.iter().flat_map(|group| &group.listeners) {
            listener.notify.notify_one();
        }
        for (_, listener) in registry.waiting.drain(..) {
            listener.notify.notify_one();
        }
    }

    /// The revision up to which events were published.
    #[must_use]
    pub fn published(&self) -> Revision {
        self.ring.read().published
    }

    /// From the revision returned on, batches with such events set the listener's mark.
    pub(super) fn register(&self, listener: &Arc<Listener>, range: &WatchRange) -> (GroupId, Revision) {
        let mut registry = self.registry.lock();
        let group = registry.matcher.insert(range);
        if registry.groups.len() <= group {
            registry.groups.resize_with(group + 1, Group::default);
        }
        let listeners = &mut registry.groups[group].listeners;
        // From the back: a stream's watches are made one after the other.
        match listeners.iter_mut().rev().find(|l| Arc::ptr_eq(&l.listener, listener)) {
            Some(listening) => listening.watches += 1,
            None => listeners.push(Listening { listener: listener.clone(), watches: 1 }),
        }
        // No batch can come in between: publishing needs the registry.
        (group, self.ring.read().published)
    }

    pub(super) fn unregister(&self, listener: &Arc<Listener>, groups: impl IntoIterator<Item = GroupId>) {
        let mut registry = self.registry.lock();
        for group in groups {
            let listeners = &mut registry.groups[group].listeners;
            if let Some(at) = listeners.iter().rposition(|l| Arc::ptr_eq(&l.listener, listener)) {
                listeners[at].watches -= 1;
                if listeners[at].watches == 0 {
                    listeners.swap_remove(at);
                }
                registry.matcher.remove(group);
            }
        }
    }

    /// Forgets that the listener waits for a revision.
    pub(super) fn stop_waiting(&self, listener: &Arc<Listener>) {
        self.registry.lock().waiting.retain(|(_, l)| !Arc::ptr_eq(l, listener));
    }

    /// Wakes the listener once `revision` is published.
    pub(super) fn wake_at(&self, listener: &Arc<Listener>, revision: Revision) {
        let mut registry = self.registry.lock();
        if self.ring.read().published >= revision {
            listener.notify.notify_one();
        } else {
            registry.waiting.push((revision, listener.clone()));
        }
    }

    /// Takes the listener's mark and the batches that it speaks of, as far as they are not before
    /// `cursor`: at least one, and no further one over `max_events` or `max_bytes`.
    pub(super) fn take(
        &self,
        listener: &Listener,
        cursor: Revision,
        max_events: usize,
        max_bytes: usize,
    ) -> Taken {
        let ring = self.ring.read();
        let published = ring.published;
        let mark = listener.mark.swap(0, Ordering::Relaxed);
        let from = Revision(mark).max(cursor);
        if mark == 0 || from > published {
            return Taken::Nothing { through: published };
        }
        if from < ring.start {
            return Taken::Lost { from, published };
        }
        let (batches, through) = ring.read(from, max_events, max_bytes);
        if through < published {
            listener.mark.store(through.next().0, Ordering::Relaxed);
        }
        Taken::Batches { batches, through }
    }

    /// Batches from `from` on, if the ring reaches back so far, and the revision that they reach to.
    pub(super) fn recent(
        &self,
        from: Revision,
        max_events: usize,
        max_bytes: usize,
    ) -> Option<(Vec<Arc<Batch>>, Revision)> {
        let ring = self.ring.read();
        (from >= ring.start).then(|| ring.read(from, max_events, max_bytes))
    }
}

impl Listener {
    fn mark_at(&self, first: Revision) {
        // The ring is locked for writing: nobody takes the mark meanwhile.
        if self.mark.load(Ordering::Relaxed) == 0 {
            self.mark.store(first.0, Ordering::Relaxed);
        }
    }
}

impl Ring {
    fn clear(&mut self, published: Revision) {
        self.published = self.published.max(published);
        self.start = self.published.next();
        self.batches.clear();
        (self.events, self.bytes) = (0, 0);
    }

    /// The newest batch stays, whatever its size.
    fn push(&mut self, batch: Batch, limits: HubLimits) {
        self.published = batch.last;
        self.events += batch.events.len();
        self.bytes += batch.bytes;
        self.batches.push_back(Arc::new(batch));
        while (self.events > limits.max_events || self.bytes > limits.max_bytes)
            && self.batches.len() > 1
            && let Some(oldest) = self.batches.pop_front()
        {
            self.events -= oldest.events.len();
            self.bytes -= oldest.bytes;
            self.start = oldest.last.next();
        }
    }

    fn read(&self, from: Revision, max_events: usize, max_bytes: usize) -> (Vec<Arc<Batch>>, Revision) {
        let at = self.batches.partition_point(|batch| batch.last < from);
        let (mut events, mut bytes) = (0, 0);
        let mut batches = Vec::new();
        for batch in self.batches.range(at..) {
            events += batch.events.len();
            bytes += batch.bytes;
            if !batches.is_empty() && (events > max_events || bytes > max_bytes) {
                return (batches, Revision(batch.first.0 - 1));
            }
            batches.push(batch.clone());
        }
        (batches, self.published)
    }
}
