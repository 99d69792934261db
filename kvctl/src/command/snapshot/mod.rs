//! `kvctl snapshot`: copies of a cluster in files. What is about files alone needs no cluster.

mod failure;
mod import;
mod list;
mod progress;
mod restore;
mod save;
mod status;
mod verify;

use clap::Subcommand;

use super::Context;
use crate::error::Failure;
use crate::output::{Format, Output};

pub(super) use failure::told;
pub(super) use progress::Bar;

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
#[command(infer_subcommands = true)]
pub(crate) enum SnapshotCommand {
    /// Save a snapshot of one member into a file
    Save(save::SaveArgs),
    /// The snapshots that the endpoints' members take by themselves
    List(list::ListArgs),
    #[command(flatten)]
    OnFiles(OnFiles),
}

/// What is done with saved files.
#[derive(Debug, Subcommand)]
pub(crate) enum OnFiles {
    /// Tell what is in a saved file, after reading all of it
    Status(status::StatusArgs),
    /// Verify a saved file, or whether a whole one and increments follow each other
    Verify(verify::VerifyArgs),
    /// Make a snapshot of Barque from one of etcd
    Import(import::ImportArgs),
    /// Make data directories of a new cluster from saved files
    Restore(restore::RestoreArgs),
}

impl SnapshotCommand {
    /// Whether its answer can be drawn as a table.
    pub(super) fn has_table(&self) -> bool {
        !matches!(self, Self::Save(_))
    }

    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Save(args) => args.run(context).await,
            Self::List(args) => args.run(context).await,
            Self::OnFiles(command) => command.run(context.output),
        }
    }
}

impl OnFiles {
    /// Runs it to its end.
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        if !matches!(self, Self::Status(_)) {
            must_have_report(output)?;
        }
        match self {
            Self::Status(args) => args.run(output),
            Self::Verify(args) => args.run(output),
            Self::Import(args) => args.run(output),
            Self::Restore(args) => args.run(output),
        }
    }
}

/// Refuses a format that the command does not have, before anything is done.
pub(super) fn must_have_report(output: Output) -> Result<(), Failure> {
    match output.format {
        Format::Simple | Format::Table | Format::Json => Ok(()),
        Format::Fields | Format::Protobuf => Err(output.unsupported()),
    }
}
