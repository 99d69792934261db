//! What members tell about themselves, and the ids that never come back.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::MemberId;
use crate::stored::PublishedMember;

/// The published members and the removed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberTable {
    published: BTreeMap<MemberId, PublishedMember>,
    removed: BTreeSet<MemberId>,
}

impl MemberTable {
    /// From what disk has.
    pub fn new(
        published: impl IntoIterator<Item = PublishedMember>,
        removed: impl IntoIterator<Item = MemberId>,
    ) -> Self {
        Self {
            published: published.into_iter().map(|member| (member.id, member)).collect(),
            removed: removed.into_iter().collect(),
        }
    }

    /// Takes what a member tells; whether that is new. A member that was removed, or one on another data
    /// directory than before, is not believed.
    pub fn publish(&mut self, member: PublishedMember) -> bool {
        if self.was_removed(member.id) {
            return false;
        }
        match self.published.get(&member.id) {
            Some(known) if known.incarnation != member.incarnation || *known == member => false,
            _ => {
                self.published.insert(member.id, member);
                true
            }
        }
    }

    /// Forgets a member for ever; whether that is new.
    pub fn remove(&mut self, id: MemberId) -> bool {
        self.published.remove(&id);
        self.removed.insert(id)
    }

    /// Whether this one was a member and is none any more.
    #[must_use]
    pub fn was_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// What a member told.
    #[must_use]
    pub fn get(&self, id: MemberId) -> Option<&PublishedMember> {
        self.published.get(&id)
    }

    /// All that told something.
    pub fn published(&self) -> impl Iterator<Item = &PublishedMember> {
        self.published.values()
    }

    /// All that were removed.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Incarnation;

    fn member(id: u64, incarnation: u64) -> PublishedMember {
        PublishedMember {
            id: MemberId(id),
            incarnation: Incarnation(incarnation),
            ..PublishedMember::default()
        }
    }

    #[test]
    fn a_member_keeps_its_disk_and_never_comes_back() {
        let mut table = MemberTable::default();
        assert!(table.publish(member(1, 5)));
        assert!(!table.publish(member(1, 5)), "nothing new");
        assert!(!table.publish(member(1, 6)), "another disk");
        let renamed = PublishedMember { name: "a".into(), ..member(1, 5) };
        assert!(table.publish(renamed));
        assert!(table.remove(MemberId(1)));
        assert!(!table.publish(member(1, 7)));
        assert_eq!(table.get(MemberId(1)), None);
    }
}
