//! The time of day, for what is only told: it may jump, and decides nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time of day. Cloning copies a pointer.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Default for WallClock {
    /// The system's. Before 1970 it is 1970.
    fn default() -> Self {
        Self::told_by(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl WallClock {
    /// A clock that shows the time since 1970 that `tell` answers.
    pub fn told_by(tell: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        i64::try_from((self.0)().as_millis()).unwrap_or(i64::MAX)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
