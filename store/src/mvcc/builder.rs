//! Builds a keyspace from stored versions: after a restart, or from a snapshot.
//!
//! Never trusts that garbage was collected before: versions that nobody can see are passed over and named to
//! the first steps of garbage collection, so that disk gets rid of them.

use std::sync::Arc;

use super::event::{ColdHistory, StoredVersion, Version};
use super::history::{Seq, Superseded};
use super::keyspace::{Config, Keyspace};
use super::tree::Tree;
use crate::ids::Revision;

/// See the module's description.
pub struct KeyspaceBuilder {
    keyspace: Keyspace,
    items: Vec<StoredVersion>,
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
        Self { keyspace: Keyspace::with(revision, compact_revision, config, cold), items: Vec::new() }
    }

    /// Adds the next version. They come in ascending order of their places, none after `revision`.
    pub fn push(&mut self, item: StoredVersion) {
        debug_assert!(self.items.last().is_none_or(|last| last.at < item.at), "versions are not in order");
        self.items.push(item);
    }

    /// Puts everything in its place.
    #[must_use]
    pub fn finish(self) -> Keyspace {
        let Self { mut keyspace, items } = self;
        let compact = keyspace.view.compact_revision;
        let first_event = items.partition_point(|item| item.at.main < compact);
        let is_event = |at: u32| at as usize >= first_event;
        let seq = |at: u32| is_event(at).then(|| (at as usize - first_event) as Seq);

        // For every version the one before of the same key, and the newest of each key.
        let mut before = vec![NONE; items.len()];
        let mut live = Vec::new();
        let mut graves = Vec::new();
        let by_key = sorted_by_key(&items);
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
            let newest = versions[versions.len() - 1].at;
            let item = &items[newest as usize];
            let version = Version { record: item.record.clone(), sub: item.at.sub };
            if !item.tombstone {
                let fields = item.record.fields();
                keyspace.view.live_bytes += (fields.key.len() + fields.value.len()) as u64;
                live.push(version);
            } else if is_event(newest) {
                keyspace.graves_by_place.insert(item.at, item.record.clone());
                graves.push(version);
            }
        }
        drop(by_key);
        keyspace.leftover.sort_unstable();
        keyspace.leftover.dedup();
        keyspace.view.live = Tree::from_sorted(live);
        keyspace.view.graves = Tree::from_sorted(graves);

        for (at, item) in items.iter().enumerate().skip(first_event) {
            let chained = before[at];
            let old = (chained != NONE && item.at.main > compact).then(|| {
                let old = &items[chained as usize];
                (Version { record: old.record.clone(), sub: old.at.sub }, old.tombstone)
            });
            let superseded = match &old {
                None => Superseded::Nothing,
                Some((version, true)) => Superseded::Tombstone(version),
                Some((version, false)) => Superseded::Version(version),
            };
            let chained = (chained != NONE).then(|| seq(chained)).flatten();
            keyspace.view.history.append_chained(
                item.at,
                item.tombstone,
                item.record.clone(),
                &superseded,
                chained,
            );
        }
        keyspace
    }
}

/// Where a version stands in the list, with the first telling bytes of its key.
struct Place {
    head: u128,
    at: u32,
}

/// The versions in the order of their keys, and of their places for each key.
fn sorted_by_key(items: &[StoredVersion]) -> Vec<Place> {
    // What all keys begin with tells nothing apart; the bytes after it usually do, without a look at the key.
    let first = items.first().map_or(&[][..], |item| item.record.key());
    let common = items.iter().fold(first.len(), |common, item| {
        let key = item.record.key();
        if key.len() >= common && key[..common] == first[..common] {
            common
        } else {
            key.iter().zip(&first[..common]).take_while(|(a, b)| a == b).count()
        }
    });
    let count = u32::try_from(items.len()).expect("four billion versions do not fit into memory");
    let mut order: Vec<Place> = (0..count)
        .map(|at| {
            let key = &items[at as usize].record.key()[common..];
            let mut head = [0; 16];
            let len = key.len().min(16);
            head[..len].copy_from_slice(&key[..len]);
            Place { head: u128::from_be_bytes(head), at }
        })
        .collect();
    order.sort_unstable_by(|a, b| {
        let keys = || items[a.at as usize].record.key().cmp(items[b.at as usize].record.key());
        a.head.cmp(&b.head).then_with(keys).then(a.at.cmp(&b.at))
    });
    order
}
