//! The quota on live bytes: writes are refused beyond it, and welcome again as soon as there is room.
//!
//! History and free space on disk do not count, so compaction is never a condition for writing. The alarm
//! that etcd's clients know is raised when a write is refused, and clears itself.

use std::sync::Arc;

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::command::{AlarmKind, Command};
use crate::ids::MemberId;
use crate::mvcc::view::View;
use crate::raft::proposer::Proposer;
use crate::state::published::Published;

/// The alarm clears when live bytes are below this part of the quota, in percent.
const CLEAR_PERCENT: u64 = 95;

/// A warning is given when live bytes pass this part of the quota, in percent ...
const WARN_PERCENT: u64 = 80;
/// ... and is over when they are below this one, so that what moves around the first does not fill the log.
const CALM_PERCENT: u64 = 75;

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

/// Whether this member warns of its quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Warning(bool);

impl Warning {
    /// Looks at what there is; whether the warning has just begun or ended.
    fn look(&mut self, live_bytes: u64, quota_bytes: u64) -> bool {
        let part = |percent: u64| quota_bytes / 100 * percent + quota_bytes % 100 * percent / 100;
        let warns = if self.0 { live_bytes >= part(CALM_PERCENT) } else { live_bytes > part(WARN_PERCENT) };
        std::mem::replace(&mut self.0, warns) != warns
    }
}

/// Warns, once, when the quota comes near, and clears this member's alarm as soon as there is room again. Until
/// `stop`.
///
/// The alarm is raised where a write is refused.
pub async fn run(
    space: Arc<Space>,
    own: MemberId,
    published: Arc<Published>,
    proposer: Proposer,
    warning_gauge: IntGauge,
    stop: CancellationToken,
) {
    let mut warning = Warning::default();
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
        if warning.look(live, quota) {
            warning_gauge.set(i64::from(warning.0));
            if warning.0 {
                tracing::warn!(
                    live_bytes = live,
                    quota_bytes = quota,
                    "more than {WARN_PERCENT} % of --quota-backend-bytes are used; writes are refused when it is full: \
                     delete keys, or raise it on every member (`kvctl space` tells what takes the space)"
                );
            } else {
                tracing::info!(live_bytes = live, quota_bytes = quota, "the quota is not near any more");
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_begins_once_and_ends_well_below() {
        let mut warning = Warning::default();
        // Live bytes of a quota of 1000, whether that changes something, whether it warns then.
        for (live_bytes, changes, warns) in [
            (0, false, false),
            (800, false, false),
            (801, true, true),
            (900, false, true),
            (790, false, true),
            (850, false, true),
            (750, false, true),
            (749, true, false),
            (800, false, false),
            (2000, true, true),
            (0, true, false),
        ] {
            assert_eq!((warning.look(live_bytes, 1000), warning.0), (changes, warns), "{live_bytes}");
        }
        assert!(!warning.look(u64::MAX / 100 * 79, u64::MAX), "no overflow");
        assert!(warning.look(1, 0), "a quota of nothing");
    }
}
