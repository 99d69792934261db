//! `kvctl auth`.

use barque_proto::etcdserverpb as pb;
use clap::Subcommand;

use super::Context;
use crate::connection::Connection;
use crate::error::Failure;
use crate::output::{self, Answer};

/// Subcommands of `auth`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum AuthCommand {
    /// From now on only users may do something; needs a user `root`
    Enable,
    /// Everybody may do everything again
    Disable,
    /// Show whether users are enabled
    Status,
}

impl AuthCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let connection = &context.connection;
        match self {
            Self::Enable => {
                enable(connection).await?;
                output::line("Authentication Enabled")
            }
            Self::Disable => {
                connection.auth_disable(pb::AuthDisableRequest {}).await?;
                output::line("Authentication Disabled")
            }
            Self::Status => {
                let response = connection.auth_status(pb::AuthStatusRequest {}).await?;
                context.output.print(&Answer::AuthStatus(response))
            }
        }
    }
}

/// Enables users; makes the role of `root` if that is all that is missing.
async fn enable(connection: &Connection) -> Result<(), Failure> {
    let request = pb::AuthEnableRequest {};
    match connection.auth_enable(request).await {
        Err(failure)
            if failure
                .server_message()
                .is_some_and(|text| text.contains("root user does not have root role")) => {}
        other => return other.map(drop),
    }
    let root = || "root".to_owned();
    match connection.role_add(pb::AuthRoleAddRequest { name: root() }).await {
        Err(failure)
            if !failure.server_message().is_some_and(|text| text.contains("role name already exists")) =>
        {
            return Err(failure);
        }
        _ => {}
    }
    connection.user_grant_role(pb::AuthUserGrantRoleRequest { user: root(), role: root() }).await?;
    connection.auth_enable(request).await.map(drop)
}
