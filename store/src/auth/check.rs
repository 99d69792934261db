//! Who may do what: etcd's rules for every kind of request, asked of one picture of users and leases.
//!
//! Decides; never changes anything.

use std::sync::Arc;

use super::state::{AuthState, Reach, has_role};
use crate::command::auth::{AuthError, Caller};
use crate::command::{Command, DeleteRange, KeyRange, Put, Txn, TxnOp};
use crate::ids::LeaseId;

/// What rights depend on, as of one log entry.
pub trait Rights: Send + Sync {
    /// Users and roles.
    fn auth(&self) -> &AuthState;
    /// The keys that hang on a lease; none when there is no such lease.
    fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_>;
}

impl<R: Rights + ?Sized> Rights for Arc<R> {
    fn auth(&self) -> &AuthState {
        (**self).auth()
    }

    fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        (**self).lease_keys(lease)
    }
}

/// The rights of one caller. Each question is answered with the error that the caller is to be told.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    rights: &'a dyn Rights,
    caller: &'a Caller,
}

impl<'a> Check<'a> {
    /// Of `caller`, while rights are asked for.
    #[must_use]
    pub fn new(rights: &'a dyn Rights, caller: &'a Caller) -> Self {
        Self { rights, caller }
    }

    fn reach(&self) -> Option<&'a Reach> {
        self.rights.auth().reach(&self.caller.user)
    }

    fn is_admin(&self) -> bool {
        self.reach().is_some_and(|reach| reach.is_admin)
    }

    /// For what concerns users, roles, members and the store as a whole.
    ///
    /// # Errors
    /// For everybody without the role `root`.
    pub fn admin(&self) -> Result<(), AuthError> {
        if self.caller.user.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        let reach = self.reach().ok_or(AuthError::UserNotFound)?;
        if reach.is_admin { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    fn allow(&self, within: impl FnOnce(&Reach) -> bool) -> Result<(), AuthError> {
        if self.caller.revision < self.rights.auth().revision() {
            return Err(AuthError::OldRevision);
        }
        match self.reach() {
            Some(reach) if reach.is_admin || within(reach) => Ok(()),
            _ => Err(AuthError::PermissionDenied),
        }
    }

    /// To read keys, also by watching them.
    ///
    /// # Errors
    /// Without READ on every key of the range.
    pub fn read(&self, range: &KeyRange) -> Result<(), AuthError> {
        self.allow(|reach| reach.read.cover(range))
    }

    /// To read one key.
    ///
    /// # Errors
    /// Without READ on it.
    pub fn read_key(&self, key: &[u8]) -> Result<(), AuthError> {
        self.allow(|reach| reach.read.contain(key))
    }

    fn write_key(&self, key: &[u8]) -> Result<(), AuthError> {
        self.allow(|reach| reach.write.contain(key))
    }

    fn put(&self, put: &Put) -> Result<(), AuthError> {
        self.write_key(&put.key)?;
        if let Some(lease) = put.lease {
            // Who could not revoke a lease must not hang keys on it: they would be gone with it.
            self.lease(lease)?;
        }
        if put.prev_kv { self.read_key(&put.key) } else { Ok(()) }
    }

    fn delete_range(&self, delete: &DeleteRange) -> Result<(), AuthError> {
        self.allow(|reach| reach.write.cover(&delete.range))?;
        if delete.prev_kv { self.read(&delete.range) } else { Ok(()) }
    }

    /// To execute a transaction, whatever its compares turn out to be: all of it is asked for, at every depth.
    ///
    /// # Errors
    /// Without a right that any part of it needs.
    pub fn txn(&self, txn: &Txn) -> Result<(), AuthError> {
        txn.compare.iter().try_for_each(|compare| self.read(&compare.range))?;
        txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
            TxnOp::Range(range) => self.read(&range.range),
            TxnOp::Put(put) => self.put(put),
            TxnOp::DeleteRange(delete) => self.delete_range(delete),
            TxnOp::Txn(nested) => self.txn(nested),
        })
    }

    /// To end or renew a lease, or to hang a key on it.
    ///
    /// # Errors
    /// Without WRITE on every key that hangs on it.
    pub fn lease(&self, lease: LeaseId) -> Result<(), AuthError> {
        if self.is_admin() {
            return Ok(());
        }
        self.rights.lease_keys(lease).try_for_each(|key| self.write_key(key))
    }

    /// To see which leases there are.
    ///
    /// # Errors
    /// Without READ on every key that hangs on one of them.
    pub fn leases(&self, leases: impl IntoIterator<Item = LeaseId>) -> Result<(), AuthError> {
        self.lease_contents(leases.into_iter().flat_map(|lease| self.rights.lease_keys(lease)))
    }

    /// To see these keys of leases.
    ///
    /// # Errors
    /// Without READ on each.
    pub fn lease_contents(&self, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(), AuthError> {
        if self.is_admin() {
            return Ok(());
        }
        keys.into_iter().try_for_each(|key| self.read_key(key.as_ref()))
    }

    /// To see the roles of a user: one may see one's own.
    ///
    /// # Errors
    /// For everybody else without the role `root`.
    pub fn see_user(&self, name: &str) -> Result<(), AuthError> {
        if self.caller.user == name { Ok(()) } else { self.admin() }
    }

    /// To see the permissions of a role: one may see those of a role that one has.
    ///
    /// # Errors
    /// For everybody else without the role `root`.
    pub fn see_role(&self, role: &str) -> Result<(), AuthError> {
        let caller = self.rights.auth().user(&self.caller.user);
        if caller.is_some_and(|user| has_role(user, role)) { Ok(()) } else { self.admin() }
    }

    /// To execute a command.
    ///
    /// # Errors
    /// Without a right that it needs.
    pub fn command(&self, command: &Command) -> Result<(), AuthError> {
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => self.delete_range(delete),
            Command::Txn(txn) => self.txn(txn),
            Command::LeaseGrant { .. } => Ok(()),
            Command::LeaseRevoke { id } => self.lease(*id),
            Command::Compact { .. } | Command::Alarm { .. } | Command::Auth(_) => self.admin(),
            Command::LeaseExpire { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::PublishMember { .. }
            | Command::MarkTime { .. }
            | Command::As { .. } => Err(AuthError::PermissionDenied),
        }
    }
}

