//! Going through history in order: for watches, for snapshots, and for hashes that members compare.
//!
//! What is seen depends on the compact revision alone, never on how far dropping got or on what is cold.

use std::collections::VecDeque;

use super::event::{Event, EventKind, StoredVersion, start_of};
use super::history::{Past, Seq};
use super::view::View;
use crate::command::CommandError;
use crate::ids::{Revision, SubRevision};
use crate::record::Record;
use crate::tree::merge;

/// Reads events in order. It holds a view; a long pause of its reader holds memory, never the writer.
pub struct EventCursor {
    view: View,
    next: Seq,
    end: Seq,
}

/// `Maintenance.HashKV`'s answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C over the versions visible at `compact_revision`, in the order of keys, and every event after it
    /// up to `hash_revision`, in order.
    pub hash: u32,
    /// The last revision that is in it.
    pub hash_revision: Revision,
    /// Hashes are comparable only when this is equal.
    pub compact_revision: Revision,
}

impl View {
    /// The events from the revision `from` on. A revision in the future is answered with no events.
    ///
    /// # Errors
    /// `Compacted` when `from` is below the compact revision.
    pub fn events_from(&self, from: Revision) -> Result<EventCursor, CommandError> {
        if from < self.compact_revision {
            return Err(CommandError::Compacted);
        }
        Ok(self.cursor(from))
    }

    /// Whether events of `from` or later have to be read from disk.
    #[must_use]
    pub fn is_cold(&self, from: Revision) -> bool {
        !self.history.is_hot_from(self.history.lower_bound(start_of(from)))
    }

    fn cursor(&self, from: Revision) -> EventCursor {
        let next = self.history.lower_bound(start_of(from));
        EventCursor { next, end: self.history.end(), view: self.clone() }
    }

    /// The hash of the keyspace at a revision; 0 or less for the current one.
    ///
    /// # Errors
    /// `FutureRevision`, `Compacted`, and `History` when disk fails.
    pub fn hash(&self, revision: Revision) -> Result<KvHash, CommandError> {
        let revision = self.readable(revision)?;
        let mut hash = 0;
        let mut add = |at: SubRevision, tombstone: bool, record: &Record| {
            let mut head = [0; 17];
            head[..8].copy_from_slice(&at.main.0.to_be_bytes());
            head[8..12].copy_from_slice(&at.sub.to_be_bytes());
            head[12] = u8::from(tombstone);
            head[13..].copy_from_slice(&(record.encoded().len() as u32).to_be_bytes());
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &head), record.encoded());
        };
        for (at, past) in self.baseline() {
            if let Some(record) = self.fetch(past)? {
                add(at, false, &record);
            }
        }
        let mut events = self.cursor(self.compact_revision.next());
        events.end = self.history.first_after(revision);
        loop {
            let batch = events.next_batch(1024, false)?;
            if batch.is_empty() {
                break;
            }
            for event in &batch {
                add(event.at, event.kind == EventKind::Delete, &event.record);
            }
        }
        Ok(KvHash { hash, hash_revision: revision, compact_revision: self.compact_revision })
    }

    /// The versions visible at the compact revision, in the order of keys.
    fn baseline(&self) -> impl Iterator<Item = (SubRevision, Past)> {
        merge(self.live.iter(), self.graves.iter()).filter_map(|pair| {
            let (newest, tombstone) = match pair {
                (Some(live), _) => (live, false),
                (None, grave) => (grave?, true),
            };
            match self.past(newest, tombstone, self.compact_revision) {
                Past::Absent => None,
                Past::Here(version) => Some((version.at(), Past::Here(version))),
                Past::Cold(at) => Some((at, Past::Cold(at))),
            }
        })
    }

    /// Everything from which the same keyspace can be built again, in order: the versions visible at the
    /// compact revision, the deletions of that very revision (watches may start there), and every event after.
    #[must_use]
    pub fn items(&self) -> Items {
        let mut baseline: Vec<(SubRevision, Past, bool)> =
            self.baseline().map(|(at, past)| (at, past, false)).collect();
        let mut seq = self.history.lower_bound(start_of(self.compact_revision));
        while let Some(link) = self.history.link(seq).filter(|link| link.at.main <= self.compact_revision) {
            if link.tombstone {
                let record = self.history.content(seq).and_then(|content| content.record.clone());
                let past = record.map_or(Past::Cold(link.at), |record| {
                    Past::Here(super::event::Version::past(record, link.at.sub))
                });
                baseline.push((link.at, past, true));
            }
            seq += 1;
        }
        baseline.sort_unstable_by_key(|(at, ..)| *at);
        let events = self.cursor(self.compact_revision.next());
        Items { baseline: baseline.into_iter(), batch: VecDeque::new(), events, failed: false }
    }
}

