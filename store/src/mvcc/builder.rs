//! Builds a keyspace from stored versions: after a restart, or from a snapshot.
//!
//! Never trusts that garbage was collected before: versions that nobody can see are passed over and named to
//! the first steps of garbage collection, so that disk gets rid of them.

use std::sync::Arc;

use super::event::{ColdHistory, StoredVersion, Version};
use super::history::{Seq, Superseded};
use super::keyspace::{Config, Keyspace};
use crate::ids::Revision;
use crate::tree::Tree;

/// See the module's description.
pub struct KeyspaceBuilder {
    keyspace: Keyspace,
    items: Vec<StoredVersion>,
    places: Places,
}

const NONE: u32 = u32::MAX;

impl KeyspaceBuilder {
    /// A keyspace at `revision`, compacted to `compact_revision` (-1 for never), that is still empty.
    #[must_use]
    pub fn new(
        revision: Revision,
        compact_revision: Revision,
        config: Config,
        cold: Option<Arc<dyn ColdHistory>>,
    ) -> Self {
        Self {
            keyspace: Keyspace::with(revision, compact_revision, config, cold),
            items: Vec::new(),
            places: Places::default(),
        }
    }

    /// Adds the next version. They come in ascending order of their places, none after `revision`.
    ///
    /// # Panics
    /// With four billion versions, which do not fit into memory.
    pub fn push(&mut self, item: StoredVersion) {
        debug_assert!(self.items.last().is_none_or(|last| last.at < item.at), "versions are not in order");
        let at = u32::try_from(self.items.len()).expect("four billion versions do not fit into memory");
        self.places.push(at, &item, &self.items);
        self.items.push(item);
    }

    /// Puts everything in its place.
    #[must_use]
    pub fn finish(self) -> Keyspace {
        let Self { mut keyspace, items, places } = self;
        let compact = keyspace.view.compact_revision;
        let first_event = items.partition_point(|item| item.at.main < compact);
        let is_event = |at: u32| at as usize >= first_event;

        // For every version the one before of the same key, and the newest of each key.
        let mut before = vec![NONE; items.len()];
        let mut live = Vec::new();
        let mut graves = Vec::new();
        let by_key = places.sorted_by_key(&items);
        let same_key = |a: &Place, b: &Place| {
            a.head == b.head && items[a.at as usize].record.key() == items[b.at as usize].record.key()
        };
        for versions in by_key.chunk_by(same_key) {
            for pair in versions.windows(2) {
                before[pair[1].at as usize] = pair[0].at;
                if items[pair[1].at as usize].at.main <= compact {
                    keyspace.leftover.push(items[pair[0].at as usize].at);
                }
            }
            for at in versions.iter().map(|place| place.at).filter(|at| !is_event(*at)) {
                if items[at as usize].tombstone {
                    keyspace.leftover.push(items[at as usize].at);
                }
            }
            let newest = &versions[versions.len() - 1];
            let item = &items[newest.at as usize];
            if !item.tombstone {
                keyspace.view.live_bytes += newest.live_bytes;
                live.push(newest.at);
            } else if is_event(newest.at) {
                keyspace.graves_by_place.insert(item.at, item.record.clone());
                graves.push(newest.at);
            }
        }
        drop(by_key);
        keyspace.leftover.sort_unstable();
        keyspace.leftover.dedup();
        let version = |at: u32| {
            let item = &items[at as usize];
            // What is older than the log has a number before the first.
            let event = (at as usize).wrapping_sub(first_event) as u32;
            Version { record: item.record.clone(), sub: item.at.sub, event }
        };
        keyspace.view.live = Tree::from_sorted(live.into_iter().map(version));
        keyspace.view.graves = Tree::from_sorted(graves.into_iter().map(version));

        // What events supersede, while all versions are still here: they move into history one by one.
        let superseded = |(at, item): (usize, &StoredVersion)| {
            let chained = before[at];
            let old = (chained != NONE).then(|| &items[chained as usize])?;
            let readable = item.at.main > compact;
            Some((at, chained, old.tombstone, readable.then(|| version(chained))))
        };
        let superseded: Vec<_> = items.iter().enumerate().skip(first_event).filter_map(superseded).collect();
        let mut superseded = superseded.into_iter().peekable();
        for (at, item) in items.into_iter().enumerate().skip(first_event) {
            let old = superseded.next_if(|(of, ..)| *of == at);
            let before = match &old {
                Some((_, _, true, Some(version))) => Superseded::Tombstone(version),
                Some((_, _, false, Some(version))) => Superseded::Version(version),
                _ => Superseded::Nothing,
            };
            let chained = old.as_ref().map(|(_, chained, ..)| *chained).filter(|chained| is_event(*chained));
            let chained = chained.map(|chained| (chained as usize - first_event) as Seq);
            keyspace.view.history.append_chained(item.at, item.tombstone, item.record, &before, chained);
        }
        keyspace
    }
}

/// Where a version stands in the list, with the first telling bytes of its key.
struct Place {
    head: u128,
    at: u32,
    /// Bytes of its key and its value.
    live_bytes: u64,
}

/// All versions' places. Each record is looked at once, when it comes: most of them lie elsewhere in memory.
#[derive(Default)]
struct Places {
    places: Vec<Place>,
    /// What all keys begin with tells nothing apart; the bytes after it usually do, without a look at the key.
    same: usize,
    /// The heads of places below were taken when all keys seemed to have more in common.
    outdated: usize,
}

fn head(key: &[u8], from: usize) -> u128 {
    let key = &key[from..];
    let mut head = [0; 16];
    let len = key.len().min(16);
    head[..len].copy_from_slice(&key[..len]);
    u128::from_be_bytes(head)
}

impl Places {
    fn push(&mut self, at: u32, item: &StoredVersion, before: &[StoredVersion]) {
        let fields = item.record.fields();
        let key = fields.key;
        match before.first().map(|first| first.record.key()) {
            None => self.same = key.len(),
            Some(first) if key.get(..self.same) == Some(&first[..self.same]) => {}
            Some(first) => {
                self.same = key.iter().zip(first).take_while(|(a, b)| a == b).count();
                self.outdated = self.places.len();
            }
        }
        let live_bytes = (key.len() + fields.value.len()) as u64;
        self.places.push(Place { head: head(key, self.same), at, live_bytes });
    }

    /// In the order of their keys, and as they came for each key.
    fn sorted_by_key(self, items: &[StoredVersion]) -> Vec<Place> {
        let Self { mut places, same, outdated } = self;
        for (place, item) in places[..outdated].iter_mut().zip(items) {
            place.head = head(item.record.key(), same);
        }
        places.sort_unstable_by(|a, b| {
            let keys = || items[a.at as usize].record.key().cmp(items[b.at as usize].record.key());
            a.head.cmp(&b.head).then_with(keys).then(a.at.cmp(&b.at))
        });
        places
    }
}
