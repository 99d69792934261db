//! `kvctl`: the store's administrator's tool. Speaks the public protocol only, never a store's insides.

mod bench;
mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
