//! Members compare the hashes of what they hold, on the leader's initiative; a minority that differs is shut out.
//!
//! The hash is that of `Maintenance.HashKV`: over everything that can be read, computed anew each time. A sum
//! that is kept while entries are executed would cost less, but it would agree with what was executed and not
//! with what is there: a bit that flips at rest, in memory or on disk, would never be found. So it reads all, and
//! rests a hundred times as long.
//!
//! Nothing here repairs anything: who is right is decided by the majority of those who vote, and who is wrong
//! gets the alarm that clients of etcd know. What that member does then is the business of `quarantine`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use barque_proto::peer as wire;

use super::Member;
use crate::command::{AlarmKind, Command};
use crate::error::StoreError;
use crate::ids::{MemberId, Revision};
use crate::raft::observe;
use crate::raft::peers::PeerError;
use crate::rpc::backend::{Backend as _, HistoryHash};

/// Hashing that took long is followed by a rest of so many times as long.
const REST: u32 = 100;

/// What the comparison of hashes says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All that could be compared are equal.
    Equal,
    /// These differ from what more than half of the voters hold.
    Differ(BTreeSet<MemberId>),
    /// They differ, and those who were not heard could make either a majority.
    Undecided,
    /// All voters were heard and no hash is held by more than half of them: nobody can say who is right.
    NoMajority,
}

/// Judges hashes of one revision with one compact revision.
fn judge(voters: &BTreeSet<MemberId>, hashes: &BTreeMap<MemberId, u32>) -> Verdict {
    let mut held: BTreeMap<u32, usize> = BTreeMap::new();
    for (member, hash) in hashes {
        *held.entry(*hash).or_default() += usize::from(voters.contains(member));
    }
    if held.len() <= 1 {
        return Verdict::Equal;
    }
    if let Some((&right, _)) = held.iter().find(|(_, count)| **count > voters.len() / 2) {
        let wrong = hashes.iter().filter(|(_, hash)| **hash != right);
        return Verdict::Differ(wrong.map(|(member, _)| *member).collect());
    }
    if voters.iter().all(|voter| hashes.contains_key(voter)) {
        Verdict::NoMajority
    } else {
        Verdict::Undecided
    }
}

