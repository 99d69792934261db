//! `kvctl`: the store's administrator's tool. Speaks the public protocol; of the store's insides it knows what is done
//! with files while no member runs.

mod bench;
mod cli;
mod command;
mod connection;
mod error;
mod go_duration;
mod output;
mod range;
mod time_point;

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use cli::Command;
use error::Failure;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Without words there is nothing wrong: what is asked for is the help.
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                print!("{}", error.render());
            } else {
                // A closed terminal leaves nobody to tell.
                let _ = error.print();
            }
            return ExitCode::from(cli::usage_exit_code(&error));
        }
    };
    if let Command::Bench(args) = &cli.command {
        return match bench::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("kvctl: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let said = match &failure {
                Failure::Code(_) => true,
                // Whoever read the output has had enough of it.
                Failure::Io { source, .. } => source.kind() == io::ErrorKind::BrokenPipe,
                _ => false,
            };
            if !said {
                eprintln!("Error: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
