//! What a client was told to be done stays done: it is in the chronicle at the revision that the client was told, and
//! everybody has it in the end. What a client was told to be refused never happens.

use super::state_machine_safety::Chronicle;
use crate::simulation::look::Look;
use crate::simulation::operation::{Answer, Operation, Request};
use crate::simulation::violation::Violation;

const PROPERTY: &str = "committed is durable";

/// What was promised.
#[derive(Debug, Default)]
pub struct CommittedIsDurable {
    promised_revision: i64,
    promises: u64,
}

impl CommittedIsDurable {
    /// Takes note of an answer.
    ///
    /// # Errors
    /// When the chronicle does not hold what the client was told.
    pub fn answered(&mut self, operation: &Operation, chronicle: &Chronicle) -> Result<(), Violation> {
        let Answer::Written { revision, took_effect } = &operation.answer else { return Ok(()) };
        self.promises += 1;
        self.promised_revision = self.promised_revision.max(*revision);
        let said = |what: &str| Violation::of(PROPERTY, format!("{operation}: {what}"));
        let change = |key: &[u8]| chronicle.at(*revision)?.iter().find(|change| change.key == key);
        match &operation.request {
            Request::Put { key, value, .. } => {
                let found = change(key).is_some_and(|change| change.value.as_ref() == Some(value));
                found.then_some(()).ok_or_else(|| said("it is not there"))
            }
            Request::CompareAndPut { key, expected, value } => {
                let before = if *took_effect { revision - 1 } else { *revision };
                let found = chronicle.get(key, before).map_or(0, |(modified, _)| modified);
                if (found == *expected) != *took_effect {
                    return Err(said(&format!("it compared with a key that was changed at {found}")));
                }
                let written = change(key).is_some_and(|change| change.value.as_ref() == Some(value));
                if *took_effect && !written {
                    return Err(said("it is not there"));
                }
                Ok(())
            }
            Request::Delete { key } => {
                let deleted = change(key).is_some_and(|change| change.value.is_none());
                if *took_effect && !deleted {
                    return Err(said("the deletion is not there"));
                }
                let exists = chronicle.get(key, *revision).is_some();
                if exists { Err(said("the key exists")) } else { Ok(()) }
            }
            Request::Grant { .. } | Request::Compact { .. } => Ok(()),
            Request::Get { .. } | Request::KeepAlive { .. } => Ok(()),
        }
    }

    /// In the end, what a member has.
    ///
    /// # Errors
    /// When something promised is missing.
    pub fn at_the_end(&self, look: &Look, chronicle: &Chronicle) -> Result<(), Violation> {
        if look.revision < self.promised_revision || look.revision != chronicle.newest() {
            let detail = format!(
                "m{} ends with revision {}; {} were executed, and clients were told {}",
                look.place,
                look.revision,
                chronicle.newest(),
                self.promised_revision
            );
            return Err(Violation::of(PROPERTY, detail));
        }
        Ok(())
    }

    /// How many writes were promised.
    #[must_use]
    pub fn promises(&self) -> u64 {
        self.promises
    }
}
