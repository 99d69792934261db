//! The commands of `kvctl`.

use clap::{Parser, Subcommand};

use crate::bench::BenchArgs;

/// Administers Barque's store and any other etcd v3 server.
#[derive(Debug, Parser)]
#[command(name = "kvctl", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One per command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure throughput and latency under load
    Bench(BenchArgs),
}
