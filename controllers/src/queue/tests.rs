//! The queue under several workers.

use tokio_util::task::TaskTracker;

use super::*;
use crate::metrics::Metrics;

fn key(name: &str) -> Key {
    Key::new("ns", name)
}

fn queue() -> WorkQueue {
    WorkQueue::new(Metrics::new().queue("test"))
}

#[tokio::test(start_paused = true)]
async fn a_delayed_key_comes_when_it_is_due() {
    let queue = queue();
    queue.add_after(key("a"), Duration::from_secs(5));
    let before = Instant::now();
    assert_eq!(queue.take().await, key("a"));
    assert_eq!(before.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn workers_that_sleep_wake_for_every_key() {
    let queue = queue();
    let tasks = TaskTracker::new();
    let (send, mut taken) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..3 {
        let (queue, send) = (queue.clone(), send.clone());
        tasks.spawn(async move {
            // Is never done: each worker takes one.
            send.send(queue.take().await).unwrap();
            std::future::pending::<()>().await;
        });
    }
    tokio::task::yield_now().await;
    for name in ["a", "b", "c"] {
        queue.add(key(name));
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(taken.recv().await.unwrap().name);
    }
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
}
