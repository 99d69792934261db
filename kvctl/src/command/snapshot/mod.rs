//! `kvctl snapshot`: copies of a cluster in files.

mod list;
mod save;

use clap::Subcommand;

use super::Context;
use crate::error::Failure;

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum SnapshotCommand {
    /// Save a snapshot of one member into a file
    Save(save::SaveArgs),
    /// The snapshots that the endpoints' members take by themselves
    List(list::ListArgs),
}

impl SnapshotCommand {
    /// Whether its answer can be drawn as a table.
    pub(super) fn has_table(&self) -> bool {
        matches!(self, Self::List(_))
    }

    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Save(args) => args.run(context).await,
            Self::List(args) => args.run(context).await,
        }
    }
}
