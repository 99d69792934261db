//! The replicated state machine: executes commands, one after the other, the same on every member.
//!
//! Pure and deterministic: no clock, no random number, no configuration, no I/O (but reading history that
//! memory gave up, whose content is the same everywhere). What happens is told as effects; others act.

pub mod batch;
pub mod members;
pub mod published;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{AlarmKind, Command, CommandError, Outcome, Put, Txn, TxnOp};
use crate::event::{Event, look_before_revisions};
use crate::ids::{LeaseId, MemberId, Revision};
use crate::lease::table::LeaseTable;
use crate::mvcc::keyspace::{Garbage, Keyspace};
use crate::mvcc::view::View;
use crate::stored::{PublishedMember, StateMeta};
use crate::timeline::{Mark, Timeline};
use members::MemberTable;

/// Alarms that are raised.
pub type Alarms = BTreeSet<(MemberId, AlarmKind)>;

/// Whose alarm is everybody's.
pub const EVERYBODY: MemberId = MemberId(0);

/// Everything that members agree on, beside Raft's own membership.
pub struct State {
    keyspace: Keyspace,
    leases: LeaseTable,
    alarms: Alarms,
    members: MemberTable,
    timeline: Arc<Timeline>,
    effects: Effects,
}

/// What executing commands did, for those who act on it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes of keys, in order.
    pub events: Vec<Event>,
    /// Changes of leases, in order.
    pub leases: Vec<LeaseChange>,
    /// The keyspace was compacted.
    pub compacted: Option<Revision>,
    /// Alarms, or what members tell about themselves, changed.
    pub members_or_alarms: bool,
}

/// A change of a lease, for the clock of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It exists now.
    Granted {
        /// Which.
        id: LeaseId,
        /// Seconds.
        ttl_s: i64,
    },
    /// It is gone, its keys too.
    Revoked(LeaseId),
}

impl State {
    /// The state of a keyspace with everything around it.
    #[must_use]
    pub fn restore(keyspace: Keyspace, meta: &StateMeta) -> Self {
        let mut leases = LeaseTable::new();
        for &(id, ttl_s, remaining_s) in &meta.leases {
            // Ids are unique in what a member wrote; a second one would change nothing.
            if leases.grant(id, ttl_s).is_ok() {
                leases.checkpoint(id, remaining_s);
            }
        }
        for record in keyspace.state().iter() {
            let fields = record.fields();
            if fields.lease.is_some() {
                leases.attach(fields.key, None, fields.lease);
            }
        }
        Self {
            keyspace,
            leases,
            alarms: meta.alarms.iter().copied().collect(),
            members: MemberTable::new(meta.members.iter().cloned(), meta.removed.iter().copied()),
            timeline: Arc::clone(&meta.timeline),
            effects: Effects::default(),
        }
    }

