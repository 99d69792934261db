//! Who leads, as the rest of the store sees it.

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
