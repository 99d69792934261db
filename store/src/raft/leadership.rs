//! Who leads, as the rest of the store sees it.

use std::time::Duration;

use tokio::sync::watch;

use super::types::PeerNode;
use crate::ids::MemberId;

/// Who leads in which term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderStatus {
    /// The term this member is in.
    pub term: u64,
    /// The leader of that term, once it is known.
    pub leader: Option<MemberId>,
    /// Where the leader is reached; `None` when it is this member.
    pub node: Option<PeerNode>,
    /// Whether this member is one without a vote.
    pub is_learner: bool,
}

impl LeaderStatus {
    /// Whether `member` leads.
    #[must_use]
    pub fn is_led_by(&self, member: MemberId) -> bool {
        self.leader == Some(member)
    }
}

/// Follows the changes.
pub type LeaderWatch = watch::Receiver<LeaderStatus>;

/// Waits until the leader changes, but not longer than `pause`. When Raft has ended nobody tells of changes any more, and
/// the pause is all there is: whoever asks the leader again and again must not do so without rest then.
pub async fn changed_within(leader: &mut LeaderWatch, pause: Duration) {
    let _ = tokio::time::timeout(pause, changed(leader)).await;
}

/// What a leader answers; nothing when it leads no more before it does. Paused or cut off, it would not for a long time.
pub async fn answered<T>(leader: &mut LeaderWatch, asked: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = asked => Some(answer),
        () = changed(leader) => None,
    }
}

/// Waits until the leader changes; for ever when Raft has ended.
async fn changed(leader: &mut LeaderWatch) {
    if leader.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_leader_is_not_waited_for_when_there_is_another_one() {
        let (tell, mut leader) = watch::channel(LeaderStatus::default());
        assert_eq!(answered(&mut leader, async { 1 }).await, Some(1));
        tell.send_replace(LeaderStatus { term: 1, ..LeaderStatus::default() });
        assert_eq!(answered(&mut leader, async { 2 }).await, Some(2), "an answer that is there counts");
        assert_eq!(answered(&mut leader, std::future::pending::<u32>()).await, None);
        drop(tell);
        assert_eq!(answered(&mut leader, async { 3 }).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_with_a_change_and_is_kept_when_there_are_no_more_changes() {
        let (tell, mut leader) = watch::channel(LeaderStatus::default());
        let (pause, began) = (Duration::from_millis(50), Instant::now());
        tell.send_replace(LeaderStatus { term: 1, ..LeaderStatus::default() });
        changed_within(&mut leader, pause).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        changed_within(&mut leader, pause).await;
        assert!(began.elapsed() >= pause);
        drop(tell);
        let began = Instant::now();
        changed_within(&mut leader, pause).await;
        assert!(began.elapsed() >= pause);
    }
}
