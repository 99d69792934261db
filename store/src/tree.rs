//! A persistent, counting B+tree from byte keys to values that carry their own key.
//!
//! Cloning a tree copies a pointer; a change copies at most the nodes on one path, and none of them when
//! nobody else holds them. Every subtree knows how many values it holds, so that ranks and counts of ranges
//! cost one descent. It never stores a key a second time: leaves hold values alone, and inner nodes only the
//! shortest byte strings that tell their children apart.

use std::cmp::Ordering;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

/// A value that knows the key under which a [`Tree`] keeps it.
pub trait Keyed {
    /// The key. It must never change while a tree holds the value.
    fn key(&self) -> &[u8];
}

impl Keyed for Arc<[u8]> {
    fn key(&self) -> &[u8] {
        self
    }
}

/// Leaves are small: copying one touches the reference count of each of its values.
const LEAF_MAX: usize = 16;
const LEAF_MIN: usize = 5;
/// What a bulk build puts into a leaf, leaving room for a few inserts.
const LEAF_FILL: usize = 14;
const INNER_MAX: usize = 32;
const INNER_MIN: usize = 10;
const INNER_FILL: usize = 28;

/// See the module's description.
#[derive(Clone)]
pub struct Tree<V> {
    root: Node<V>,
    len: usize,
}

enum Node<V> {
    Leaf(Arc<Leaf<V>>),
    Inner(Arc<Inner<V>>),
}

impl<V> Clone for Node<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(leaf) => Self::Leaf(Arc::clone(leaf)),
            Self::Inner(inner) => Self::Inner(Arc::clone(inner)),
        }
    }
}

/// A leaf remembers four bytes of each key, those behind what all its keys begin with: mostly, they lead to
/// the right value without a look at the others, which lie elsewhere in memory.
#[derive(Clone)]
struct Leaf<V> {
    values: Vec<V>,
    heads: [u32; LEAF_MAX + 1],
    /// All keys have the same bytes up to here.
    common: usize,
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Four bytes of a key as a number; a shorter key is filled with zeros. The order of keys that are equal up to
/// `from` is never against the order of their heads.
fn head(key: &[u8], from: usize) -> u32 {
    let rest = key.get(from..).unwrap_or_default();
    let mut head = [0; 4];
    let len = rest.len().min(4);
    head[..len].copy_from_slice(&rest[..len]);
    u32::from_be_bytes(head)
}

impl<V: Keyed> Leaf<V> {
    fn new(values: Vec<V>) -> Self {
        let mut leaf = Self { values, heads: [0; LEAF_MAX + 1], common: 0 };
        leaf.remember();
        leaf
    }

    fn remember(&mut self) {
        if let [first, .., last] = &self.values[..] {
            self.common = common_len(first.key(), last.key());
        }
        for (value, head_of) in self.values.iter().zip(&mut self.heads) {
            *head_of = head(value.key(), self.common);
        }
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let heads = &self.heads[..self.values.len()];
        let wanted = head(key, self.common);
        let from = heads.partition_point(|head| *head < wanted);
        let same = heads[from..].iter().take_while(|head| **head == wanted).count();
        match find(&self.values[from..from + same], key) {
            Ok(at) => Ok(from + at),
            // The key is not here: where it belongs, the heads cannot say.
            Err(_) => find(&self.values, key),
        }
    }

    fn insert(&mut self, at: usize, value: V) {
        let len = self.values.len();
        let key = value.key();
        let fits = self.values.first().is_some_and(|first| common_len(first.key(), key) >= self.common);
        if fits {
            self.heads.copy_within(at..len, at + 1);
            self.heads[at] = head(key, self.common);
        }
        reserve_one(&mut self.values, LEAF_MAX);
        self.values.insert(at, value);
        if !fits {
            self.remember();
        }
    }

    fn remove(&mut self, at: usize) -> V {
        self.heads.copy_within(at + 1..self.values.len(), at);
        self.values.remove(at)
    }

