//! How long something did not succeed: the longest time between two successes. Must never decide what a success is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What is known of successes so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gaps {
    /// How many there were.
    pub(crate) successes: u64,
    /// How often it failed.
    pub(crate) failures: u64,
    /// The longest time without one.
    pub(crate) longest: Duration,
    last: Instant,
}

/// Who tells of successes.
pub(crate) struct Meter(Arc<watch::Sender<Gaps>>);

/// Who asks.
pub(crate) struct Reader(Arc<watch::Sender<Gaps>>);

/// Begins now.
pub(crate) fn begin() -> (Meter, Reader) {
    let (sender, _) =
        watch::channel(Gaps { successes: 0, failures: 0, longest: Duration::ZERO, last: Instant::now() });
    let sender = Arc::new(sender);
    (Meter(Arc::clone(&sender)), Reader(sender))
}

impl Meter {
    /// It went well.
    pub(crate) fn success(&self) {
        let now = Instant::now();
        self.0.send_modify(|gaps| {
            gaps.successes += 1;
            gaps.longest = gaps.longest.max(now - gaps.last);
            gaps.last = now;
        });
    }

    /// It did not.
    pub(crate) fn failure(&self) {
        self.0.send_modify(|gaps| gaps.failures += 1);
    }
}

impl Reader {
    /// What is known now.
    pub(crate) fn now(&self) -> Gaps {
        *self.0.borrow()
    }

    /// The longest time without a success, until now if there is none.
    pub(crate) fn longest(&self) -> Duration {
        let now = self.now();
        now.longest.max(now.last.elapsed())
    }

    /// The longest time is counted anew from here.
    pub(crate) fn forget(&self) {
        self.0.send_modify(|gaps| (gaps.longest, gaps.last) = (Duration::ZERO, Instant::now()));
    }

    /// Waits for so many more successes.
    pub(crate) async fn more(&self, count: u64) {
        let until = self.now().successes + count;
        let _ = self.0.subscribe().wait_for(|gaps| gaps.successes >= until).await;
    }
}
