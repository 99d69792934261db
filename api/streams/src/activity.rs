//! When something last moved on a connection, for the limit on silence. Must never close anything itself.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Notes when something last moved, for the limit on silence.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    /// Something moves now.
    #[must_use]
    pub fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// Something moves.
    pub fn moves(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Returns when nothing has moved for so long.
    pub async fn silent_for(&self, limit: Duration) {
        loop {
            let until = *self.0.lock() + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
