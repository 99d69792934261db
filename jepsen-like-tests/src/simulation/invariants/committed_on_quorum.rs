//! What any member takes for committed is on the disks of a majority of the voters at that time, synced; in the midst of a
//! change of voters on those of both majorities. Judged by the bytes on the disks, when the first member says it.

use std::collections::{BTreeMap, BTreeSet};

use barque_store::ids::MemberId;
use barque_store::wal::Position;

use crate::simulation::network::Place;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "committed is on a quorum";

/// Who has to agree: more than half of each set.
pub type VoterSets = Vec<BTreeSet<MemberId>>;

/// What was committed, and who voted.
#[derive(Debug, Default)]
pub struct CommittedOnQuorum {
    /// All memberships that any member ever worked with, by the entry that they come from.
    voters: BTreeMap<(u64, u64), VoterSets>,
    committed_index: u64,
    judged: u64,
}

impl CommittedOnQuorum {
    /// Takes note of the voters that a member works with.
    pub fn votes(&mut self, from: (u64, u64), sets: VoterSets) {
        self.voters.entry(from).or_insert(sets);
    }

    /// Whether it is news that entries up to this one are committed.
    #[must_use]
    pub fn asks(&self, committed_index: u64) -> bool {
        committed_index > self.committed_index
    }

    /// Judges an entry that the member at `place`, working with the membership `from`, takes for committed; `holds` says who
    /// has it on disk.
    ///
    /// # Errors
    /// When too few have it.
    pub fn see(
        &mut self,
        place: Place,
        entry: Position,
        from: (u64, u64),
        holds: impl Fn(MemberId) -> bool,
    ) -> Result<(), Violation> {
        self.committed_index = self.committed_index.max(entry.index);
        self.judged += 1;
        let more_than_half =
            |set: &BTreeSet<MemberId>| 2 * set.iter().filter(|member| holds(**member)).count() > set.len();
        let agreed = |sets: &VoterSets| !sets.is_empty() && sets.iter().all(more_than_half);
        // Who committed it may have known another membership than who is seen with it: the one before, or a later one.
        let before = self.voters.range(..from).next_back();
        let mut candidates = before.into_iter().chain(self.voters.range(from..));
        if candidates.any(|(_, sets)| agreed(sets)) {
            return Ok(());
        }
        let sets = self.voters.get(&from);
        let on: BTreeSet<MemberId> =
            sets.into_iter().flatten().flatten().copied().filter(|member| holds(*member)).collect();
        let (term, index) = (entry.term, entry.index);
        let detail = format!(
            "m{place} takes entry {term}.{index} for committed; of the voters {sets:?} {on:?} have it on disk"
        );
        Err(Violation::of(PROPERTY, detail))
    }

    /// How often it was judged.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    /// Whether an entry is fine that these members hold, for one that works with the membership at this entry.
    fn is_fine(memberships: &[((u64, u64), VoterSets)], from: (u64, u64), on: &[u64]) -> bool {
        let mut committed = CommittedOnQuorum::default();
        memberships.iter().for_each(|(from, sets)| committed.votes(*from, sets.clone()));
        let entry = Position { term: 1, index: 7 };
        committed.see(0, entry, from, |member| on.contains(&member.0)).is_ok()
    }

    #[test]
    fn more_than_half_of_each_set_must_have_it() {
        let three = vec![((1, 1), vec![set(&[1, 2, 3])])];
        let changing = vec![((1, 1), vec![set(&[1, 2, 3]), set(&[1, 4, 5])])];
        for (memberships, on, fine) in [
            (&three, &[1, 2][..], true),
            (&three, &[3], false),
            (&three, &[3, 4, 5], false),
            (&changing, &[1, 2], false),
            (&changing, &[1, 2, 4], true),
            (&changing, &[1, 4, 5], false),
        ] {
            assert_eq!(is_fine(memberships, (1, 1), on), fine, "{memberships:?} {on:?}");
        }
        assert!(!is_fine(&[], (0, 0), &[1, 2, 3]), "nobody votes");
    }

    #[test]
    fn who_committed_it_may_have_been_one_membership_behind_or_ahead() {
        let grown: Vec<_> = [&[1][..], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4, 5]]
            .iter()
            .zip(1..)
            .map(|(ids, index)| ((1, index), vec![set(ids)]))
            .collect();
        assert!(is_fine(&grown, (1, 3), &[1, 2]));
        assert!(is_fine(&grown, (1, 4), &[2, 3]), "the one before");
        assert!(!is_fine(&grown, (1, 4), &[1]), "long ago");
    }
}
