//! How often an issuer is asked for its keys: a few times at once, then at most once in a while, whatever tokens come. Must
//! never be reset by what a client sends.

use std::time::Duration;

use tokio::time::Instant;

/// So many times at once.
pub(super) const BURST: u32 = 5;
/// And once more after each of these.
const EACH: Duration = Duration::from_secs(10);

/// A bucket that fills with time.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    /// Up to when it was filled.
    filled: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now }
    }

    /// Whether it may be done once more.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.saturating_duration_since(self.filled) >= EACH {
            self.left += 1;
            self.filled += EACH;
        }
        if self.left == BURST {
            self.filled = now;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_and_then_one_after_another() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let at = |s: u64| begin + Duration::from_secs(s);
        let taken = (0..9).filter(|_| pace.take(at(0))).count();
        assert_eq!(taken, 5);
        assert_eq!(
            [9, 10, 11, 19, 20, 21].map(|s| pace.take(at(s))),
            [false, true, false, false, true, false]
        );
        let taken = (0..9).filter(|_| pace.take(at(1000))).count();
        assert_eq!(taken, 5);
    }
}
