//! The replicated users and roles, changed by commands in the log's order.
//!
//! Cloning copies pointers; a copy never changes. Every rule is etcd's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ROOT;
use super::ranges::{Ranges, is_grantable};
use crate::command::auth::{AuthCommand, AuthError, Password, Permission, TokenKey};
use crate::ids::AuthRevision;
use crate::stored::{StoredAuth, StoredUser};

/// Users, roles, and whether they are asked for.
#[derive(Clone, Debug, Default)]
pub struct AuthState {
    stored: Arc<StoredAuth>,
    /// What follows from the roles of each user.
    reach: BTreeMap<String, Arc<Reach>>,
    /// Whose credentials these are.
    by_credentials: BTreeMap<AuthRevision, String>,
}

/// The keys within a user's reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Those it may read.
    pub read: Ranges,
    /// Those it may write.
    pub write: Ranges,
    /// Everything, keys and all else.
    pub is_admin: bool,
}

impl AuthState {
    /// From what disk has.
    #[must_use]
    pub fn restore(stored: Arc<StoredAuth>) -> Self {
        let reach = stored.users.iter().map(|(name, user)| (name.clone(), reach_of(&stored, user))).collect();
        let by_credentials =
            stored.users.iter().map(|(name, user)| (user.credentials, name.clone())).collect();
        Self { stored, reach, by_credentials }
    }

    /// As disk keeps it.
    #[must_use]
    pub fn stored(&self) -> &Arc<StoredAuth> {
        &self.stored
    }

