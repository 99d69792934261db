//! The one binary: each part of Barque is a subcommand.
//!
//! Reads words, says what is wrong with them, and hands them on. Never decides anything else.

mod apiserver_args;
mod authentication_args;
mod log;
mod process;
mod store_args;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::apiserver_args::ApiserverArgs;
use crate::store_args::StoreArgs;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The words were wrong; nothing was done.
const USAGE: u8 = 2;

/// A Kubernetes-compatible cluster in one program.
#[derive(Debug, Parser)]
#[command(name = "barque", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a member of the key/value store, with etcd's flags.
    Store(Box<StoreArgs>),
    /// Serves the Kubernetes API over a store, with kube-apiserver's flags.
    Apiserver(Box<ApiserverArgs>),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Store(args) => {
            let log = args.log;
            match args.into_config() {
                Ok(config) => {
                    log.start();
                    ended(process::run(|stop| async { Ok(barque_store::server::run(config, stop).await?) }))
                }
                Err(error) => usage(&error),
            }
        }
        Command::Apiserver(args) => {
            let log = args.log;
            match args.into_config() {
                Ok(config) => {
                    log.start();
                    ended(process::run(|stop| async {
                        Ok(barque_apiserver::server::run(config, stop).await?)
                    }))
                }
                Err(error) => usage(&error),
            }
        }
    }
}

/// The words were wrong.
fn usage(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(USAGE)
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = sentence(&error);
            tracing::error!("{sentence}");
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes as one sentence; some causes are repeated in the text of what they caused.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}
