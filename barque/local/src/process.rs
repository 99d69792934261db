//! Processes that outlive who started them: started in their namespace with their log, waited for, stopped. Must never end one
//! that is not known by its number and its start.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use barque_containers::Identity;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use crate::log_file::{Follower, last_lines};
use crate::plan::Member;

/// Lines of a log that are told when its process has ended.
const TOLD_LINES: usize = 8;
/// How long a process may take to stop when it is asked to, before it is made to.
const GRACE: Duration = Duration::from_secs(20);
/// How long the kernel may take to end what is made to end.
const END: Duration = Duration::from_secs(10);

/// A process that has been started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its member.
    pub(crate) name: String,
    /// Which process it is.
    pub(crate) identity: Identity,
    child: Child,
    log: PathBuf,
    follower: Follower,
}

/// Why a process is not there.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It was not started.
    #[error("{name} cannot be started")]
    Start {
        /// Whose process.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It has ended.
    #[error("{name} has ended ({status}); the last lines of its log {log}:\n{lines}")]
    Ended {
        /// Whose process.
        name: String,
        /// How.
        status: String,
        /// Where its log is.
        log: PathBuf,
        /// The end of its log.
        lines: String,
    },
}

/// A command of a member: without variables that would be taken for flags.
fn command(program: &Path, words: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BARQUE_")) {
        command.env_remove(name);
    }
    // Programs of the system, also where only a user's own were looked for.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"));
    command
}

/// Runs something in the namespace of a member, or here.
async fn at<T: Send + 'static>(
    member: &Member,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match &member.place {
        Some(place) => barque_network::inside(&place.namespace, work).await,
        None => work(),
    }
}

/// Starts the process of a member; its log is appended to.
pub(crate) async fn start(program: &Path, member: &Member, log: &Path) -> Result<Started, ProcessError> {
    let name = member.name.clone();
    let wrong = |source: io::Error| ProcessError::Start { name: name.clone(), source };
    if let Some(directory) = log.parent() {
        std::fs::create_dir_all(directory).map_err(wrong)?;
    }
    let output = OpenOptions::new().append(true).create(true).open(log).map_err(wrong)?;
    let errors = output.try_clone().map_err(wrong)?;
    let follower = Follower::from_end(log).await.map_err(wrong)?;
    let mut command = command(program, &member.words);
    // A group of its own, so that signals of the terminal do not reach it.
    command.process_group(0).stdout(output).stderr(errors);
    let mut child = at(member, move || command.spawn()).await.map_err(wrong)?;
    match child.id().and_then(|pid| Identity::of(i32::try_from(pid).ok()?)) {
        Some(identity) => Ok(Started { name, identity, child, log: log.to_owned(), follower }),
        // It has ended already.
        None => Err(ended(&member.name, child.wait().await.map_err(wrong)?, log)),
    }
}

fn ended(name: &str, status: ExitStatus, log: &Path) -> ProcessError {
    ProcessError::Ended {
        name: name.to_owned(),
        status: status.to_string(),
        log: log.to_owned(),
        lines: last_lines(log, TOLD_LINES),
    }
}

impl Started {
    /// Waits until its log has this text.
    pub(crate) async fn ready(&mut self, text: &str) -> Result<(), ProcessError> {
        let Self { name, child, log, follower, .. } = self;
        let wrong = |source: io::Error| ProcessError::Start { name: name.clone(), source };
        tokio::select! {
            said = follower.until(text) => said.map_err(wrong),
            status = child.wait() => Err(ended(name, status.map_err(wrong)?, log)),
        }
    }

    /// Waits until it has ended, which it should not.
    pub(crate) async fn end(&mut self) -> ProcessError {
        match self.child.wait().await {
            Ok(status) => ended(&self.name, status, &self.log),
            Err(source) => ProcessError::Start { name: self.name.clone(), source },
        }
    }
}

/// Asks a process to stop, and makes it when it does not; true if it no longer runs.
pub(crate) async fn stop(process: Identity) -> bool {
    let stopping = tokio::task::spawn_blocking(move || {
        // Once: a second one would say not to wait for the end. One that is paused gets it when it goes on.
        let _ = process.signal(Signal::TERM);
        process.end(Signal::CONT, GRACE) || process.end(Signal::KILL, END)
    });
    stopping.await.unwrap_or(false)
}

/// Runs what takes away what a member left behind; what it said of what is left.
pub(crate) async fn cleanup(program: &Path, member: &Member) -> io::Result<Vec<String>> {
    if member.cleanup.is_empty() || member.place.as_ref().is_some_and(|place| !place.namespace.exists()) {
        return Ok(Vec::new());
    }
    let mut command = command(program, &member.cleanup);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = at(member, move || command.spawn()).await?;
    let Output { status, stderr, .. } = child.wait_with_output().await?;
    let told = String::from_utf8_lossy(&stderr).into_owned();
    if status.success() { Ok(Vec::new()) } else { Ok(told.lines().map(str::to_owned).collect()) }
}
