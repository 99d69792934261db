//! Polls a connection only when its worker has nothing else to do.
//!
//! Answers become ready in bursts: one applied batch, or one confirmed round of reads, wakes many requests of a
//! connection. Each wakes the connection in turn, which would write each answer with a system call of its own.
//! Held back until the other ready tasks have run, it writes all of them with one. tokio runs what yielded when
//! nothing else is ready, and after some dozens of tasks in any case, so nobody starves.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// A future that lets other ready tasks go first each time it is woken.
pub(super) struct Gather<F> {
    inner: F,
    /// Waits for its turn: further wake-ups change nothing.
    waiting: bool,
    turn: Arc<Turn>,
    turn_waker: Waker,
}

/// Woken by the runtime when the other tasks have run.
#[derive(Default)]
struct Turn {
    came: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.came.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Gather<F> {
    pub(super) fn new(inner: F) -> Self {
        let turn = Arc::new(Turn::default());
        Self { inner, waiting: false, turn_waker: Waker::from(Arc::clone(&turn)), turn }
    }

    /// The future inside, to tell it something; it is polled soon afterwards by who holds this one.
    pub(super) fn inner(&mut self) -> &mut F {
        &mut self.inner
    }
}

impl<F: Future + Unpin> Future for Gather<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.waiting {
            this.waiting = true;
            this.turn.task.register(cx.waker());
            // Its first poll asks the runtime to wake when the others have run, and that is all it is for.
            let asked = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&this.turn_waker));
            debug_assert!(asked.is_pending());
        }
        if !this.turn.came.swap(false, Ordering::AcqRel) {
            // Only a task that moved into another future has a new waker.
            this.turn.task.register(cx.waker());
            if !this.turn.came.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
        }
        this.waiting = false;
        Pin::new(&mut this.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn everything_ready_goes_first_and_wakes_once() {
        let polls = Arc::new(AtomicUsize::new(0));
        let (tx, mut rx) = mpsc::unbounded_channel();
        let counted = Arc::clone(&polls);
        let mut seen = Vec::new();
        let gather = Gather::new(Box::pin(std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            while let Poll::Ready(next) = rx.poll_recv(cx) {
                match next {
                    Some(number) => seen.push(number),
                    None => return Poll::Ready(std::mem::take(&mut seen)),
                }
            }
            Poll::Pending
        })));
        let gathered = tokio::spawn(gather);
        let senders: Vec<_> = (0..20)
            .map(|number| {
                let tx = tx.clone();
                tokio::spawn(async move { tx.send(number).is_ok() })
            })
            .collect();
        drop(tx);
        for sender in senders {
            assert!(sender.await.unwrap());
        }
        assert_eq!(gathered.await.unwrap(), (0..20).collect::<Vec<_>>());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }
}
