//! What waits, who is worked on, and when who is due: a state machine. Time is handed in; must never wait.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::limits::Limits;
use crate::kind::Key;

/// Keys that wait, are worked on, or are due later.
#[derive(Debug, Default)]
pub(super) struct State {
    waiting: VecDeque<Key>,
    /// When who is to be looked at was added. Of these, who is not worked on is in `waiting`.
    dirty: HashMap<Key, Duration>,
    /// When who is worked on was taken.
    working: HashMap<Key, Duration>,
    due: BTreeSet<(Duration, Key)>,
    due_of: HashMap<Key, Duration>,
    limits: Limits,
    adds: u64,
}

impl State {
    /// It is to be looked at.
    pub(super) fn add(&mut self, key: Key, now: Duration) {
        if self.dirty.contains_key(&key) {
            return;
        }
        self.adds += 1;
        self.dirty.insert(key.clone(), now);
        if !self.working.contains_key(&key) {
            self.waiting.push_back(key);
        }
    }

    /// It is to be looked at by then, if not earlier.
    pub(super) fn add_after(&mut self, key: Key, now: Duration, delay: Duration) {
        if delay.is_zero() {
            return self.add(key, now);
        }
        let at = now.saturating_add(delay);
        match self.due_of.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.due.remove(&(*later, key.clone()));
            }
            None => {}
        }
        self.due_of.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// It failed.
    pub(super) fn retry(&mut self, key: Key, now: Duration) {
        let wait = self.limits.failed(&key, now);
        self.add_after(key, now, wait);
    }

    /// It went well.
    pub(super) fn forget(&mut self, key: &Key) {
        self.limits.forget(key);
    }

    /// The next one, and for how long it waited.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Key, Duration)> {
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, key)) = self.due.pop_first()
        {
            self.due_of.remove(&key);
            self.add(key, now);
        }
        let key = self.waiting.pop_front()?;
        let added = self.dirty.remove(&key).unwrap_or(now);
        self.working.insert(key.clone(), now);
        Some((key, now.saturating_sub(added)))
    }

    /// Who took it is done; how long that took.
    pub(super) fn done(&mut self, key: &Key, now: Duration) -> Option<Duration> {
        let taken = self.working.remove(key)?;
        if self.dirty.contains_key(key) {
            self.waiting.push_back(key.clone());
        }
        Some(now.saturating_sub(taken))
    }

    /// When the next one is due.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many wait.
    pub(super) fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// How many were added, those that were there already not counted.
    pub(super) fn adds(&self) -> u64 {
        self.adds
    }

    /// Holds between all calls.
    #[cfg(test)]
    fn check(&self) {
        let waiting: std::collections::HashSet<_> = self.waiting.iter().collect();
        assert_eq!(waiting.len(), self.waiting.len(), "a key waits twice");
        for key in &self.waiting {
            assert!(self.dirty.contains_key(key) && !self.working.contains_key(key), "{key}");
        }
        for key in self.dirty.keys() {
            assert!(waiting.contains(key) || self.working.contains_key(key), "{key} is lost");
        }
        assert_eq!(self.due.len(), self.due_of.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Key {
        Key::new("ns", &number.to_string())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_that_is_added_while_it_is_worked_on_comes_again_after_that() {
        let mut state = State::default();
        state.add(key(1), at(0));
        state.add(key(1), at(0));
        assert_eq!(state.take(at(2)), Some((key(1), at(2))));
        state.add(key(1), at(3));
        assert_eq!(state.take(at(3)), None, "nobody else may have it");
        assert_eq!(state.done(&key(1), at(5)), Some(at(3)));
        assert_eq!(state.take(at(6)), Some((key(1), at(3))));
        state.done(&key(1), at(6));
        assert_eq!(state.take(at(7)), None);
    }

    #[test]
    fn the_earliest_of_several_times_counts() {
        let mut state = State::default();
        state.add_after(key(1), at(0), at(10));
        state.add_after(key(1), at(0), at(5));
        state.add_after(key(1), at(0), at(7));
        assert_eq!(state.next_timer(), Some(at(5)));
        assert_eq!(state.take(at(5)), Some((key(1), at(0))));
        assert_eq!(state.next_timer(), None);
    }

    proptest! {
        #[test]
        fn every_key_that_was_added_is_taken_and_none_by_two(
            steps in prop::collection::vec((0u8..6, 0u8..4), 1..200)
        ) {
            let mut state = State::default();
            let (mut now, mut owed, mut working) = (at(0), HashSet::new(), HashSet::new());
            for (step, number) in steps {
                now += at(1);
                match step {
                    0 | 1 => {
                        state.add(key(number), now);
                        owed.insert(key(number));
                    }
                    2 => {
                        state.add_after(key(number), now, at(u64::from(number)));
                        owed.insert(key(number));
                    }
                    3 => {
                        if let Some((taken, _)) = state.take(now) {
                            prop_assert!(working.insert(taken.clone()));
                            owed.remove(&taken);
                        }
                    }
                    _ => {
                        let was = working.remove(&key(number));
                        prop_assert_eq!(state.done(&key(number), now).is_some(), was);
                    }
                }
                state.check();
            }
            for key in working {
                state.done(&key, now);
            }
            while let Some((taken, _)) = state.take(now + at(10)) {
                owed.remove(&taken);
                state.done(&taken, now + at(10));
                state.check();
            }
            prop_assert!(owed.is_empty(), "{owed:?}");
        }
    }
}
