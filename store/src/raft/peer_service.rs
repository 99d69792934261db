//! What this member answers to the other members.
//!
//! Each call is admitted by identity first, then handed to Raft or to the member. No decision is made
//! here.

use openraft::async_runtime::WatchReceiver as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use barque_proto::peer as wire;
use barque_proto::server::peer::peer_server::Peer as PeerRpc;

use super::codec::{self, CodecError, leader_of_term};
use super::identity::{Identity, Refusal};
use super::log_storage::LogStore;
use super::network::{Claim, Expected, LAST_LOG_METADATA, TERM_METADATA};
use super::node::RaftHandle;
use super::peers::Peers;
use super::proposer::refusal;
use super::read_index::ReadBarrier;
use super::snapshot_transfer::SnapshotReceiver;
use super::traffic::Transfer;
use super::types::{Batch, Callback, LogId, Vote};
use crate::ids::{LeaseId, MemberId, Revision};

/// What peers ask of a member beside Raft.
#[tonic::async_trait]
pub trait PeerBackend: Send + Sync + 'static {
    /// The members, and those that were.
    fn members(&self) -> wire::MembersReply;
    /// Renews leases on this member's clock; fails when it does not lead. TTLs in seconds, 0 for gone.
    async fn lease_keep_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<i64>, Status>;
    /// Remaining and granted seconds; fails when this member does not lead.
    async fn lease_time_to_live(&self, id: LeaseId) -> Result<Option<(i64, i64)>, Status>;
    /// Changes the membership; fails when this member does not lead.
    async fn change_membership(&self, change: wire::MembershipChange) -> Result<u64, Status>;
    /// The hash of the keyspace; 0 for the current revision.
    async fn hash(&self, revision: Revision) -> Result<wire::HashAnswer, Status>;
}

/// When a leader was heard of last, and whether its connection broke.
#[derive(Debug)]
pub struct LeaderContact {
    started: Instant,
    last_ms: AtomicU64,
    broken: watch::Sender<Option<MemberId>>,
}

impl Default for LeaderContact {
    fn default() -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0), broken: watch::Sender::new(None) }
    }
}

impl LeaderContact {
    fn heard(&self) {
        self.last_ms.store((self.started.elapsed().as_millis() as u64).max(1), Ordering::Relaxed);
    }

    /// Whether a leader sent anything since this member started.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        self.last_ms.load(Ordering::Relaxed) > 0
    }

    /// How long ago a leader sent something.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Follows the members whose stream of entries to this one broke.
    #[must_use]
    pub fn broken(&self) -> watch::Receiver<Option<MemberId>> {
        self.broken.subscribe()
    }
}

