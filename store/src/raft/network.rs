//! How openraft's messages reach the other members.
//!
//! Log entries flow over one pipelined stream per follower: requests go out while answers to earlier ones
//! are still on their way, bounded by the flow control of HTTP/2. Heartbeats and votes have a connection
//! of their own; heartbeats go one at a time over a stream that stays open. Nothing here decides anything about
//! Raft.

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
use tonic::transport::Channel;
use tonic::{Response, Streaming};

use barque_proto::peer as wire;
use barque_proto::peer::peer_client::PeerClient;

use super::codec;
use super::identity::Refusal;
use super::line::Line;
use super::node::RaftHandle;
use super::observe;
use super::peers::{Peer, PeerError, Peers};
use super::snapshot_transfer;
use super::snapshots::{OpenSnapshot, Snapshot, Snapshots};
use super::traffic::{Heartbeat, Transfer};
use super::types::{PeerNode, TypeConfig, Vote};
use crate::blocking::Blocking;
use crate::ids::MemberId;

/// Names the follower's last log id in the answer that opens a stream of entries.
pub(super) const LAST_LOG_METADATA: &str = "barque-last-log";
/// Names the term that the follower was in after that.
pub(super) const TERM_METADATA: &str = "barque-term";

/// Makes a network for each other member.
#[derive(Clone)]
pub struct Network {
    peers: Arc<Peers>,
    /// Set once Raft runs; tells what followers have acknowledged.
    raft: Arc<OnceLock<RaftHandle>>,
    snapshots: Arc<Snapshots>,
    blocking: Blocking,
}

impl Network {
    /// `raft` is filled in as soon as Raft runs.
    #[must_use]
    pub fn new(
        peers: Arc<Peers>,
        raft: Arc<OnceLock<RaftHandle>>,
        snapshots: Arc<Snapshots>,
        blocking: Blocking,
    ) -> Self {
        Self { peers, raft, snapshots, blocking }
    }

    fn link(&self, target: u64, node: &PeerNode, lane: Lane) -> Link {
        Link {
            network: self.clone(),
            target: MemberId(target),
            node: node.clone(),
            lane,
            heartbeats: Line::default(),
        }
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
    heartbeats: Line<wire::AppendRequest, wire::AppendReply>,
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

    /// What the follower says of its log.
    fn claim<T>(response: &Response<T>) -> Claim {
        let number = |name: &'static str| {
            let text = response.metadata().get(name).and_then(|value| value.to_str().ok());
            text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
        };
        Claim { last_index: number(LAST_LOG_METADATA), term: number(TERM_METADATA) }
    }

    async fn append<S>(
        &self,
        input: S,
    ) -> Result<impl Stream<Item = Result<StreamAppendResult<TypeConfig>, PeerError>> + use<S>, PeerError>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let peer = self.peer()?;
        let requests = input.map(codec::append_to_wire);
        let replies = self.network.open_append(self.target, peer.data(), requests).await?;
        let unreadable = peer.counts.metrics.received_failures.clone();
        Ok(replies
            .map(move |reply| Ok(codec::append_result_from_wire(&reply?).inspect_err(|_| unreadable.inc())?)))
    }

    async fn heartbeat(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<StreamAppendResult<TypeConfig>, PeerError> {
        let peer = self.peer()?;
        let failures = &self.network.peers.metrics().server.heartbeat_send_failures;
        let heartbeat = Heartbeat::new(Arc::clone(&peer.counts), failures.clone());
        let call = |requests| self.network.open_append(self.target, peer.control(), requests);
        let reply = self.heartbeats.ask(codec::append_to_wire(request), call).await?;
        let unreadable = &peer.counts.metrics.received_failures;
        let result = codec::append_result_from_wire(&reply).inspect_err(|_| unreadable.inc())?;
        heartbeat.answered();
        Ok(result)
    }
}

impl Network {
    /// Opens a stream of entries to a member that has what it acknowledged.
    async fn open_append(
        &self,
        target: MemberId,
        mut client: PeerClient<Channel>,
        requests: impl Stream<Item = wire::AppendRequest> + Send + 'static,
    ) -> Result<Streaming<wire::AppendReply>, PeerError> {
        let expected = self.raft.get().map(|raft| Expected::of(raft, target));
        let response = client.append(self.peers.request(requests)).await?;
        if let Some(expected) = expected {
            expected.check(target, Link::claim(&response))?;
        }
        self.peers.accept(target, response)
    }
}

/// What a member says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Its last entry.
    pub(super) last_index: u64,
    /// The term it is in, looked at after the last entry.
    pub(super) term: u64,
}

