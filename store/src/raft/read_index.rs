//! Linearizable reads on every member: the leader confirms with a quorum that it still leads, then its
//! commit index is the point that a read must wait for (Raft dissertation, section 6.4).
//!
//! All readers that arrive during one round share the next one, on followers too: one message to the
//! leader for all of them. On the leader, all members that ask share rounds again. Never answers from a
//! clock-bound lease.

use std::sync::Arc;
use std::time::Duration;

use openraft::{LinearizerOption, ReadPolicy};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use barque_proto::peer::{ReadIndexReply, ReadIndexRequest};

use super::leadership::{LeaderWatch, answered, changed_within};
use super::line::Line;
use super::node::RaftHandle;
use super::peers::{Peer, Peers};
use crate::ids::MemberId;
use crate::metrics::Metrics;

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

/// Those who ask the same thing are answered together: whoever comes while a round is under way is in the next one.
struct Rounds<T> {
    /// `None` once there are no more rounds.
    waiting: Mutex<Option<Vec<oneshot::Sender<T>>>>,
    wake: Notify,
}

impl<T: Clone> Rounds<T> {
    fn new() -> Self {
        Self { waiting: Mutex::new(Some(Vec::new())), wake: Notify::new() }
    }

    /// The answer of a round that begins after this call; `None` when there are no more.
    async fn join(&self) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock();
            let waiting = waiting.as_mut()?;
            waiting.push(tx);
            waiting.len() == 1
        };
        if first {
            self.wake.notify_one();
        }
        rx.await.ok()
    }

    /// Answers round after round by `ask`.
    async fn hold<F: Future<Output = T>>(&self, mut ask: impl FnMut() -> F) {
        loop {
            self.wake.notified().await;
            // Askers among the tasks that are ready share this round.
            tokio::task::yield_now().await;
            let round = self.waiting.lock().as_mut().map(std::mem::take).unwrap_or_default();
            if round.is_empty() {
                continue;
            }
            let answer = ask().await;
            for waiter in round {
                let _ = waiter.send(answer.clone());
            }
        }
    }

    /// Everybody who waits, or comes later, hears that there are no more rounds.
    fn close(&self) {
        *self.waiting.lock() = None;
    }
}

/// How long to wait before a leader that could not confirm is asked again; a change of leader ends the
/// wait early.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Confirms reads.
#[derive(Clone)]
pub struct ReadBarrier(Arc<Shared>);