    /// Executes one command, from a log entry of `term`. The answer's revision is [`State::revision`]
    /// right after it.
    ///
    /// # Errors
    /// When the command changes nothing because it may not. `History` means that this member is broken.
    pub fn apply(&mut self, term: u64, command: &Command) -> Result<Outcome, CommandError> {
        self.check_alarms(command)?;
        let outcome = match command {
            Command::Put(put) => Outcome::Put(self.keyspace.execute_put(&mut self.leases, put)?),
            Command::DeleteRange(delete) => {
                Outcome::DeleteRange(self.keyspace.execute_delete_range(&mut self.leases, delete)?)
            }
            Command::Txn(txn) => Outcome::Txn(self.keyspace.execute_txn(&mut self.leases, txn)?),
            Command::Compact { revision } => {
                self.keyspace.compact(*revision)?;
                Arc::make_mut(&mut self.timeline).compact(*revision);
                self.effects.compacted = Some(*revision);
                Outcome::Done
            }
            Command::LeaseGrant { id, ttl_s } => {
                self.leases.grant(*id, *ttl_s)?;
                self.effects.leases.push(LeaseChange::Granted { id: *id, ttl_s: *ttl_s });
                Outcome::Done
            }
            Command::LeaseRevoke { id } => {
                self.revoke(*id)?;
                Outcome::Done
            }
            Command::LeaseExpire { term: proposed, ids } => {
                if *proposed == term {
                    for id in ids {
                        // One that was revoked meanwhile is what was wanted.
                        match self.revoke(*id) {
                            Ok(()) | Err(CommandError::LeaseNotFound) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Outcome::Done
            }
            Command::LeaseCheckpoint { remaining_s } => {
                for &(id, remaining_s) in remaining_s {
                    self.leases.checkpoint(id, remaining_s);
                }
                Outcome::Done
            }
            Command::Alarm { raise, member, kind } => {
                self.alarm(*raise, *member, *kind);
                Outcome::Done
            }
            Command::PublishMember { id, name, client_urls, incarnation } => {
                let member = PublishedMember {
                    id: *id,
                    name: name.clone(),
                    client_urls: client_urls.clone(),
                    incarnation: *incarnation,
                };
                self.effects.members_or_alarms |= self.members.publish(member);
                Outcome::Done
            }
            Command::MarkTime { revision, time_ms } => {
                // One that nobody has yet cannot have been seen.
                if *revision <= self.keyspace.revision() {
                    let mark = Mark { revision: *revision, time_ms: *time_ms };
                    Arc::make_mut(&mut self.timeline).mark(mark);
                }
                Outcome::Done
            }
        };
        self.collect_events();
        Ok(outcome)
    }

    fn revoke(&mut self, id: LeaseId) -> Result<(), CommandError> {
        let keys = self.leases.revoke(id).ok_or(CommandError::LeaseNotFound)?;
        self.keyspace.delete_keys(&mut self.leases, &keys);
        self.effects.leases.push(LeaseChange::Revoked(id));
        self.collect_events();
        Ok(())
    }

    /// Takes the events of one command, in the form in which watches tell them.
    fn collect_events(&mut self) {
        let mut events = self.keyspace.take_events();
        look_before_revisions(&mut events);
        self.effects.events.append(&mut events);
    }

    fn alarm(&mut self, raise: bool, member: MemberId, kind: AlarmKind) {
        let before = self.alarms.len();
        if raise {
            self.alarms.insert((member, kind));
        } else {
            self.alarms.retain(|&(m, k)| k != kind || (member.0 != 0 && m != member));
        }
        self.effects.members_or_alarms |= self.alarms.len() != before;
    }

    /// What may not be done while an alarm is raised (etcd: `Maintenance.Alarm`). That one member is corrupt
    /// stops that member alone, which is not for the state to do: it must stay the same everywhere.
    fn check_alarms(&self, command: &Command) -> Result<(), CommandError> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let own_business = matches!(
            command,
            Command::Alarm { .. } | Command::PublishMember { .. } | Command::MarkTime { .. }
        );
        let raised = |kind| self.alarms.iter().any(|&(_, k)| k == kind);
        if !own_business && self.alarms.contains(&(EVERYBODY, AlarmKind::Corrupt)) {
            return Err(CommandError::Corrupt);
        }
        if grows(command) && raised(AlarmKind::NoSpace) {
            return Err(CommandError::NoSpace);
        }
        Ok(())
    }

    /// Membership changed: ids that were members and are not any more never come back, and their alarms end.
    pub fn remember_removed(&mut self, removed: impl IntoIterator<Item = MemberId>) {
        for id in removed {
            let before = self.alarms.len();
            self.alarms.retain(|&(member, _)| member != id);
            self.effects.members_or_alarms |= self.members.remove(id) || self.alarms.len() != before;
        }
    }

    /// What was done since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.keyspace.revision()
    }

    /// A consistent picture of the keyspace; a few pointers.
    #[must_use]
    pub fn view(&self) -> View {
        self.keyspace.view()
    }

    /// The leases; a few pointers.
    #[must_use]
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// The alarms.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What members told about themselves.
    #[must_use]
    pub fn members(&self) -> &MemberTable {
        &self.members
    }

    /// Which revision was current when; a pointer.
    #[must_use]
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// Forgets compacted history, at most about `max_events` of it.
    pub fn collect_garbage(&mut self, max_events: usize) -> Garbage {
        self.keyspace.collect_garbage(max_events)
    }

    /// Disk has all history up to this revision, so memory may let go of the oldest.
    pub fn set_persisted(&mut self, upto: Revision) {
        self.keyspace.set_persisted(upto);
    }
}

/// Whether a command makes the store larger.
fn grows(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => txn_puts(txn).next().is_some(),
        _ => false,
    }
}

/// All puts in a transaction, in both branches and nested ones.
pub fn txn_puts(txn: &Txn) -> Box<dyn Iterator<Item = &Put> + '_> {
    let ops = txn.success.iter().chain(&txn.failure);
    Box::new(ops.flat_map(|op| -> Box<dyn Iterator<Item = &Put>> {
        match op {
            TxnOp::Put(put) => Box::new(std::iter::once(put)),
            TxnOp::Txn(nested) => txn_puts(nested),
            TxnOp::Range(_) | TxnOp::DeleteRange(_) => Box::new(std::iter::empty()),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::keyspace::Config;

    #[test]
    fn wrong_data_of_one_member_stops_nobody_else_and_doubt_stops_all() {
        let mut state = State::restore(Keyspace::new(Config::default(), None), &StateMeta::default());
        let put = Command::Put(Put { key: "a".into(), ..Put::default() });
        let alarm = |raise, member| Command::Alarm { raise, member, kind: AlarmKind::Corrupt };
        state.apply(1, &alarm(true, MemberId(2))).unwrap();
        state.apply(1, &put).unwrap();
        state.apply(1, &alarm(true, EVERYBODY)).unwrap();
        assert_eq!(state.apply(1, &put), Err(CommandError::Corrupt));
        state.apply(1, &alarm(false, EVERYBODY)).unwrap();
        assert!(state.alarms().is_empty(), "member 0 disarms all");
        state.apply(1, &put).unwrap();
    }

    #[test]
    fn the_alarms_of_a_removed_member_end() {
        let mut state = State::restore(Keyspace::new(Config::default(), None), &StateMeta::default());
        for member in [MemberId(2), MemberId(3)] {
            state.apply(1, &Command::Alarm { raise: true, member, kind: AlarmKind::Corrupt }).unwrap();
        }
        state.take_effects();
        state.remember_removed([MemberId(2)]);
        assert_eq!(state.alarms().iter().copied().collect::<Vec<_>>(), [(MemberId(3), AlarmKind::Corrupt)]);
        assert!(state.take_effects().members_or_alarms);
    }
}
