//! In each term at most one member leads, and no member goes back to an earlier term while its process runs. (A restart may
//! take back a term that was not on disk yet, and that nobody was told of: had somebody been, there could be two leaders.)

use std::collections::BTreeMap;

use barque_store::ids::MemberId;

use crate::simulation::look::Look;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "election safety";

/// Who led when.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, MemberId>,
    /// The process and the term of each member.
    terms: BTreeMap<MemberId, (u64, u64)>,
}

impl ElectionSafety {
    /// Takes note of what a member says.
    ///
    /// # Errors
    /// When it contradicts what was said before.
    pub fn see(&mut self, look: &Look) -> Result<(), Violation> {
        if let Some((term, leader)) = look.leader {
            let first = *self.leaders.entry(term).or_insert(leader);
            if first != leader {
                let (place, detail) =
                    (look.place, format!("members {first} and {leader} lead in term {term}"));
                return Err(Violation::of(PROPERTY, format!("{detail}, the latter says m{place}")));
            }
        }
        let before = self.terms.insert(look.member, (look.boot, look.term));
        if let Some((boot, before)) = before
            && boot == look.boot
            && look.term < before
        {
            let detail = format!("m{} was in term {before} and is in term {}", look.place, look.term);
            return Err(Violation::of(PROPERTY, detail));
        }
        Ok(())
    }

    /// How many leaders there were.
    #[must_use]
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }
}
