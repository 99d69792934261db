//! How long a key that failed waits: upstream's default, the longer of a back-off of its own and a bucket for all. A decision;
//! time is handed in.

use std::collections::HashMap;
use std::time::Duration;

use crate::kind::Key;

/// The wait after the first failure; it doubles.
const BASE: Duration = Duration::from_millis(5);
/// The longest wait of one key.
const MOST: Duration = Duration::from_secs(1000);
/// Retries of all keys together, a second.
const RATE: f64 = 10.0;
/// Retries at once.
const BURST: f64 = 100.0;

/// What failed how often.
#[derive(Debug)]
pub(super) struct Limits {
    failures: HashMap<Key, u32>,
    /// Below zero when later retries are promised already.
    tokens: f64,
    filled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { failures: HashMap::new(), tokens: BURST, filled: Duration::ZERO }
    }
}

impl Limits {
    /// It failed once more; how long it waits.
    pub(super) fn failed(&mut self, key: &Key, now: Duration) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        // 2^18 times the base is longer than the longest.
        let own = BASE.saturating_mul(1 << (*failures).min(18)).min(MOST);
        *failures = failures.saturating_add(1);
        own.max(self.reserve(now))
    }

    fn reserve(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.filled);
        self.filled = now;
        self.tokens = (self.tokens + passed.as_secs_f64() * RATE).min(BURST) - 1.0;
        Duration::from_secs_f64((-self.tokens / RATE).max(0.0))
    }

    /// It went well.
    pub(super) fn forget(&mut self, key: &Key) {
        self.failures.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_longest() {
        let mut limits = Limits::default();
        let key = Key::new("ns", "a");
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..20 {
            let wait = limits.failed(&key, now);
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert_eq!(waits[17..], [655_360, 1_000_000, 1_000_000]);
        limits.forget(&key);
        assert_eq!(limits.failed(&key, now).as_millis(), 5);
    }

    #[test]
    fn all_keys_together_have_ten_a_second_after_the_first_hundred() {
        let mut limits = Limits::default();
        let waits: Vec<_> = (0..103)
            .map(|number| limits.failed(&Key::new("ns", &number.to_string()), Duration::ZERO).as_millis())
            .collect();
        assert!(waits[..100].iter().all(|wait| *wait == 5));
        assert_eq!(waits[100..], [100, 200, 300]);
    }
}
