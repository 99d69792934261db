//! Waiting for another process: the one place where something is asked again and again.
//!
//! A process of its own gives no event for "ready" or "leader elected". Whatever does give one (an exit, an
//! answer, a watch event) must be awaited instead.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// How long a cluster may take to reach a state that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two questions.
const INTERVAL: Duration = Duration::from_millis(20);

/// What was waited for did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not come true within {patience:?}; last answer: {last}")]
pub struct TooLate {
    what: String,
    patience: Duration,
    last: String,
}

/// Asks `question` until it answers `Ok`, and returns that; after `patience` the last `Err` is reported.
pub async fn eventually<T, E, Q, F>(what: &str, patience: Duration, mut question: Q) -> Result<T, TooLate>
where
    Q: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let deadline = Instant::now() + patience;
    let mut last = "none".to_owned();
    loop {
        match timeout_at(deadline, question()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(why)) => last = why.to_string(),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(TooLate { what: what.to_owned(), patience, last });
        }
        sleep(INTERVAL).await;
    }
}