    fn split_off(&mut self, at: usize) -> Self {
        let right = Self::new(self.values.split_off(at));
        self.remember();
        right
    }
}

struct Inner<V> {
    children: Vec<Child<V>>,
    /// `separators[i]` is above every key of child `i` and not above any key of child `i + 1`.
    separators: Separators,
}

impl<V> Clone for Inner<V> {
    fn clone(&self) -> Self {
        Self { children: self.children.clone(), separators: self.separators.clone() }
    }
}

struct Child<V> {
    node: Node<V>,
    count: usize,
}

impl<V> Clone for Child<V> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), count: self.count }
    }
}

/// Byte strings in one allocation, so that copying a node copies them at once.
#[derive(Clone, Default)]
struct Separators {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Separators {
    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    /// The child in which `key` belongs: how many separators are not above it.
    fn child_of(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.get(middle) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn splice(&mut self, from: usize, removed: usize, added: &[&[u8]]) {
        let mut next = Self::default();
        let kept = self.len() - removed + added.len();
        next.ends.reserve_exact(kept);
        next.bytes.reserve_exact(self.bytes.len() + added.iter().map(|s| s.len()).sum::<usize>());
        for at in 0..from {
            next.push(self.get(at));
        }
        for separator in added {
            next.push(separator);
        }
        for at in from + removed..self.len() {
            next.push(self.get(at));
        }
        *self = next;
    }

    fn push(&mut self, separator: &[u8]) {
        self.bytes.extend_from_slice(separator);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a node's separators stay below 4 GiB"));
    }

    /// Keeps the first `at` separators, gives back the one at `at` and those behind it.
    fn split_off(&mut self, at: usize) -> (Vec<u8>, Self) {
        let middle = self.get(at).to_vec();
        let mut right = Self::default();
        for behind in at + 1..self.len() {
            right.push(self.get(behind));
        }
        self.bytes.truncate(self.start(at));
        self.ends.truncate(at);
        (middle, right)
    }
}

/// The shortest byte string above `left` and not above `right`.
fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    &right[..(common_len(left, right) + 1).min(right.len())]
}

struct Split<V> {
    separator: Vec<u8>,
    right: Child<V>,
}

fn find<V: Keyed>(values: &[V], key: &[u8]) -> Result<usize, usize> {
    values.binary_search_by(|value| value.key().cmp(key))
}

/// Sizes of the groups when `n` things are put evenly into groups of about `fill`, none above it.
fn groups(n: usize, fill: usize) -> impl Iterator<Item = usize> {
    let count = n.div_ceil(fill).max(1);
    let (each, rest) = (n / count, n % count);
    (0..count).map(move |group| each + usize::from(group < rest))
}

impl<V: Keyed + Clone> Default for Tree<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Keyed + Clone> Tree<V> {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Node::Leaf(Arc::new(Leaf::new(Vec::new()))), len: 0 }
    }

    /// Builds a tree from values in strictly ascending order of their keys.
    #[must_use]
    pub fn from_sorted(values: impl IntoIterator<Item = V, IntoIter: ExactSizeIterator>) -> Self {
        let mut rest = values.into_iter();
        let len = rest.len();
        let mut level: Vec<Child<V>> = Vec::with_capacity(len / LEAF_FILL + 1);
        let mut separators: Vec<Vec<u8>> = Vec::with_capacity(len / LEAF_FILL + 1);
        let mut last: Option<V> = None;
        for size in groups(len, LEAF_FILL) {
            let values: Vec<V> = rest.by_ref().take(size).collect();
            debug_assert!(values.windows(2).all(|pair| pair[0].key() < pair[1].key()), "not in order");
            if let (Some(last), Some(first)) = (&last, values.first()) {
                debug_assert!(last.key() < first.key(), "not in order");
                separators.push(separator(last.key(), first.key()).to_vec());
            }
            last = values.last().cloned();
            level.push(Child { node: Node::Leaf(Arc::new(Leaf::new(values))), count: size });
        }
        while level.len() > 1 {
            let mut above = Vec::with_capacity(level.len() / INNER_FILL + 1);
            let mut above_separators = Vec::with_capacity(level.len() / INNER_FILL + 1);
            let sizes: Vec<usize> = groups(level.len(), INNER_FILL).collect();
            let (mut children, mut between) = (level.into_iter(), separators.into_iter());
            for size in sizes {
                let children: Vec<Child<V>> = children.by_ref().take(size).collect();
                let count = children.iter().map(|child| child.count).sum();
                let mut separators = Separators::default();
                for separator in between.by_ref().take(size - 1) {
                    separators.push(&separator);
                }
                above_separators.extend(between.next());
                above.push(Child { node: Node::Inner(Arc::new(Inner { children, separators })), count });
            }
            level = above;
            separators = above_separators;
        }
        let root = level.pop().expect("there is always one group").node;
        Self { root, len }
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.separators.child_of(key)].node,
                Node::Leaf(leaf) => return leaf.find(key).ok().map(|at| &leaf.values[at]),
            }
        }
    }

    /// The value under `key`, to change all of it but its key. Copies the path when it is shared.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        self.get(key)?;
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let inner = Arc::make_mut(inner);
                    node = &mut inner.children[inner.separators.child_of(key)].node;
                }
                Node::Leaf(leaf) => {
                    let leaf = Arc::make_mut(leaf);
                    return leaf.find(key).ok().map(|at| &mut leaf.values[at]);
                }
            }
        }
    }

    /// The value at a place in the order, counted from 0.
    #[must_use]
    pub fn at_rank(&self, rank: usize) -> Option<&V> {
        let mut left = rank;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.values.get(left),
                Node::Inner(inner) => {
                    let child = inner.children.iter().find(|child| {
                        let inside = left < child.count;
                        left -= if inside { 0 } else { child.count };
                        inside
                    });
                    node = &child?.node;
                }
            }
        }
    }

    /// How many values have a key below `key`.
    #[must_use]
    pub fn rank(&self, key: &[u8]) -> usize {
        let mut node = &self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.separators.child_of(key);
                    rank += inner.children[..child].iter().map(|child| child.count).sum::<usize>();
                    node = &inner.children[child].node;
                }
                Node::Leaf(leaf) => return rank + leaf.find(key).unwrap_or_else(|at| at),
            }
        }
    }

    /// Puts a value under its key; gives back the one that was there.
    pub fn insert(&mut self, value: V) -> Option<V> {
        let (replaced, split) = insert(&mut self.root, value, true);
        if let Some(Split { separator, right }) = split {
            let left = Child { node: self.root.clone(), count: self.len + 1 - right.count };
            let mut separators = Separators::default();
            separators.push(&separator);
            self.root = Node::Inner(Arc::new(Inner { children: vec![left, right], separators }));
        }
        if replaced.is_none() {
            self.len += 1;
        }
        replaced
    }

    /// Takes the value under `key` out.
    pub fn remove(&mut self, key: &[u8]) -> Option<V> {
        self.get(key)?; // so that a missing key copies no path
        let removed = remove(&mut self.root, key);
        self.len -= 1;
        while let Node::Inner(inner) = &self.root {
            if inner.children.len() > 1 {
                break;
            }
            self.root = inner.children[0].node.clone();
        }
        Some(removed)
    }

    /// All values in the order of their keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, V> {
        self.iter_at(0)
    }

    /// The values in order, from a key on.
    #[must_use]
    pub fn iter_from(&self, from: Bound<&[u8]>) -> Iter<'_, V> {
        let (key, after) = match from {
            Bound::Unbounded => return self.iter(),
            Bound::Included(key) => (key, false),
            Bound::Excluded(key) => (key, true),
        };
        let mut stack = Vec::with_capacity(6);
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let child = inner.separators.child_of(key);
                    stack.push(inner.children[child + 1..].iter());
                    node = &inner.children[child].node;
                }
                Node::Leaf(leaf) => {
                    let at = match leaf.find(key) {
                        Ok(at) => at + usize::from(after),
                        Err(at) => at,
                    };
                    return Iter { stack, leaf: leaf.values[at..].iter() };
                }
            }
        }
    }

    /// The values in order, from a place in the order on.
    #[must_use]
    pub fn iter_at(&self, rank: usize) -> Iter<'_, V> {
        let mut left = rank.min(self.len);
        let mut stack = Vec::with_capacity(6);
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let mut child = 0;
                    while child + 1 < inner.children.len() && left >= inner.children[child].count {
                        left -= inner.children[child].count;
                        child += 1;
                    }
                    stack.push(inner.children[child + 1..].iter());
                    node = &inner.children[child].node;
                }
                Node::Leaf(leaf) => return Iter { stack, leaf: leaf.values[left..].iter() },
            }
        }
    }
}

