//! What concerns this program itself: version, completion, manual pages, passwords at the terminal.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli;
use crate::error::Failure;
use crate::output;

/// The version of etcd's API that is spoken.
const API_VERSION: &str = "3.6";

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Bash:  source <(kvctl completion bash)
Zsh:   kvctl completion zsh > \"${fpath[1]}/_kvctl\"
Fish:  kvctl completion fish | source")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write kvctl.1, kvctl-get.1 and so on into this directory
    directory: Option<PathBuf>,
}

/// `kvctl version`.
pub(super) fn version() -> Result<(), Failure> {
    output::line(&format!("kvctl version: {}", env!("CARGO_PKG_VERSION")))?;
    output::line(&format!("API version: {API_VERSION}"))
}

/// `kvctl completion`.
pub(super) fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "kvctl", &mut script);
    io::stdout().write_all(&script).map_err(Failure::io("standard output"))
}

/// `kvctl man`.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let command = cli::command();
    match &args.directory {
        None => Man::new(command).render(&mut io::stdout()).map_err(Failure::io("standard output")),
        Some(directory) => {
            fs::create_dir_all(directory).map_err(Failure::io(directory.display().to_string()))?;
            clap_mangen::generate_to(command, directory).map_err(Failure::io(directory.display().to_string()))
        }
    }
}

/// Asks for a password at the terminal, which does not show it.
///
/// # Errors
/// If there is no terminal.
pub(crate) fn ask_password(prompt: &str) -> Result<String, Failure> {
    rpassword::prompt_password(prompt).map_err(|why| {
        Failure::Arguments(format!("no terminal to ask for the password at ({why}): give it with a flag"))
    })
}
