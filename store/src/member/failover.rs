//! A dead leader is noticed at once, not after the election timeout, and so is a cluster that was stopped whole.
//!
//! When the process of a leader dies, the kernel closes its connections and refuses new ones. A follower
//! whose stream of entries from the leader broke, and which nobody answers at the leader's address, gives
//! up its own lease on that leader and stands for election. Safety does not rest on this: a leader that
//! lives is protected by those followers that still hear it, because they refuse the pre-vote.
//!
//! For the same reason a member that comes back may ask for votes at once: where there is a leader, it gets none.

use openraft::async_runtime::WatchReceiver as _;
use std::sync::Arc;
use std::time::Duration;

use openraft::raft::TransferLeaderRequest;
use tokio_util::sync::CancellationToken;

use crate::ids::MemberId;
use crate::raft::leadership::{LeaderStatus, LeaderWatch};
use crate::raft::node::RaftHandle;
use crate::raft::observe;
use crate::raft::peer_service::LeaderContact;
use crate::raft::peers::Peers;
use crate::raft::types::PeerNode;

/// Between the attempts of two candidates, so that they do not split the votes.
const STAGGER: Duration = Duration::from_millis(40);
/// Attempts before the election timeout is left to do it.
const ATTEMPTS: u32 = 10;
/// Pauses before somebody who still listens for the leader is called again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// Calls before the leader is taken for alive; a second with the pauses.
const CALLS: u32 = 10;

/// Watches the leader's connection until `stop`.
pub async fn run(
    raft: RaftHandle,
    peers: Arc<Peers>,
    contact: Arc<LeaderContact>,
    mut leader: LeaderWatch,
    stop: CancellationToken,
) {
    let mut broken = contact.broken();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = broken.changed() => if changed.is_err() { return },
        }
        let lost = *broken.borrow_and_update();
        let status = leader.borrow_and_update().clone();
        let (Some(lost), Some(node)) = (lost, status.node.as_ref()) else { continue };
        if !status.is_led_by(lost) {
            continue;
        }
        let gone = tokio::select! {
            () = stop.cancelled() => return,
            gone = is_gone(&peers, node, &contact, &mut leader) => gone,
        };
        if !gone {
            continue;
        }
        tracing::warn!(leader = %lost, term = status.term, "the leader's process is gone; electing at once");
        tokio::select! {
            () = stop.cancelled() => return,
            () = elect(&raft, peers.own().member, &status, &mut leader) => {}
        }
    }
}

/// Whether the process of a leader whose stream broke has ended. The kernel closes what a dead process had open one by
/// one, so its port may answer for a moment after the stream broke.
async fn is_gone(peers: &Peers, node: &PeerNode, contact: &LeaderContact, leader: &mut LeaderWatch) -> bool {
    let broke = tokio::time::Instant::now();
    for call in 0..CALLS {
        if peers.is_dead(node).await {
            return true;
        }
        if tokio::time::timeout(FIRST_PAUSE * 2u32.pow(call), leader.changed()).await.is_ok() {
            return false;
        }
        // Only the stream broke, if the leader sends again.
        if contact.silence() < broke.elapsed() {
            return false;
        }
    }
    false
}

async fn elect(raft: &RaftHandle, own: MemberId, lost: &LeaderStatus, leader: &mut LeaderWatch) {
    let turn = turn_of(raft, own, lost);
    for attempt in 0..ATTEMPTS {
        // The others may notice later, and refuse until then.
        let pause = if attempt == 0 { STAGGER * turn } else { STAGGER * (attempt + 1) };
        if tokio::time::timeout(pause, leader.wait_for(|now| now.term > lost.term)).await.is_ok() {
            return;
        }
        let vote = raft.server_metrics().borrow_watched().vote;
        // Addressed to nobody: it only ends this member's lease on the leader that is gone.
        let release = TransferLeaderRequest::new(vote, 0, None);
        let released = raft.handle_transfer_leader(release).await;
        if released.is_err() || raft.trigger().elect(true).await.is_err() {
            return;
        }
    }
}

/// Stands for election after a start, until there is a leader. The members of a new cluster, which begin at the same
/// time, may split their votes at first.
pub async fn elect_after_start(
    raft: RaftHandle,
    own: MemberId,
    contact: Arc<LeaderContact>,
    mut leader: LeaderWatch,
    stop: CancellationToken,
) {
    // The leader that the saved vote names may be long gone.
    let saved = LeaderStatus { leader: None, ..leader.borrow_and_update().clone() };
    let turn = turn_of(&raft, own, &saved);
    for attempt in 0..ATTEMPTS {
        let pause = if attempt == 0 { STAGGER * turn } else { STAGGER * 4 };
        let elected = leader.wait_for(|now| now.term > saved.term && now.leader.is_some());
        let elected = tokio::select! {
            () = stop.cancelled() => return,
            elected = tokio::time::timeout(pause, elected) => elected.is_ok(),
        };
        if elected {
            return;
        }
        if contact.was_heard() || raft.trigger().elect(true).await.is_err() {
            return;
        }
    }
}

/// This member's place among the voters that are left.
fn turn_of(raft: &RaftHandle, own: MemberId, lost: &LeaderStatus) -> u32 {
    let before = observe::voters(raft).into_iter().filter(|id| lost.leader != Some(*id) && *id < own).count();
    u32::try_from(before).unwrap_or(ATTEMPTS)
}
