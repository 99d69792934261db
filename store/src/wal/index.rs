//! Where each live entry is, and the recent entries themselves. Pure memory.
//!
//! The cache always is a contiguous end of the log, and holds every entry that is not on disk yet: those
//! are never evicted, whatever the limit says.

use std::collections::VecDeque;
use std::ops::Range;

use super::format::{LogEntry, Position};

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory only. The number tells it from another entry of the same index, written or truncated before.
    Pending { ordinal: u32 },
    /// On disk, synced.
    Stored { segment: u32, offset: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    /// Size of all records up to this one, counted from an arbitrary start.
    end_bytes: u64,
    record_bytes: u32,
    place: Place,
}

/// An entry that has to be read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredEntry {
    pub(super) position: Position,
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) record_bytes: u32,
}

/// What a read finds: first what must come from disk, then what memory has.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) stored: Vec<StoredEntry>,
    pub(super) cached: Vec<LogEntry>,
}

#[derive(Default)]
pub(super) struct LogIndex {
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    cache: VecDeque<LogEntry>,
    cached_bytes: u64,
}

impl LogIndex {
    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        let at = index.checked_sub(self.first)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    /// Adds an entry. Its index must follow the last one, if there is one.
    pub(super) fn append(&mut self, entry: LogEntry, place: Place) {
        if self.slots.is_empty() {
            self.first = entry.position.index;
        }
        debug_assert_eq!(self.next(), entry.position.index, "no holes");
        let record_bytes = u32::try_from(entry.encoded_bytes()).expect("larger records are refused");
        let end_bytes = self.slots.back().map_or(0, |slot| slot.end_bytes) + u64::from(record_bytes);
        self.slots.push_back(Slot { term: entry.position.term, end_bytes, record_bytes, place });
        self.cached_bytes += u64::from(record_bytes);
        self.cache.push_back(entry);
    }

