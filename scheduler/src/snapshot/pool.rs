//! Values that many pods share, kept once. Must never keep one that nobody holds any more beyond the next sweep.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A shared value with its number.
#[derive(Debug)]
pub struct Shared<T> {
    /// Never used again for another value.
    id: u64,
    /// Used again after the value is gone: an index for what is kept beside it.
    slot: usize,
    value: T,
}

impl<T> Shared<T> {
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(crate) const fn slot(&self) -> usize {
        self.slot
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[derive(Debug)]
struct ByValue<T>(Arc<Shared<T>>);

impl<T: PartialEq> PartialEq for ByValue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl<T: Eq> Eq for ByValue<T> {}

impl<T: Hash> Hash for ByValue<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.value.hash(state);
    }
}

impl<T> Borrow<T> for ByValue<T> {
    fn borrow(&self) -> &T {
        &self.0.value
    }
}

/// The pool of one type.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    values: HashSet<ByValue<T>>,
    free: Vec<usize>,
    next_id: u64,
    next_slot: usize,
    sweep_at: usize,
}

/// Fewer values than these are not worth a sweep.
const SMALL: usize = 256;

impl<T: Eq + Hash> Pool<T> {
    pub(crate) fn new() -> Self {
        Self { values: HashSet::new(), free: Vec::new(), next_id: 0, next_slot: 0, sweep_at: SMALL }
    }

    /// The shared value that equals this one, and whether it is new.
    pub(crate) fn share(&mut self, value: T) -> (Arc<Shared<T>>, bool) {
        if let Some(known) = self.values.get(&value) {
            return (known.0.clone(), false);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        self.next_id += 1;
        let shared = Arc::new(Shared { id: self.next_id, slot, value });
        self.values.insert(ByValue(shared.clone()));
        (shared, true)
    }

    /// Whether so many values came that a sweep pays.
    pub(crate) fn wants_sweep(&self) -> bool {
        self.values.len() >= self.sweep_at
    }

    /// Lets go of the values that nobody holds, and tells their slots.
    pub(crate) fn sweep(&mut self) -> Vec<usize> {
        let mut gone = Vec::new();
        self.values.retain(|value| {
            let held = Arc::strong_count(&value.0) > 1;
            if !held {
                gone.push(value.0.slot);
            }
            held
        });
        self.free.extend(&gone);
        self.sweep_at = (self.values.len() * 2).max(SMALL);
        gone
    }

    /// All values that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Shared<T>>> {
        self.values.iter().map(|value| &value.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_those_that_nobody_holds_go() {
        let mut pool = Pool::new();
        let (a, new) = pool.share("a");
        assert!(new && Arc::ptr_eq(&a, &pool.share("a").0));
        let (slot, id) = (pool.share("b").0.slot(), pool.share("b").0.id());
        assert_eq!(pool.sweep(), [slot]);
        let (again, new) = pool.share("b");
        assert!(new && again.slot() == slot && again.id() != id);
        assert!(pool.share("a").0.id() == a.id());
    }
}