/// What a leader may count on a member to have. It must be looked at before the member is asked: entries that the
/// member acknowledges while its answer is on the way are not in that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// The leader's term, looked at before `acknowledged`.
    term: u64,
    /// The last entry that the member has acknowledged.
    acknowledged: u64,
}

impl Expected {
    /// Of `member` by this leader.
    pub(super) fn of(raft: &RaftHandle, member: MemberId) -> Self {
        let term = observe::term(raft);
        let known = observe::progress(raft).and_then(|known| known.get(&member).copied());
        Self { term, acknowledged: known.unwrap_or(0) }
    }

    /// Refuses a member that has lost log entries which it had acknowledged. One in a later term follows, or has
    /// followed, another leader, who may have cut its log behind what is committed: to that leader it answers, and
    /// this one only has to learn that its time is over.
    pub(super) fn check(self, member: MemberId, claim: Claim) -> Result<(), Refusal> {
        if claim.term > self.term || claim.last_index >= self.acknowledged {
            return Ok(());
        }
        let (has, acknowledged) = (claim.last_index, self.acknowledged);
        let refusal = Refusal::RolledBack { member, has, acknowledged };
        tracing::error!(%refusal, "a follower is refused");
        Err(refusal)
    }
}

impl NetStreamAppend<TypeConfig> for Link {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
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
            if self.lane == Lane::Control {
                let beats = futures::stream::unfold((self, input), |(link, mut input)| async move {
                    let result = link.heartbeat(input.next().await?).await;
                    Some((result.map_err(|error| unreachable(&error)), (link, input)))
                });
                return Ok(beats.boxed());
            }
            // openraft puts its pauses after failures before the first request. Without waiting for that, a member
            // that is gone would be called again and again without rest.
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let input = futures::stream::iter([first]).chain(input);
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
    type SnapshotData = OpenSnapshot;

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
            // The log behind it stays, or the member would need another snapshot when it has this one.
            let _pin = self.network.snapshots.pin(snapshot.snapshot.file.applied_index);
            let sent =
                snapshot_transfer::send(&self.network.peers, &peer, &self.network.blocking, &vote, snapshot)
                    .await?;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::ids::{ClusterId, Incarnation};
    use crate::metrics::Metrics;
    use crate::raft::dial::Tcp;
    use crate::raft::identity::{Identity, Roster};

    /// openraft pauses in front of the first request after a failure; a pause that nobody waits for is none.
    #[tokio::test]
    async fn a_member_that_is_gone_is_not_called_before_there_is_something_to_send() {
        let own = Identity { cluster: ClusterId(1), member: MemberId(1), incarnation: Incarnation(1) };
        let dial = Arc::new(Tcp::new(None, Duration::from_secs(1)));
        let peers = Peers::new(own, Arc::new(Roster::default()), dial, Arc::new(Metrics::new()));
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(dir.path().to_owned(), own.cluster, own.member, None);
        let mut network =
            Network::new(Arc::new(peers), Arc::default(), Arc::new(snapshots), Blocking::default());
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let node = PeerNode { peer_urls: vec![format!("http://{gone}")], vote_when_ready: false };
        let asked = Arc::new(AtomicBool::new(false));
        let notes = Arc::clone(&asked);
        let requests = futures::stream::once(async move {
            notes.store(true, Ordering::Relaxed);
            AppendEntriesRequest {
                vote: Vote::new(1, 1),
                prev_log_id: None,
                entries: vec![],
                leader_commit: None,
            }
        });
        let mut link = network.new_client(2, &node).await;
        let option = RPCOption::new(Duration::from_secs(1));
        assert!(link.stream_append(requests.boxed(), option).await.is_err());
        assert!(asked.load(Ordering::Relaxed));
    }

    /// Last entry and term of the member; term of the leader and what it knew to be acknowledged.
    #[test]
    fn only_a_member_of_this_leaders_term_can_have_rolled_back() {
        let check = |last_index, term, leaders_term, acknowledged| {
            let expected = Expected { term: leaders_term, acknowledged };
            expected.check(MemberId(2), Claim { last_index, term }).is_ok()
        };
        assert!(check(100, 3, 3, 100));
        assert!(check(101, 3, 3, 100), "an entry whose acknowledgement is still on its way");
        assert!(!check(99, 3, 3, 100));
        assert!(!check(99, 2, 3, 100), "its vote was rolled back with its log");
        assert!(check(90, 4, 3, 100), "a later leader cut what was never committed");
        assert!(check(0, 0, 3, 0), "a new member");
    }
}