/// Makes room for one more without the doubling that would leave leaves half empty in memory.
fn reserve_one<T>(vec: &mut Vec<T>, max: usize) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(4.min(max + 1 - vec.len()));
    }
}

/// `last` says that the node is the last of its level: there, keys often come in ascending order, and a node
/// that overflows at its end is left full instead of being halved.
fn insert<V: Keyed + Clone>(node: &mut Node<V>, value: V, last: bool) -> (Option<V>, Option<Split<V>>) {
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            let at = match leaf.find(value.key()) {
                Ok(at) => return (Some(std::mem::replace(&mut leaf.values[at], value)), None),
                Err(at) => at,
            };
            if leaf.values.len() < LEAF_MAX {
                leaf.insert(at, value);
                return (None, None);
            }
            // In front of the cut the left half takes the value, behind it the right one.
            let right = if last && at == leaf.values.len() {
                Leaf::new(vec![value])
            } else {
                let cut = leaf.values.len() / 2;
                let mut right = leaf.split_off(cut);
                if at <= cut {
                    leaf.insert(at, value);
                } else {
                    right.insert(at - cut, value);
                }
                right
            };
            let separator =
                separator(leaf.values[leaf.values.len() - 1].key(), right.values[0].key()).to_vec();
            let count = right.values.len();
            (None, Some(Split { separator, right: Child { node: Node::Leaf(Arc::new(right)), count } }))
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = inner.separators.child_of(value.key());
            let last = last && at + 1 == inner.children.len();
            let (replaced, split) = insert(&mut inner.children[at].node, value, last);
            if replaced.is_none() {
                inner.children[at].count += 1;
            }
            let Some(split) = split else { return (replaced, None) };
            inner.children[at].count -= split.right.count;
            reserve_one(&mut inner.children, INNER_MAX);
            inner.children.insert(at + 1, split.right);
            inner.separators.splice(at, 0, &[&split.separator]);
            if inner.children.len() <= INNER_MAX {
                return (replaced, None);
            }
            let cut = if last { inner.children.len() - 2 } else { inner.children.len() / 2 };
            let children = inner.children.split_off(cut);
            let (separator, separators) = inner.separators.split_off(cut - 1);
            let count = children.iter().map(|child| child.count).sum();
            let right = Child { node: Node::Inner(Arc::new(Inner { children, separators })), count };
            (replaced, Some(Split { separator, right }))
        }
    }
}

