//! How far a run has come, told each second while it goes on. Must never know what is run.

use std::time::Duration;

use tokio::time::{Instant, interval};

/// Does the work, and tells meanwhile how much of its time is over and how many requests were `sent`.
pub(crate) async fn with_progress<T>(
    work: impl Future<Output = T>,
    sent: impl Fn() -> u64,
    duration: Duration,
    tell: &impl Fn(&str),
) -> T {
    let mut work = std::pin::pin!(work);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    let began = Instant::now();
    loop {
        tokio::select! {
            done = work.as_mut() => return done,
            _ = seconds.tick() => {
                let now = began.elapsed().as_secs_f64().round();
                tell(&format!("{now:>4} of {} s: {} requests", duration.as_secs(), sent()));
            }
        }
    }
}
