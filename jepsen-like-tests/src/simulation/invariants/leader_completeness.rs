//! The leader of the newest term has every entry that any member ever executed.

use barque_store::wal::{LogEntry, Position};

use crate::simulation::look::Look;
use crate::simulation::violation::Violation;

const PROPERTY: &str = "leader completeness";

/// The last entry that anybody executed.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    executed: Position,
    newest_term: u64,
}

impl LeaderCompleteness {
    /// Takes note of what a member has executed.
    pub fn executed(&mut self, look: &Look) {
        if look.applied.index > self.executed.index {
            self.executed = look.applied;
        }
        self.newest_term = self.newest_term.max(look.term);
    }

    /// What has to be in the log of this member, if it leads: the place from where on its log is looked at.
    #[must_use]
    pub fn asks(&self, look: &Look) -> Option<u64> {
        let leads = look.leads()?;
        let must_have = leads == self.newest_term && self.executed.index > look.purged_index;
        must_have.then_some(self.executed.index)
    }

    /// Judges the leader's log from there on.
    ///
    /// # Errors
    /// When the entry is not there.
    pub fn see(&self, look: &Look, log: &[LogEntry]) -> Result<(), Violation> {
        let found = log.first().map(|entry| entry.position);
        // An entry of a term that the leader has not reached is another leader's business.
        if found == Some(self.executed) || self.executed.term > self.newest_term {
            return Ok(());
        }
        let Position { term, index } = self.executed;
        let place = look.place;
        let detail =
            format!("entry {term}.{index} was executed, but the log of the leader m{place} has {found:?}");
        Err(Violation::of(PROPERTY, detail))
    }
}