/// Whether a command without a caller may be executed while rights are asked for: what members do by
/// themselves, and what clients need no right for.
///
/// # Errors
/// For what a client asked before rights were asked for, or without saying who it is.
pub fn nobody(command: &Command) -> Result<(), AuthError> {
    match command {
        Command::Put(_)
        | Command::DeleteRange(_)
        | Command::Txn(_)
        | Command::LeaseRevoke { .. }
        | Command::Auth(_) => Err(AuthError::UserEmpty),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::command::auth::{Access, AuthCommand, Password, Permission, TokenKey};
    use crate::command::{Compare, CompareResult, CompareTarget, Range};
    use crate::ids::{AuthRevision, Revision};

    struct Picture {
        auth: AuthState,
        leased: BTreeMap<LeaseId, Vec<&'static [u8]>>,
    }

    impl Rights for Picture {
        fn auth(&self) -> &AuthState {
            &self.auth
        }

        fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_> {
            Box::new(self.leased.get(&lease).into_iter().flatten().copied())
        }
    }

    const MINE: LeaseId = LeaseId(1);
    const OTHERS: LeaseId = LeaseId(2);

    /// `u` may read [a, c) and write [b, d): read `a`, both `b`, write `c`.
    fn picture() -> Picture {
        let mut auth = AuthState::default();
        let s = str::to_owned;
        let permission = |access, key: &'static str, range_end: &'static str| {
            let range = KeyRange { key: key.into(), range_end: range_end.into() };
            AuthCommand::RoleGrantPermission { role: s("r"), permission: Permission { access, range } }
        };
        for command in [
            AuthCommand::UserAdd { name: s("root"), password: Password::Unset },
            AuthCommand::UserGrantRole { user: s("root"), role: s("root") },
            AuthCommand::UserAdd { name: s("u"), password: Password::Unset },
            AuthCommand::RoleAdd { name: s("r") },
            permission(Access::Read, "a", "c"),
            permission(Access::Write, "b", "d"),
            AuthCommand::UserGrantRole { user: s("u"), role: s("r") },
            AuthCommand::Enable { token_key: TokenKey([0; 32]) },
        ] {
            auth.execute(&command).unwrap();
        }
        let leased = BTreeMap::from([(MINE, vec![&b"b"[..], b"c"]), (OTHERS, vec![&b"b"[..], b"a"])]);
        Picture { auth, leased }
    }

    fn caller(picture: &Picture, user: &str) -> Caller {
        Caller { user: user.to_owned(), revision: picture.auth.revision() }
    }

    fn range(key: &'static str, range_end: &'static str) -> KeyRange {
        KeyRange { key: key.into(), range_end: range_end.into() }
    }

    fn get(key: &'static str) -> TxnOp {
        TxnOp::Range(Range { range: range(key, ""), ..Range::default() })
    }

    fn put(key: &'static str) -> Put {
        Put { key: key.into(), ..Put::default() }
    }

    fn delete(key: &'static str, range_end: &'static str) -> DeleteRange {
        DeleteRange { range: range(key, range_end), prev_kv: false }
    }

    fn compare(key: &'static str) -> Compare {
        let target = CompareTarget::Version(0);
        Compare { range: range(key, ""), result: CompareResult::Equal, target }
    }

    /// What is forbidden alone is forbidden in a transaction, in both branches and at every depth
    /// (CVE-2026-33343, and etcd's pull requests 21681 and 21685).
    fn judge(picture: &Picture, op: &TxnOp, allowed: bool) {
        let caller = caller(picture, "u");
        let check = Check::new(picture, &caller);
        let expected = if allowed { Ok(()) } else { Err(AuthError::PermissionDenied) };
        match op {
            TxnOp::Put(put) => assert_eq!(check.command(&Command::Put(put.clone())), expected, "{op:?}"),
            TxnOp::DeleteRange(delete) => {
                assert_eq!(check.command(&Command::DeleteRange(delete.clone())), expected, "{op:?}");
            }
            TxnOp::Range(read) => assert_eq!(check.read(&read.range), expected, "{op:?}"),
            TxnOp::Txn(txn) => assert_eq!(check.txn(txn), expected, "{op:?}"),
        }
        let mut inner = op.clone();
        for depth in 0..4 {
            let success = Txn { success: vec![get("a"), inner.clone()], ..Txn::default() };
            let failure = Txn { failure: vec![inner.clone()], ..Txn::default() };
            for txn in [&success, &failure] {
                assert_eq!(check.txn(txn), expected, "{op:?} at depth {depth}");
                let command = Command::Txn(txn.clone());
                assert_eq!(check.command(&command), expected, "{op:?} at depth {depth}");
            }
            inner = TxnOp::Txn(if depth % 2 == 0 { success } else { failure });
        }
    }

    #[test]
    fn operations() {
        let picture = picture();
        let lease = |id| Some(id);
        let put_of = |put: Put| TxnOp::Put(put);
        let table = [
            (get("a"), true),
            (get("b"), true),
            (get("c"), false),
            (TxnOp::Range(Range { range: range("a", "c"), ..Range::default() }), true),
            (TxnOp::Range(Range { range: range("a", "\0"), ..Range::default() }), false),
            (put_of(put("a")), false),
            (put_of(put("b")), true),
            (put_of(put("c")), true),
            // The version before is read.
            (put_of(Put { prev_kv: true, ..put("b") }), true),
            (put_of(Put { prev_kv: true, ..put("c") }), false),
            // Who hangs a key on a lease could end it with everything that hangs on it.
            (put_of(Put { lease: lease(MINE), ..put("b") }), true),
            (put_of(Put { lease: lease(OTHERS), ..put("b") }), false),
            (put_of(Put { lease: lease(LeaseId(9)), ..put("b") }), true),
            (TxnOp::DeleteRange(delete("b", "d")), true),
            (TxnOp::DeleteRange(delete("b", "\0")), false),
            (TxnOp::DeleteRange(DeleteRange { prev_kv: true, ..delete("b", "") }), true),
            (TxnOp::DeleteRange(DeleteRange { prev_kv: true, ..delete("b", "d") }), false),
            (TxnOp::Txn(Txn { compare: vec![compare("a")], ..Txn::default() }), true),
            (TxnOp::Txn(Txn { compare: vec![compare("a"), compare("c")], ..Txn::default() }), false),
        ];
        for (op, allowed) in table {
            judge(&picture, &op, allowed);
        }
    }

    #[test]
    fn leases_and_what_concerns_everything() {
        let picture = picture();
        let (u, root) = (caller(&picture, "u"), caller(&picture, "root"));
        let revoke = |id| Command::LeaseRevoke { id };
        let denied = Err(AuthError::PermissionDenied);
        let table = [
            (revoke(MINE), Ok(())),
            (revoke(OTHERS), denied),
            (revoke(LeaseId(9)), Ok(())),
            (Command::LeaseGrant { id: MINE, ttl_s: 1 }, Ok(())),
            (Command::Compact { revision: Revision(1) }, denied),
            (Command::Auth(AuthCommand::Disable), denied),
            (Command::Auth(AuthCommand::RoleAdd { name: "x".to_owned() }), denied),
        ];
        for (command, expected) in table {
            assert_eq!(Check::new(&picture, &u).command(&command), expected, "{command:?}");
            assert_eq!(Check::new(&picture, &root).command(&command), Ok(()), "{command:?}");
        }
        let check = Check::new(&picture, &u);
        assert_eq!(check.leases([MINE]), denied);
        assert_eq!(check.leases([LeaseId(9)]), Ok(()));
        assert_eq!(check.lease_contents(["a", "b"]), Ok(()));
        assert_eq!(check.lease_contents(["a", "c"]), denied);
        // What members do by themselves is nobody's to ask for.
        let expire = Command::LeaseExpire { term: 1, ids: vec![] };
        assert_eq!(Check::new(&picture, &root).command(&expire), denied);
        assert_eq!(nobody(&expire), Ok(()));
        assert_eq!(nobody(&Command::Put(put("b"))), Err(AuthError::UserEmpty));
    }

    #[test]
    fn a_caller_of_before_a_change_may_nothing_but_manage() {
        let picture = picture();
        let before = |user: &str| Caller { user: user.to_owned(), revision: AuthRevision(1) };
        for user in ["u", "root", "nobody"] {
            let caller = before(user);
            let told = Check::new(&picture, &caller).command(&Command::Put(put("b")));
            assert_eq!(told, Err(AuthError::OldRevision));
        }
        assert_eq!(Check::new(&picture, &before("root")).admin(), Ok(()));
        assert_eq!(Check::new(&picture, &before("nobody")).admin(), Err(AuthError::UserNotFound));
        assert_eq!(Check::new(&picture, &before("")).admin(), Err(AuthError::UserEmpty));
        let gone = caller(&picture, "nobody");
        assert_eq!(Check::new(&picture, &gone).read_key(b"a"), Err(AuthError::PermissionDenied));
    }

    #[test]
    fn one_may_see_oneself() {
        let picture = picture();
        let (u, root) = (caller(&picture, "u"), caller(&picture, "root"));
        let denied = Err(AuthError::PermissionDenied);
        let (u, root) = (Check::new(&picture, &u), Check::new(&picture, &root));
        assert_eq!((u.see_user("u"), u.see_user("root"), root.see_user("u")), (Ok(()), denied, Ok(())));
        assert_eq!((u.see_role("r"), u.see_role("root"), root.see_role("r")), (Ok(()), denied, Ok(())));
    }
}
