//! `kvctl role`.

use barque_proto::authpb::{Permission, permission};
use barque_proto::etcdserverpb as pb;
use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::words::Raw;
use crate::error::Failure;
use crate::output::Answer;
use crate::range;

/// Subcommands of `role`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum RoleCommand {
    /// Add a role
    Add {
        /// Its name
        role: String,
    },
    /// Delete a role
    Delete {
        /// Its name
        role: String,
    },
    /// Show a role's permissions
    Get {
        /// Its name
        role: String,
    },
    /// List all roles
    List,
    /// Let a role read or write keys
    GrantPermission {
        /// Its name
        role: String,
        /// What it may do
        #[arg(value_enum, ignore_case = true)]
        permission: PermissionKind,
        #[command(flatten)]
        keys: Keys,
    },
    /// Take a permission back; the keys must be those that were granted
    RevokePermission {
        /// Its name
        role: String,
        #[command(flatten)]
        keys: Keys,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

/// Keys of a permission.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// The key, or the first key of a range
    key: Raw,
    /// The key at which the range ends, not included
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    end_key: Option<Raw>,
    /// Every key that begins with KEY
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// Every key from KEY on
    #[arg(long)]
    from_key: bool,
}

impl Keys {
    /// Key and end. The empty key stands for the smallest one.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        if self.prefix {
            range::prefix(&self.key.0)
        } else if self.from_key {
            range::from_key(&self.key.0)
        } else if self.key.0.is_empty() {
            (range::NO_END.to_vec(), self.end_key.clone().unwrap_or_default().0)
        } else {
            (self.key.0.clone(), self.end_key.clone().unwrap_or_default().0)
        }
    }
}

impl RoleCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection.patient();
        let answer = match self {
            Self::Add { role } => {
                let response = connection.role_add(pb::AuthRoleAddRequest { name: role.clone() }).await?;
                Answer::RoleAdd { role, response }
            }
            Self::Delete { role } => {
                let response =
                    connection.role_delete(pb::AuthRoleDeleteRequest { role: role.clone() }).await?;
                Answer::RoleDelete { role, response }
            }
            Self::Get { role } => {
                let response = connection.role_get(pb::AuthRoleGetRequest { role: role.clone() }).await?;
                Answer::RoleGet { role, response }
            }
            Self::List => Answer::RoleList(connection.role_list(pb::AuthRoleListRequest {}).await?),
            Self::GrantPermission { role, permission, keys } => {
                let kind = match permission {
                    PermissionKind::Read => permission::Type::Read,
                    PermissionKind::Write => permission::Type::Write,
                    PermissionKind::ReadWrite => permission::Type::Readwrite,
                };
                let (key, range_end) = keys.range();
                let perm =
                    Permission { perm_type: kind.into(), key: key.into(), range_end: range_end.into() };
                let request = pb::AuthRoleGrantPermissionRequest { name: role.clone(), perm: Some(perm) };
                let response = connection.role_grant_permission(request).await?;
                Answer::RoleGrant { role, response }
            }
            Self::RevokePermission { role, keys } => {
                let (key, range_end) = keys.range();
                let request = pb::AuthRoleRevokePermissionRequest {
                    role: role.clone(),
                    key: key.into(),
                    range_end: range_end.clone().into(),
                };
                let response = connection.role_revoke_permission(request).await?;
                Answer::RoleRevoke { role, key: keys.key.0, range_end, response }
            }
        };
        context.output.print(&answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_the_words_say() {
        let range = |key: &str, end: Option<&str>, prefix, from_key| {
            let raw = |text: &str| Raw(text.as_bytes().to_vec());
            Keys { key: raw(key), end_key: end.map(raw), prefix, from_key }.range()
        };
        let pair = |key: &str, end: &str| (key.as_bytes().to_vec(), end.as_bytes().to_vec());
        assert_eq!(range("a", None, false, false), pair("a", ""));
        assert_eq!(range("a", Some("c"), false, false), pair("a", "c"));
        assert_eq!(range("a", None, true, false), pair("a", "b"));
        assert_eq!(range("a", None, false, true), pair("a", "\0"));
        assert_eq!(range("", None, true, false), pair("\0", "\0"));
        assert_eq!(range("", None, false, false), pair("\0", ""));
    }
}
