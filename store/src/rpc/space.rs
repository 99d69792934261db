//! `Admin.Space`: versions of keys into numbers by group, of which the largest are kept. Pure.
//!
//! Keys come in order, so a group is complete as soon as a key is not in it, and memory is bounded by how many groups
//! and keys are told, not by how many there are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use barque_proto::admin::{BigValue, DeepKey, SpaceGroup, SpaceNumbers, SpaceResponse};
use bytes::Bytes;

use crate::grouping::Grouping;
use crate::record::{KeptVersion, Standing};

fn add(to: &mut SpaceNumbers, more: &SpaceNumbers) {
    to.live_keys += more.live_keys;
    to.live_bytes += more.live_bytes;
    to.historic_versions += more.historic_versions;
    to.historic_bytes += more.historic_bytes;
}

fn numbers_of(version: &KeptVersion<'_>) -> SpaceNumbers {
    let bytes = (version.key.len() + version.value_bytes) as u64;
    match version.standing {
        Standing::Live => SpaceNumbers { live_keys: 1, live_bytes: bytes, ..SpaceNumbers::default() },
        Standing::Old | Standing::Tombstone => {
            SpaceNumbers { historic_versions: 1, historic_bytes: bytes, ..SpaceNumbers::default() }
        }
    }
}

/// Names with a weight, by weight; of equals the first in the order of names is the larger.
type Weighed = (u64, Reverse<Bytes>);

/// The largest so many of many things.
struct Top<T> {
    capacity: usize,
    heap: BinaryHeap<Reverse<(Weighed, Content<T>)>>,
}

/// Carried along; plays no part in the order, since names are unique.
struct Content<T>(T);

impl<T> PartialEq for Content<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Content<T> {}

impl<T> PartialOrd for Content<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Content<T> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<T> Top<T> {
    fn new(capacity: usize) -> Self {
        Self { capacity, heap: BinaryHeap::new() }
    }

    /// Whether something of this weight and name would stay.
    fn takes(&self, weight: u64, name: &[u8]) -> bool {
        self.heap.len() < self.capacity
            || self.heap.peek().is_some_and(|Reverse(((least, least_name), _))| {
                (weight, Reverse(name)) > (*least, Reverse(&least_name.0[..]))
            })
    }

    /// Adds something; answers what fell out for it.
    fn push(&mut self, weight: u64, name: Bytes, content: T) -> Option<T> {
        self.heap.push(Reverse(((weight, Reverse(name)), Content(content))));
        if self.heap.len() <= self.capacity {
            return None;
        }
        self.heap.pop().map(|Reverse((_, content))| content.0)
    }

    /// The largest first.
    fn into_sorted(self) -> Vec<T> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse((_, content))| content.0).collect()
    }
}

/// Adds up versions as they come.
pub(super) struct SpaceTally {
    prefix_len: usize,
    grouping: Grouping,
    total: SpaceNumbers,
    /// Groups in which further keys may be; each name begins with the one before.
    open: Vec<SpaceGroup>,
    groups: Top<SpaceGroup>,
    rest: SpaceNumbers,
    rest_groups: u64,
    /// The key whose versions come.
    key: Option<DeepKey>,
    deepest: Top<DeepKey>,
    biggest: Top<BigValue>,
}

impl SpaceTally {
    /// For keys that begin with a prefix of `prefix_len` bytes; `top` of each kind are told.
    pub(super) fn new(prefix_len: usize, grouping: Grouping, top: usize) -> Self {
        Self {
            prefix_len,
            grouping,
            total: SpaceNumbers::default(),
            open: Vec::new(),
            groups: Top::new(top),
            rest: SpaceNumbers::default(),
            rest_groups: 0,
            key: None,
            deepest: Top::new(top),
            biggest: Top::new(top),
        }
    }

    /// Adds a version. Keys come in order, and all versions of a key together.
    pub(super) fn add(&mut self, version: &KeptVersion<'_>) {
        if self.key.as_ref().is_none_or(|current| current.key != version.key) {
            self.end_key();
            self.open_group(version.key);
            self.key = Some(DeepKey { key: Bytes::copy_from_slice(version.key), ..DeepKey::default() });
        }
        let numbers = numbers_of(version);
        add(&mut self.total, &numbers);
        if let Some(SpaceGroup { numbers: Some(group), .. }) = self.open.last_mut() {
            add(group, &numbers);
        }
        let Some(current) = &mut self.key else { return };
        current.versions += 1;
        current.bytes += numbers.live_bytes + numbers.historic_bytes;
        if version.standing == Standing::Live {
            current.live = true;
            let value_bytes = version.value_bytes as u64;
            if self.biggest.takes(value_bytes, version.key) {
                let key = current.key.clone();
                self.biggest.push(value_bytes, key.clone(), BigValue { key, value_bytes });
            }
        }
    }

    fn end_key(&mut self) {
        let Some(key) = self.key.take().filter(|key| key.versions > 1) else { return };
        if self.deepest.takes(key.versions, &key.key) {
            self.deepest.push(key.versions, key.key.clone(), key);
        }
    }

    fn open_group(&mut self, key: &[u8]) {
        while self.open.last().is_some_and(|group| !key.starts_with(&group.prefix)) {
            self.close_group();
        }
        let name = self.grouping.group_of(self.prefix_len, key);
        if self.open.last().is_none_or(|group| group.prefix != name) {
            let numbers = Some(SpaceNumbers::default());
            self.open.push(SpaceGroup { prefix: Bytes::copy_from_slice(name), numbers });
        }
    }

    fn close_group(&mut self) {
        let Some(group) = self.open.pop() else { return };
        let bytes = group.numbers.map_or(0, |numbers| numbers.live_bytes + numbers.historic_bytes);
        let name = group.prefix.clone();
        if let Some(small) = self.groups.push(bytes, name, group) {
            add(&mut self.rest, &small.numbers.unwrap_or_default());
            self.rest_groups += 1;
        }
    }