    /// Records that an entry is on disk, unless another one took its index meanwhile.
    pub(super) fn stored(&mut self, index: u64, ordinal: u32, segment: u32, offset: u32) {
        let Some(at) = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return };
        if let Some(slot) = self.slots.get_mut(at)
            && slot.place == (Place::Pending { ordinal })
        {
            slot.place = Place::Stored { segment, offset };
        }
    }

    /// Keeps the entries up to `last`; none for `None`.
    pub(super) fn truncate(&mut self, last: Option<u64>) {
        let keep = last.map_or(0, |last| (last + 1).saturating_sub(self.first));
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        while self.slots.len() > keep {
            self.slots.pop_back();
            if let Some(entry) = self.cache.pop_back() {
                self.cached_bytes -= entry.encoded_bytes() as u64;
            }
        }
    }

    /// Drops the entries up to `upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        while !self.slots.is_empty() && self.first <= upto {
            if self.cache.len() == self.slots.len() {
                self.evict_first();
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    fn evict_first(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cached_bytes -= entry.encoded_bytes() as u64;
        }
    }

    /// Shrinks the cache to `limit_bytes`, as far as its oldest entries are on disk.
    pub(super) fn evict(&mut self, limit_bytes: u64) {
        while self.cached_bytes > limit_bytes {
            let at = self.slots.len() - self.cache.len();
            if !matches!(self.slots.get(at), Some(Slot { place: Place::Stored { .. }, .. })) {
                return;
            }
            self.evict_first();
        }
    }

    /// The term of a live entry.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        self.slot(index).map(|slot| slot.term)
    }

    /// Bytes of log behind an index.
    pub(super) fn bytes_behind(&self, index: u64) -> u64 {
        let Some(last) = self.slots.back() else { return 0 };
        if index >= self.next() {
            return 0;
        }
        let start = match self.slot(index) {
            Some(slot) => slot.end_bytes,
            None => self.slots.front().map_or(0, |first| first.end_bytes - u64::from(first.record_bytes)),
        };
        last.end_bytes - start
    }

    /// Entries of a range, as far as they are there; no more than `limit_bytes` of records, but at least one.
    pub(super) fn find(&self, range: Range<u64>, limit_bytes: u64) -> Found {
        let mut found = Found::default();
        let mut budget = limit_bytes;
        let cached_from = self.next() - self.cache.len() as u64;
        for index in range.start.max(self.first)..range.end.min(self.next()) {
            let Some(slot) = self.slot(index) else { break };
            let size = u64::from(slot.record_bytes);
            if size > budget && !(found.stored.is_empty() && found.cached.is_empty()) {
                break;
            }
            budget = budget.saturating_sub(size);
            if let Some(at) = index.checked_sub(cached_from) {
                // As the cache is memory, the index fits.
                found.cached.push(self.cache[at as usize].clone());
            } else if let Place::Stored { segment, offset } = slot.place {
                found.stored.push(StoredEntry {
                    position: Position { term: slot.term, index },
                    segment,
                    offset,
                    record_bytes: slot.record_bytes,
                });
            } else {
                unreachable!("an entry is cached until it is stored");
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Payload;
    use super::*;

    fn entry(term: u64, index: u64) -> LogEntry {
        LogEntry { position: Position { term, index }, payload: Payload::Batch(vec![0; 100].into()) }
    }

    fn indexes(found: &Found) -> (Vec<u64>, Vec<u64>) {
        (
            found.stored.iter().map(|s| s.position.index).collect(),
            found.cached.iter().map(|e| e.position.index).collect(),
        )
    }

    #[test]
    fn entries_leave_the_cache_only_when_they_are_stored() {
        let mut index = LogIndex::default();
        for i in 5..10 {
            index.append(entry(1, i), Place::Pending { ordinal: i as u32 });
        }
        index.evict(0);
        assert_eq!(indexes(&index.find(0..100, u64::MAX)), (vec![], vec![5, 6, 7, 8, 9]));
        index.stored(5, 5, 1, 4096);
        index.stored(6, 99, 1, 4240);
        index.evict(0);
        assert_eq!(indexes(&index.find(0..100, u64::MAX)), (vec![5], vec![6, 7, 8, 9]));
        index.purge(6);
        assert_eq!(indexes(&index.find(0..100, u64::MAX)), (vec![], vec![7, 8, 9]));
    }

    #[test]
    fn a_byte_limit_never_returns_nothing() {
        let mut index = LogIndex::default();
        for i in 1..10 {
            index.append(entry(1, i), Place::Pending { ordinal: 0 });
        }
        let size = entry(1, 1).encoded_bytes() as u64;
        assert_eq!(indexes(&index.find(3..9, 0)).1, [3]);
        assert_eq!(indexes(&index.find(3..9, 2 * size)).1, [3, 4]);
        assert_eq!(indexes(&index.find(3..9, 3 * size - 1)).1, [3, 4]);
    }

    #[test]
    fn bytes_are_counted_from_an_index_on() {
        let mut index = LogIndex::default();
        for i in 1..=10 {
            index.append(entry(1, i), Place::Pending { ordinal: 0 });
        }
        let size = entry(1, 1).encoded_bytes() as u64;
        assert_eq!(index.bytes_behind(0), 10 * size);
        assert_eq!(index.bytes_behind(4), 6 * size);
        assert_eq!(index.bytes_behind(10), 0);
        assert_eq!(index.bytes_behind(u64::MAX), 0);
        index.truncate(Some(8));
        index.purge(2);
        assert_eq!(index.bytes_behind(0), 6 * size);
        assert_eq!(index.bytes_behind(4), 4 * size);
    }

    #[test]
    fn a_late_completion_does_not_touch_the_entry_that_took_the_index() {
        let mut index = LogIndex::default();
        index.append(entry(1, 1), Place::Pending { ordinal: 1 });
        index.truncate(None);
        index.append(entry(1, 1), Place::Pending { ordinal: 2 });
        index.stored(1, 1, 1, 4096);
        index.evict(0);
        assert_eq!(indexes(&index.find(1..2, 0)), (vec![], vec![1]), "still not stored");
    }
}
