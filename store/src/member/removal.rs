//! How a member learns that it was removed while it did not listen: from the others, as soon as no leader is heard
//! any more. The leader that removes a member stops sending to it, perhaps before it has sent the removal itself.
//! Must never take silence for a removal.

use std::time::Duration;

use super::{Member, SILENT_TIMEOUTS, join};
use crate::ids::MemberId;
use crate::raft::identity::Identity;
use crate::raft::observe;

/// The longest pause between two questions to members that do not answer, or know of no removal.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Member {
    /// Completes when another member says that this one was removed. Nobody is asked while a leader is heard.
    pub(super) async fn removed_by_the_others(&self) {
        let inner = &self.0;
        let own = *inner.peers.own();
        let silent = inner.election_timeout * SILENT_TIMEOUTS;
        let mut leader = inner.leader.clone();
        let mut pause = silent;
        loop {
            // Whoever leads hears nobody, and learns of its own removal from its log.
            if leader.wait_for(|status| !status.is_led_by(own.member)).await.is_err() {
                return std::future::pending().await;
            }
            let silence = inner.contact.silence();
            if silence < silent {
                pause = silent;
                tokio::time::sleep(silent - silence).await;
                continue;
            }
            if says_removed(&own, &join::ask_members(&inner.peers, &self.others(own.member)).await) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn others(&self, own: MemberId) -> Vec<join::Named> {
        let nodes = observe::nodes(&self.0.raft).into_iter().filter(|node| node.id != own);
        nodes.map(|node| join::Named { name: node.id.to_string(), peer_urls: node.peer.peer_urls }).collect()
    }
}

/// Whether one of the answers, from this member's own cluster, counts it among those that were removed.
fn says_removed(own: &Identity, answers: &join::Answers) -> bool {
    let mut replies = answers.iter().flatten();
    replies.any(|reply| reply.cluster_id == own.cluster.0 && reply.removed.contains(&own.member.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, Incarnation};
    use barque_proto::peer::MembersReply;

    #[test]
    fn only_the_own_cluster_can_remove_a_member() {
        let own = Identity { cluster: ClusterId(7), member: MemberId(3), incarnation: Incarnation(1) };
        let reply = |cluster_id, removed: &[u64]| {
            Ok(MembersReply { cluster_id, members: vec![], removed: removed.to_vec() })
        };
        for (answers, removed) in [
            (vec![], false),
            (vec![Err("b: no answer".to_owned())], false),
            (vec![reply(7, &[])], false),
            (vec![reply(7, &[2, 4])], false),
            (vec![reply(8, &[3])], false),
            (vec![Err("b: no answer".to_owned()), reply(7, &[]), reply(7, &[2, 3])], true),
        ] {
            assert_eq!(says_removed(&own, &answers), removed, "{answers:?}");
        }
    }
}
