//! `kvctl user`.

use std::io::BufRead;

use barque_proto::authpb::UserAddOptions;
use barque_proto::etcdserverpb as pb;
use clap::{ArgAction, Args, Subcommand};

use super::{Context, shell};
use crate::error::Failure;
use crate::output::{self, Answer, Format};

/// Subcommands of `user`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum UserCommand {
    /// Add a user
    Add {
        /// The name, or name:password
        user: String,
        #[command(flatten)]
        asking: Asking,
        /// The password
        #[arg(long, value_name = "PASSWORD")]
        new_user_password: Option<String>,
        /// Without a password: the user shows a certificate with this common name
        #[arg(long)]
        no_password: bool,
    },
    /// Delete a user
    Delete {
        /// The name
        user: String,
    },
    /// Show a user's roles
    Get {
        /// The name
        user: String,
        /// Also what each role may do
        #[arg(long)]
        detail: bool,
    },
    /// List all users
    List,
    /// Change a user's password
    #[command(name = "passwd")]
    Password {
        /// The name
        user: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Give a user a role
    GrantRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
    /// Take a role from a user
    RevokeRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
}

/// Where a password comes from that is not among the arguments.
#[derive(Debug, Args)]
pub(crate) struct Asking {
    /// Ask at the terminal; with =false read it from standard input
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    interactive: bool,
}

impl Asking {
    fn password(&self, user: &str) -> Result<String, Failure> {
        if !self.interactive {
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).map_err(Failure::io("standard input"))?;
            return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
        }
        let first = shell::ask_password(&format!("Password of {user}: "))?;
        if first.is_empty() {
            return Err(Failure::Arguments("the password is empty: type one, or use --no-password".into()));
        }
        let second = shell::ask_password(&format!("Type password of {user} again for confirmation: "))?;
        if first != second {
            return Err(Failure::Arguments("the passwords are different: nothing was changed".into()));
        }
        Ok(first)
    }
}

/// Name and password of a new user; `ask` is called for a password that is not given.
fn new_user(
    user: &str,
    given: Option<&str>,
    no_password: bool,
    ask: impl FnOnce(&str) -> Result<String, Failure>,
) -> Result<pb::AuthUserAddRequest, Failure> {
    let (name, password) = match (given, user.split_once(':')) {
        _ if no_password => (user, String::new()),
        (Some(password), _) if !password.is_empty() => (user, password.to_owned()),
        (_, Some(("", _))) => {
            return Err(Failure::Arguments("the user's name is empty: write name:password".into()));
        }
        (_, Some((name, password))) => (name, password.to_owned()),
        (_, None) => (user, ask(user)?),
    };
    Ok(pb::AuthUserAddRequest {
        name: name.to_owned(),
        password,
        options: Some(UserAddOptions { no_password }),
        hashed_password: String::new(),
    })
}

impl UserCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        // Passwords are hashed slowly on purpose.
        let connection = &context.connection.patient();
        let answer = match self {
            Self::Add { user, asking, new_user_password, no_password } => {
                let request =
                    new_user(&user, new_user_password.as_deref(), no_password, |user| asking.password(user))?;
                let user = request.name.clone();
                Answer::UserAdd { user, response: connection.user_add(request).await? }
            }
            Self::Delete { user } => {
                let response =
                    connection.user_delete(pb::AuthUserDeleteRequest { name: user.clone() }).await?;
                Answer::UserDelete { user, response }
            }
            Self::Get { user, detail } => {
                let response = connection.user_get(pb::AuthUserGetRequest { name: user.clone() }).await?;
                if detail {
                    return details(context, &user, response).await;
                }
                Answer::UserGet { user, response }
            }
            Self::List => Answer::UserList(connection.user_list(pb::AuthUserListRequest {}).await?),
            Self::Password { user, asking } => {
                let password = asking.password(&user)?;
                let request =
                    pb::AuthUserChangePasswordRequest { name: user, password, ..Default::default() };
                Answer::UserPassword(connection.user_change_password(request).await?)
            }
            Self::GrantRole { user, role } => {
                let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
                Answer::UserGrant { user, role, response: connection.user_grant_role(request).await? }
            }
            Self::RevokeRole { user, role } => {
                let request = pb::AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
                Answer::UserRevoke { user, role, response: connection.user_revoke_role(request).await? }
            }
        };
        context.output.print(&answer)
    }
}

/// The user, and each of its roles.
async fn details(context: &Context, user: &str, response: pb::AuthUserGetResponse) -> Result<(), Failure> {
    let simple = context.output.format == Format::Simple;
    if simple {
        output::line(&format!("User: {user}"))?;
    }
    for role in response.roles {
        if simple {
            output::line("")?;
        }
        let response = context.connection.role_get(pb::AuthRoleGetRequest { role: role.clone() }).await?;
        context.output.print(&Answer::RoleGet { role, response })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_users_password_is_given_or_asked_for_or_there_is_none() {
        let new = |user, given, none| {
            new_user(user, given, none, |_| Ok("asked".into())).map(|new| (new.name, new.password))
        };
        let pair = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        assert_eq!(new("u:p:q", None, false).unwrap(), pair("u", "p:q"));
        assert_eq!(new("u", Some("p"), false).unwrap(), pair("u", "p"));
        assert_eq!(new("u", None, false).unwrap(), pair("u", "asked"));
        assert_eq!(new("u:x", None, true).unwrap(), pair("u:x", ""));
        assert_eq!(new(":p", None, false).unwrap_err().exit_code(), 128);
    }
}
