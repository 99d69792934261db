//! The most frequent of many things in little memory: the "space-saving" sketch (Metwally, Agrawal, El Abbadi
//! 2005). Pure.
//!
//! It follows at most `capacity` things. One that is not followed takes the place of the least frequent, and its
//! count with it. So a count is never too low for what is followed, too high by at most `overcount`, and whatever
//! happened more often than one in `capacity` times is followed for sure.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Adds up what is counted beside the frequency.
pub trait Tally: Copy + Default {
    /// Adds another tally.
    fn add(&mut self, other: Self);
}

/// One thing that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed<K, T> {
    /// What.
    pub item: K,
    /// How often it happened, with up to `overcount` too much.
    pub count: u64,
    /// The count that it took over.
    pub overcount: u64,
    /// What was tallied since it is followed: not too much, but maybe too little.
    pub tally: T,
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Sketch<K, T> {
    capacity: usize,
    places: HashMap<K, usize>,
    followed: Vec<Followed<K, T>>,
    /// Count and place of everything that is followed, the least frequent first.
    order: BTreeSet<(u64, usize)>,
}

impl<K: Clone + Eq + Hash, T: Tally> Sketch<K, T> {
    /// Follows at most `capacity` things, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            places: HashMap::new(),
            followed: Vec::new(),
            order: BTreeSet::new(),
        }
    }

    /// Counts `times` more of `item`, which is cloned only when it was not followed.
    pub fn add<Q>(&mut self, item: &Q, own: impl FnOnce(&Q) -> K, times: u64, tally: T)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let place = match self.places.get(item) {
            Some(&place) => place,
            None if self.followed.len() < self.capacity => {
                let place = self.followed.len();
                let own = own(item);
                self.places.insert(own.clone(), place);
                self.followed.push(Followed { item: own, count: 0, overcount: 0, tally: T::default() });
                self.order.insert((0, place));
                place
            }
            None => {
                let Some(&(count, place)) = self.order.first() else { return };
                let own = own(item);
                self.places.remove::<K>(&self.followed[place].item);
                self.places.insert(own.clone(), place);
                self.followed[place] = Followed { item: own, count, overcount: count, tally: T::default() };
                place
            }
        };
        let followed = &mut self.followed[place];
        self.order.remove(&(followed.count, place));
        followed.count += times;
        followed.tally.add(tally);
        self.order.insert((followed.count, place));
    }

    /// The most frequent ones, at most `top`, the most frequent first; and forgets everything.
    pub fn take_top(&mut self, top: usize) -> Vec<Followed<K, T>> {
        let places: Vec<usize> = self.order.iter().rev().take(top).map(|&(_, place)| place).collect();
        let found = places.into_iter().map(|place| self.followed[place].clone()).collect();
        self.places.clear();
        self.followed.clear();
        self.order.clear();
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Tally for u64 {
        fn add(&mut self, other: Self) {
            *self += other;
        }
    }

    fn sketch(capacity: usize, stream: &[(u8, u64)]) -> Sketch<u8, u64> {
        let mut sketch = Sketch::new(capacity);
        for (item, times) in stream {
            sketch.add(item, |item| *item, *times, *times);
        }
        sketch
    }

    #[test]
    fn few_things_are_counted_exactly_and_in_order() {
        let mut sketch = sketch(4, &[(1, 2), (2, 5), (1, 1), (3, 1)]);
        let top = sketch.take_top(2);
        let followed = |item, count| Followed { item, count, overcount: 0, tally: count };
        assert_eq!(top, [followed(2, 5), followed(1, 3)]);
        assert!(sketch.take_top(9).is_empty(), "it forgets what it told");
    }

    proptest! {
        #[test]
        fn the_bounds_hold(
            capacity in 1usize..20,
            stream in prop::collection::vec((0u8..40, 1u64..5), 0..300),
        ) {
            let mut truth: HashMap<u8, u64> = HashMap::new();
            for (item, times) in &stream {
                *truth.entry(*item).or_default() += times;
            }
            let total: u64 = truth.values().sum();
            let top = sketch(capacity, &stream).take_top(usize::MAX);
            prop_assert!(top.len() <= capacity);
            prop_assert_eq!(top.iter().map(|found| found.count).sum::<u64>(), total);
            prop_assert!(top.is_sorted_by(|a, b| a.count >= b.count));
            for found in &top {
                let exact = truth[&found.item];
                prop_assert!(found.count - found.overcount <= exact && exact <= found.count);
                prop_assert!(found.overcount <= total / capacity as u64);
                prop_assert!(found.tally <= exact && exact <= found.tally + found.overcount);
            }
            for (item, exact) in truth {
                if exact > total / capacity as u64 {
                    prop_assert!(top.iter().any(|found| found.item == item), "{} is missing", item);
                }
            }
        }
    }
}
