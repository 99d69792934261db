//! The buckets `auth`, `authUsers` and `authRoles`. Pure; the key that signs tokens is handed in.

use std::collections::BTreeMap;

use barque_proto::authpb;
use prost::Message as _;

use super::error::Stop;
use crate::auth::password;
use crate::command::KeyRange;
use crate::command::auth::{Access, Password, Permission, TokenKey};
use crate::ids::AuthRevision;
use crate::stored::{StoredAuth, StoredUser};

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    is_enabled: bool,
    revision: u64,
    users: BTreeMap<String, (Password, Vec<String>)>,
    roles: BTreeMap<String, Vec<Permission>>,
}

fn name(key: &[u8], what: &str) -> Result<String, Stop> {
    String::from_utf8(key.to_vec()).map_err(|_| format!("the name of {what} is no text: {key:02x?}").into())
}

impl Found {
    /// An entry of `auth`.
    pub(super) fn flag(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        match key {
            b"authEnabled" => self.is_enabled = value == [1],
            b"authRevision" => {
                let bytes = value.try_into().map_err(|_| "the revision of users is no number".to_owned())?;
                self.revision = u64::from_be_bytes(bytes);
            }
            _ => {}
        }
        Ok(())
    }

    /// An entry of `authUsers`.
    pub(super) fn user(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let name = name(key, "a user")?;
        let user = authpb::User::decode(value).map_err(|error| format!("user {name:?}: {error}"))?;
        let password = if user.options.is_some_and(|options| options.no_password) {
            Password::None
        } else {
            // etcd stores any bytes that a client calls a hash; no password fits what is none, here as there.
            let hash = std::str::from_utf8(&user.password).ok().and_then(password::of_etcd);
            hash.map_or(Password::Unset, Password::Hash)
        };
        let mut roles = user.roles;
        roles.sort_unstable();
        roles.dedup();
        self.users.insert(name, (password, roles));
        Ok(())
    }

    /// An entry of `authRoles`.
    pub(super) fn role(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let name = name(key, "a role")?;
        let role = authpb::Role::decode(value).map_err(|error| format!("role {name:?}: {error}"))?;
        let permission = |permission: authpb::Permission| {
            let access = match permission.perm_type() {
                _ if authpb::permission::Type::try_from(permission.perm_type).is_err() => {
                    return Err(format!("role {name:?} has a permission of an unknown kind"));
                }
                authpb::permission::Type::Read => Access::Read,
                authpb::permission::Type::Write => Access::Write,
                authpb::permission::Type::Readwrite => Access::ReadWrite,
            };
            // A range without end is written in the same way.
            let range = KeyRange { key: permission.key, range_end: permission.range_end };
            Ok(Permission { access, range })
        };
        let mut permissions: Vec<_> =
            role.key_permission.into_iter().map(permission).collect::<Result<_, _>>()?;
        permissions.sort_by(|a, b| a.range.key.cmp(&b.range.key));
        self.roles.insert(name, permissions);
        Ok(())
    }

    /// Everything, as disk keeps it. Each user gets credentials of a revision that no other user has.
    pub(super) fn finish(self, token_key: TokenKey) -> StoredAuth {
        let users: BTreeMap<_, _> = self
            .users
            .into_iter()
            .zip(1..)
            .map(|((name, (password, roles)), credentials)| {
                (name, StoredUser { password, credentials: AuthRevision(credentials), roles })
            })
            .collect();
        let revision = self.revision.max(AuthRevision::FIRST.0).max(users.len() as u64);
        StoredAuth {
            revision: AuthRevision(revision),
            token_key: self.is_enabled.then_some(token_key),
            users,
            roles: self.roles,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `secret`, as etcd 3.4 hashed it.
    const SECRET: &str = "$2a$04$7.VswpcQ72xQ5WBtrtMaQOS0XP/UUVg4j/5H13M.ZnXHfl2zqpUPe";

    fn user(password: &str, no_password: bool, roles: &[&str]) -> Vec<u8> {
        let options = Some(authpb::UserAddOptions { no_password });
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        authpb::User { name: "ignored".into(), password: password.to_owned().into(), roles, options }
            .encode_to_vec()
    }

    #[test]
    fn users_come_with_what_proves_them() {
        let mut found = Found::default();
        found.flag(b"authEnabled", &[1]).unwrap();
        found.flag(b"authRevision", &9_u64.to_be_bytes()).unwrap();
        found.user(b"a", &user(SECRET, false, &["s", "r"])).unwrap();
        found.user(b"b", &user("", true, &[])).unwrap();
        found.user(b"c", &user("", false, &[])).unwrap();
        found.user(b"d", &user("whatever", false, &[])).unwrap();
        let auth = found.finish(TokenKey([3; 32]));
        assert_eq!((auth.revision, auth.token_key), (AuthRevision(9), Some(TokenKey([3; 32]))));
        let password = |name: &str| auth.users[name].password.clone();
        let hash = Password::Hash(password::of_etcd(SECRET).unwrap());
        assert_eq!(password("a"), hash);
        assert_eq!(password("b"), Password::None);
        assert_eq!((password("c"), password("d")), (Password::Unset, Password::Unset));
        assert_eq!(auth.users["a"].roles, ["r", "s"]);
        let mut credentials: Vec<_> = auth.users.values().map(|user| user.credentials).collect();
        credentials.dedup();
        assert!(credentials.len() == 4 && credentials.iter().all(|at| *at <= auth.revision));
        assert_eq!(Found::default().finish(TokenKey([3; 32])), StoredAuth::default());
    }

    #[test]
    fn roles_come_with_their_ranges() {
        let permission = |perm_type, key: &'static str, range_end: &'static str| authpb::Permission {
            perm_type,
            key: key.into(),
            range_end: range_end.into(),
        };
        let role =
            |permissions| authpb::Role { name: "r".into(), key_permission: permissions }.encode_to_vec();
        let all = vec![permission(2, "b", "\0"), permission(0, "a", ""), permission(1, "b", "c")];
        let mut found = Found::default();
        found.role(b"r", &role(all)).unwrap();
        let auth = found.finish(TokenKey([0; 32]));
        let told: Vec<_> =
            auth.roles["r"].iter().map(|p| (p.access, &p.range.key[..], &p.range.range_end[..])).collect();
        assert_eq!(
            told,
            [
                (Access::Read, &b"a"[..], &b""[..]),
                (Access::ReadWrite, b"b", b"\0"),
                (Access::Write, b"b", b"c")
            ]
        );
        assert!(Found::default().role(b"r", &role(vec![permission(7, "a", "")])).is_err());
        assert!(Found::default().role(b"\xff", &role(vec![])).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_understood(key: Vec<u8>, value: Vec<u8>) {
            let mut found = Found::default();
            let _ = found.flag(b"authRevision", &value);
            let _ = found.user(&key, &value);
            let _ = found.role(&key, &value);
            let _ = found.finish(TokenKey([0; 32]));
        }
    }
}
