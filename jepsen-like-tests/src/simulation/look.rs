//! What is seen of a member at one moment, from outside: numbers only, for the invariants to judge.

use barque_store::ids::MemberId;
use barque_store::member::Member;
use barque_store::raft::observe;
use barque_store::wal::{LogEntry, Position};
use futures::FutureExt as _;

use super::network::Place;

/// A member at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Where it runs.
    pub place: Place,
    /// Which process of that machine it is.
    pub boot: u64,
    /// Who it is.
    pub member: MemberId,
    /// The term in its log.
    pub term: u64,
    /// Who leads in which term, in its opinion.
    pub leader: Option<(u64, MemberId)>,
    /// The last entry that it executed; index 0 for none.
    pub applied: Position,
    /// The last entry that it knows to be committed; 0 for none.
    pub committed_index: u64,
    /// Its log begins behind this entry.
    pub purged_index: u64,
    /// The keyspace's revision.
    pub revision: i64,
    /// Older ones cannot be read.
    pub compact_revision: i64,
}

impl Look {
    /// At a member that runs; `None` when its log has stopped.
    #[must_use]
    pub fn at(place: Place, boot: u64, member: &Member) -> Option<Self> {
        let wal = member.log().wal();
        let (purged, _) = wal.bounds().ok()?;
        let picture = member.published().peek();
        Some(Self {
            place,
            boot,
            member: member.peers().own().member,
            term: member.log().term(),
            leader: observe::leader(member.raft()),
            applied: Position { term: picture.applied_term, index: picture.applied_index },
            committed_index: observe::committed_index(member.raft()),
            purged_index: purged.map_or(0, |purged| purged.index),
            revision: picture.view.revision().0,
            compact_revision: picture.view.compact_revision().0,
        })
    }

    /// Whether it leads in its term, in its own opinion.
    #[must_use]
    pub fn leads(&self) -> Option<u64> {
        self.leader.filter(|(_, leader)| *leader == self.member).map(|(term, _)| term)
    }
}

/// Entries of a member's log from `from` on; empty when the log has stopped.
#[must_use]
pub fn log_from(member: &Member, from: u64) -> Vec<LogEntry> {
    // On simulated machines nothing in it waits.
    let read = member.log().wal().read(from..u64::MAX, u64::MAX).now_or_never();
    read.and_then(Result::ok).unwrap_or_default()
}