    /// Whether rights are asked for.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.stored.token_key.is_some()
    }

    /// Signs tokens; `None` while rights are not asked for.
    #[must_use]
    pub fn token_key(&self) -> Option<&TokenKey> {
        self.stored.token_key.as_ref()
    }

    /// Grows with each change.
    #[must_use]
    pub fn revision(&self) -> AuthRevision {
        self.stored.revision
    }

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&StoredUser> {
        self.stored.users.get(name)
    }

    /// What a user may do.
    #[must_use]
    pub fn reach(&self, user: &str) -> Option<&Reach> {
        self.reach.get(user).map(AsRef::as_ref)
    }

    /// The user whose credentials were made at this revision, if it has them still.
    #[must_use]
    pub fn user_of(&self, credentials: AuthRevision) -> Option<&str> {
        self.by_credentials.get(&credentials).map(String::as_str)
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.stored.users.keys().map(String::as_str)
    }

    /// The names of all roles, sorted.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.stored.roles.keys().map(String::as_str)
    }

    /// The permissions of a role.
    #[must_use]
    pub fn permissions(&self, role: &str) -> Option<&[Permission]> {
        self.stored.roles.get(role).map(Vec::as_slice)
    }

    /// Executes a command.
    ///
    /// # Errors
    /// When nothing was changed, because the command may not be or has nothing to change.
    pub fn execute(&mut self, command: &AuthCommand) -> Result<(), AuthError> {
        match command {
            AuthCommand::Enable { token_key } => self.enable(*token_key),
            AuthCommand::Disable => {
                if self.is_enabled() {
                    self.change().token_key = None;
                }
                Ok(())
            }
            AuthCommand::UserAdd { name, password } => self.add_user(name, password),
            AuthCommand::UserDelete { name } => self.delete_user(name),
            AuthCommand::UserChangePassword { name, hash } => {
                let password = hash.clone().map_or(Password::Unset, Password::Hash);
                self.change_password(name, password)
            }
            AuthCommand::UserGrantRole { user, role } => self.grant_role(user, role),
            AuthCommand::UserRevokeRole { user, role } => self.revoke_role(user, role),
            AuthCommand::RoleAdd { name } => self.add_role(name),
            AuthCommand::RoleDelete { name } => self.delete_role(name),
            AuthCommand::RoleGrantPermission { role, permission } => self.grant_permission(role, permission),
            AuthCommand::RoleRevokePermission { role, range } => {
                let at = |permission: &Permission| permission.range == *range;
                let granted = self.stored.roles.get(role).ok_or(AuthError::RoleNotFound)?;
                if !granted.iter().any(at) {
                    return Err(AuthError::PermissionNotGranted);
                }
                self.change_role(role, |permissions| permissions.retain(|permission| !at(permission)));
                Ok(())
            }
        }
    }

    /// The stored form, in its next revision.
    fn change(&mut self) -> &mut StoredAuth {
        let stored = Arc::make_mut(&mut self.stored);
        stored.revision.0 += 1;
        stored
    }

    /// Asking twice changes nothing; neither does asking count as a change of users (etcd: the same).
    fn enable(&mut self, token_key: TokenKey) -> Result<(), AuthError> {
        if self.is_enabled() {
            return Ok(());
        }
        let root = self.user(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !has_role(root, ROOT) {
            return Err(AuthError::RootRoleNotExist);
        }
        Arc::make_mut(&mut self.stored).token_key = Some(token_key);
        Ok(())
    }

    fn add_user(&mut self, name: &str, password: &Password) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.user(name).is_some() {
            return Err(AuthError::UserExists);
        }
        let stored = self.change();
        let credentials = stored.revision;
        let user = StoredUser { password: password.clone(), credentials, roles: Vec::new() };
        stored.users.insert(name.to_owned(), user);
        self.by_credentials.insert(credentials, name.to_owned());
        self.reach.insert(name.to_owned(), Arc::default());
        Ok(())
    }

    fn delete_user(&mut self, name: &str) -> Result<(), AuthError> {
        if self.is_enabled() && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        let credentials = self.user(name).ok_or(AuthError::UserNotFound)?.credentials;
        self.change().users.remove(name);
        self.by_credentials.remove(&credentials);
        self.reach.remove(name);
        Ok(())
    }

    fn change_password(&mut self, name: &str, password: Password) -> Result<(), AuthError> {
        let before = self.user(name).ok_or(AuthError::UserNotFound)?.credentials;
        let stored = self.change();
        let credentials = stored.revision;
        if let Some(user) = stored.users.get_mut(name) {
            // Who was added without a password never gets one.
            if user.password != Password::None {
                user.password = password;
            }
            user.credentials = credentials;
        }
        self.by_credentials.remove(&before);
        self.by_credentials.insert(credentials, name.to_owned());
        Ok(())
    }

    /// The role `root` can be granted without being there.
    fn grant_role(&mut self, user: &str, role: &str) -> Result<(), AuthError> {
        let known = self.user(user).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && !self.stored.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound);
        }
        if !has_role(known, role) {
            self.change_roles(user, |roles| {
                roles.push(role.to_owned());
                roles.sort_unstable();
            });
        }
        Ok(())
    }

    fn revoke_role(&mut self, user: &str, role: &str) -> Result<(), AuthError> {
        if self.is_enabled() && user == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        if !has_role(self.user(user).ok_or(AuthError::UserNotFound)?, role) {
            return Err(AuthError::RoleNotGranted);
        }
        self.change_roles(user, |roles| roles.retain(|granted| granted != role));
        Ok(())
    }

    fn change_roles(&mut self, user: &str, change: impl FnOnce(&mut Vec<String>)) {
        if let Some(user) = self.change().users.get_mut(user) {
            change(&mut user.roles);
        }
        self.refresh_reach(|name, _| name == user);
    }

    fn add_role(&mut self, name: &str) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.stored.roles.contains_key(name) {
            return Err(AuthError::RoleExists);
        }
        self.change().roles.insert(name.to_owned(), Vec::new());
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), AuthError> {
        if self.is_enabled() && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        if !self.stored.roles.contains_key(name) {
            return Err(AuthError::RoleNotFound);
        }
        let holders: Vec<_> = self
            .stored
            .users
            .iter()
            .filter(|(_, user)| has_role(user, name))
            .map(|(n, _)| n.clone())
            .collect();
        let stored = self.change();
        stored.roles.remove(name);
        for user in stored.users.values_mut() {
            user.roles.retain(|role| role != name);
        }
        self.refresh_reach(|user, _| holders.iter().any(|holder| holder == user));
        Ok(())
    }

    fn grant_permission(&mut self, role: &str, permission: &Permission) -> Result<(), AuthError> {
        if !is_grantable(&permission.range) {
            return Err(AuthError::InvalidManagement);
        }
        if !self.stored.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound);
        }
        self.change_role(role, |permissions| {
            match permissions.iter_mut().find(|granted| granted.range == permission.range) {
                Some(granted) => granted.access = permission.access,
                None => {
                    let at = permissions.partition_point(|granted| granted.range.key <= permission.range.key);
                    permissions.insert(at, permission.clone());
                }
            }
        });
        Ok(())
    }

    fn change_role(&mut self, role: &str, change: impl FnOnce(&mut Vec<Permission>)) {
        if let Some(permissions) = self.change().roles.get_mut(role) {
            change(permissions);
        }
        self.refresh_reach(|_, user| has_role(user, role));
    }

    fn refresh_reach(&mut self, changed: impl Fn(&str, &StoredUser) -> bool) {
        for (name, user) in &self.stored.users {
            if changed(name, user) {
                self.reach.insert(name.clone(), reach_of(&self.stored, user));
            }
        }
    }
}

