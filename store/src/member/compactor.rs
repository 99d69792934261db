//! Automatic compaction, on the leader: keeps the history of the last hours (periodic), or the last so
//! many revisions (revision).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::config::AutoCompaction;
use crate::ids::{MemberId, Revision};
use crate::raft::leadership::LeaderWatch;
use crate::raft::proposer::Proposer;
use crate::state::published::Published;

/// How often the number of revisions is looked at (etcd: 5 minutes).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// Looks at the clock within one retention (etcd: 10, and at least once an hour).
const PERIODIC_STEPS: u32 = 10;
const PERIODIC_LONGEST: Duration = Duration::from_secs(3600 / 10);

/// Revisions and when they were current; pure.
#[derive(Debug, Default)]
struct Track {
    seen: VecDeque<(Duration, Revision)>,
}

impl Track {
    /// Notes the current revision; answers the newest one that is at least `retention` old.
    fn note(&mut self, now: Duration, current: Revision, retention: Duration) -> Option<Revision> {
        self.seen.push_back((now, current));
        let mut old = None;
        while let Some(&(at, revision)) = self.seen.front() {
            if at + retention > now {
                break;
            }
            old = Some(revision);
            self.seen.pop_front();
        }
        old
    }
}

/// Runs until `stop`.
pub async fn run(
    mode: AutoCompaction,
    own: MemberId,
    leader: LeaderWatch,
    published: Arc<Published>,
    proposer: Proposer,
    stop: CancellationToken,
) {
    let interval = match mode {
        AutoCompaction::Off => return,
        AutoCompaction::Revision(_) => REVISION_INTERVAL,
        AutoCompaction::Periodic(retention) => (retention / PERIODIC_STEPS).min(PERIODIC_LONGEST),
    };
    let started = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(100)));
    let mut track = Track::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (current, compacted) = {
            let picture = published.peek();
            (picture.view.revision(), picture.view.compact_revision())
        };
        let target = match mode {
            AutoCompaction::Off => return,
            AutoCompaction::Revision(keep) => Some(Revision(current.0 - keep)),
            AutoCompaction::Periodic(retention) => track.note(started.elapsed(), current, retention),
        };
        let Some(revision) = target.filter(|target| *target > compacted && target.0 > 0) else { continue };
        if leader.borrow().is_led_by(own) {
            match proposer.propose(Command::Compact { revision }, 16).await {
                Ok(_) => tracing::info!(%revision, "compacted automatically"),
                Err(error) => tracing::warn!(%revision, %error, "automatic compaction failed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_at_least_the_retention() {
        let mut track = Track::default();
        let retention = Duration::from_secs(10);
        let minute: Vec<_> = (0..15)
            .map(|s| track.note(Duration::from_secs(s), Revision(s as i64 * 100), retention))
            .collect();
        assert!(minute[..10].iter().all(Option::is_none));
        assert_eq!(minute[10], Some(Revision(0)));
        assert_eq!(minute[14], Some(Revision(400)));
    }

    #[test]
    fn after_a_gap_only_the_newest_old_revision_counts() {
        let mut track = Track::default();
        let retention = Duration::from_secs(10);
        for s in 0..5 {
            track.note(Duration::from_secs(s), Revision(s as i64), retention);
        }
        assert_eq!(track.note(Duration::from_secs(100), Revision(50), retention), Some(Revision(4)));
    }
}
