//! The quota on live bytes: writes are refused beyond it, and welcome again as soon as there is room.
//!
//! History and free space on disk do not count, so compaction is never a condition for writing. The alarm
//! that etcd's clients know is raised when a write is refused, and clears itself.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::command::{AlarmKind, Command};
use crate::ids::MemberId;
use crate::mvcc::view::View;
use crate::raft::proposer::Proposer;
use crate::state::published::Published;

/// The alarm clears when live bytes are below this part of the quota, in percent.
const CLEAR_PERCENT: u64 = 95;

/// The quota of this member.
#[derive(Debug)]
pub struct Space {
    /// `None` for no quota.
    quota_bytes: Option<u64>,
}

impl Space {
    /// A quota in bytes; negative for none.
    #[must_use]
    pub fn new(quota_bytes: i64) -> Self {
        Self { quota_bytes: u64::try_from(quota_bytes).ok() }
    }

    /// The quota; -1 for none.
    #[must_use]
    pub fn quota_bytes(&self) -> i64 {
        self.quota_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    /// Whether so many bytes may be added.
    #[must_use]
    pub fn has_room_for(&self, view: &View, cost_bytes: u64) -> bool {
        self.quota_bytes.is_none_or(|quota| view.live_bytes().saturating_add(cost_bytes) <= quota)
    }
}

/// Clears this member's alarm as soon as there is room again. Until `stop`.
///
/// The alarm is raised where a write is refused.
pub async fn run(
    space: Arc<Space>,
    own: MemberId,
    published: Arc<Published>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    let Some(quota) = space.quota_bytes else { return };
    let mut applied = published.applied();
    let mut milestones = published.milestones();
    loop {
        milestones.borrow_and_update();
        applied.mark_unchanged();
        let (raised, live) = {
            let picture = published.peek();
            (picture.alarms.contains(&(own, AlarmKind::NoSpace)), picture.view.live_bytes())
        };
        if raised && live < quota / 100 * CLEAR_PERCENT {
            let clear = Command::Alarm { raise: false, member: own, kind: AlarmKind::NoSpace };
            match proposer.propose(clear, 16).await {
                Ok(_) => tracing::info!(live, quota, "there is space again"),
                Err(error) => tracing::warn!(%error, "the space alarm could not be cleared"),
            }
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = milestones.changed() => if changed.is_err() { return },
            changed = applied.changed(), if raised => if changed.is_err() { return },
        }
    }
}