impl<V> Node<V> {
    fn is_small(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.values.len() < LEAF_MIN,
            Self::Inner(inner) => inner.children.len() < INNER_MIN,
        }
    }
}

fn remove<V: Keyed + Clone>(node: &mut Node<V>, key: &[u8]) -> V {
    match node {
        Node::Leaf(leaf) => {
            let leaf = Arc::make_mut(leaf);
            let at = leaf.find(key).expect("the caller found the key");
            leaf.remove(at)
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            let at = inner.separators.child_of(key);
            let removed = remove(&mut inner.children[at].node, key);
            inner.children[at].count -= 1;
            if inner.children[at].node.is_small() && inner.children.len() > 1 {
                let left = if at == 0 { 0 } else { at - 1 };
                join(inner, left);
            }
            removed
        }
    }
}

/// Makes one node of the children `at` and `at + 1`, or evens them out when one would be too large.
fn join<V: Keyed + Clone>(parent: &mut Inner<V>, at: usize) {
    let right = parent.children.remove(at + 1);
    let between = parent.separators.get(at).to_vec();
    let left = &mut parent.children[at];
    let total = left.count + right.count;
    let split: Option<Split<V>> = match (&mut left.node, &right.node) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            let left = Arc::make_mut(left);
            let total = left.values.len() + right.values.len();
            left.values.extend(right.values.iter().cloned());
            if total > LEAF_MAX {
                let right = left.split_off(total / 2);
                let separator = separator(left.values[total / 2 - 1].key(), right.values[0].key()).to_vec();
                let count = right.values.len();
                Some(Split { separator, right: Child { node: Node::Leaf(Arc::new(right)), count } })
            } else {
                left.remember();
                None
            }
        }
        (Node::Inner(left), Node::Inner(right)) => {
            let left = Arc::make_mut(left);
            left.separators.push(&between);
            for separator in 0..right.separators.len() {
                left.separators.push(right.separators.get(separator));
            }
            left.children.extend(right.children.iter().cloned());
            (left.children.len() > INNER_MAX).then(|| {
                let cut = left.children.len() / 2;
                let children = left.children.split_off(cut);
                let (separator, separators) = left.separators.split_off(cut - 1);
                let count = children.iter().map(|child| child.count).sum();
                Split {
                    separator,
                    right: Child { node: Node::Inner(Arc::new(Inner { children, separators })), count },
                }
            })
        }
        _ => unreachable!("all leaves of a tree are at one depth"),
    };
    match split {
        None => {
            left.count = total;
            parent.separators.splice(at, 1, &[]);
        }
        Some(split) => {
            left.count = total - split.right.count;
            parent.children.insert(at + 1, split.right);
            parent.separators.splice(at, 1, &[&split.separator]);
        }
    }
}

