//! Time: the wall clock and its timers, handed in so that tests have their own; and the arithmetic of moments. Must never
//! decide anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

/// In so much time the clock makes up for one part of it, at most, where the machine's has been set.
const FOLLOWS: u32 = 10;

/// Where the time of day comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Clock {
    /// The machine's; but when that is set, this one follows slowly: a node that sleeps until its lease is due must not sleep for
    /// as long as the clock was put back, nor kill what has hours left when it was put forward.
    #[must_use]
    pub fn system() -> Self {
        let last = Mutex::new((Instant::now(), Timestamp::now()));
        Self(Arc::new(move || {
            let mut last = last.lock();
            let now = Instant::now();
            let told = follow(last.1, now.duration_since(last.0), Timestamp::now());
            *last = (now, told);
            told
        }))
    }

    /// One that runs with tokio's time, which tests can pause.
    #[cfg(test)]
    pub(crate) fn of_tokio(start: Timestamp) -> Self {
        let begun = Instant::now();
        Self(Arc::new(move || after(start, begun.elapsed())))
    }

    /// One that tells what it is told.
    #[cfg(test)]
    pub(crate) fn of(now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self(now)
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Waits for a moment; for ever when there is none.
    pub async fn sleep_until(&self, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => tokio::time::sleep(between(self.now(), moment)).await,
            None => std::future::pending().await,
        }
    }
}

/// What is told, so long after this was told, when the machine says that.
fn follow(before: Timestamp, passed: Duration, machine: Timestamp) -> Timestamp {
    let most = passed / FOLLOWS;
    machine.clamp(after(before, passed.saturating_sub(most)), after(before, passed.saturating_add(most)))
}

/// A moment and so much more.
#[must_use]
pub fn after(moment: Timestamp, more: Duration) -> Timestamp {
    moment.checked_add(more).unwrap_or(Timestamp::MAX)
}

/// How long it is from one moment to a later one; nothing when it is not later.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// As objects tell it, in whole seconds.
#[must_use]
pub fn told(moment: Timestamp) -> Time {
    Time(Timestamp::from_second(moment.as_second()).unwrap_or(moment))
}

/// The sooner of two moments, where one may be missing.
#[must_use]
pub fn sooner(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_followed_slowly_and_no_interval_is_far_off() {
        let second = |second: i64| Timestamp::from_second(second).unwrap();
        let ten = Duration::from_secs(10);
        assert_eq!(follow(second(100_000), ten, second(100_010)), second(100_010));
        assert_eq!(follow(second(100_000), ten, second(107_210)), second(100_011), "two hours forward");
        assert_eq!(follow(second(100_000), ten, second(92_810)), second(100_009), "two hours back");
        // After twenty hours it has made up for two.
        let (mut told, mut machine) = (second(100_000), second(92_800));
        for _ in 0..20 * 360 {
            machine = after(machine, ten);
            let next = follow(told, ten, machine);
            assert!(next > told, "it never stands still");
            told = next;
        }
        assert_eq!(told, machine);
        // What was told is never taken back, however often it is asked.
        assert_eq!(follow(told, Duration::ZERO, second(0)), told);
    }
}
