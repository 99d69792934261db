//! How openraft's messages reach the other members.
//!
//! Log entries flow over one pipelined stream per follower: requests go out while answers to earlier ones
//! are still on their way, bounded by the flow control of HTTP/2. Heartbeats and votes have a connection
//! of their own. Nothing here decides anything about Raft.

use openraft::async_runtime::WatchReceiver as _;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use tonic::Response;

use barque_proto::peer as wire;

use super::codec;
use super::identity::Refusal;
use super::node::RaftHandle;
use super::peers::{Peer, PeerError, Peers};
use super::snapshot_transfer::{self, SnapshotFile};
use super::traffic::{Heartbeat, Transfer};
use super::types::{LogId, PeerNode, TypeConfig, Vote};
use crate::ids::MemberId;

/// A snapshot as openraft hands it over.
type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotFile>;

/// Names the follower's last log id in the answer that opens a stream of entries.
pub(super) const LAST_LOG_METADATA: &str = "barque-last-log";

/// Makes a network for each other member.
#[derive(Clone)]
pub struct Network {
    peers: Arc<Peers>,
    /// Set once Raft runs; tells what followers have acknowledged.
    raft: Arc<OnceLock<RaftHandle>>,
}

impl Network {
    /// `raft` is filled in as soon as Raft runs.
    #[must_use]
    pub fn new(peers: Arc<Peers>, raft: Arc<OnceLock<RaftHandle>>) -> Self {
        Self { peers, raft }
    }

    fn link(&self, target: u64, node: &PeerNode, lane: Lane) -> Link {
        Link { network: self.clone(), target: MemberId(target), node: node.clone(), lane }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Data,
    Control,
}

/// The way to one member.
pub struct Link {
    network: Network,
    target: MemberId,
    node: PeerNode,
    lane: Lane,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Link {
        self.link(target, node, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Link {
        self.link(target, node, Lane::Control)
    }
}

fn unreachable(error: &PeerError) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl Link {
    fn peer(&self) -> Result<Arc<Peer>, PeerError> {
        self.network.peers.peer(self.target, &self.node)
    }

    /// Refuses a follower whose log is shorter than what it has acknowledged to this leader.
    fn check_progress<T>(&self, response: &Response<T>) -> Result<(), PeerError> {
        let has = response
            .metadata()
            .get(LAST_LOG_METADATA)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0);
        check_progress(self.network.raft.get(), self.target, has).map_err(PeerError::from)
    }

    async fn append<S>(
        &self,
        input: S,
    ) -> Result<impl Stream<Item = Result<StreamAppendResult<TypeConfig>, PeerError>> + use<S>, PeerError>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let peer = self.peer()?;
        // A call on the control lane is one heartbeat and ends with its answer.
        let mut heartbeat = (self.lane == Lane::Control).then(|| {
            let failures = &self.network.peers.metrics().server.heartbeat_send_failures;
            Heartbeat::new(Arc::clone(&peer.counts), failures.clone())
        });
        let mut client = if self.lane == Lane::Control { peer.control() } else { peer.data() };
        let request = self.network.peers.request(input.map(codec::append_to_wire));
        let response = client.append(request).await?;
        self.check_progress(&response)?;
        let replies = self.network.peers.accept(self.target, response)?;
        let unreadable = peer.counts.metrics.received_failures.clone();
        Ok(replies.map(move |reply| {
            let result = codec::append_result_from_wire(&reply?).inspect_err(|_| unreadable.inc())?;
            if let Some(heartbeat) = &mut heartbeat {
                heartbeat.answered();
            }
            Ok(result)
        }))
    }
}

/// Refuses a member that has lost log entries which it had acknowledged; `has` is its last log index.
pub(super) fn check_progress(raft: Option<&RaftHandle>, member: MemberId, has: u64) -> Result<(), Refusal> {
    let Some(raft) = raft else { return Ok(()) };
    let metrics = raft.data_metrics();
    let acknowledged = metrics
        .borrow_watched()
        .replication
        .as_ref()
        .and_then(|followers| followers.get(&member.0).copied().flatten())
        .map_or(0, |matched: LogId| matched.index());
    if has < acknowledged {
        let refusal = Refusal::RolledBack { member, has, acknowledged };
        tracing::error!(%refusal, "a follower is refused");
        return Err(refusal);
    }
    Ok(())
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        async move {
            let replies = self.append(input).await.map_err(|error| unreachable(&error))?;
            Ok(replies.map(|reply| reply.map_err(|error| unreachable(&error))).boxed())
        }
        .boxed()
    }
}

impl NetVote<TypeConfig> for Link {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(&rpc, false, option.hard_ttl()).await.map_err(|error| unreachable(&error))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_for_vote(&rpc, true, option.hard_ttl()).await.map_err(|error| unreachable(&error))
    }
}

impl Link {
    async fn ask_for_vote(
        &self,
        rpc: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        ttl: Duration,
    ) -> Result<VoteResponse<TypeConfig>, PeerError> {
        let mut request = self.network.peers.request(codec::vote_request_to_wire(rpc, pre_vote));
        request.set_timeout(ttl);
        let response = self.peer()?.control().vote(request).await?;
        let reply = self.network.peers.accept(self.target, response)?;
        Ok(codec::vote_reply_from_wire(&reply)?)
    }
}

impl NetTransferLeader<TypeConfig> for Link {
    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let call = async {
            let mut request = self.network.peers.request(wire::TransferLeaderRequest {
                from_leader: Some(codec::vote_to_wire(rpc.from_leader())),
                to: *rpc.to_node_id(),
                last_log_id: rpc.last_log_id().map(codec::log_id_to_wire),
            });
            request.set_timeout(option.hard_ttl());
            let response = self.peer()?.control().transfer_leader(request).await?;
            let reply = self.network.peers.accept(self.target, response)?;
            Ok::<_, PeerError>(codec::transfer_reply_from_wire(&reply)?)
        };
        call.await.map_err(|error| unreachable(&error))
    }
}

impl NetSnapshot<TypeConfig> for Link {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = async {
            let peer = self.peer()?;
            let sending = Transfer::send(&peer.counts.metrics);
            let sent = snapshot_transfer::send(&self.network.peers, &peer, &vote, snapshot).await?;
            sending.succeeded();
            Ok::<_, PeerError>(sent)
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent.map(SnapshotResponse::new).map_err(|error| {
                tracing::warn!(member = %self.target, %error, "a snapshot did not arrive");
                StreamingError::Unreachable(Unreachable::new(&error))
            }),
        }
    }
}

impl NetBackoff<TypeConfig> for Link {
    fn backoff(&self) -> Option<Backoff> {
        // Short at first, for a member that restarts; a second at most, for one that is gone.
        let pauses = (0u32..).map(|n| Duration::from_millis(20 << n.min(6)).min(Duration::from_secs(1)));
        Some(Backoff::new(pauses))
    }
}