impl Member {
    /// Compares all members each `interval` while this one leads. Until the member stops.
    pub(super) async fn compare_members(self, interval: Duration) {
        let mut next = Instant::now() + interval;
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
            }
            let own = self.0.peers.own().member;
            let mut worked = Duration::ZERO;
            if self.0.leader.borrow().is_led_by(own) {
                let checked = tokio::select! {
                    () = self.0.stop.cancelled() => return,
                    checked = self.compare_once() => checked,
                };
                match checked {
                    Ok(hashed) => worked = hashed,
                    Err(error) => tracing::warn!(%error, "the members could not be compared"),
                }
            }
            next = Instant::now() + interval.max(worked * REST);
        }
    }

    /// Answers how long it took to hash what this member holds. Not how long the check took: waiting for a member
    /// that does not answer is no work, and must not put the next check off.
    async fn compare_once(&self) -> Result<Duration, StoreError> {
        let nodes = observe::nodes(&self.0.raft);
        if nodes.len() < 2 {
            return Ok(Duration::ZERO);
        }
        let own = self.0.peers.own().member;
        let began = Instant::now();
        let ours = self.hash_kv(Revision(0)).await?;
        let worked = began.elapsed();
        let at = ours.hash_revision;
        let asked = nodes.iter().filter(|node| node.id != own).map(|node| async move {
            let answer = self.hash_of(node, at).await;
            let answer = answer.inspect_err(|error| {
                tracing::info!(member = %node.id, %error, "a member's hash could not be had");
            });
            (node.id, answer.ok())
        });
        let mut hashes = BTreeMap::from([(own, ours.hash)]);
        for (id, answer) in futures::future::join_all(asked).await {
            // One that was compacted otherwise meanwhile is compared the next time.
            let same = answer.filter(|answer| answer.compact_revision == ours.compact_revision.0);
            hashes.extend(same.map(|answer| (id, answer.hash)));
        }
        let voters = nodes.iter().filter(|node| node.voter).map(|node| node.id).collect();
        self.act_on(&judge(&voters, &hashes), &hashes, &ours).await?;
        Ok(worked)
    }

    async fn hash_of(&self, node: &observe::Node, at: Revision) -> Result<wire::HashAnswer, PeerError> {
        let peer = self.0.peers.peer(node.id, &node.peer)?;
        let response = peer.data().hash(self.0.peers.request(wire::HashQuery { revision: at.0 })).await?;
        self.0.peers.accept(node.id, response)
    }

    async fn act_on(
        &self,
        verdict: &Verdict,
        hashes: &BTreeMap<MemberId, u32>,
        ours: &HistoryHash,
    ) -> Result<(), StoreError> {
        let (revision, compact_revision) = (ours.hash_revision.0, ours.compact_revision.0);
        let wrong = match verdict {
            Verdict::Equal => {
                tracing::debug!(revision, members = hashes.len(), "the members hold the same");
                return Ok(());
            }
            Verdict::Undecided => {
                tracing::error!(
                    revision,
                    compact_revision,
                    ?hashes,
                    "members hold different data, and too few were heard to tell which are right"
                );
                return Ok(());
            }
            Verdict::Differ(wrong) => wrong.clone(),
            // As in etcd, the alarm of member 0 is everybody's.
            Verdict::NoMajority => BTreeSet::from([MemberId(0)]),
        };
        tracing::error!(revision, compact_revision, ?hashes, ?wrong, "members hold different data");
        for member in wrong {
            let known = self.0.published.peek().alarms.contains(&(member, AlarmKind::Corrupt));
            if !known {
                self.0
                    .proposer
                    .propose(Command::Alarm { raise: true, member, kind: AlarmKind::Corrupt }, 16)
                    .await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    #[test]
    fn the_majority_of_voters_is_right() {
        let differ = |ids: &[u64]| Verdict::Differ(members(ids));
        /// Voters, hashes as (member, hash), what follows.
        type Row<'a> = (&'a [u64], &'a [(u64, u32)], Verdict);
        let table: [Row<'_>; 11] = [
            (&[1, 2, 3], &[(1, 7), (2, 7), (3, 7)], Verdict::Equal),
            (&[1, 2, 3], &[(1, 7), (2, 7), (3, 8)], differ(&[3])),
            (&[1, 2, 3], &[(1, 8), (2, 7), (3, 7)], differ(&[1])),
            (&[1, 2, 3], &[(1, 7), (2, 8), (3, 9)], Verdict::NoMajority),
            (&[1, 2, 3], &[(1, 7), (2, 8)], Verdict::Undecided),
            (&[1, 2, 3], &[(1, 7)], Verdict::Equal),
            (&[1, 2], &[(1, 7), (2, 8)], Verdict::NoMajority),
            (&[1, 2, 3, 4, 5], &[(1, 7), (2, 7), (3, 8), (4, 7), (5, 9)], differ(&[3, 5])),
            (&[1, 2, 3, 4, 5], &[(1, 7), (2, 7), (3, 8)], Verdict::Undecided),
            // Learners can be wrong and never make a majority.
            (&[1, 2, 3], &[(1, 7), (2, 7), (4, 8)], differ(&[4])),
            (&[1], &[(1, 7), (2, 8), (3, 8)], differ(&[2, 3])),
        ];
        for (voters, hashes, expected) in table {
            let told = hashes.iter().map(|&(id, hash)| (MemberId(id), hash)).collect();
            assert_eq!(judge(&members(voters), &told), expected, "{voters:?} {hashes:?}");
        }
    }
}
