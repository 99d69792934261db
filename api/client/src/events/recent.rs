//! A bounded map that forgets what was not used for the longest time. A data structure; must never know what it holds.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// At most so many entries.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    uses: u64,
    entries: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    /// An empty one.
    pub(super) fn new(most: usize) -> Self {
        Self { most, uses: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// The entry of a key, which counts as used; made when there is none.
    pub(super) fn entry(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        let now = self.uses;
        if let Some((used, _)) = self.entries.get_mut(key) {
            self.by_use.remove(used);
            *used = now;
        } else {
            if self.entries.len() >= self.most
                && let Some((_, oldest)) = self.by_use.pop_first()
            {
                self.entries.remove(&oldest);
            }
            self.entries.insert(key.clone(), (now, make()));
        }
        self.by_use.insert(now, key.clone());
        let (_, value) = self.entries.get_mut(key).expect("it was there or has just been inserted");
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_the_longest_time_is_forgotten() {
        let mut recent = Recent::new(2);
        *recent.entry(&"a", || 0) += 1;
        *recent.entry(&"b", || 0) += 1;
        *recent.entry(&"a", || 0) += 1;
        recent.entry(&"c", || 0);
        assert_eq!(*recent.entry(&"a", || 0), 2);
        assert_eq!(*recent.entry(&"b", || 0), 0, "it was forgotten");
        assert_eq!((recent.entries.len(), recent.by_use.len()), (2, 2));
    }
}
