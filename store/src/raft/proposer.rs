//! Brings this member's commands into the leader's log, wherever the leader is.
//!
//! What gathers while batches are on their way goes together with the next one, so load makes batches
//! larger and never queues longer. The bookkeeping is `proposals`; here are the clock, the lock and the
//! connection to the leader. The state machine reports applied batches; answers come from there.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use openraft::errors::{ClientWriteError, ForwardReason};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use barque_proto::peer::ForwardRequest;

use super::codec::leader_of_term;
use super::leadership::{LeaderStatus, LeaderWatch};
use super::node::RaftHandle;
use super::peers::Peers;
use super::proposals::{Parcel, Proposals, ProposeError, Reply, Waiter};
use super::types::{Batch, Callback, TypeConfig};
use crate::command::Command;
use crate::ids::MemberId;
use crate::state::batch::BatchId;

/// Batches of one member that may be on their way at once. More would make smaller batches, fewer would
/// leave the log idle while answers travel: with one or two, a batch costs more, because Raft no longer sends
/// and syncs several together.
const BATCHES_IN_FLIGHT: usize = 4;
/// Batches handed to the connection to the leader before its own flow control takes over.
const LANE_QUEUE: usize = 64;
/// How long to wait before a leader without a quorum is asked again.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// The proposals of this process, shared between callers, state machine and proposer task.
#[derive(Debug)]
pub struct Desk {
    proposals: Mutex<Proposals>,
    wake: Notify,
    started: Instant,
}

impl Desk {
    /// Nothing proposed yet.
    #[must_use]
    pub fn new(origin: MemberId, boot: u64) -> Self {
        Self {
            proposals: Mutex::new(Proposals::new(origin, boot)),
            wake: Notify::new(),
            started: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Who waits for a batch that was applied; see [`Proposals::applied`].
    pub fn applied(&self, id: BatchId) -> Option<Vec<Waiter>> {
        self.proposals.lock().applied(id)
    }

    /// The state was replaced by a snapshot; see [`Proposals::skipped`].
    pub fn skipped(&self) {
        self.proposals.lock().skipped();
    }

    /// Entries up to one of `term` were applied: lets the next batches go.
    pub fn advance(&self, term: u64) {
        let mut proposals = self.proposals.lock();
        proposals.observe_term(term);
        let more = proposals.has_work();
        drop(proposals);
        if more {
            self.wake.notify_one();
        }
    }

    /// Commands that wait or are on their way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.proposals.lock().pending()
    }
}

/// Proposes commands of this member.
#[derive(Clone)]
pub struct Proposer(Arc<Shared>);

struct Shared {
    desk: Arc<Desk>,
    own: MemberId,
    raft: RaftHandle,
    peers: Arc<Peers>,
    leader: LeaderWatch,
    timeout: Duration,
    lane: Mutex<Option<Lane>>,
    tasks: TaskTracker,
    events: mpsc::Sender<Event>,
    /// Counts commands that were given up.
    failed: IntCounter,
    stop: CancellationToken,
}

/// A connection over which batches go to one leader in one term.
struct Lane {
    leader: MemberId,
    term: u64,
    parcels: mpsc::Sender<ForwardRequest>,
}

enum Event {
    Refused { sequence: u64, term: u64, certain: bool },
    ConnectionLost { term: u64 },
}

impl Proposer {
    /// Starts the proposer's task on `tasks`; it ends with `stop`. `failed` counts commands that were given up.
    #[must_use]
    #[allow(clippy::too_many_arguments, reason = "one call, in the wiring of a member")]
    pub fn start(
        desk: Arc<Desk>,
        raft: RaftHandle,
        peers: Arc<Peers>,
        leader: LeaderWatch,
        timeout: Duration,
        failed: IntCounter,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        // Room for an answer to each batch on its way, several times over; a sender waits for room.
        let (events, inbox) = mpsc::channel(BATCHES_IN_FLIGHT * 16);
        let shared = Arc::new(Shared {
            desk,
            own: peers.own().member,
            raft,
            peers,
            leader,
            timeout,
            lane: Mutex::new(None),
            tasks: tasks.clone(),
            events,
            failed,
            stop,
        });
        tasks.spawn(drive(Arc::clone(&shared), inbox));
        Self(shared)
    }

    /// Proposes a command and waits until this member has executed it. `size` is about its bytes.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, command: Command, size: usize) -> Reply {
        let (tx, rx) = oneshot::channel();
        let shared = &self.0;
        let deadline_ms = shared.desk.now_ms().saturating_add(shared.timeout.as_millis() as u64);
        shared.desk.proposals.lock().push(command, size, tx, deadline_ms);
        shared.desk.wake.notify_one();
        let reply = rx.await.unwrap_or(Err(ProposeError::Stopped));
        if matches!(&reply, Err(error) if !matches!(error, ProposeError::Command(_))) {
            shared.failed.inc();
        }
        reply
    }
}

impl Shared {
    /// Hands over what may go now.
    async fn pump(self: &Arc<Self>) {
        loop {
            let status = self.leader.borrow().clone();
            let Some(leader) = status.leader else { return };
            let Some(parcel) = self.desk.proposals.lock().next_parcel(status.term, BATCHES_IN_FLIGHT) else {
                return;
            };
            if leader == self.own {
                self.write(parcel).await;
            } else {
                self.forward(leader, &status, parcel).await;
            }
        }
    }

