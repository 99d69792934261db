//! Places that nodes are in: for every label that a term names, a column with the number of each node's value. Must never
//! know pods.

use std::collections::HashMap;

use crate::label_set::LabelSet;

/// A node without the label.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// The place that is one node, whatever its labels.
pub(crate) const EACH_NODE: KeyId = KeyId(0);

/// A label that makes places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(usize);

#[derive(Debug, Default)]
struct Key {
    name: Box<str>,
    /// The number of each node's value.
    column: Vec<u32>,
    values: HashMap<Box<str>, u32>,
    /// The text and the nodes of each value.
    places: Vec<(Box<str>, u32)>,
    free: Vec<u32>,
    users: u32,
}

impl Key {
    fn enter(&mut self, node: usize, value: Option<&str>) {
        self.column[node] = value.map_or(NOWHERE, |value| {
            let place = self.values.get(value).copied().unwrap_or_else(|| {
                let place = self.free.pop().unwrap_or_else(|| {
                    self.places.push(Default::default());
                    self.places.len() as u32 - 1
                });
                self.places[place as usize] = (value.into(), 0);
                self.values.insert(value.into(), place);
                place
            });
            self.places[place as usize].1 += 1;
            place
        });
    }

    fn leave(&mut self, node: usize) {
        let place = std::mem::replace(&mut self.column[node], NOWHERE);
        if place == NOWHERE {
            return;
        }
        let (value, nodes) = &mut self.places[place as usize];
        *nodes -= 1;
        if *nodes == 0 {
            self.values.remove(value);
            self.free.push(place);
        }
    }
}

/// All labels in use.
#[derive(Debug)]
pub(crate) struct Topology {
    keys: Vec<Key>,
    by_name: HashMap<Box<str>, usize>,
    nodes: usize,
}

impl Topology {
    pub(crate) fn new() -> Self {
        let each_node = Key { users: 1, ..Key::default() };
        Self { keys: vec![each_node], by_name: HashMap::new(), nodes: 0 }
    }

    /// Room for so many nodes.
    pub(crate) fn grow(&mut self, nodes: usize) {
        self.nodes = self.nodes.max(nodes);
        for key in &mut self.keys {
            key.column.resize(self.nodes, NOWHERE);
        }
    }

    /// One more user of a label; a new one asks for the labels of all nodes.
    pub(crate) fn acquire<'a>(
        &mut self,
        name: &str,
        nodes: impl Iterator<Item = (usize, &'a LabelSet)>,
    ) -> KeyId {
        if let Some(&at) = self.by_name.get(name) {
            self.keys[at].users += 1;
            return KeyId(at);
        }
        let at = self.keys.iter().position(|key| key.users == 0).unwrap_or(self.keys.len());
        let mut key =
            Key { name: name.into(), column: vec![NOWHERE; self.nodes], users: 1, ..Key::default() };
        for (node, labels) in nodes {
            key.enter(node, labels.get(name));
        }
        if at == self.keys.len() {
            self.keys.push(key);
        } else {
            self.keys[at] = key;
        }
        self.by_name.insert(name.into(), at);
        KeyId(at)
    }

    /// One user less.
    pub(crate) fn release(&mut self, KeyId(at): KeyId) {
        let key = &mut self.keys[at];
        key.users -= 1;
        if key.users == 0 {
            self.by_name.remove(&key.name);
            *key = Key::default();
        }
    }

    /// A node is there.
    pub(crate) fn enter(&mut self, node: usize, labels: &LabelSet) {
        for key in self.keys.iter_mut().filter(|key| key.users > 0) {
            if key.name.is_empty() {
                key.column[node] = node as u32;
            } else {
                let value = labels.get(&key.name);
                key.enter(node, value);
            }
        }
    }

    /// A node is gone, or about to have other labels.
    pub(crate) fn leave(&mut self, node: usize) {
        for key in self.keys.iter_mut().filter(|key| key.users > 0) {
            if key.name.is_empty() {
                key.column[node] = NOWHERE;
            } else {
                key.leave(node);
            }
        }
    }

    /// The place of each node.
    pub(crate) fn column(&self, KeyId(at): KeyId) -> &[u32] {
        &self.keys[at].column
    }

    /// More than the greatest number of a place.
    pub(crate) fn places(&self, KeyId(at): KeyId) -> usize {
        let key = &self.keys[at];
        if key.name.is_empty() { self.nodes } else { key.places.len() }
    }

    #[cfg(test)]
    pub(crate) fn names(&self, KeyId(at): KeyId, place: usize) -> (&str, &str) {
        let key = &self.keys[at];
        (&key.name, if key.name.is_empty() { "" } else { &key.places[place].0 })
    }
}