impl View {
    /// What [`View::items`] has after a revision: the versions and deletions that came after it, in order. With the
    /// items of a view at that revision, everything that this view has.
    ///
    /// # Errors
    /// `FutureRevision`, and `Compacted` when some of it may be gone.
    pub fn items_since(&self, since: Revision) -> Result<Items, CommandError> {
        if since > self.revision {
            return Err(CommandError::FutureRevision);
        }
        if since < self.compact_revision {
            return Err(CommandError::Compacted);
        }
        let events = self.cursor(since.next());
        Ok(Items { baseline: Vec::new().into_iter(), batch: VecDeque::new(), events, failed: false })
    }
}

impl EventCursor {
    /// The next events, in order; none at the end. A revision is never split: the batch holds whole revisions,
    /// as many as it takes to reach `max_events`. With `previous`, each event carries the version before, as
    /// far as that is not compacted.
    ///
    /// # Errors
    /// `History` when disk fails, `Compacted` when what it reads from disk was compacted meanwhile.
    pub fn next_batch(&mut self, max_events: usize, previous: bool) -> Result<Vec<Event>, CommandError> {
        let history = &self.view.history;
        let mut batch: Vec<Event> = Vec::new();
        while self.next < self.end {
            let (links, contents) = history.run(self.next);
            let room = (self.end - self.next) as usize;
            let mut links = links.truncated(room);
            if batch.len() >= max_events {
                let last = batch.last().map(|event| event.at.main);
                let same = links.iter().take_while(|link| Some(link.at.main) == last).count();
                if same == 0 {
                    break;
                }
                links = links.truncated(same);
            } else {
                let room = max_events - batch.len();
                links = links.truncated(room.max(1));
            }
            let Some(from) = links.first() else { break };
            let stored = match contents {
                Some(_) => Vec::new(),
                None => self.view.cold.source()?.scan(from.at, links.len()).map_err(CommandError::History)?,
            };
            for (at, link) in links.iter().enumerate() {
                let record = match contents {
                    Some(contents) => contents[at].record.clone(),
                    None => stored
                        .get(at)
                        .filter(|stored| stored.at == link.at)
                        .map(|stored| stored.record.clone()),
                };
                let record =
                    record.ok_or_else(|| self.view.cold.missing(link.at, self.view.compact_revision))?;
                let previous = if previous && link.at.main > self.view.compact_revision {
                    self.view.fetch(history.superseded(self.next + at as u64))?
                } else {
                    None
                };
                let kind = if link.tombstone { EventKind::Delete } else { EventKind::Put };
                batch.push(Event { at: link.at, kind, record, previous });
            }
            self.next += links.len() as u64;
        }
        Ok(batch)
    }
}

/// See [`View::items`]. Reads what is cold while it goes; after an error it ends.
pub struct Items {
    baseline: std::vec::IntoIter<(SubRevision, Past, bool)>,
    batch: VecDeque<Event>,
    events: EventCursor,
    failed: bool,
}

impl Items {
    fn advance(&mut self) -> Result<Option<StoredVersion>, CommandError> {
        for (at, past, tombstone) in self.baseline.by_ref() {
            if let Some(record) = self.events.view.fetch(past)? {
                return Ok(Some(StoredVersion { at, record, tombstone }));
            }
        }
        if self.batch.is_empty() {
            self.batch = self.events.next_batch(1024, false)?.into();
        }
        Ok(self.batch.pop_front().map(StoredVersion::from))
    }
}

impl Iterator for Items {
    type Item = Result<StoredVersion, CommandError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}
