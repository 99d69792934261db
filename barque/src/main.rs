//! The one binary. `barque store` runs a member of the store.

mod logging;
mod run_store;
mod store_args;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use store_args::StoreArgs;

/// Where memory comes from: many small records and threads are what it is made for.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Barque: a Kubernetes-compatible cluster on a replicated store of its own.
#[derive(Debug, Parser)]
#[command(name = "barque", version, about, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a member of the replicated key/value store that etcd's clients talk to.
    Store(Box<StoreArgs>),
}

/// The command line is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Command::Store(args) = Cli::parse().command;
    if let Err(error) = logging::start(&args.log_level, args.log_format) {
        eprintln!("barque: {error:#}");
        return ExitCode::from(USAGE);
    }
    let config = match args.config().validate() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("barque: {}", run_store::sentence(&error.into()));
            return ExitCode::from(USAGE);
        }
    };
    match run_store::run_store(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = run_store::sentence(&error);
            tracing::error!("{sentence}");
            eprintln!("barque: {sentence}");
            ExitCode::FAILURE
        }
    }
}
