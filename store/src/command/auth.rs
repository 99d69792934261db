//! The part of the vocabulary that is about users and roles (etcd's Auth service).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::KeyRange;
use crate::ids::AuthRevision;

/// A change of users, roles, or of whether they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthCommand {
    /// `Auth.AuthEnable`
    Enable {
        /// Signs the tokens that are handed out until rights are not asked for any more.
        token_key: TokenKey,
    },
    /// `Auth.AuthDisable`
    Disable,
    /// `Auth.UserAdd`
    UserAdd {
        /// The new user.
        name: String,
        /// How it proves who it is.
        password: Password,
    },
    /// `Auth.UserDelete`
    UserDelete {
        /// The user.
        name: String,
    },
    /// `Auth.UserChangePassword`
    UserChangePassword {
        /// The user.
        name: String,
        /// `None` is one that no text satisfies.
        hash: Option<PasswordHash>,
    },
    /// `Auth.UserGrantRole`
    UserGrantRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// `Auth.UserRevokeRole`
    UserRevokeRole {
        /// The user.
        user: String,
        /// The role.
        role: String,
    },
    /// `Auth.RoleAdd`
    RoleAdd {
        /// The new role.
        name: String,
    },
    /// `Auth.RoleDelete`
    RoleDelete {
        /// The role.
        name: String,
    },
    /// `Auth.RoleGrantPermission`
    RoleGrantPermission {
        /// The role.
        role: String,
        /// The permission, which takes the place of one on the same range.
        permission: Permission,
    },
    /// `Auth.RoleRevokePermission`
    RoleRevokePermission {
        /// The role.
        role: String,
        /// The range, exactly as it was granted.
        range: KeyRange,
    },
}

/// In whose name a command is executed. Its rights are those that this user has then, not those that it had
/// when it asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user.
    pub user: String,
    /// What was known of users and roles when the user asked; a command that was overtaken by a change of
    /// them is not executed.
    pub revision: AuthRevision,
}

/// `authpb.Permission`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What may be done.
    pub access: Access,
    /// With which keys.
    pub range: KeyRange,
}

/// `authpb.Permission.Type`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

impl Access {
    /// Whether keys may be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether keys may be written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// How a user proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Password {
    /// By a client's certificate alone.
    None,
    /// By a text of this hash.
    Hash(PasswordHash),
    /// By no text: a password was set to nothing.
    Unset,
}

/// The hash of a password, in the PHC string format with its parameters and salt, or the text of bcrypt for a user that
/// came from etcd. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// From the PHC string format.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// In the PHC string format.
    #[must_use]
    pub fn phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// The key that signs tokens. Random, made by the member that proposes to enable Auth. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey(pub [u8; 32]);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// Why somebody may not do something, or users and roles cannot be changed so. The text is etcd's (without its
/// `etcdserver: ` prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum AuthError {
    #[error("root user does not exist")]
    RootUserNotExist,
    #[error("root user does not have root role")]
    RootRoleNotExist,
    #[error("user name already exists")]
    UserExists,
    #[error("user name is empty")]
    UserEmpty,
    #[error("user name not found")]
    UserNotFound,
    #[error("role name already exists")]
    RoleExists,
    #[error("role name not found")]
    RoleNotFound,
    #[error("role name is empty")]
    RoleEmpty,
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    #[error("permission not given")]
    PermissionNotGiven,
    #[error("permission denied")]
    PermissionDenied,
    #[error("role is not granted to the user")]
    RoleNotGranted,
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    #[error("authentication is not enabled")]
    NotEnabled,
    #[error("revision of auth store is old")]
    OldRevision,
    #[error("invalid auth token")]
    InvalidToken,
    #[error("invalid auth management")]
    InvalidManagement,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let hash = PasswordHash::new("$argon2id$secret".to_owned());
        let command = AuthCommand::UserAdd { name: "a".to_owned(), password: Password::Hash(hash) };
        let enable = AuthCommand::Enable { token_key: TokenKey([77; 32]) };
        let printed = format!("{command:?} {enable:?} {enable:#?}");
        assert!(!printed.contains("secret") && !printed.contains("77"), "{printed}");
    }
}
