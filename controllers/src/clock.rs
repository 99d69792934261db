//! A clock that only grows, for controllers that must know how long ago they saw something. Must never be compared with times
//! that objects tell: those are of other machines.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// A clock that only grows, from any moment; clones are the same clock.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// The process's own.
    #[must_use]
    pub(crate) fn monotonic() -> Self {
        let start = Instant::now();
        Self::new(move || start.elapsed())
    }

    /// One that goes by this function.
    pub(crate) fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// How long it has been going.
    #[must_use]
    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}
