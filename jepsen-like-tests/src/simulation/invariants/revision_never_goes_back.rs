//! Real time and revisions agree: what a client is told is never older than what any client was told before it asked, and
//! a read shows the keyspace exactly as it was at its revision. With that, all operations are linearizable, since
//! revisions are their order. On one member the revision never becomes smaller while its process runs.

use std::collections::BTreeMap;

use super::state_machine_safety::Chronicle;
use crate::simulation::look::Look;
use crate::simulation::network::Place;
use crate::simulation::operation::{Answer, Operation, Request};
use crate::simulation::violation::Violation;

const PROPERTY: &str = "the revision never goes back";

/// The newest revisions that were seen.
#[derive(Debug, Default)]
pub struct RevisionNeverGoesBack {
    told: i64,
    members: BTreeMap<Place, (u64, i64)>,
}

impl RevisionNeverGoesBack {
    /// The newest revision that any client was told so far. Whoever asks now must not be told less.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.told
    }

    /// Takes note of a member's revision.
    ///
    /// # Errors
    /// When the same process had a later one.
    pub fn see(&mut self, look: &Look) -> Result<(), Violation> {
        let before = self.members.insert(look.place, (look.boot, look.revision));
        match before {
            Some((boot, revision)) if boot == look.boot && revision > look.revision => {
                let (place, now) = (look.place, look.revision);
                Err(Violation::of(PROPERTY, format!("m{place} goes from revision {revision} to {now}")))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of an answer.
    ///
    /// # Errors
    /// When it is older than it may be, or shows what never was.
    pub fn answered(&mut self, operation: &Operation, chronicle: &Chronicle) -> Result<(), Violation> {
        let (revision, writes) = match &operation.answer {
            Answer::Written { revision, took_effect } => (*revision, *took_effect),
            Answer::Read { revision, .. } => (*revision, false),
            _ => return Ok(()),
        };
        let floor = operation.floor + i64::from(writes);
        if revision < floor {
            let detail = format!("{operation}, though revision {} was known before", operation.floor);
            return Err(Violation::of(PROPERTY, detail));
        }
        self.told = self.told.max(revision);
        if let (Request::Get { key }, Answer::Read { found, .. }) = (&operation.request, &operation.answer) {
            let was = chronicle.get(key, revision);
            if *found != was {
                return Err(Violation::of("reads are real", format!("{operation}, but it was {was:?}")));
            }
        }
        Ok(())
    }
}
