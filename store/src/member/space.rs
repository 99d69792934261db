//! The quota on live bytes: writes are refused beyond it, and welcome again as soon as there is room.
//!
//! History and free space on disk do not count, so compaction is never a condition for writing. The alarm
//! that etcd's clients know is raised when a write is refused, and clears itself.

use std::sync::Arc;

use tokio::sync::Notify;
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
    refused: Notify,
}

impl Space {
    /// A quota in bytes; negative for none.
    #[must_use]
    pub fn new(quota_bytes: i64) -> Self {
        Self { quota_bytes: u64::try_from(quota_bytes).ok(), refused: Notify::new() }
    }

    /// The quota; -1 for none.
    #[must_use]
    pub fn quota_bytes(&self) -> i64 {
        self.quota_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    /// Whether so many bytes may be added. A refusal raises the alarm.
    pub fn has_room_for(&self, view: &View, cost_bytes: u64) -> bool {
        let Some(quota) = self.quota_bytes else { return true };
        let fits = view.live_bytes().saturating_add(cost_bytes) <= quota;
        if !fits {
            self.refused.notify_one();
        }
        fits
    }
}

/// Raises this member's alarm when a write was refused and clears it when there is room. Until `stop`.
pub async fn run(
    space: Arc<Space>,
    own: MemberId,
    published: Arc<Published>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    let Some(quota) = space.quota_bytes else { return };
    let mut applied = published.applied();
    loop {
        let (raised, live) = {
            let picture = published.peek();
            applied.mark_unchanged();
            (picture.alarms.contains(&(own, AlarmKind::NoSpace)), picture.view.live_bytes())
        };
        let change = if raised {
            if live < quota / 100 * CLEAR_PERCENT {
                Some(false)
            } else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = applied.changed() => if changed.is_err() { return },
                }
                None
            }
        } else {
            tokio::select! {
                () = stop.cancelled() => return,
                () = space.refused.notified() => {}
                // Somebody else may raise this member's alarm.
                changed = applied.wait_for(|_| published.peek().alarms.contains(&(own, AlarmKind::NoSpace))) => {
                    if changed.is_err() { return }
                    continue;
                }
            }
            Some(true)
        };
        if let Some(raise) = change {
            let command = Command::Alarm { raise, member: own, kind: AlarmKind::NoSpace };
            match proposer.propose(command, 16).await {
                Ok(_) => tracing::warn!(raise, live, quota, "the space alarm changed"),
                Err(error) => tracing::warn!(raise, %error, "the space alarm could not be changed"),
            }
        }
    }
}
