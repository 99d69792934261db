//! Changes of membership, carried out by the leader; other members ask it.
//!
//! Whether a step is safe is decided in `quorum`. A new voter starts as a learner and gets its vote by
//! itself once it has caught up, so that an unstarted or unreachable member never counts for the quorum.

use openraft::async_runtime::WatchReceiver as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, ServerState};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use barque_proto::peer::MembershipChange;
use barque_proto::peer::membership_change::Change;

use super::quorum::{self, Standing, Unsafe};
use crate::error::StoreError;
use crate::ids::MemberId;
use crate::raft::leadership::LeaderWatch;
use crate::raft::node::{RaftHandle, transfer_leadership};
use crate::raft::observe;
use crate::raft::peers::Peers;
use crate::raft::types::PeerNode;
use crate::state::published::Published;

/// A follower that did not answer for so many election timeouts is not healthy.
const UNHEALTHY_TIMEOUTS: u32 = 2;
/// A learner is ready when its log has reached this part of the leader's, in percent (etcd: 90).
const READY_PERCENT: u64 = 90;

/// Changes the membership of this member's cluster.
pub struct Membership {
    raft: RaftHandle,
    peers: Arc<Peers>,
    leader: LeaderWatch,
    published: Arc<Published>,
    election_timeout: Duration,
    timeout: Duration,
    /// One change at a time: what was checked must still hold when it is proposed.
    turn: tokio::sync::Mutex<()>,
    promoting: Mutex<BTreeSet<MemberId>>,
}

impl From<Unsafe> for StoreError {
    fn from(reason: Unsafe) -> Self {
        match reason {
            Unsafe::PeerUrlExists => Self::PeerUrlExists,
            Unsafe::TooManyLearners => Self::TooManyLearners,
            Unsafe::NotEnoughStarted => Self::NotEnoughStartedMembers,
            Unsafe::Unhealthy => Self::Unhealthy,
            Unsafe::NotFound => Self::MemberNotFound,
            Unsafe::NotLearner => Self::MemberNotLearner,
            Unsafe::NotReady => Self::LearnerNotReady,
        }
    }
}