/// The service.
#[derive(Clone)]
pub struct PeerService {
    raft: RaftHandle,
    log: LogStore,
    peers: Arc<Peers>,
    backend: Arc<dyn PeerBackend>,
    contact: Arc<LeaderContact>,
    receiver: Arc<SnapshotReceiver>,
    barrier: ReadBarrier,
    takes_part: watch::Receiver<bool>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl PeerService {
    /// Serves `raft`, whose log is `log`, and `backend`. Until `takes_part` says so only greetings and questions
    /// after the members are answered; other calls wait, since they come from members that are a moment ahead.
    #[must_use]
    #[allow(clippy::too_many_arguments, reason = "one call, in the wiring of a member")]
    pub fn new(
        raft: RaftHandle,
        log: LogStore,
        peers: Arc<Peers>,
        backend: Arc<dyn PeerBackend>,
        contact: Arc<LeaderContact>,
        receiver: Arc<SnapshotReceiver>,
        barrier: ReadBarrier,
        takes_part: watch::Receiver<bool>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { raft, log, peers, backend, contact, receiver, barrier, takes_part, tasks, stop }
    }

    /// Waits until this member takes part.
    async fn taking_part(&self) -> Result<(), Status> {
        let mut takes_part = self.takes_part.clone();
        let taken = takes_part.wait_for(|takes_part| *takes_part).await;
        taken.map(|_| ()).map_err(|_| Status::unavailable("this member stops"))
    }

    /// From the log itself: Raft's metrics may lag behind what was acknowledged already.
    fn last_log_id(&self) -> Option<LogId> {
        self.log.last_durable_log_id()
    }

    fn vote(&self) -> Vote {
        self.raft.server_metrics().borrow_watched().vote
    }
}

impl From<CodecError> for Status {
    fn from(error: CodecError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn stopped<E: std::fmt::Display>(error: E) -> Status {
    Status::unavailable(format!("Raft has stopped: {error}"))
}

type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PeerRpc for PeerService {
    async fn greet(&self, request: Request<wire::Greeting>) -> Result<Response<wire::GreetReply>, Status> {
        let peer = self.peers.admit(&request);
        let greeting = request.into_inner();
        let refusal = match peer {
            Ok(peer) => self.judge(&peer, &greeting).err().map(|refusal| refusal.to_string()),
            Err(status) => Some(status.message().to_owned()),
        };
        let reply = wire::GreetReply {
            incarnation: self.peers.own().incarnation.0,
            vote: Some(codec::vote_to_wire(&self.vote())),
            last_log_id: self.last_log_id().as_ref().map(codec::log_id_to_wire),
            refusal: refusal.unwrap_or_default(),
        };
        Ok(self.peers.response(reply))
    }

    async fn members(
        &self,
        _: Request<wire::MembersRequest>,
    ) -> Result<Response<wire::MembersReply>, Status> {
        // Asked by members that do not know their id yet, so there is no identity to check.
        Ok(self.peers.response(self.backend.members()))
    }

    type AppendStream = ReplyStream<wire::AppendReply>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.taking_part().await?;
        let peer = self.peers.admit(&request)?;
        let contact = Arc::clone(&self.contact);
        let unreadable = self.peers.counts(peer.member).metrics.received_failures.clone();
        // Ends at the first message that cannot be read; a clean end is the peer's wish, everything else
        // means that the connection or the peer is gone.
        let input = request.into_inner().map(move |message| match message {
            Ok(message) => {
                contact.heard();
                codec::append_from_wire(message).inspect_err(|_| unreadable.inc()).map_err(Status::from)
            }
            Err(status) => {
                unreadable.inc();
                contact.broken.send_replace(Some(peer.member));
                Err(status)
            }
        });
        let input = input.take_while(|message| {
            let usable = message.is_ok();
            async move { usable }
        });
        let results = self.raft.stream_append(input.filter_map(|message| async move { message.ok() }));
        let replies = results.map(|result| match result {
            Ok(result) => Ok(codec::append_result_to_wire(&result)),
            Err(fatal) => Err(stopped(fatal)),
        });
        let replies = replies.take_until(self.stop.clone().cancelled_owned());
        let mut response = self.peers.response(Box::pin(replies) as Self::AppendStream);
        // The log first: one that was cut by a later leader is then excused by that leader's term.
        let last = self.last_log_id().map_or(0, |id| id.index());
        response.metadata_mut().insert(LAST_LOG_METADATA, last.into());
        response.metadata_mut().insert(TERM_METADATA, self.log.term().into());
        Ok(response)
    }

    async fn vote(&self, request: Request<wire::VoteRequest>) -> Result<Response<wire::VoteReply>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let request = request.into_inner();
        let rpc = codec::vote_request_from_wire(&request)?;
        let reply = if request.pre_vote { self.raft.pre_vote(rpc).await } else { self.raft.vote(rpc).await };
        let reply = reply.map_err(stopped)?;
        Ok(self.peers.response(codec::vote_reply_to_wire(&reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderReply>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let rpc = codec::transfer_request_from_wire(&request.into_inner())?;
        let reply = self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?;
        Ok(self.peers.response(codec::transfer_reply_to_wire(&reply)))
    }

    async fn snapshot_progress(
        &self,
        request: Request<wire::SnapshotIdentity>,
    ) -> Result<Response<wire::SnapshotProgressReply>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let received_bytes = self.receiver.received_bytes(&request.into_inner())?;
        Ok(self.peers.response(wire::SnapshotProgressReply { received_bytes }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        self.taking_part().await?;
        let peer = self.peers.admit(&request)?;
        let receiving = Transfer::receive(&self.peers.counts(peer.member).metrics);
        let (vote, snapshot) = self.receiver.receive(request.into_inner()).await?;
        let reply = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        // With a later vote it was not installed.
        if reply.vote == vote {
            receiving.succeeded();
        }
        Ok(self.peers.response(wire::SnapshotReply { vote: Some(codec::vote_to_wire(&reply.vote)) }))
    }

    type ForwardStream = ReplyStream<wire::ForwardReply>;

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let mut batches = request.into_inner();
        // Answers are for refused batches only, of which a peer has a handful on their way.
        let (replies, outbox) = mpsc::channel(64);
        let (raft, stop) = (self.raft.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let batch = tokio::select! {
                    () = stop.cancelled() => break,
                    batch = batches.next() => batch,
                };
                let Some(Ok(batch)) = batch else { break };
                let replies = replies.clone();
                let sequence = batch.sequence;
                let responder = Callback::new(move |result| {
                    if let Some(refused) = refusal(&result) {
                        // Full only if the peer does not read; then its own deadline decides.
                        let _ = replies.try_send(Ok(wire::ForwardReply { sequence, refused }));
                    }
                });
                let write = raft.write(Batch(batch.commands)).with_leader(leader_of_term(batch.term));
                if write.responder(responder).await.is_err() {
                    break;
                }
            }
        });
        Ok(self.peers.response(Box::pin(ReceiverStream::new(outbox)) as Self::ForwardStream))
    }

    type ReadIndexStream = ReplyStream<wire::ReadIndexReply>;

    async fn read_index(
        &self,
        request: Request<Streaming<wire::ReadIndexRequest>>,
    ) -> Result<Response<Self::ReadIndexStream>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let barrier = self.barrier.clone();
        let replies = request.into_inner().then(move |asked| {
            let barrier = barrier.clone();
            async move {
                asked?;
                let index = barrier.index().await;
                Ok(wire::ReadIndexReply { log_id: index.map(|index| wire::LogId { term: 0, index }) })
            }
        });
        let replies = replies.take_until(self.stop.clone().cancelled_owned());
        Ok(self.peers.response(Box::pin(replies) as Self::ReadIndexStream))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<wire::LeaseKeepAliveBatch>,
    ) -> Result<Response<wire::LeaseKeepAliveReplies>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let ids = request.into_inner().ids.into_iter().map(LeaseId).collect();
        let ttls = self.backend.lease_keep_alive(ids).await?;
        Ok(self.peers.response(wire::LeaseKeepAliveReplies { ttls }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<wire::LeaseTimeToLiveQuery>,
    ) -> Result<Response<wire::LeaseTimeToLiveAnswer>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let found = self.backend.lease_time_to_live(LeaseId(request.into_inner().id)).await?;
        let (remaining_ttl, granted_ttl) = found.unwrap_or_default();
        let answer = wire::LeaseTimeToLiveAnswer { found: found.is_some(), remaining_ttl, granted_ttl };
        Ok(self.peers.response(answer))
    }

    async fn change_membership(
        &self,
        request: Request<wire::MembershipChange>,
    ) -> Result<Response<wire::MembershipChangeReply>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let id = self.backend.change_membership(request.into_inner()).await?;
        Ok(self.peers.response(wire::MembershipChangeReply { id }))
    }

    async fn hash(&self, request: Request<wire::HashQuery>) -> Result<Response<wire::HashAnswer>, Status> {
        self.taking_part().await?;
        self.peers.admit(&request)?;
        let answer = self.backend.hash(Revision(request.into_inner().revision)).await?;
        Ok(self.peers.response(answer))
    }
}

impl PeerService {
    /// Whether a member that (re)starts may take part. Whom it expected here (`to`) says nothing of it: who was away while
    /// a member was replaced knows the one that was at this address before.
    fn judge(&self, peer: &Identity, greeting: &wire::Greeting) -> Result<(), Refusal> {
        let claim = Claim {
            last_index: greeting.last_log_id.as_ref().map_or(0, |id| id.index),
            term: greeting.vote.as_ref().map_or(0, |vote| vote.term),
        };
        // A member that greets has stopped acknowledging: what it said before is what it must have.
        Expected::of(&self.raft, peer.member).check(peer.member, claim)
    }
}
