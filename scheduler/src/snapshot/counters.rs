//! How many pods that a term means are in each place; and where pods are that carry a term of their own. Kept up to date
//! with every pod, so that no decision looks at all of them. Must never know which plugin asks.

use std::collections::HashMap;
use std::hash::Hash;

use super::topology::{KeyId, NOWHERE};
use crate::node::NodeSpec;
use crate::pod::{AffinityTerm, PodTerm, RequiredNodes};
use crate::taint::{Toleration, first_untolerated};

/// Which nodes count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct NodeFilter {
    /// Those with all of these labels,
    pub(crate) keys: Box<[Box<str>]>,
    /// on which the pod may run,
    pub(crate) nodes: RequiredNodes,
    /// and whose taints it tolerates, if that is asked.
    pub(crate) tolerations: Option<Box<[Toleration]>>,
}

impl NodeFilter {
    pub(crate) fn lets(&self, node: &NodeSpec) -> bool {
        self.keys.iter().all(|key| node.labels.get(key).is_some())
            && self.nodes.matches(&node.name, &node.labels)
            && self.tolerations.as_ref().is_none_or(|it| first_untolerated(it, &node.taints).is_none())
    }
}

/// Which pods count: those that all terms mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Matcher {
    pub(crate) terms: Box<[PodTerm]>,
    /// Pods that are being deleted do not count.
    pub(crate) living: bool,
}

/// What is counted, as text and not as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Counted {
    pub(crate) matcher: Matcher,
    /// Empty for each node by itself.
    pub(crate) topology_key: Box<str>,
    pub(crate) filter: NodeFilter,
}

/// Pods by place.
#[derive(Debug)]
pub(crate) struct Counter {
    pub(crate) counted: Counted,
    pub(crate) key: KeyId,
    /// Which nodes count.
    pub(crate) eligible: Vec<bool>,
    /// How many pods are in each place.
    pub(crate) pods: Vec<i64>,
    /// How many nodes that count are in each place.
    pub(crate) nodes: Vec<u32>,
}

impl Counter {
    /// The node's place, if the node counts.
    pub(crate) fn place(&self, column: &[u32], node: usize) -> Option<usize> {
        let place = column[node];
        (place != NOWHERE && self.eligible[node]).then_some(place as usize)
    }

    pub(crate) fn grow(&mut self, nodes: usize, places: usize) {
        if self.eligible.len() < nodes {
            self.eligible.resize(nodes, false);
        }
        if self.pods.len() < places {
            self.pods.resize(places, 0);
            self.nodes.resize(places, 0);
        }
    }

    /// How many places have a node that counts.
    pub(crate) fn places(&self) -> usize {
        self.nodes.iter().filter(|nodes| **nodes > 0).count()
    }

    /// The place with the fewest pods, and the next one.
    pub(crate) fn emptiest(&self) -> [Option<(usize, i64)>; 2] {
        let mut least: [Option<(usize, i64)>; 2] = [None, None];
        for (place, (&pods, &nodes)) in self.pods.iter().zip(&self.nodes).enumerate() {
            if nodes == 0 {
                continue;
            }
            if least[0].is_none_or(|(_, fewest)| pods < fewest) {
                least = [Some((place, pods)), least[0]];
            } else if least[1].is_none_or(|(_, fewest)| pods < fewest) {
                least[1] = Some((place, pods));
            }
        }
        least
    }
}

/// How pods carry a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Carry {
    /// They must not be near such pods.
    AntiAffinity,
    /// They must be near such pods.
    Affinity,
    /// They would be near, or far.
    Preference,
}

/// Pods that carry a term, by place: how many, or for preferences the sum of their weights.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) term: AffinityTerm,
    pub(crate) carry: Carry,
    pub(crate) key: KeyId,
    pub(crate) amounts: Vec<i64>,
    /// How many placed pods carry it, anywhere.
    pub(crate) carriers: u32,
}

/// Values by number with a count of users, found by what they are.
#[derive(Debug)]
pub(crate) struct Registry<K, V> {
    by_key: HashMap<K, usize>,
    entries: Vec<Option<(V, u32)>>,
    free: Vec<usize>,
}

impl<K: Eq + Hash, V> Registry<K, V> {
    pub(crate) fn new() -> Self {
        Self { by_key: HashMap::new(), entries: Vec::new(), free: Vec::new() }
    }

    /// The number of what is there already, with one more user.
    pub(crate) fn acquire(&mut self, key: &K) -> Option<usize> {
        let at = *self.by_key.get(key)?;
        if let Some((_, users)) = &mut self.entries[at] {
            *users += 1;
        }
        Some(at)
    }

    /// The number that the next new entry gets.
    pub(crate) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.entries.len())
    }

    /// Something new, with one user.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        let at = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[at] = Some((value, 1));
        self.by_key.insert(key, at);
        at
    }

    /// One user less; the last one gets what is to be taken down.
    pub(crate) fn release(&mut self, at: usize, key: impl FnOnce(&V) -> K) -> Option<V> {
        let (value, users) = self.entries[at].as_mut()?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.by_key.remove(&key(value));
        self.free.push(at);
        self.entries[at].take().map(|(value, _)| value)
    }

    pub(crate) fn get(&self, at: usize) -> &V {
        &self.entries[at].as_ref().expect("a number is only kept by a user").0
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> &mut V {
        &mut self.entries[at].as_mut().expect("a number is only kept by a user").0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &V)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| Some((at, &entry.as_ref()?.0)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().filter_map(|entry| Some(&mut entry.as_mut()?.0))
    }
}
