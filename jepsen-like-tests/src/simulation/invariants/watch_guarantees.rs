//! A watch tells every change from its start on, once, in order, revisions whole; nothing that was not executed; and goes
//! on after its member was restarted as if nothing had happened.

use std::collections::BTreeMap;

use super::state_machine_safety::{Change, Chronicle};
use crate::simulation::network::Place;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "watch guarantees";

/// What a watch told in one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Changes, each with its revision.
    Changes(Vec<(i64, Change)>),
    /// It cannot go on: history before this revision is gone.
    Compacted(i64),
}

/// One watch on everything for each machine.
#[derive(Debug, Default)]
pub struct WatchGuarantees {
    /// The next revision that each watch has to tell.
    next: BTreeMap<Place, i64>,
    told: u64,
}

impl WatchGuarantees {
    /// Where a watch on a machine has to begin, or to go on.
    #[must_use]
    pub fn resume(&self, place: Place) -> i64 {
        self.next.get(&place).copied().unwrap_or(2)
    }

    /// Judges an answer.
    ///
    /// # Errors
    /// When it is not exactly what comes next.
    pub fn see(&mut self, place: Place, told: &Told, chronicle: &Chronicle) -> Result<(), Violation> {
        let next = self.resume(place);
        match told {
            Told::Compacted(revision) => {
                // What is gone cannot be told; from there on everything must be.
                self.next.insert(place, next.max(*revision));
                Ok(())
            }
            Told::Changes(changes) => {
                let (Some((first, _)), Some((last, _))) = (changes.first(), changes.last()) else {
                    return Ok(());
                };
                let expected: Vec<(i64, Change)> = chronicle
                    .since(next)
                    .take_while(|(revision, _)| revision <= last)
                    .flat_map(|(revision, changes)| {
                        changes.iter().map(move |change| (revision, change.clone()))
                    })
                    .collect();
                if expected != *changes {
                    let detail = format!(
                        "the watch at m{place} tells {changes:?} ({first} to {last}) where {expected:?} comes next"
                    );
                    return Err(Violation::of(PROPERTY, detail));
                }
                self.told += changes.len() as u64;
                self.next.insert(place, last + 1);
                Ok(())
            }
        }
    }

    /// In the end every watch that runs has told everything.
    ///
    /// # Errors
    /// When one has not.
    pub fn at_the_end(&self, place: Place, chronicle: &Chronicle) -> Result<(), Violation> {
        let next = self.resume(place);
        if next <= chronicle.newest() {
            let detail =
                format!("the watch at m{place} never told revision {next} to {}", chronicle.newest());
            return Err(Violation::of(PROPERTY, detail));
        }
        Ok(())
    }

    /// How many changes were told.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }
}
