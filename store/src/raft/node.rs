//! Raft as the member uses it: started, asked who leads, told to hand over, to take a snapshot, to stop.

use openraft::async_runtime::WatchReceiver as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};
use prometheus::IntCounter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::leadership::{LeaderStatus, LeaderWatch};
use super::log_storage::LogStore;
use super::network::Network;
use super::state_machine::StateMachine;
use super::types::{PeerNode, TypeConfig};
use crate::ids::MemberId;

/// Raft of this member. Cloning copies a pointer.
pub type RaftHandle = openraft::Raft<TypeConfig, StateMachine>;

/// Raft cannot be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Settings that contradict each other.
    #[error("Raft refuses its settings: {0}")]
    Config(String),
    /// Raft stopped, because of the disk in most cases.
    #[error("Raft stopped: {0}")]
    Fatal(String),
}

/// Times of Raft.
#[derive(Clone, Copy, Debug)]
pub struct RaftTiming {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// A follower elects after a silence of 1.1 to 1.4 times this.
    pub election_ms: u64,
}

/// openraft's settings.
///
/// # Errors
/// When the times contradict each other.
pub fn config(cluster: &str, timing: RaftTiming) -> Result<Config, NodeError> {
    let config = Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        heartbeat_min_interval: Some(timing.heartbeat_ms / 2),
        // openraft lets a follower wait for the lease of the silent leader first, which is the longer of these
        // two, and then for a time drawn between them: 1.1 to 1.4 election timeouts together.
        election_timeout_min: timing.election_ms * 2 / 5,
        election_timeout_max: timing.election_ms * 7 / 10,
        // A long snapshot transfer is ended by its own stall limit.
        install_snapshot_timeout: 3_600_000,
        // The bound is bytes, in the log reader.
        max_payload_entries: 1024,
        // Entries as long as there are any; a snapshot only when the log was purged.
        replication_lag_threshold: u64::MAX / 4,
        snapshot_policy: SnapshotPolicy::Never,
        // Purging follows bytes, see `member::snapshots`.
        max_in_snapshot_log_to_keep: u64::MAX / 4,
        enable_pre_vote: Some(true),
        // A restarted leader is a follower first; what it had committed is in its log.
        enable_leader_restore: Some(false),
        // Silent and loud phases after a lost quorum, so that a leader which can still send but not
        // hear does not keep others from electing.
        quorum_loss_probe_interval: Some(timing.election_ms * 5),
        ..Config::default()
    };
    config.validate().map_err(|error| NodeError::Config(error.to_string()))
}

/// Starts Raft on what disk has. When this returns, its metrics tell the members that disk has.
///
/// # Errors
/// When the log contradicts the state.
pub async fn start(
    id: MemberId,
    config: Config,
    network: Network,
    log: LogStore,
    state_machine: StateMachine,
) -> Result<RaftHandle, NodeError> {
    let raft = Box::pin(RaftHandle::new(id.0, Arc::new(config), network, log, state_machine))
        .await
        .map_err(|error| NodeError::Fatal(error.to_string()))?;
    // Before it answers anything, its metrics are empty, and whoever looks there would know no other member.
    raft.is_initialized().await.map_err(|error| NodeError::Fatal(error.to_string()))?;
    Ok(raft)
}

/// Forms a new cluster. Every first member does this with the same members; a member that has a log
/// already is not changed.
///
/// # Errors
/// When Raft has stopped.
pub async fn initialize(raft: &RaftHandle, members: BTreeMap<u64, PeerNode>) -> Result<(), NodeError> {
    match raft.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(NodeError::Fatal(error.to_string())),
    }
}

/// Follows who leads, on a task of `tasks`; `changes` counts the leaders that come.
#[must_use]
pub fn follow_leadership(
    raft: &RaftHandle,
    changes: IntCounter,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> LeaderWatch {
    let own = *raft.node_id();
    let mut metrics = raft.server_metrics();
    let (tx, rx) = watch::channel(LeaderStatus::default());
    tasks.spawn(async move {
        loop {
            let status = {
                let metrics = metrics.borrow_and_update();
                let node = metrics
                    .current_leader
                    .filter(|leader| *leader != own)
                    .and_then(|leader| metrics.membership_config.get_node(&leader).cloned());
                let membership = &metrics.membership_config;
                // One that gets its vote as soon as it can serves like a voter.
                let is_learner = membership.get_node(&own).is_some_and(|node| !node.vote_when_ready)
                    && !membership.voter_ids().any(|id| id == own);
                LeaderStatus {
                    is_learner,
                    term: metrics.vote.leader_id().term,
                    leader: metrics.current_leader.map(MemberId),
                    node,
                }
            };
            tx.send_if_modified(|current| {
                let changed = *current != status;
                if changed {
                    changes.inc_by(u64::from(status.leader.is_some() && status.leader != current.leader));
                    *current = status;
                }
                changed
            });
            tokio::select! {
                () = stop.cancelled() => break,
                changed = metrics.changed() => if changed.is_err() { break },
            }
        }
    });
    rx
}

/// Hands leadership to `to` and waits until it, or another member, leads.
pub async fn transfer_leadership(
    raft: &RaftHandle,
    leader: &mut LeaderWatch,
    to: MemberId,
    timeout: Duration,
) -> bool {
    let own = MemberId(*raft.node_id());
    if raft.trigger().transfer_leader(to.0).await.is_err() {
        return false;
    }
    let moved = leader.wait_for(|status| status.leader.is_some_and(|leader| leader != own));
    tokio::time::timeout(timeout, moved).await.is_ok_and(|moved| moved.is_ok())
}