struct Shared {
    /// Readers on this member.
    readers: Rounds<Result<(), ReadError>>,
    /// Members, this one among them, that ask for the read index of this member as their leader.
    members: Rounds<Option<u64>>,
    raft: RaftHandle,
    peers: Arc<Peers>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl ReadBarrier {
    /// Starts the tasks that ask on behalf of all readers and of all members; `applied` follows the log index that this
    /// member has executed.
    #[must_use]
    #[allow(clippy::too_many_arguments, reason = "one call, in the wiring of a member")]
    pub fn start(
        raft: RaftHandle,
        peers: Arc<Peers>,
        leader: LeaderWatch,
        applied: watch::Receiver<u64>,
        timeout: Duration,
        metrics: Arc<Metrics>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (readers, members) = (Rounds::new(), Rounds::new());
        let shared = Arc::new(Shared { readers, members, raft, peers, timeout, metrics });
        tasks.spawn(answer_readers(Arc::clone(&shared), leader, applied, stop.clone()));
        tasks.spawn(answer_members(Arc::clone(&shared), stop));
        Self(shared)
    }

    /// Returns once this member has executed everything that was committed when this was called.
    ///
    /// # Errors
    /// When no leader confirms it in time.
    pub async fn wait(&self) -> Result<(), ReadError> {
        self.0.readers.join().await.unwrap_or(Err(ReadError::Stopped))
    }

    /// The read index of this member, if it leads and a quorum says so.
    pub async fn index(&self) -> Option<u64> {
        self.0.members.join().await.flatten()
    }
}

async fn answer_readers(
    shared: Arc<Shared>,
    leader: LeaderWatch,
    applied: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    // Rounds come one after the other, so nobody ever waits for this lock.
    let line = tokio::sync::Mutex::new(LeaderLine::default());
    let ask = || async {
        let (mut leader, mut applied) = (leader.clone(), applied.clone());
        let confirm = async {
            let index = confirmed_index(&shared, &mut *line.lock().await, &mut leader).await;
            // An error means that the state machine is gone with the process.
            applied.wait_for(|applied| *applied >= index).await.map(|_| ()).map_err(|_| ReadError::Stopped)
        };
        let result = tokio::time::timeout(shared.timeout, confirm).await;
        let result = result.unwrap_or(Err(ReadError::TimedOut));
        if result.is_err() {
            shared.metrics.server.read_indexes_failed.inc();
        }
        result
    };
    stop.run_until_cancelled(shared.readers.hold(ask)).await;
    shared.readers.close();
}

async fn answer_members(shared: Arc<Shared>, stop: CancellationToken) {
    let ask = || async {
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(shared.timeout);
        let linearizer = shared.raft.get_read_linearizer(option).await;
        linearizer.ok().map(|linearizer| linearizer.read_log_id().index())
    };
    stop.run_until_cancelled(shared.members.hold(ask)).await;
    shared.members.close();
}

/// The call to the leader over which this member asks.
#[derive(Default)]
struct LeaderLine {
    leader: Option<MemberId>,
    line: Line<ReadIndexRequest, ReadIndexReply>,
}

impl LeaderLine {
    /// The leader's answer; `None` when it could not confirm or could not be asked.
    async fn ask(&mut self, peers: &Peers, peer: &Peer) -> Option<u64> {
        if self.leader.replace(peer.id) != Some(peer.id) {
            self.line = Line::default();
        }
        let call = |questions| async move {
            let response = peer.control().read_index(peers.request(questions)).await?;
            peers.accept(peer.id, response)
        };
        let answer = self.line.ask(ReadIndexRequest {}, call).await;
        answer.ok()?.log_id.map(|log_id| log_id.index)
    }
}

/// Asks until a leader confirms.
async fn confirmed_index(shared: &Shared, line: &mut LeaderLine, leader: &mut LeaderWatch) -> u64 {
    let mut asked_before = false;
    loop {
        let status = leader.borrow_and_update().clone();
        let asked = async {
            match status.leader {
                None => None,
                Some(id) if status.is_led_by(shared.peers.own().member) => {
                    let index = shared.members.join().await.flatten();
                    tracing::trace!(%id, ?index, "read index");
                    index
                }
                Some(id) => match status.node.as_ref().and_then(|node| shared.peers.peer(id, node).ok()) {
                    None => None,
                    Some(peer) => line.ask(&shared.peers, &peer).await,
                },
            }
        };
        // Everybody who reads on this member waits for this.
        let Some(index) = answered(leader, asked).await else { continue };
        if let Some(index) = index {
            return index;
        }
        if !std::mem::replace(&mut asked_before, true) {
            shared.metrics.server.slow_read_indexes.inc();
        }
        changed_within(leader, RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_comes_during_a_round_shares_the_next() {
        let rounds = Rounds::new();
        let (asked, may_answer) = (AtomicU32::new(0), Semaphore::new(0));
        let ask = || async {
            let round = asked.fetch_add(1, Ordering::Relaxed);
            may_answer.acquire().await.unwrap().forget();
            round
        };
        let clients = async {
            let first = rounds.join();
            let others = async {
                while asked.load(Ordering::Relaxed) == 0 {
                    tokio::task::yield_now().await;
                }
                let others = futures::future::join_all((0..5).map(|_| rounds.join()));
                let answers = async {
                    tokio::task::yield_now().await;
                    may_answer.add_permits(2);
                };
                tokio::join!(others, answers).0
            };
            let (first, others) = tokio::join!(first, others);
            assert_eq!(first, Some(0));
            assert_eq!(others, [Some(1); 5]);
        };
        tokio::select! {
            () = rounds.hold(ask) => {}
            () = clients => {}
        }
        assert_eq!(asked.into_inner(), 2);
    }

    #[tokio::test]
    async fn nobody_waits_for_rounds_that_will_not_be() {
        let rounds = Rounds::<u32>::new();
        let (waiting, ()) = tokio::join!(rounds.join(), async {
            tokio::task::yield_now().await;
            rounds.close();
        });
        assert_eq!((waiting, rounds.join().await), (None, None));
    }
}
