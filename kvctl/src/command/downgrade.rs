//! `kvctl downgrade`.

use barque_proto::etcdserverpb::DowngradeRequest;
use barque_proto::etcdserverpb::downgrade_request::DowngradeAction;
use clap::Subcommand;

use super::Context;
use crate::error::Failure;
use crate::output::Answer;

/// Subcommands of `downgrade`.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum DowngradeCommand {
    /// See whether the cluster could go back to a version
    Validate {
        /// Such as 3.5.0
        target_version: String,
    },
    /// Begin going back to a version
    Enable {
        /// Such as 3.5.0
        target_version: String,
    },
    /// Stop going back
    Cancel,
}

impl DowngradeCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let (name, action, version) = match self {
            Self::Validate { target_version } => ("validate", DowngradeAction::Validate, target_version),
            Self::Enable { target_version } => ("enable", DowngradeAction::Enable, target_version),
            Self::Cancel => ("cancel", DowngradeAction::Cancel, String::new()),
        };
        let response =
            context.connection.downgrade(DowngradeRequest { action: action.into(), version }).await?;
        context.output.print(&Answer::Downgrade { action: name, response })
    }
}
