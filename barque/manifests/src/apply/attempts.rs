//! When a file is tried, and tried again. Pure: time is handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::published::Published;

/// The wait after the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// What became of attempts, by the names of Secrets.
#[derive(Debug, Default)]
pub(crate) struct Attempts(BTreeMap<String, Attempt>);

#[derive(Debug)]
struct Attempt {
    /// What was tried.
    what: What,
    outcome: Outcome,
}

/// What makes an attempt another one, which is due at once.
#[derive(Debug, PartialEq, Eq)]
struct What {
    uid: String,
    checksum: Option<String>,
    is_going: bool,
}

#[derive(Debug)]
enum Outcome {
    Failed {
        times: u32,
        due: Duration,
    },
    /// It was written that all was done, over this version, or somebody else wrote over it: a newer one will be seen.
    Written {
        over: String,
    },
}

impl What {
    fn of(published: &Published) -> Self {
        Self {
            uid: published.uid.clone(),
            checksum: published.checksum().map(str::to_owned),
            is_going: published.is_going,
        }
    }
}

impl Attempts {
    /// Whether it is tried now.
    pub(crate) fn is_due(&self, published: &Published, now: Duration) -> bool {
        let last = self.0.get(&published.name).filter(|last| last.what == What::of(published));
        last.is_none_or(|last| match &last.outcome {
            Outcome::Failed { due, .. } => *due <= now,
            Outcome::Written { over } => *over != published.version,
        })
    }

    /// It failed.
    pub(crate) fn failed(&mut self, published: &Published, now: Duration) {
        let what = What::of(published);
        let last = self.0.get(&published.name).filter(|last| last.what == what);
        let times = match last.map(|last| &last.outcome) {
            Some(Outcome::Failed { times, .. }) => times + 1,
            _ => 1,
        };
        let wait = FIRST.saturating_mul(1 << (times - 1).min(16)).min(LONGEST);
        let outcome = Outcome::Failed { times, due: now + wait };
        self.0.insert(published.name.clone(), Attempt { what, outcome });
    }

    /// The outcome was written, by this process or another one.
    pub(crate) fn written(&mut self, published: &Published) {
        let outcome = Outcome::Written { over: published.version.clone() };
        self.0.insert(published.name.clone(), Attempt { what: What::of(published), outcome });
    }

    /// Nothing is left to be done.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Only these are there.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }

    /// When something is tried again that failed.
    pub(crate) fn next(&self) -> Option<Duration> {
        let due = |attempt: &Attempt| match attempt.outcome {
            Outcome::Failed { due, .. } => Some(due),
            Outcome::Written { .. } => None,
        };
        self.0.values().filter_map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Content;
    use crate::published::{packed, secret};

    fn published(text: &str, version: &str) -> Published {
        let packed = packed(&Content::of(text.as_bytes().to_vec())).unwrap();
        let mut published = Published::read(secret("a.yaml", packed, &BTreeMap::new())).unwrap();
        published.version = version.to_owned();
        published
    }

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_fails_waits_longer_each_time_until_it_is_another() {
        let (mut attempts, file) = (Attempts::default(), published("v1", "1"));
        assert!(attempts.is_due(&file, seconds(0)) && attempts.next().is_none());
        let mut now = seconds(10);
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            attempts.failed(&file, now);
            assert_eq!(attempts.next(), Some(now + seconds(wait)));
            // That a failure is written makes another version, and no other attempt.
            assert!(!attempts.is_due(&published("v1", "2"), now + seconds(wait - 1)));
            now += seconds(wait);
            assert!(attempts.is_due(&file, now));
        }
        assert!(attempts.is_due(&published("v2", "3"), seconds(0)));
        attempts.failed(&published("v2", "3"), now);
        assert_eq!(attempts.next(), Some(now + seconds(1)));
        attempts.retain(|_| false);
        assert_eq!(attempts.next(), None);
    }

    #[test]
    fn what_was_written_is_awaited() {
        let mut attempts = Attempts::default();
        attempts.written(&published("v1", "1"));
        assert!(!attempts.is_due(&published("v1", "1"), seconds(1000)) && attempts.next().is_none());
        assert!(attempts.is_due(&published("v1", "2"), seconds(0)));
    }
}
