//! Marks of time in the log, while this member leads: which revision was current when.
//!
//! The first change after a pause is marked at once, the others at most once in an interval; what does not change
//! is not marked again, so an idle cluster proposes nothing. The clock decides nothing but what the marks say.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::command::Command;
use crate::ids::{MemberId, Revision};
use crate::raft::leadership::LeaderWatch;
use crate::raft::proposer::Proposer;
use crate::state::published::Published;
use crate::wall_clock::WallClock;

/// Between two marks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn run(
    own: MemberId,
    mut leader: LeaderWatch,
    published: Arc<Published>,
    proposer: Proposer,
    clock: WallClock,
    stop: CancellationToken,
) {
    let work = async {
        // The newest that was proposed: one that was left out, because the clock is behind, is not tried again.
        let mut proposed = Revision(0);
        loop {
            if leader.wait_for(|status| status.is_led_by(own)).await.is_err() {
                return;
            }
            tokio::select! {
                // Another one may lead from now on.
                changed = leader.changed() => if changed.is_err() { return },
                unmarked = unmarked(&published, &clock, proposed) => {
                    let Some((revision, time_ms)) = unmarked else { return };
                    proposed = revision;
                    if let Err(error) = proposer.propose(Command::MarkTime { revision, time_ms }, 16).await {
                        tracing::debug!(%revision, %error, "the time of a revision is not noted");
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

/// The current revision and the time, as soon as it has no mark and was not proposed; `None` when the member ends.
async fn unmarked(published: &Published, clock: &WallClock, proposed: Revision) -> Option<(Revision, i64)> {
    let mut applied = published.applied();
    loop {
        applied.mark_unchanged();
        let (revision, marked) = {
            let picture = published.peek();
            (picture.view.revision(), picture.timeline.last().map_or(Revision(0), |mark| mark.revision))
        };
        if revision > marked.max(proposed) {
            return Some((revision, clock.unix_ms()));
        }
        applied.changed().await.ok()?;
    }
}