/// Values of a [`Tree`] in the order of their keys.
pub struct Iter<'a, V> {
    stack: Vec<slice::Iter<'a, Child<V>>>,
    leaf: slice::Iter<'a, V>,
}

impl<V> Clone for Iter<'_, V> {
    fn clone(&self) -> Self {
        Self { stack: self.stack.clone(), leaf: self.leaf.clone() }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        loop {
            if let Some(value) = self.leaf.next() {
                return Some(value);
            }
            let mut node = loop {
                match self.stack.last_mut()?.next() {
                    Some(child) => break &child.node,
                    None => self.stack.pop(),
                };
            };
            while let Node::Inner(inner) = node {
                let mut children = inner.children.iter();
                node = &children.next().expect("an inner node has children").node;
                self.stack.push(children);
            }
            if let Node::Leaf(leaf) = node {
                self.leaf = leaf.values.iter();
            }
        }
    }
}

/// Walks two ascending sequences at once, in the order of the keys; equal keys come together.
pub fn merge<'a, A: Keyed + 'a, B: Keyed + 'a>(
    left: impl Iterator<Item = &'a A>,
    right: impl Iterator<Item = &'a B>,
) -> impl Iterator<Item = (Option<&'a A>, Option<&'a B>)> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key().cmp(b.key()),
        };
        let a = if order == Ordering::Greater { None } else { left.next() };
        let b = if order == Ordering::Less { None } else { right.next() };
        Some((a, b))
    })
}

#[cfg(test)]
mod tests;