impl Membership {
    /// Works on `raft`.
    #[must_use]
    pub fn new(
        raft: RaftHandle,
        peers: Arc<Peers>,
        leader: LeaderWatch,
        published: Arc<Published>,
        election_timeout: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            raft,
            peers,
            leader,
            published,
            election_timeout,
            timeout,
            turn: tokio::sync::Mutex::default(),
            promoting: Mutex::default(),
        }
    }

    /// Carries out a change, here if this member leads, else at the leader. Answers the id of the member
    /// that was added, otherwise 0.
    ///
    /// # Errors
    /// When the change is not safe, or no leader carried it out in time.
    pub async fn change(&self, change: Change) -> Result<u64, StoreError> {
        let work = async {
            let mut leader = self.leader.clone();
            let status = leader.wait_for(|status| status.leader.is_some()).await;
            let status = status.map_err(|_| StoreError::Stopped)?.clone();
            let id = status.leader.ok_or(StoreError::NoLeader)?;
            match status.node {
                None => self.change_here(change).await,
                Some(node) => {
                    let request = self.peers.request(MembershipChange { change: Some(change) });
                    let peer = self.peers.peer(id, &node).map_err(|_| StoreError::Unhealthy)?;
                    let response = peer.control().change_membership(request).await;
                    let response = response.map_err(|status| StoreError::from_peer(&status))?;
                    self.peers.accept(id, response).map(|reply| reply.id).map_err(|_| StoreError::Unhealthy)
                }
            }
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// Carries out a change on the leader.
    ///
    /// # Errors
    /// As [`Membership::change`]; `NotLeader` when this member does not lead.
    pub async fn change_here(&self, change: Change) -> Result<u64, StoreError> {
        let _turn = self.turn.lock().await;
        let members = self.standing();
        match change {
            Change::Add(add) => {
                quorum::may_add(&members, &add.peer_urls, add.learner)?;
                let id = self.new_id(&members);
                let node = PeerNode { peer_urls: add.peer_urls, vote_when_ready: !add.learner };
                self.propose(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])), true).await?;
                Ok(id)
            }
            Change::Remove(id) => {
                quorum::may_remove(&members, MemberId(id))?;
                let gone = BTreeSet::from([id]);
                let voter = members.iter().any(|member| member.id.0 == id && member.voter);
                let change =
                    if voter { ChangeMembers::RemoveVoters(gone) } else { ChangeMembers::RemoveNodes(gone) };
                self.propose(change, false).await?;
                Ok(0)
            }
            Change::Update(update) => {
                quorum::may_update(&members, MemberId(update.id), &update.peer_urls)?;
                let node = PeerNode { peer_urls: update.peer_urls, vote_when_ready: false };
                self.propose(ChangeMembers::SetNodes(BTreeMap::from([(update.id, node)])), true).await?;
                Ok(0)
            }
            Change::Promote(id) => {
                let promoted = self.promote(&members, MemberId(id)).await;
                let counts = &self.peers.metrics().server;
                match &promoted {
                    Ok(()) => counts.learner_promote_successes.inc(),
                    Err(StoreError::MemberNotFound) => counts.learner_promote_failed("member not found"),
                    Err(StoreError::MemberNotLearner) => counts.learner_promote_failed("not a learner"),
                    Err(StoreError::LearnerNotReady) => counts.learner_promote_failed("not ready"),
                    Err(_) => counts.learner_promote_failed("not agreed on"),
                }
                promoted.map(|()| 0)
            }
            Change::MoveLeader(to) => {
                if !members.iter().any(|member| member.id.0 == to && member.voter) {
                    return Err(StoreError::BadLeaderTransferee);
                }
                let mut leader = self.leader.clone();
                let moved = transfer_leadership(&self.raft, &mut leader, MemberId(to), self.timeout).await;
                if moved { Ok(0) } else { Err(StoreError::TimeoutLeaderTransfer) }
            }
        }
    }

    async fn promote(&self, members: &[Standing], id: MemberId) -> Result<(), StoreError> {
        quorum::may_promote(members, id, self.caught_up(id))?;
        self.propose(ChangeMembers::AddVoterIds(BTreeSet::from([id.0])), true).await
    }

    async fn propose(&self, change: ChangeMembers<u64, PeerNode>, retain: bool) -> Result<(), StoreError> {
        match self.raft.change_membership(change, retain).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a change of membership failed");
                Err(if error.forward_to_leader().is_some() {
                    StoreError::LeaderChanged
                } else {
                    StoreError::Unhealthy
                })
            }
        }
    }

    fn new_id(&self, members: &[Standing]) -> u64 {
        let picture = self.published.picture();
        loop {
            let id: u64 = rand::random();
            let taken = members.iter().any(|member| member.id.0 == id);
            if id != 0 && !taken && !picture.members.removed().any(|removed| removed.0 == id) {
                return id;
            }
        }
    }

    /// Who is a member, and how each one is.
    fn standing(&self) -> Vec<Standing> {
        let picture = self.published.picture();
        let longest = self.election_timeout * UNHEALTHY_TIMEOUTS;
        let heard_ago = observe::heard_ago(&self.raft);
        let heard = |id| heard_ago.get(&id).is_some_and(|ago| *ago < longest);
        let own = self.peers.own().member;
        let standing =
            observe::nodes(&self.raft).into_iter().map(|observe::Node { id, voter, peer }| Standing {
                id,
                voter,
                started: picture.members.get(id).is_some(),
                healthy: id == own || heard(id),
                peer_urls: peer.peer_urls,
            });
        standing.collect()
    }

    fn caught_up(&self, id: MemberId) -> bool {
        let last = observe::last_log_index(&self.raft);
        let matched = observe::progress(&self.raft).and_then(|followers| followers.get(&id).copied());
        matched.is_some_and(|matched| matched > 0 && matched * 100 >= last * READY_PERCENT)
    }

    /// Gives votes to learners that were added as voters, as soon as they are ready. Until `stop`.
    pub async fn promote_ready(&self, stop: CancellationToken) {
        let mut server = self.raft.server_metrics();
        let mut data = self.raft.data_metrics();
        loop {
            let waiting = {
                let server = server.borrow_and_update();
                let voters: BTreeSet<_> = server.membership_config.voter_ids().collect();
                let leads = server.state == ServerState::Leader;
                let waiting = server
                    .membership_config
                    .nodes()
                    .filter(|(id, node)| leads && node.vote_when_ready && !voters.contains(id))
                    .map(|(&id, _)| id);
                waiting.collect::<Vec<_>>()
            };
            drop(data.borrow_and_update());
            for &id in &waiting {
                let started = self.published.peek().members.get(MemberId(id)).is_some();
                if started && self.caught_up(MemberId(id)) && self.promoting.lock().insert(MemberId(id)) {
                    let promoted = self.change_here(Change::Promote(id)).await;
                    self.promoting.lock().remove(&MemberId(id));
                    match promoted {
                        Ok(_) => tracing::info!(member = %MemberId(id), "caught up and votes now"),
                        Err(error) => tracing::warn!(member = %MemberId(id), %error, "cannot vote yet"),
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = server.changed() => if changed.is_err() { return },
                // Progress matters only while somebody waits for it.
                changed = data.changed(), if !waiting.is_empty() => if changed.is_err() { return },
            }
        }
    }
}
