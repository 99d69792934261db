//! Where work that would hold up other tasks is done: on threads kept for that, unless the owner of a member says
//! otherwise. Knows nothing of the work.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

/// Something to do that takes the thread for a while.
pub type Work = Box<dyn FnOnce() + Send>;

/// Does work that blocks. Cloning copies a pointer.
#[derive(Clone)]
pub struct Blocking(Arc<dyn Fn(Work) + Send + Sync>);

/// Work panicked, or the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work on a thread of its own did not come to its end")]
pub struct Unfinished;

impl Default for Blocking {
    /// On the threads that tokio keeps for it.
    fn default() -> Self {
        Self::on(|work| drop(tokio::task::spawn_blocking(work)))
    }
}

impl Blocking {
    /// Has work done by `place`, now or later.
    pub fn on(place: impl Fn(Work) + Send + Sync + 'static) -> Self {
        Self(Arc::new(place))
    }

    /// Does `work` and waits for its result. Dropping the future leaves the work to its end.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (tx, rx) = oneshot::channel();
        // Nobody may be waiting any more.
        (self.0)(Box::new(move || drop(tx.send(work()))));
        rx.await.map_err(|_| Unfinished)
    }
}

impl fmt::Debug for Blocking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blocking")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_where_it_shall_be() {
        let here = std::thread::current().id();
        let elsewhere = Blocking::default().run(|| std::thread::current().id()).await.unwrap();
        assert_ne!(elsewhere, here);
        let in_place = Blocking::on(|work| work());
        assert_eq!(in_place.run(|| std::thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test]
    async fn work_that_panics_is_told() {
        let panicked = Blocking::default().run(|| assert_eq!(1 + 1, 3)).await;
        assert_eq!(panicked, Err(Unfinished));
        assert_eq!(Blocking::on(drop).run(|| 1).await, Err(Unfinished), "nobody does it");
    }
}