/// Whether a role is granted to a user.
#[must_use]
pub fn has_role(user: &StoredUser, role: &str) -> bool {
    user.roles.binary_search_by(|granted| granted.as_str().cmp(role)).is_ok()
}

fn reach_of(stored: &StoredAuth, user: &StoredUser) -> Arc<Reach> {
    let permissions = || user.roles.iter().filter_map(|role| stored.roles.get(role)).flatten();
    Arc::new(Reach {
        read: Ranges::union(permissions().filter(|p| p.access.reads()).map(|p| &p.range)),
        write: Ranges::union(permissions().filter(|p| p.access.writes()).map(|p| &p.range)),
        is_admin: has_role(user, ROOT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::KeyRange;
    use crate::command::auth::Access;

    fn s(text: &str) -> String {
        text.to_owned()
    }

    fn range(key: &'static str, range_end: &'static str) -> KeyRange {
        KeyRange { key: key.into(), range_end: range_end.into() }
    }

    fn user(name: &str) -> AuthCommand {
        AuthCommand::UserAdd { name: s(name), password: Password::Unset }
    }

    fn delete_user(name: &str) -> AuthCommand {
        AuthCommand::UserDelete { name: s(name) }
    }

    fn password(name: &str) -> AuthCommand {
        AuthCommand::UserChangePassword { name: s(name), hash: None }
    }

    fn give(user: &str, role: &str) -> AuthCommand {
        AuthCommand::UserGrantRole { user: s(user), role: s(role) }
    }

    fn take(user: &str, role: &str) -> AuthCommand {
        AuthCommand::UserRevokeRole { user: s(user), role: s(role) }
    }

    fn role(name: &str) -> AuthCommand {
        AuthCommand::RoleAdd { name: s(name) }
    }

    fn delete_role(name: &str) -> AuthCommand {
        AuthCommand::RoleDelete { name: s(name) }
    }

    fn allow(role: &str, access: Access, key: &'static str, range_end: &'static str) -> AuthCommand {
        let permission = Permission { access, range: range(key, range_end) };
        AuthCommand::RoleGrantPermission { role: s(role), permission }
    }

    fn forbid(role: &str, key: &'static str, range_end: &'static str) -> AuthCommand {
        AuthCommand::RoleRevokePermission { role: s(role), range: range(key, range_end) }
    }

    fn enable() -> AuthCommand {
        AuthCommand::Enable { token_key: TokenKey([1; 32]) }
    }

    /// Executes all of it; after each command the state is the one that disk would give back.
    fn after(commands: &[(AuthCommand, Result<(), AuthError>)]) -> AuthState {
        let mut state = AuthState::default();
        for (command, expected) in commands {
            let before = state.clone();
            assert_eq!(state.execute(command), *expected, "{command:?}");
            if expected.is_err() {
                assert_eq!(state.stored, before.stored, "{command:?} failed and changed something");
            }
            let restored = AuthState::restore(Arc::new(StoredAuth::decode(&state.stored.encode()).unwrap()));
            assert_eq!(restored.stored, state.stored, "{command:?}");
            assert_eq!(restored.reach, state.reach, "{command:?}");
            assert_eq!(restored.by_credentials, state.by_credentials, "{command:?}");
        }
        state
    }

    #[test]
    fn every_rule() {
        use AuthError as E;
        let state = after(&[
            (enable(), Err(E::RootUserNotExist)),
            (user(""), Err(E::UserEmpty)),
            (user("root"), Ok(())),
            (user("root"), Err(E::UserExists)),
            (enable(), Err(E::RootRoleNotExist)),
            (give("nobody", "root"), Err(E::UserNotFound)),
            (give("root", "r"), Err(E::RoleNotFound)),
            // The role `root` need not be there.
            (give("root", "root"), Ok(())),
            (give("root", "root"), Ok(())),
            (take("root", "root"), Ok(())),
            (take("root", "root"), Err(E::RoleNotGranted)),
            (take("nobody", "root"), Err(E::UserNotFound)),
            (give("root", "root"), Ok(())),
            (enable(), Ok(())),
            (enable(), Ok(())),
            (take("root", "root"), Err(E::InvalidManagement)),
            (delete_user("root"), Err(E::InvalidManagement)),
            (delete_role("root"), Err(E::InvalidManagement)),
            (role(""), Err(E::RoleEmpty)),
            (role("r"), Ok(())),
            (role("r"), Err(E::RoleExists)),
            (allow("nothing", Access::Read, "a", ""), Err(E::RoleNotFound)),
            (allow("r", Access::Read, "", ""), Err(E::InvalidManagement)),
            (allow("r", Access::Read, "b", "a"), Err(E::InvalidManagement)),
            (allow("r", Access::Read, "b", "c"), Ok(())),
            (allow("r", Access::Read, "a", ""), Ok(())),
            (allow("r", Access::ReadWrite, "b", "c"), Ok(())),
            (allow("r", Access::Write, "b", "\0"), Ok(())),
            (forbid("r", "b", ""), Err(E::PermissionNotGranted)),
            (forbid("nothing", "b", ""), Err(E::RoleNotFound)),
            (user("u"), Ok(())),
            (give("u", "r"), Ok(())),
            (password("nobody"), Err(E::UserNotFound)),
            (password("u"), Ok(())),
            (delete_user("nobody"), Err(E::UserNotFound)),
            (delete_role("nothing"), Err(E::RoleNotFound)),
        ]);
        assert_eq!(state.users().collect::<Vec<_>>(), ["root", "u"]);
        assert_eq!(state.roles().collect::<Vec<_>>(), ["r"]);
        let permissions: Vec<_> =
            state.permissions("r").unwrap().iter().map(|p| (p.access, p.range.clone())).collect();
        let expected = [
            (Access::Read, range("a", "")),
            (Access::ReadWrite, range("b", "c")),
            (Access::Write, range("b", "\0")),
        ];
        assert_eq!(permissions, expected);
        // One for the beginning, and one for each change: neither enabling nor what changed nothing counts.
        assert_eq!(state.revision(), AuthRevision(13));
    }

    #[test]
    fn rights_follow_roles_and_permissions() {
        let mut state = after(&[
            (user("u"), Ok(())),
            (role("r"), Ok(())),
            (role("s"), Ok(())),
            (give("u", "s"), Ok(())),
            (give("u", "r"), Ok(())),
            (allow("r", Access::Read, "a", "c"), Ok(())),
            (allow("s", Access::ReadWrite, "c", "e"), Ok(())),
        ]);
        let reads = |state: &AuthState, range: KeyRange| state.reach("u").unwrap().read.cover(&range);
        assert!(reads(&state, range("a", "e")));
        assert!(!state.reach("u").unwrap().write.cover(&range("b", "")));
        state.execute(&forbid("r", "a", "c")).unwrap();
        assert!(!reads(&state, range("a", "e")) && reads(&state, range("c", "e")));
        state.execute(&delete_role("s")).unwrap();
        assert!(!reads(&state, range("c", "")));
        assert_eq!(state.user("u").unwrap().roles, ["r"]);
        assert!(state.reach("nobody").is_none());
    }

    #[test]
    fn credentials_belong_to_one_user_until_they_change() {
        let mut state = after(&[(user("u"), Ok(())), (user("v"), Ok(()))]);
        let of = |state: &AuthState, name: &str| state.user(name).unwrap().credentials;
        let (u, v) = (of(&state, "u"), of(&state, "v"));
        assert_eq!((state.user_of(u), state.user_of(v)), (Some("u"), Some("v")));
        // Roles change nothing of who one is.
        state.execute(&give("u", "root")).unwrap();
        assert_eq!(state.user_of(u), Some("u"));
        state.execute(&password("u")).unwrap();
        assert_eq!((state.user_of(u), state.user_of(of(&state, "u"))), (None, Some("u")));
        state.execute(&delete_user("v")).unwrap();
        state.execute(&user("v")).unwrap();
        assert_eq!((state.user_of(v), state.user_of(of(&state, "v"))), (None, Some("v")));
    }

    #[test]
    fn who_has_no_password_never_gets_one() {
        let add = AuthCommand::UserAdd { name: s("u"), password: Password::None };
        let state = after(&[(add, Ok(())), (password("u"), Ok(()))]);
        assert_eq!(state.user("u").unwrap().password, Password::None);
    }
}
