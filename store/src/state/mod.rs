//! The replicated state machine: executes commands, one after the other, the same on every member.
//!
//! Pure and deterministic: no clock, no random number, no configuration, no I/O (but reading history that
//! memory gave up, whose content is the same everywhere). What happens is told as effects; others act.

pub mod batch;
pub mod members;
pub mod newest_picture;
pub mod published;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::auth::{AuthState, Check, Rights, check};
use crate::command::auth::AuthError;
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
    auth: Arc<AuthState>,
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
            auth: Arc::new(AuthState::restore(Arc::clone(&meta.auth))),
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
        self.check_alarms(command.unsigned())?;
        if self.auth.is_enabled() {
            self.check_rights(command)?;
        }
        let outcome = match command.unsigned() {
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
            Command::Auth(change) => {
                Arc::make_mut(&mut self.auth).execute(change)?;
                Outcome::Done
            }
            // Nobody makes one inside another.
            Command::As { .. } => return Err(AuthError::PermissionDenied.into()),
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
        // What a member asked for may arrive after its removal, and nobody would end its alarm then.
        if raise && !self.members.was_removed(member) {
            self.alarms.insert((member, kind));
        } else if !raise {
            self.alarms.retain(|&(m, k)| k != kind || (member.0 != 0 && m != member));
        }
        self.effects.members_or_alarms |= self.alarms.len() != before;
    }

    /// What the caller has no right to, as of this place in the log.
    fn check_rights(&self, command: &Command) -> Result<(), AuthError> {
        match command {
            Command::As { caller, command } => Check::new(self, caller).command(command),
            command => check::nobody(command),
        }
    }

    /// What may not be done while an alarm is raised (etcd: `Maintenance.Alarm`). That one member is corrupt
    /// stops that member alone, which is not for the state to do: it must stay the same everywhere.
    fn check_alarms(&self, command: &Command) -> Result<(), CommandError> {
        if self.alarms.is_empty() {
            return Ok(());
        }
        let own_business = matches!(
            command,
            Command::Alarm { .. }
                | Command::PublishMember { .. }
                | Command::Auth(_)
                | Command::MarkTime { .. }
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

    /// Users and roles; a pointer.
    #[must_use]
    pub fn auth(&self) -> &Arc<AuthState> {
        &self.auth
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

impl Rights for State {
    fn auth(&self) -> &AuthState {
        &self.auth
    }

    fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.leases.keys(lease))
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
    use crate::command::auth::{Access, AuthCommand, Caller, Password, Permission, TokenKey};
    use crate::command::{KeyRange, Put};
    use crate::ids::AuthRevision;
    use crate::mvcc::builder::KeyspaceBuilder;
    use crate::mvcc::keyspace::{Config, NEVER_COMPACTED};

    fn empty() -> State {
        let meta = StateMeta {
            revision: Revision::EMPTY,
            compact_revision: NEVER_COMPACTED,
            ..StateMeta::default()
        };
        let keyspace = KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
        State::restore(keyspace.finish(), &meta)
    }

    fn put(key: &'static str) -> Command {
        Command::Put(Put { key: key.into(), ..Put::default() })
    }

    /// `root`, and `u` who may write what begins with `a`; rights are asked for.
    fn guarded() -> State {
        let mut state = empty();
        let s = str::to_owned;
        let range = KeyRange { key: "a".into(), range_end: "b".into() };
        let permission = Permission { access: Access::Write, range };
        for change in [
            AuthCommand::UserAdd { name: s("root"), password: Password::Unset },
            AuthCommand::UserGrantRole { user: s("root"), role: s("root") },
            AuthCommand::UserAdd { name: s("u"), password: Password::Unset },
            AuthCommand::RoleAdd { name: s("r") },
            AuthCommand::RoleGrantPermission { role: s("r"), permission },
            AuthCommand::UserGrantRole { user: s("u"), role: s("r") },
            AuthCommand::Enable { token_key: TokenKey([0; 32]) },
        ] {
            state.apply(1, &Command::Auth(change)).unwrap();
        }
        state
    }

    fn by(state: &State, user: &str) -> Option<Caller> {
        Some(Caller { user: user.to_owned(), revision: state.auth().revision() })
    }

    fn denied<T>(error: AuthError) -> Result<T, CommandError> {
        Err(CommandError::Auth(error))
    }

    #[test]
    fn a_write_has_the_rights_of_its_place_in_the_log() {
        let mut state = guarded();
        let before = by(&state, "u");
        assert!(state.apply(1, &put("a").by(before.clone())).is_ok());
        assert_eq!(state.apply(1, &put("b").by(before.clone())), denied(AuthError::PermissionDenied));
        assert_eq!(state.apply(1, &put("a")), denied(AuthError::UserEmpty));

        let revoke = AuthCommand::UserRevokeRole { user: "u".to_owned(), role: "r".to_owned() };
        let revision = state.revision();
        assert!(state.apply(1, &Command::Auth(revoke).by(by(&state, "root"))).is_ok());
        // It was on its way when the right was revoked.
        assert_eq!(state.apply(1, &put("a").by(before.clone())), denied(AuthError::OldRevision));
        let now = by(&state, "u");
        assert_eq!(state.apply(1, &put("a").by(now)), denied(AuthError::PermissionDenied));
        assert_eq!(state.revision(), revision);

        assert!(state.apply(1, &Command::Auth(AuthCommand::Disable).by(by(&state, "root"))).is_ok());
        assert!(state.apply(1, &put("a").by(before)).is_ok());
        assert!(state.apply(1, &put("b")).is_ok());
    }

    #[test]
    fn what_members_do_by_themselves_needs_no_user() {
        let mut state = guarded();
        let lease = LeaseId(7);
        assert!(state.apply(1, &Command::LeaseGrant { id: lease, ttl_s: 1 }.by(by(&state, "u"))).is_ok());
        assert_eq!(state.apply(1, &Command::LeaseRevoke { id: lease }), denied(AuthError::UserEmpty));
        assert!(state.apply(1, &Command::LeaseExpire { term: 1, ids: vec![lease] }).is_ok());
        assert!(!state.leases().exists(lease));
        assert!(state.apply(1, &put("a").by(by(&state, "root"))).is_ok());
        assert!(state.apply(1, &Command::Compact { revision: Revision(2) }).is_ok());
        let asked = Command::Compact { revision: Revision(2) }.by(by(&state, "u"));
        assert_eq!(state.apply(1, &asked), denied(AuthError::PermissionDenied));
    }

    #[test]
    fn users_and_roles_are_restored() {
        let state = guarded();
        let meta = StateMeta { auth: Arc::clone(state.auth().stored()), ..StateMeta::default() };
        let mut read = StateMeta::default();
        read.set_sections(&meta.sections()).unwrap();
        assert_eq!(read, meta);
        let keyspace =
            KeyspaceBuilder::new(Revision::EMPTY, NEVER_COMPACTED, Config::default(), None).finish();
        let mut restored = State::restore(keyspace, &read);
        assert_eq!(restored.auth().revision(), AuthRevision(7));
        assert!(restored.apply(1, &put("a").by(by(&restored, "u"))).is_ok());
        assert_eq!(restored.apply(1, &put("a")), denied(AuthError::UserEmpty));
    }

    #[test]
    fn wrong_data_of_one_member_stops_nobody_else_and_doubt_stops_all() {
        let mut state = empty();
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
        let mut state = empty();
        for member in [MemberId(2), MemberId(3)] {
            state.apply(1, &Command::Alarm { raise: true, member, kind: AlarmKind::Corrupt }).unwrap();
        }
        state.take_effects();
        state.remember_removed([MemberId(2)]);
        assert_eq!(state.alarms().iter().copied().collect::<Vec<_>>(), [(MemberId(3), AlarmKind::Corrupt)]);
        assert!(state.take_effects().members_or_alarms);
        // It was asked for before, and comes late.
        let late = Command::Alarm { raise: true, member: MemberId(2), kind: AlarmKind::NoSpace };
        state.apply(1, &late).unwrap();
        assert_eq!(state.alarms().len(), 1);
        assert!(!state.take_effects().members_or_alarms);
    }
}