    /// Appends a batch to this member's own log.
    async fn write(&self, parcel: Parcel) {
        let events = self.events.clone();
        let (sequence, term) = (parcel.sequence, parcel.term);
        let responder = Callback::new(move |result| {
            if let Some(certain) = refusal(&result) {
                // Full only if the proposer's task hangs; then the deadline decides.
                let _ = events.try_send(Event::Refused { sequence, term, certain });
            }
        });
        let request = self.raft.write(Batch(parcel.payload)).with_leader(leader_of_term(term));
        if request.responder(responder).await.is_err() {
            self.desk.proposals.lock().refused(sequence, term, false);
        }
    }

    /// Sends a batch to the leader.
    async fn forward(self: &Arc<Self>, leader: MemberId, status: &LeaderStatus, parcel: Parcel) {
        let (sequence, term) = (parcel.sequence, parcel.term);
        let request = ForwardRequest { sequence, term, commands: parcel.payload };
        let parcels = self.lane_to(leader, status);
        let sent = match parcels {
            Some(parcels) => parcels.send(request).await.is_ok(),
            None => false,
        };
        if !sent {
            self.lane.lock().take_if(|lane| lane.term == term);
            let _ = self.events.send(Event::Refused { sequence, term, certain: true }).await;
        }
    }

    /// The connection to the leader, opened if there is none for this term.
    fn lane_to(
        self: &Arc<Self>,
        leader: MemberId,
        status: &LeaderStatus,
    ) -> Option<mpsc::Sender<ForwardRequest>> {
        let mut lane = self.lane.lock();
        if let Some(open) = lane.as_ref()
            && open.leader == leader
            && open.term == status.term
            && !open.parcels.is_closed()
        {
            return Some(open.parcels.clone());
        }
        let node = status.node.as_ref()?;
        let peer = self.peers.peer(leader, node).ok()?;
        let (parcels, queue) = mpsc::channel(LANE_QUEUE);
        *lane = Some(Lane { leader, term: status.term, parcels: parcels.clone() });
        let shared = Arc::clone(self);
        let term = status.term;
        self.tasks.spawn(async move {
            let work = async {
                let request = shared.peers.request(ReceiverStream::new(queue));
                let response = peer.data().forward(request).await?;
                let mut replies = shared.peers.accept(leader, response)?;
                while let Some(reply) = replies.next().await {
                    let reply = reply?;
                    let refused = Event::Refused { sequence: reply.sequence, term, certain: reply.refused };
                    let _ = shared.events.send(refused).await;
                }
                Ok::<(), super::peers::PeerError>(())
            };
            tokio::select! {
                () = shared.stop.cancelled() => {}
                result = work => {
                    if let Err(error) = result {
                        tracing::info!(%leader, term, %error, "the connection that forwards writes broke");
                    }
                    let _ = shared.events.send(Event::ConnectionLost { term }).await;
                }
            }
        });
        Some(parcels)
    }
}

/// `None` when the batch was taken, otherwise whether it certainly is not in the log.
pub(super) fn refusal(result: &ClientWriteResult<TypeConfig>) -> Option<bool> {
    match result {
        Ok(_) => None,
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            Some(matches!(forward.reason, ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer))
        }
        Err(_) => Some(false),
    }
}

async fn drive(shared: Arc<Shared>, mut events: mpsc::Receiver<Event>) {
    let mut leader = shared.leader.clone();
    let timer = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(timer);
    let mut armed = false;
    let mut pause: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => break,
            // What other tasks that are ready will propose goes into the same batch.
            () = shared.desk.wake.notified() => tokio::task::yield_now().await,
            changed = leader.changed() => if changed.is_err() { break },
            Some(event) = events.recv() => match event {
                Event::Refused { sequence, term, certain } => {
                    shared.desk.proposals.lock().refused(sequence, term, certain);
                    pause = Some(Instant::now() + REFUSED_PAUSE);
                }
                Event::ConnectionLost { term } => {
                    shared.lane.lock().take_if(|lane| lane.term == term);
                    shared.desk.proposals.lock().connection_lost(term);
                }
            },
            () = &mut timer, if armed => armed = false,
        }
        let now = Instant::now();
        let next = {
            let mut proposals = shared.desk.proposals.lock();
            proposals.expire(shared.desk.now_ms());
            proposals.next_deadline_ms()
        };
        let mut wake_at = next.map(|ms| shared.desk.started + Duration::from_millis(ms));
        if let Some(until) = pause.filter(|until| *until > now) {
            wake_at = Some(wake_at.map_or(until, |at| at.min(until)));
        } else {
            pause = None;
            shared.pump().await;
        }
        // When what it was armed for is over, it fires early once, which costs less than arming it each time.
        if let Some(at) = wake_at.filter(|at| !armed || *at < timer.deadline()) {
            timer.as_mut().reset(at.max(now + Duration::from_millis(1)));
            armed = true;
        }
    }
    shared.desk.proposals.lock().stop();
}
