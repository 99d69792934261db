//! Which ranges hold a key: exact keys and prefixes by hash, other ranges by an interval tree.
//!
//! Equal ranges are one group. Finding costs one hash for exact keys, one for each length of the
//! prefixes (at most [`MAX_PREFIX_LENGTHS`]) and O(log n) for each other range found. Pure: knows
//! neither watchers nor streams.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::range::{WatchRange, successor};

/// Prefixes of further lengths are kept as ordinary ranges.
pub const MAX_PREFIX_LENGTHS: usize = 64;

/// A set of equal ranges. Dense: the smallest free number is taken.
pub type GroupId = usize;

/// The ranges, each with the number of its group.
#[derive(Debug, Default)]
pub struct Matcher {
    keys: HashMap<Bytes, GroupId>,
    prefixes: HashMap<Bytes, GroupId>,
    /// Length of a prefix and how many have it.
    lengths: BTreeMap<usize, usize>,
    spans: IntervalTree,
    /// Range and number of users of each group.
    groups: Vec<Option<(WatchRange, usize)>>,
    free: Vec<GroupId>,
}

impl Matcher {
    /// Adds one user of the range and says its group.
    pub fn insert(&mut self, range: &WatchRange) -> GroupId {
        if let Some(group) = self.find(range) {
            if let Some((_, users)) = &mut self.groups[group] {
                *users += 1;
            }
            return group;
        }
        let group = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            self.groups.len() - 1
        });
        self.groups[group] = Some((range.clone(), 1));
        match range {
            WatchRange::Key(key) => {
                self.keys.insert(key.clone(), group);
            }
            WatchRange::Prefix(prefix) if self.takes_length(prefix.len()) => {
                *self.lengths.entry(prefix.len()).or_default() += 1;
                self.prefixes.insert(prefix.clone(), group);
            }
            WatchRange::Prefix(prefix) => self.spans.insert(prefix.clone(), successor(prefix), group),
            WatchRange::Span(start, end) => self.spans.insert(start.clone(), end.clone(), group),
        }
        group
    }

    /// Takes one user away; the group is gone with its last one.
    pub fn remove(&mut self, group: GroupId) {
        let Some(Some((range, users))) = self.groups.get_mut(group) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        match range {
            WatchRange::Key(key) => {
                self.keys.remove(key);
            }
            WatchRange::Prefix(prefix) => {
                if self.prefixes.remove(prefix).is_some() {
                    if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                        *count -= 1;
                        if *count == 0 {
                            self.lengths.remove(&prefix.len());
                        }
                    }
                } else {
                    self.spans.remove(prefix, successor(prefix).as_deref());
                }
            }
            WatchRange::Span(start, end) => self.spans.remove(start, end.as_deref()),
        }
        self.groups[group] = None;
        self.free.push(group);
    }

    /// Whether there is no range at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.groups.len()
    }

    /// Calls `found` once for each group that holds the key.
    #[inline]
    pub fn for_each(&self, key: &[u8], mut found: impl FnMut(GroupId)) {
        if !self.keys.is_empty()
            && let Some(&group) = self.keys.get(key)
        {
            found(group);
        }
        for (&length, _) in self.lengths.range(..=key.len()) {
            if let Some(&group) = self.prefixes.get(&key[..length]) {
                found(group);
            }
        }
        self.spans.for_each(key, &mut found);
    }

    fn takes_length(&self, length: usize) -> bool {
        self.lengths.len() < MAX_PREFIX_LENGTHS || self.lengths.contains_key(&length)
    }

    /// The range of a group and how many users it has.
    pub(super) fn group(&self, group: GroupId) -> Option<(&WatchRange, usize)> {
        self.groups.get(group)?.as_ref().map(|(range, users)| (range, *users))
    }

    /// The group of a range.
    pub(super) fn find(&self, range: &WatchRange) -> Option<GroupId> {
        match range {
            WatchRange::Key(key) => self.keys.get(key).copied(),
            WatchRange::Prefix(prefix) => self
                .prefixes
                .get(prefix)
                .copied()
                .or_else(|| self.spans.find(prefix, successor(prefix).as_deref())),
            WatchRange::Span(start, end) => self.spans.find(start, end.as_deref()),
        }
    }
}

