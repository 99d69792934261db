//! The queue of keys that one controller's workers take from. Must never hand one key to two workers, or lose one.

mod limits;
mod state;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::kind::Key;
use crate::metrics::QueueMetrics;
use state::State;

/// Keys of one controller; clones share it.
#[derive(Clone)]
pub(crate) struct WorkQueue {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
    metrics: QueueMetrics,
}

/// A clock that only grows, from any moment.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

impl WorkQueue {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(metrics: QueueMetrics) -> Self {
        let start = Instant::now();
        Self::with_clock(metrics, Box::new(move || start.elapsed()))
    }

    /// One that goes by this clock.
    pub(crate) fn with_clock(metrics: QueueMetrics, clock: Clock) -> Self {
        let inner = Inner { state: Mutex::default(), changed: Notify::new(), clock, metrics };
        Self { inner: Arc::new(inner) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = (self.inner.clock)();
        let mut state = self.inner.state.lock();
        let before = state.adds();
        let result = change(&mut state, now);
        self.inner.metrics.adds.inc_by(state.adds() - before);
        self.inner.metrics.depth.set(i64::try_from(state.depth()).unwrap_or(i64::MAX));
        drop(state);
        self.inner.changed.notify_one();
        result
    }

    /// It is to be looked at.
    pub(crate) fn add(&self, key: Key) {
        self.change(|state, now| state.add(key, now));
    }

    /// It is to be looked at by then; an earlier time for it stays.
    pub(crate) fn add_after(&self, key: Key, delay: Duration) {
        self.change(|state, now| state.add_after(key, now, delay));
    }

    /// Looking at it failed: again, the later the more often it did.
    pub(crate) fn retry(&self, key: Key) {
        self.inner.metrics.retries.inc();
        self.change(|state, now| state.retry(key, now));
    }

    /// Looking at it went well: the next failure is the first.
    pub(crate) fn forget(&self, key: &Key) {
        self.change(|state, _| state.forget(key));
    }

    /// Who took it is done. If it was added meanwhile, it is taken again.
    pub(crate) fn done(&self, key: &Key) {
        let worked = self.change(|state, now| state.done(key, now));
        if let Some(worked) = worked {
            self.inner.metrics.work_seconds.observe(worked.as_secs_f64());
        }
    }

    /// The next key, if there is one now; nobody else gets it before [`done`](Self::done). If there is none, for how long not,
    /// unless one is added.
    pub(crate) fn try_take(&self) -> Result<Key, Option<Duration>> {
        let now = (self.inner.clock)();
        let mut state = self.inner.state.lock();
        let before = state.adds();
        let taken = state.take(now);
        self.inner.metrics.adds.inc_by(state.adds() - before);
        self.inner.metrics.depth.set(i64::try_from(state.depth()).unwrap_or(i64::MAX));
        let Some((key, waited)) = taken else {
            return Err(state.next_timer().map(|at| at.saturating_sub(now)));
        };
        if state.depth() > 0 {
            // One change wakes one worker; this one is busy now.
            self.inner.changed.notify_one();
        }
        self.inner.metrics.queue_seconds.observe(waited.as_secs_f64());
        Ok(key)
    }

    /// The next key; nobody else gets it before [`done`](Self::done).
    pub(crate) async fn take(&self) -> Key {
        loop {
            let changed = self.inner.changed.notified();
            match self.try_take() {
                Ok(key) => return key,
                Err(Some(wait)) => tokio::select! {
                    () = changed => {}
                    () = sleep(wait) => {}
                },
                Err(None) => changed.await,
            }
        }
    }
}

#[cfg(test)]
mod tests;
