//! What concerns this program itself: completion of its words, and its manual pages. Must never touch a cluster.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cluster_command::print;

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = "Bash:  source <(barque completion bash)
Zsh:   barque completion zsh > \"${fpath[1]}/_barque\"
Fish:  barque completion fish | source")]
pub(crate) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Writes barque.1, barque-server.1 and so on into this directory [default: barque.1 to standard output].
    directory: Option<PathBuf>,
}

/// `barque completion`.
pub(crate) fn completion(args: &CompletionArgs, mut command: clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "barque", &mut script);
    print(&String::from_utf8_lossy(&script));
}

/// `barque man`.
pub(crate) fn man(args: &ManArgs, command: clap::Command) -> anyhow::Result<()> {
    match &args.directory {
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            // A reader that goes away is no error.
            let _ = io::stdout().write_all(&page);
            Ok(())
        }
        Some(directory) => {
            let place = || directory.display().to_string();
            fs::create_dir_all(directory).with_context(place)?;
            clap_mangen::generate_to(command, directory).with_context(place)
        }
    }
}
