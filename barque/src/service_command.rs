//! `barque service`: units of systemd written, and taken away again. Must never run what was not asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use barque_cluster::files::{self, Readers};
use clap::{Args, Parser, Subcommand};

use crate::agent_args::AgentArgs;
use crate::cluster_command::print;
use crate::server_args::ServerArgs;
use crate::service_unit::{Service, absolute, unit};

/// There when systemd runs this machine.
const RUNNING: &str = "/run/systemd/system";

/// Units of systemd.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

/// What is done with units.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Writes the unit of a master or of a node, with these flags, and has it started with the machine.
    ///
    /// A token goes into a file that its owner alone can read, not on the command line.
    Install {
        /// Which process.
        #[arg(value_enum)]
        service: Service,
        /// Prints the unit and writes nothing.
        #[arg(long)]
        print: bool,
        /// Starts it now too.
        #[arg(long, conflicts_with_all = ["print", "root"])]
        now: bool,
        /// Writes below this directory, for the image of a machine, and asks no systemd.
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// Flags of `barque server` or `barque agent`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
}

/// Words of a service, as it will read them.
#[derive(Debug, Parser)]
struct Words<A: Args> {
    #[command(flatten)]
    #[allow(dead_code, reason = "that they can be read is what matters")]
    args: A,
}

fn check<A: Args>(service: Service, flags: &[String]) -> anyhow::Result<()> {
    if let Some(word) = flags.first().filter(|word| !word.starts_with('-')) {
        anyhow::bail!("{word:?} is no flag of `barque {}`", service.command());
    }
    let words = std::iter::once(format!("barque {}", service.command())).chain(flags.iter().cloned());
    Words::<A>::try_parse_from(words).map(drop).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        anyhow::anyhow!("{line}; `barque {} --help` lists the flags", service.command())
    })
}

/// `barque service`.
pub(crate) fn service(command: ServiceCommand) -> anyhow::Result<()> {
    let ServiceCommand::Install { service, print: only_print, now, root, flags } = command;
    match service {
        Service::Server => check::<ServerArgs>(service, &flags)?,
        Service::Agent => check::<AgentArgs>(service, &flags)?,
    }
    let program = std::env::current_exe().context("where this program is")?;
    let here = std::env::current_dir().context("the directory of this process")?;
    let unit = unit(service, &program, &absolute(&flags, &here));
    if only_print {
        print(&unit.text);
        return Ok(());
    }
    let place = |path: String| match &root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    };
    let (unit_path, environment_path) = (place(service.unit_path()), place(service.environment_path()));
    if unit.environment.is_empty() {
        remove(&environment_path)?;
    } else {
        files::write(&environment_path, unit.environment.as_bytes(), Readers::Owner)?;
        print(&format!("{} is written, for its owner alone\n", environment_path.display()));
    }
    files::write(&unit_path, unit.text.as_bytes(), Readers::All)?;
    print(&format!("{} is written\n", unit_path.display()));
    let name = service.unit();
    if root.is_some() {
        return Ok(());
    }
    if !Path::new(RUNNING).exists() {
        print(&format!("systemd does not run this machine: {name} is neither enabled nor started\n"));
        return Ok(());
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", &name])?;
    if now {
        systemctl(&["restart", &name])?;
        print(&format!("{name} is started, and starts with the machine\n"));
    } else {
        print(&format!("{name} starts with the machine; `systemctl start {name}` starts it now\n"));
    }
    Ok(())
}

/// Whether the unit of a service is there.
pub(crate) fn is_installed(service: Service) -> bool {
    Path::new(&service.unit_path()).exists()
}

/// Stops a service that a unit runs.
pub(crate) fn stop(service: Service) -> anyhow::Result<()> {
    if is_installed(service) && Path::new(RUNNING).exists() {
        systemctl(&["disable", "--now", &service.unit()])?;
    }
    Ok(())
}

/// Takes the files of a service away; those that were there.
pub(crate) fn take_away(service: Service) -> anyhow::Result<Vec<String>> {
    let mut gone = Vec::new();
    for path in [service.unit_path(), service.environment_path()] {
        if remove(Path::new(&path))? {
            gone.push(path);
        }
    }
    if !gone.is_empty() && Path::new(RUNNING).exists() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(gone)
}

fn remove(path: &Path) -> anyhow::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    let told = || format!("systemctl {}", words.join(" "));
    let output = Command::new("systemctl").args(words).output().with_context(told)?;
    if !output.status.success() {
        anyhow::bail!("{}: {}", told(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
