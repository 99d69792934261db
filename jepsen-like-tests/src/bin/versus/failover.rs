//! The longest time without an acknowledged write when the leader goes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use barque_proto::etcdserverpb::PutRequest;
use barque_proto::etcdserverpb::kv_client::KvClient;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::peers::{Peers, channel};

/// Writes before the signal, and after writes go again.
const STEADY: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// An attempt that is not answered by then is joined by another at the next member; the first to be
/// acknowledged counts. So a gap is seen this finely, however long a member holds a write back.
const HEDGE: Duration = Duration::from_millis(10);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
const MOST_ATTEMPTS: usize = 64;

/// Sends `signal` to the leader under one writer at the other members, and starts the member again. The gap.
pub(crate) async fn longest_gap(peers: &mut Peers, signal: Signal) -> Result<Duration> {
    let leader = peers.leader().await?;
    let mut clients = Vec::new();
    for (n, endpoint) in peers.endpoints().iter().enumerate() {
        if n != leader {
            clients.push(KvClient::new(channel(endpoint).await?));
        }
    }
    let gap = write_through(peers, leader, signal, &clients).await?;
    peers.wait(leader).await?;
    peers.spawn(leader)?;
    peers.ready(leader).await?;
    Ok(gap)
}

async fn write_through(
    peers: &mut Peers,
    leader: usize,
    signal: Signal,
    clients: &[KvClient<Channel>],
) -> Result<Duration> {
    let begin = Instant::now();
    let mut signalled = None;
    let (mut gap, mut last) = (Duration::ZERO, begin);
    let mut attempts = JoinSet::new();
    let mut number = 0usize;
    loop {
        if signalled.is_none() && begin.elapsed() >= STEADY {
            peers.signal(leader, signal)?;
            signalled = Some(Instant::now());
        }
        if attempts.len() < MOST_ATTEMPTS {
            let mut client = clients[number % clients.len()].clone();
            let key = format!("failover/{number}");
            number += 1;
            attempts.spawn(async move {
                let request = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
                matches!(tokio::time::timeout(ATTEMPT_TIMEOUT, client.put(request)).await, Ok(Ok(_)))
            });
        }
        let hedge = Instant::now() + HEDGE;
        loop {
            match tokio::time::timeout_at(hedge.into(), attempts.join_next()).await {
                Ok(Some(Ok(true))) => {
                    let now = Instant::now();
                    gap = gap.max(now - last);
                    last = now;
                    attempts.abort_all();
                    while attempts.join_next().await.is_some() {}
                    break;
                }
                // Refused: the next attempt comes when this one's time is over, not at once.
                Ok(Some(Ok(false))) => {}
                Ok(Some(Err(error))) => return Err(error).context("a write panicked"),
                Ok(None) => {
                    tokio::time::sleep_until(hedge.into()).await;
                    break;
                }
                Err(_) => break,
            }
        }
        if let Some(at) = signalled {
            if last > at && at.elapsed() >= STEADY.max(gap * 2) {
                return Ok(gap);
            }
            anyhow::ensure!(
                at.elapsed() < LONGEST,
                "no write was acknowledged for {LONGEST:?} after {signal:?}"
            );
        }
    }
}
