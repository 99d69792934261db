//! Linearizable reads on every member: the leader confirms with a quorum that it still leads, then its
//! commit index is the point that a read must wait for (Raft dissertation, section 6.4).
//!
//! All readers that arrive during one round share the next one, on followers too: one message to the
//! leader for all of them. Never answers from a clock-bound lease.

use std::sync::Arc;
use std::time::Duration;

use openraft::{LinearizerOption, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use barque_proto::peer::ReadIndexRequest;

use super::leadership::LeaderWatch;
use super::node::RaftHandle;
use super::peers::Peers;

/// A read could not be made linearizable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed the read in time.
    #[error("request timed out")]
    TimedOut,
    /// This member stops.
    #[error("server stopped")]
    Stopped,
}

type Waiter = oneshot::Sender<Result<(), ReadError>>;

/// How long to wait before a leader that could not confirm is asked again; a change of leader ends the
/// wait early.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Confirms reads.
#[derive(Clone)]
pub struct ReadBarrier(Arc<Shared>);

struct Shared {
    waiting: Mutex<Vec<Waiter>>,
    wake: Notify,
    raft: RaftHandle,
    peers: Arc<Peers>,
    timeout: Duration,
}

impl ReadBarrier {
    /// Starts the task that asks on behalf of all readers; `applied` follows the log index that this
    /// member has executed.
    #[must_use]
    pub fn start(
        raft: RaftHandle,
        peers: Arc<Peers>,
        leader: LeaderWatch,
        applied: watch::Receiver<u64>,
        timeout: Duration,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let shared =
            Arc::new(Shared { waiting: Mutex::new(Vec::new()), wake: Notify::new(), raft, peers, timeout });
        tasks.spawn(drive(Arc::clone(&shared), leader, applied, stop));
        Self(shared)
    }

    /// Returns once this member has executed everything that was committed when this was called.
    ///
    /// # Errors
    /// When no leader confirms it in time.
    pub async fn wait(&self) -> Result<(), ReadError> {
        let (tx, rx) = oneshot::channel();
        let first = {
            let mut waiting = self.0.waiting.lock();
            waiting.push(tx);
            waiting.len() == 1
        };
        if first {
            self.0.wake.notify_one();
        }
        rx.await.unwrap_or(Err(ReadError::Stopped))
    }
}

async fn drive(
    shared: Arc<Shared>,
    mut leader: LeaderWatch,
    mut applied: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Readers among the tasks that are ready share this round.
            () = shared.wake.notified() => tokio::task::yield_now().await,
        }
        let round = std::mem::take(&mut *shared.waiting.lock());
        if round.is_empty() {
            continue;
        }
        let confirm = async {
            let index = confirmed_index(&shared, &mut leader).await;
            // An error means that the state machine is gone with the process.
            applied.wait_for(|applied| *applied >= index).await.map(|_| ()).map_err(|_| ReadError::Stopped)
        };
        let result = tokio::select! {
            () = stop.cancelled() => break,
            result = tokio::time::timeout(shared.timeout, confirm) => result.unwrap_or(Err(ReadError::TimedOut)),
        };
        for waiter in round {
            let _ = waiter.send(result.clone());
        }
    }
    for waiter in shared.waiting.lock().drain(..) {
        let _ = waiter.send(Err(ReadError::Stopped));
    }
}

/// Asks until a leader confirms.
async fn confirmed_index(shared: &Shared, leader: &mut LeaderWatch) -> u64 {
    loop {
        let status = leader.borrow_and_update().clone();
        let index = match status.leader {
            None => None,
            Some(id) if status.is_led_by(shared.peers.own().member) => {
                let index = local_index(&shared.raft, shared.timeout).await;
                tracing::trace!(%id, ?index, "read index");
                index
            }
            Some(id) => match status.node.as_ref().and_then(|node| shared.peers.peer(id, node).ok()) {
                None => None,
                Some(peer) => {
                    let answer = peer.control().read_index(shared.peers.request(ReadIndexRequest {})).await;
                    answer
                        .map_err(Into::into)
                        .and_then(|response| shared.peers.accept(id, response))
                        .ok()
                        .and_then(|reply| reply.log_id)
                        .map(|log_id| log_id.index)
                }
            },
        };
        if let Some(index) = index {
            return index;
        }
        let _ = tokio::time::timeout(RETRY_PAUSE, leader.changed()).await;
    }
}

/// The read index of this member, if it leads and a quorum says so.
pub(super) async fn local_index(raft: &RaftHandle, timeout: Duration) -> Option<u64> {
    let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(timeout);
    raft.get_read_linearizer(option).await.ok().map(|linearizer| linearizer.read_log_id().index())
}
