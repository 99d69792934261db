//! What a member does that was found to hold other data than the majority: it answers no client from that data,
//! keeps out of the lead, and says how to recover. It goes on to take part in Raft, whose log has checksums of
//! its own, so the cluster does not lose a vote.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Member;

/// Between two attempts to give the lead away.
const PAUSE: Duration = Duration::from_secs(1);

impl Member {
    /// Whether this member may not serve what it holds.
    pub(super) fn in_quarantine(&self) -> bool {
        self.0.published.peek().is_corrupt(self.0.peers.own().member)
    }

    /// Ends streams when this member is put into quarantine, tells the administrator, and gives the lead away.
    /// Until `stop`.
    pub(super) async fn keep_quarantine(self, stop: CancellationToken) {
        let own = self.0.peers.own().member;
        let mut milestones = self.0.published.milestones();
        let mut leader = self.0.leader.clone();
        let mut told = false;
        loop {
            milestones.borrow_and_update();
            let quarantined = self.in_quarantine();
            if quarantined && !told {
                self.0.serving.load().cancel();
                tracing::error!(
                    member = %own,
                    "this member holds other data than the majority (alarm CORRUPT) and serves no client; remove it \
                     (`etcdctl member remove {own}`), then add it again as a new member with an empty data directory"
                );
            } else if told && !quarantined {
                self.0.serving.store(Arc::new(self.0.drain.child_token()));
                tracing::warn!(member = %own, "the alarm CORRUPT was disarmed; this member serves again");
            }
            told = quarantined;
            let leads = leader.borrow_and_update().is_led_by(own);
            // When everybody is in doubt, nobody would lead better.
            let alone = quarantined && leads && self.0.published.peek().is_corrupt_alone(own);
            if alone {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.hand_over() => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = milestones.changed() => if changed.is_err() { return },
                changed = leader.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(PAUSE), if alone => {}
            }
        }
    }
}
