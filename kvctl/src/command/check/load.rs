//! The writes of `kvctl check`: many clients, each with a connection of its own and one write at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barque_proto::etcdserverpb::PutRequest;
use bytes::Bytes;
use rand::Rng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connection::Connection;
use crate::error::Failure;

/// How often permits for writes are given out at a fixed rate.
const TICK: Duration = Duration::from_millis(10);

/// What is written.
pub(super) struct Load<'a> {
    pub(super) clients: usize,
    pub(super) pace: Pace,
    pub(super) prefix: &'a str,
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
}

/// How much is written, and how fast.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    Rate { per_s: u32, duration: Duration },
    Count(u64),
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Measured {
    count: u64,
    sum_s: f64,
    squares: f64,
    pub(super) slowest_s: f64,
    pub(super) elapsed_s: f64,
    pub(super) errors: BTreeMap<String, u64>,
}

impl Measured {
    pub(super) fn add(&mut self, done: Result<(), Failure>, took_s: f64) {
        match done {
            Ok(()) => {
                self.count += 1;
                self.sum_s += took_s;
                self.squares += took_s * took_s;
                self.slowest_s = self.slowest_s.max(took_s);
            }
            Err(failure) => *self.errors.entry(failure.to_string()).or_default() += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum_s += other.sum_s;
        self.squares += other.squares;
        self.slowest_s = self.slowest_s.max(other.slowest_s);
        for (why, count) in other.errors {
            *self.errors.entry(why).or_default() += count;
        }
    }

    pub(super) fn per_s(&self) -> f64 {
        if self.elapsed_s > 0.0 { self.count as f64 / self.elapsed_s } else { 0.0 }
    }

    pub(super) fn deviation_s(&self) -> f64 {
        let count = self.count.max(1) as f64;
        let mean = self.sum_s / count;
        (self.squares / count - mean * mean).max(0.0).sqrt()
    }
}

/// Writes until the pace says that it is enough.
pub(super) async fn run(connection: &Connection, load: &Load<'_>) -> Measured {
    let start = Instant::now();
    // Each permit is a write; closed when no more shall be begun.
    let permits = Arc::new(Semaphore::new(0));
    let left = Arc::new(AtomicU64::new(match load.pace {
        Pace::Count(count) => count,
        Pace::Rate { .. } => u64::MAX,
    }));
    let value = Bytes::from(vec![0; load.value_bytes]);
    let mut clients = JoinSet::new();
    for _ in 0..load.clients {
        let connection = connection.another();
        let (permits, left, value) = (permits.clone(), left.clone(), value.clone());
        let (prefix, key_bytes, paced) =
            (load.prefix.to_owned(), load.key_bytes, matches!(load.pace, Pace::Rate { .. }));
        clients.spawn(async move {
            let mut measured = Measured::default();
            loop {
                if paced {
                    let Ok(permit) = permits.acquire().await else { break };
                    permit.forget();
                }
                if left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_err()
                {
                    break;
                }
                let request =
                    PutRequest { key: key(&prefix, key_bytes), value: value.clone(), ..Default::default() };
                let begun = Instant::now();
                let done = connection.put(request).await.map(drop);
                measured.add(done, begun.elapsed().as_secs_f64());
            }
            measured
        });
    }
    if let Pace::Rate { per_s, duration } = load.pace {
        hand_out(&permits, per_s, duration, load.clients).await;
        permits.close();
    }
    let mut measured = Measured::default();
    for one in clients.join_all().await {
        measured.merge(one);
    }
    measured.elapsed_s = start.elapsed().as_secs_f64();
    measured
}

/// Gives out permits at the rate; what the clients do not take in time is not saved up for them.
async fn hand_out(permits: &Semaphore, per_s: u32, duration: Duration, most: usize) {
    let start = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut given = 0;
    while start.elapsed() < duration {
        ticks.tick().await;
        let due = (start.elapsed().min(duration).as_secs_f64() * f64::from(per_s)) as usize;
        let room = most.saturating_sub(permits.available_permits());
        permits.add_permits((due - given).min(room));
        given = due;
    }
}

fn key(prefix: &str, bytes: usize) -> Bytes {
    let mut key = prefix.as_bytes().to_vec();
    let random: u64 = rand::rng().random();
    key.extend_from_slice(&random.to_be_bytes());
    key.resize(prefix.len() + bytes, 0);
    key.into()
}