    /// The answer, but for its header and the compact revision.
    pub(super) fn finish(mut self) -> SpaceResponse {
        self.end_key();
        while !self.open.is_empty() {
            self.close_group();
        }
        SpaceResponse {
            header: None,
            compact_revision: 0,
            total: Some(self.total),
            groups: self.groups.into_sorted(),
            rest: Some(self.rest),
            rest_groups: self.rest_groups,
            deepest_keys: self.deepest.into_sorted(),
            biggest_values: self.biggest.into_sorted(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Keys = BTreeMap<String, Vec<(usize, Standing)>>;

    fn tally(keys: &Keys, prefix: &str, grouping: &Grouping, top: usize) -> SpaceResponse {
        let mut tally = SpaceTally::new(prefix.len(), grouping.clone(), top);
        for (key, versions) in keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
            for &(value_bytes, standing) in versions {
                tally.add(&KeptVersion { key: key.as_bytes(), value_bytes, standing });
            }
        }
        tally.finish()
    }

    /// The same by looking at everything at once.
    fn naive(keys: &Keys, prefix: &str, grouping: &Grouping, top: usize) -> SpaceResponse {
        let mut groups: BTreeMap<Bytes, SpaceNumbers> = BTreeMap::new();
        let mut total = SpaceNumbers::default();
        let (mut deepest, mut biggest) = (Vec::new(), Vec::new());
        for (name, versions) in keys.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let key = Bytes::copy_from_slice(name.as_bytes());
            let group = Bytes::copy_from_slice(grouping.group_of(prefix.len(), &key));
            for &(value_bytes, standing) in versions {
                let numbers = numbers_of(&KeptVersion { key: &key, value_bytes, standing });
                add(groups.entry(group.clone()).or_default(), &numbers);
                add(&mut total, &numbers);
                if standing == Standing::Live {
                    biggest.push(BigValue { key: key.clone(), value_bytes: value_bytes as u64 });
                }
            }
            deepest.push(DeepKey {
                versions: versions.len() as u64,
                bytes: versions.iter().map(|(value, _)| (value + key.len()) as u64).sum(),
                live: versions.iter().any(|(_, standing)| *standing == Standing::Live),
                key,
            });
        }
        deepest.retain(|key| key.versions > 1);
        deepest.sort_by(|a, b| b.versions.cmp(&a.versions).then(a.key.cmp(&b.key)));
        biggest.sort_by(|a, b| b.value_bytes.cmp(&a.value_bytes).then(a.key.cmp(&b.key)));
        let bytes = |numbers: &SpaceNumbers| numbers.live_bytes + numbers.historic_bytes;
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by(|(a, x), (b, y)| bytes(y).cmp(&bytes(x)).then(a.cmp(b)));
        let mut rest = SpaceNumbers::default();
        let small = groups.split_off(groups.len().min(top));
        small.iter().for_each(|(_, numbers)| add(&mut rest, numbers));
        deepest.truncate(top);
        biggest.truncate(top);
        let told = groups.into_iter().map(|(prefix, numbers)| SpaceGroup { prefix, numbers: Some(numbers) });
        SpaceResponse {
            total: Some(total),
            groups: told.collect(),
            rest: Some(rest),
            rest_groups: small.len() as u64,
            deepest_keys: deepest,
            biggest_values: biggest,
            ..SpaceResponse::default()
        }
    }

    #[test]
    fn groups_are_told_apart_from_those_inside_them() {
        let live = |bytes| vec![(bytes, Standing::Live)];
        let old = vec![(1, Standing::Live), (2, Standing::Old), (0, Standing::Tombstone)];
        let keys = Keys::from([
            ("/a/1".into(), live(10)),
            ("/a/b/1".into(), old),
            ("/a/c".into(), live(20)),
            ("/d/1".into(), live(5)),
        ]);
        let told = tally(&keys, "", &Grouping::new(b"/", 2), 2);
        let group =
            |prefix: &'static str, live_keys, live_bytes, historic_versions, historic_bytes| SpaceGroup {
                prefix: prefix.into(),
                numbers: Some(SpaceNumbers { live_keys, live_bytes, historic_versions, historic_bytes }),
            };
        assert_eq!(told.groups, [group("/a/", 2, 38, 0, 0), group("/a/b/", 1, 7, 2, 14)]);
        assert_eq!((told.rest_groups, told.rest.unwrap().live_bytes), (1, 9));
        assert_eq!(told.deepest_keys.len(), 1);
        assert_eq!(told.biggest_values[0], BigValue { key: "/a/c".into(), value_bytes: 20 });
    }

    proptest! {
        #[test]
        fn is_what_looking_at_everything_finds(
            keys in prop::collection::btree_map(
                "[ab/]{1,6}",
                prop::collection::vec((0usize..50, prop_oneof![
                    Just(Standing::Live), Just(Standing::Old), Just(Standing::Tombstone),
                ]), 1..4),
                0..40,
            ),
            prefix in "[a/]{0,2}",
            depth in 1usize..4,
            top in 1usize..6,
        ) {
            // Only the newest version can be the current one.
            let keys: Keys = keys
                .into_iter()
                .map(|(key, mut versions)| {
                    versions.iter_mut().skip(1).filter(|(_, s)| *s == Standing::Live).for_each(|v| v.1 = Standing::Old);
                    (key, versions)
                })
                .collect();
            let grouping = Grouping::new(b"/", depth);
            prop_assert_eq!(tally(&keys, &prefix, &grouping, top), naive(&keys, &prefix, &grouping, top));
        }
    }
}
