//! When each `APIService` is looked at next: at once when something changed, soon after a failure, and now and then in any
//! case. Time is handed in; must never let one wait for another.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at one that is well.
pub const PERIOD: Duration = Duration::from_secs(30);
/// After the first failure; twice as long after each more.
const SHORTEST: Duration = Duration::from_millis(5);

/// What comes after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It did not answer, or the answer could not be written: again soon.
    Soon,
    /// All is well, or waits for a change.
    Later,
    /// Only after a change.
    Changed,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Schedule {
    due: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
    running: HashSet<String>,
}

impl Schedule {
    /// Something about this one changed.
    pub fn changed(&mut self, name: &str, now: Instant) {
        self.due.insert(name.to_owned(), now);
    }

    /// This one is gone.
    pub fn gone(&mut self, name: &str) {
        self.due.remove(name);
        self.failures.remove(name);
    }

    /// Those to look at now; each is running until [`Schedule::done`].
    pub fn take(&mut self, now: Instant) -> Vec<String> {
        let due = self.due.iter().filter(|(name, at)| **at <= now && !self.running.contains(*name));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.due.remove(name);
            self.running.insert(name.clone());
        }
        due
    }

    /// A look has ended. A change meanwhile counts more than what it found.
    pub fn done(&mut self, name: &str, next: Next, now: Instant) {
        self.running.remove(name);
        let wait = match next {
            Next::Soon => {
                let failures = self.failures.entry(name.to_owned()).or_default();
                *failures = failures.saturating_add(1);
                let longer = SHORTEST.saturating_mul(1 << (*failures - 1).min(16));
                longer.min(PERIOD)
            }
            Next::Later => {
                self.failures.remove(name);
                PERIOD
            }
            Next::Changed => {
                self.failures.remove(name);
                return;
            }
        };
        self.due.entry(name.to_owned()).or_insert(now + wait);
    }

    /// When there is something to do next, if nothing happens.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due.iter().filter(|(name, _)| !self.running.contains(*name)).map(|(_, at)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_looked_at_again_ever_later() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(), None);
        schedule.changed("a", start);
        let mut waits = Vec::new();
        for _ in 0..16 {
            assert_eq!(schedule.take(schedule.next().unwrap()), ["a"]);
            schedule.done("a", Next::Soon, start);
            waits.push((schedule.next().unwrap() - start).as_millis());
        }
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert_eq!(waits[13..], [30_000, 30_000, 30_000]);
        schedule.take(start + PERIOD);
        schedule.done("a", Next::Later, start);
        assert_eq!(schedule.next(), Some(start + PERIOD));
    }

    #[test]
    fn a_change_during_a_look_is_looked_at_again() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.changed("a", start);
        assert_eq!(schedule.take(start), ["a"]);
        schedule.changed("a", start);
        assert!(schedule.take(start).is_empty());
        assert_eq!(schedule.next(), None);
        schedule.done("a", Next::Later, start);
        assert_eq!(schedule.take(start), ["a"]);
        schedule.done("a", Next::Changed, start);
        assert_eq!(schedule.next(), None);
    }
}
