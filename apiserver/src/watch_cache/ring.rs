//! The recent past: events in their order, as long as they are young, few and small enough. Pure; time is handed in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, What};
use crate::storage::Revision;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Never fewer events than this, if there were so many.
    pub min_events: usize,
    /// Never more.
    pub max_events: usize,
    /// Older events go: bookmarks come every minute, so that whoever got one can go on from it.
    pub max_age: Duration,
    /// Bytes of object versions that are kept for the ring alone.
    pub max_bytes: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self {
            min_events: 100,
            max_events: 100 * 1024,
            max_age: Duration::from_secs(75),
            max_bytes: 128 << 20,
        }
    }
}

/// What was asked for is before what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest revision from which one can go on.
    pub oldest: Revision,
}

/// See the module's description.
#[derive(Debug)]
pub struct Ring {
    limits: RingLimits,
    /// With the time at which each came, since the cache's beginning.
    events: VecDeque<(Duration, Arc<Event>)>,
    /// The sequence of the event that comes next.
    next: u64,
    bytes: usize,
    /// All events behind this revision are here.
    covered_from: Revision,
}

impl Ring {
    /// Empty; events behind `start` will come.
    #[must_use]
    pub fn new(limits: RingLimits, start: Revision) -> Self {
        Self { limits, events: VecDeque::new(), next: 0, bytes: 0, covered_from: start }
    }

    /// The sequence of the event that comes next.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.next
    }

    /// How many events are kept at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limits.max_events
    }

    fn first(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// Takes an event that is not older than those before it.
    pub(super) fn push(&mut self, what: What, revision: Revision, now: Duration) -> Arc<Event> {
        let event = Arc::new(Event::new(what, revision, self.next));
        self.next += 1;
        self.bytes += event.weight();
        self.events.push_back((now, Arc::clone(&event)));
        event
    }

    /// Forgets what is over the limits; whole revisions, and never the newest.
    pub fn trim(&mut self, now: Duration) {
        while let Some((came, oldest)) = self.events.front() {
            let len = self.events.len();
            let old = now.saturating_sub(*came) > self.limits.max_age && len > self.limits.min_events;
            let many = len > self.limits.max_events || self.bytes > self.limits.max_bytes;
            let revision = oldest.revision;
            let is_newest = self.events.back().is_some_and(|(_, newest)| newest.revision == revision);
            if is_newest || !(old || many) {
                return;
            }
            let count = self.events.partition_point(|(_, event)| event.revision <= revision);
            for (_, event) in self.events.drain(..count) {
                self.bytes -= event.weight();
            }
            self.covered_from = revision;
        }
    }

    /// The sequence of the first event behind a revision.
    ///
    /// # Errors
    /// When events behind it are gone, or changes behind it were never seen.
    pub fn after(&self, revision: Revision) -> Result<u64, TooOld> {
        if revision < self.covered_from {
            return Err(TooOld { oldest: self.covered_from });
        }
        let at = self.events.partition_point(|(_, event)| event.revision <= revision);
        // Whoever stands inside a gap saw changes that are not known here.
        if let Some((_, event)) = self.events.get(at)
            && let What::Gap { from, .. } = event.what
            && from < revision
        {
            return Err(TooOld { oldest: event.revision });
        }
        Ok(self.first() + at as u64)
    }

    /// Up to `most` events from a sequence on.
    ///
    /// # Errors
    /// When the first of them is gone.
    pub fn read(&self, from: u64, most: usize) -> Result<Vec<Arc<Event>>, TooOld> {
        let at = from.checked_sub(self.first()).ok_or(TooOld { oldest: self.covered_from })?;
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        Ok(self.events.iter().skip(at).take(most).map(|(_, event)| Arc::clone(event)).collect())
    }

    /// The events behind a revision, the newest first.
    ///
    /// # Errors
    /// As [`Ring::after`].
    pub fn back_to(&self, revision: Revision) -> Result<impl Iterator<Item = &Event>, TooOld> {
        let count = usize::try_from(self.next - self.after(revision)?).unwrap_or(usize::MAX);
        Ok(self.events.iter().rev().take(count).map(|(_, event)| &**event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: RingLimits =
        RingLimits { min_events: 2, max_events: 5, max_age: Duration::from_secs(10), max_bytes: 1 << 20 };

    fn change() -> What {
        What::Change((None, None))
    }

    fn revisions(ring: &Ring, after: u64) -> Result<Vec<u64>, TooOld> {
        let from = ring.after(Revision(after))?;
        Ok(ring.read(from, 100).unwrap().iter().map(|event| event.revision.0).collect())
    }

    fn too_old<T>(oldest: u64) -> Result<T, TooOld> {
        Err(TooOld { oldest: Revision(oldest) })
    }

    #[test]
    fn what_is_behind_a_revision_is_found_or_said_to_be_gone() {
        let s = Duration::from_secs;
        let mut ring = Ring::new(LIMITS, Revision(10));
        assert_eq!((revisions(&ring, 10), revisions(&ring, 9)), (Ok(vec![]), too_old(10)));
        for (at, revision) in [(0, 12), (0, 12), (1, 15), (2, 16)] {
            ring.push(change(), Revision(revision), s(at));
            ring.trim(s(at));
        }
        assert_eq!(revisions(&ring, 10), Ok(vec![12, 12, 15, 16]));
        assert_eq!(revisions(&ring, 12), Ok(vec![15, 16]));
        assert_eq!(revisions(&ring, 99), Ok(vec![]));
        // By age, whole revisions, but not below the least.
        ring.trim(s(11));
        assert_eq!((revisions(&ring, 12), revisions(&ring, 11)), (Ok(vec![15, 16]), too_old(12)));
        ring.trim(s(100));
        assert_eq!(revisions(&ring, 12), Ok(vec![15, 16]));
        // By number.
        for revision in 17..=21 {
            ring.push(change(), Revision(revision), s(100));
        }
        ring.trim(s(100));
        assert_eq!((revisions(&ring, 16), revisions(&ring, 15)), (Ok(vec![17, 18, 19, 20, 21]), too_old(16)));
        assert_eq!(ring.read(2, 1).err(), Some(TooOld { oldest: Revision(16) }));
        assert_eq!(ring.read(ring.end(), 1).unwrap().len(), 0);
        // One revision is never cut, however large.
        for _ in 0..20 {
            ring.push(change(), Revision(22), s(100));
        }
        ring.trim(s(1000));
        assert_eq!(revisions(&ring, 21).unwrap().len(), 20);
    }

    #[test]
    fn nobody_goes_on_from_inside_a_gap() {
        let mut ring = Ring::new(LIMITS, Revision(10));
        ring.push(change(), Revision(12), Duration::ZERO);
        let gap = What::Gap { from: Revision(15), changed: Vec::new() };
        ring.push(gap, Revision(20), Duration::ZERO);
        ring.push(change(), Revision(21), Duration::ZERO);
        assert_eq!(revisions(&ring, 12), Ok(vec![20, 21]));
        assert_eq!(revisions(&ring, 15), Ok(vec![20, 21]));
        assert_eq!((revisions(&ring, 16), revisions(&ring, 19)), (too_old(20), too_old(20)));
        assert_eq!(revisions(&ring, 20), Ok(vec![21]));
        let back: Vec<_> = ring.back_to(Revision(12)).unwrap().map(|event| event.revision.0).collect();
        assert_eq!(back, [21, 20]);
    }
}