/// Ranges ordered by start, then end; each node knows the furthest end below it. Balanced by random
/// weights (a treap), which a client that chooses the ranges cannot foresee.
#[derive(Debug)]
struct IntervalTree {
    nodes: Vec<Node>,
    free: Vec<usize>,
    root: Option<usize>,
    random: u64,
}

#[derive(Debug)]
struct Node {
    start: Bytes,
    /// `None` is behind every key.
    end: Option<Bytes>,
    furthest: Option<Bytes>,
    weight: u64,
    group: GroupId,
    left: Option<usize>,
    right: Option<usize>,
}

impl Default for IntervalTree {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: None, random: rand::random::<u64>() | 1 }
    }
}

fn compare_ends(a: Option<&[u8]>, b: Option<&[u8]>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

impl IntervalTree {
    fn compare(&self, start: &[u8], end: Option<&[u8]>, node: usize) -> Ordering {
        let node = &self.nodes[node];
        start.cmp(&node.start).then_with(|| compare_ends(end, node.end.as_deref()))
    }

    fn find(&self, start: &[u8], end: Option<&[u8]>) -> Option<GroupId> {
        let mut at = self.root;
        while let Some(node) = at {
            at = match self.compare(start, end, node) {
                Ordering::Equal => return Some(self.nodes[node].group),
                Ordering::Less => self.nodes[node].left,
                Ordering::Greater => self.nodes[node].right,
            };
        }
        None
    }

    fn for_each(&self, key: &[u8], found: &mut impl FnMut(GroupId)) {
        self.visit(self.root, key, found);
    }

    fn visit(&self, at: Option<usize>, key: &[u8], found: &mut impl FnMut(GroupId)) {
        let Some(at) = at else { return };
        let node = &self.nodes[at];
        if node.furthest.as_ref().is_some_and(|end| end.as_ref() <= key) {
            return;
        }
        self.visit(node.left, key, found);
        if node.start.as_ref() <= key {
            if node.end.as_ref().is_none_or(|end| key < end.as_ref()) {
                found(node.group);
            }
            self.visit(node.right, key, found);
        }
    }

    fn insert(&mut self, start: Bytes, end: Option<Bytes>, group: GroupId) {
        // xorshift64: any sequence does, if it is not known from outside.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let (left, right) = self.split(self.root, &start, end.as_deref());
        let node =
            Node { start, furthest: end.clone(), end, weight: self.random, group, left: None, right: None };
        let at = if let Some(at) = self.free.pop() {
            self.nodes[at] = node;
            at
        } else {
            self.nodes.push(node);
            self.nodes.len() - 1
        };
        let joined = self.join(left, Some(at));
        self.root = self.join(joined, right);
    }

    fn remove(&mut self, start: &[u8], end: Option<&[u8]>) {
        self.root = self.remove_below(self.root, start, end);
    }

    fn remove_below(&mut self, at: Option<usize>, start: &[u8], end: Option<&[u8]>) -> Option<usize> {
        let at = at?;
        match self.compare(start, end, at) {
            Ordering::Equal => {
                let (left, right) = (self.nodes[at].left, self.nodes[at].right);
                self.free.push(at);
                return self.join(left, right);
            }
            Ordering::Less => self.nodes[at].left = self.remove_below(self.nodes[at].left, start, end),
            Ordering::Greater => self.nodes[at].right = self.remove_below(self.nodes[at].right, start, end),
        }
        self.update(at);
        Some(at)
    }

    /// Nodes before the range, and those behind it.
    fn split(
        &mut self,
        at: Option<usize>,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> (Option<usize>, Option<usize>) {
        let Some(at) = at else { return (None, None) };
        if self.compare(start, end, at) == Ordering::Greater {
            let (left, right) = self.split(self.nodes[at].right, start, end);
            self.nodes[at].right = left;
            self.update(at);
            (Some(at), right)
        } else {
            let (left, right) = self.split(self.nodes[at].left, start, end);
            self.nodes[at].left = right;
            self.update(at);
            (left, Some(at))
        }
    }

    /// Every node of `left` lies before every one of `right`.
    fn join(&mut self, left: Option<usize>, right: Option<usize>) -> Option<usize> {
        let (Some(l), Some(r)) = (left, right) else { return left.or(right) };
        let top = if self.nodes[l].weight > self.nodes[r].weight {
            self.nodes[l].right = self.join(self.nodes[l].right, right);
            l
        } else {
            self.nodes[r].left = self.join(left, self.nodes[r].left);
            r
        };
        self.update(top);
        Some(top)
    }

    fn update(&mut self, at: usize) {
        let node = &self.nodes[at];
        let furthest = [node.left, node.right]
            .into_iter()
            .flatten()
            .map(|child| &self.nodes[child].furthest)
            .fold(&node.end, |a, b| if compare_ends(a.as_deref(), b.as_deref()).is_lt() { b } else { a })
            .clone();
        self.nodes[at].furthest = furthest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', b'b', 0xfe, 0xff]), 0..5)
    }

    fn ranges() -> impl Strategy<Value = WatchRange> {
        (keys(), prop_oneof![Just(vec![]), Just(vec![0]), keys()])
            .prop_filter_map("empty", |(a, b)| WatchRange::from_request(&a.into(), &b.into()).ok())
    }

    proptest! {
        #[test]
        fn finds_what_a_search_through_all_finds(
            steps in prop::collection::vec((ranges(), any::<bool>()), 1..60),
            probes in prop::collection::vec(keys(), 1..20),
        ) {
            let mut matcher = Matcher::default();
            let mut model: Vec<(WatchRange, GroupId)> = Vec::new();
            for (range, remove) in steps {
                if remove && !model.is_empty() {
                    let (_, group) = model.swap_remove(range.contains(b"a") as usize % model.len());
                    matcher.remove(group);
                } else {
                    let group = matcher.insert(&range);
                    model.push((range, group));
                }
                prop_assert_eq!(matcher.is_empty(), model.is_empty());
                for key in &probes {
                    let mut found = Vec::new();
                    matcher.for_each(key, |group| found.push(group));
                    found.sort_unstable();
                    let mut wanted: Vec<_> =
                        model.iter().filter(|(r, _)| r.contains(key)).map(|(_, g)| *g).collect();
                    wanted.sort_unstable();
                    wanted.dedup();
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }

    #[test]
    fn prefixes_of_too_many_lengths_are_found_all_the_same() {
        let key = vec![b'x'; 3 * MAX_PREFIX_LENGTHS];
        let mut matcher = Matcher::default();
        let prefixes: Vec<_> =
            (1..=key.len()).map(|n| WatchRange::Prefix(key[..n].to_vec().into())).collect();
        let groups: Vec<_> = prefixes.iter().map(|p| matcher.insert(p)).collect();
        assert_eq!(prefixes.iter().map(|p| matcher.insert(p)).collect::<Vec<_>>(), groups);
        let mut found = 0;
        matcher.for_each(&key, |_| found += 1);
        assert_eq!(found, key.len());
        for group in groups {
            matcher.remove(group);
            matcher.remove(group);
        }
        assert!(matcher.is_empty());
        matcher.for_each(&key, |_| panic!("nothing is left"));
    }

    #[test]
    fn ten_thousand_ranges_stay_shallow() {
        let mut tree = IntervalTree::default();
        for n in 0..10_000u32 {
            tree.insert(
                n.to_be_bytes().to_vec().into(),
                Some((n + 2).to_be_bytes().to_vec().into()),
                n as usize,
            );
        }
        fn depth(tree: &IntervalTree, at: Option<usize>) -> usize {
            at.map_or(0, |at| 1 + depth(tree, tree.nodes[at].left).max(depth(tree, tree.nodes[at].right)))
        }
        assert!(depth(&tree, tree.root) < 80);
        let mut found = Vec::new();
        tree.for_each(&5000u32.to_be_bytes(), &mut |group| found.push(group));
        found.sort_unstable();
        assert_eq!(found, [4999, 5000]);
    }
}
