//! The time of day, for what is told and for what is judged by it. Intervals are measured by clocks that only grow; this must never
//! be used for them.

use std::time::{Duration, SystemTime};

use barque_api::time::{MicroTime, Time};

/// To the second, as most objects have it.
#[must_use]
pub fn now() -> Time {
    Time::of_unix(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX))
}

/// To the microsecond, as leases and audit events have it.
#[must_use]
pub fn now_micros() -> MicroTime {
    MicroTime::of_unix_micros(i64::try_from(since_epoch().as_micros()).unwrap_or(i64::MAX))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
