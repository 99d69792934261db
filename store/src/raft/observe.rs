//! What Raft knows of its members, as the rest of the store asks for it: a look at one moment, in the store's
//! own types. Never waits and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;

use super::node::RaftHandle;
use super::types::{LogId, PeerNode};
use crate::ids::MemberId;

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub id: MemberId,
    /// Whether it has a vote.
    pub voter: bool,
    /// Where it is, and whether it is to get a vote.
    pub peer: PeerNode,
}

/// All members, this one included, in the order of their ids.
#[must_use]
pub fn nodes(raft: &RaftHandle) -> Vec<Node> {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    let voters: BTreeSet<_> = server.membership_config.voter_ids().collect();
    let nodes = server.membership_config.nodes();
    nodes
        .map(|(&id, peer)| Node { id: MemberId(id), voter: voters.contains(&id), peer: peer.clone() })
        .collect()
}

/// Those who vote.
#[must_use]
pub fn voters(raft: &RaftHandle) -> BTreeSet<MemberId> {
    let (_, sets) = voter_sets(raft);
    sets.into_iter().flatten().collect()
}

/// Those who vote, as the log entry with this term and index has it: one set, or two while voters change. More than half
/// of each set must agree.
#[must_use]
pub fn voter_sets(raft: &RaftHandle) -> ((u64, u64), Vec<BTreeSet<MemberId>>) {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    let from = server.membership_config.log_id().as_ref().map_or((0, 0), |id| (id.leader_id.term, id.index));
    let sets = server.membership_config.get_joint_config().iter();
    (from, sets.map(|set| set.iter().copied().map(MemberId).collect()).collect())
}

/// The term that this member is in; may lag behind the log's, never run ahead of it.
#[must_use]
pub fn term(raft: &RaftHandle) -> u64 {
    raft.server_metrics().borrow_watched().vote.leader_id().term
}

/// Who leads in which term, as far as this member knows.
#[must_use]
pub fn leader(raft: &RaftHandle) -> Option<(u64, MemberId)> {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    Some((server.vote.leader_id().term, MemberId(server.current_leader?)))
}

/// The last entry that is known to be committed; 0 for none.
#[must_use]
pub fn committed_index(raft: &RaftHandle) -> u64 {
    raft.data_metrics().borrow_watched().local_committed.map_or(0, |id| id.index())
}

/// The last entry of this member's log; 0 for none.
#[must_use]
pub fn last_log_index(raft: &RaftHandle) -> u64 {
    raft.data_metrics().borrow_watched().last_log.map_or(0, |id| id.index())
}

/// How far each follower's log is known to agree with this leader's, by index; 0 when nothing is known.
/// `None` when this member does not lead.
#[must_use]
pub fn progress(raft: &RaftHandle) -> Option<BTreeMap<MemberId, u64>> {
    let data = raft.data_metrics();
    let data = data.borrow_watched();
    let followers = data.replication.as_ref()?.iter();
    Some(followers.map(|(&id, matched)| (MemberId(id), matched.map_or(0, |id: LogId| id.index()))).collect())
}

/// How long ago each follower answered a heartbeat of this leader; those that never did are missing.
#[must_use]
pub fn heard_ago(raft: &RaftHandle) -> BTreeMap<MemberId, Duration> {
    let data = raft.data_metrics();
    let data = data.borrow_watched();
    let followers = data.heartbeat.iter().flatten();
    followers.filter_map(|(&id, at)| Some((MemberId(id), at.as_ref()?.elapsed()))).collect()
}

/// How long ago a quorum confirmed this leader. Zero for one elected just now (the votes did) and for one that
/// needs nobody.
#[must_use]
pub fn confirmed_ago(raft: &RaftHandle) -> Duration {
    if voters(raft).len() == 1 {
        return Duration::ZERO;
    }
    let acknowledged = raft.data_metrics().borrow_watched().last_quorum_acked;
    acknowledged.map_or(Duration::ZERO, |at| at.elapsed())
}
