//! Faults for a cluster on one machine: a member dies, stops to answer, is cut off, and comes back. Must never touch a process
//! that is not the cluster's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use crate::ground::{self, GroundError};
use crate::plan::Member;
use crate::process::{self, ProcessError};
use crate::replacement;
use crate::state::{Lock, State, StateError};
use crate::up::ready_line;

/// What is done to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends at once.
    Kill,
    /// It stops where it is; the kernel still takes connections for it.
    Pause,
    /// It goes on.
    Resume,
    /// It is stopped if it runs, and started with the same words.
    Restart,
    /// A master ends at once and loses what it had; it joins the others again, as a new one.
    Replace,
    /// Nothing reaches it, and it reaches nobody.
    Partition,
    /// It is reached again.
    Heal,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The file of the cluster.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is none.
    #[error("there is no cluster in {0}; `barque up` makes one, and --dir names where it is")]
    NoCluster(PathBuf),
    /// No such member.
    #[error("the cluster has no member {member}; its members are {members}")]
    NoMember {
        /// What was said.
        member: String,
        /// What there is.
        members: String,
    },
    /// It does not run.
    #[error("{0} does not run; `barque fault restart {0}` starts it")]
    NotRunning(String),
    /// It does not end.
    #[error("{0} does not end")]
    DoesNotEnd(String),
    /// It has no link.
    #[error(
        "{0} has no link of its own that could be cut; only members of clusters that root has made have one"
    )]
    NoLink(String),
    /// It has nothing that a new one could stand for.
    #[error("{0} is no master; only masters are replaced")]
    NoMaster(String),
    /// Nobody is there whom a new one could join.
    #[error("no other master runs, which a new {0} could join")]
    Alone(String),
    /// What it had.
    #[error("what {member} had cannot be removed")]
    Remains {
        /// Who.
        member: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The link.
    #[error(transparent)]
    Ground(#[from] GroundError),
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It took too long.
    #[error("{member} runs, but did not say within {}s that it is ready; its log is {log}", after.as_secs())]
    NotReady {
        /// Who.
        member: String,
        /// How long it was waited.
        after: Duration,
        /// What it said.
        log: PathBuf,
    },
    /// Somebody does not want to wait any more.
    #[error("stopped before {0} was ready")]
    Stopped(String),
}

/// Does it to a member of the cluster of a directory. A member that is started again has come back when this does.
///
/// # Errors
/// When it cannot be done.
pub async fn fault(
    directory: &Path,
    program: &Path,
    member: &str,
    fault: Fault,
    longest: Duration,
    stop: CancellationToken,
) -> Result<(), FaultError> {
    if !directory.exists() {
        return Err(FaultError::NoCluster(directory.to_owned()));
    }
    let _lock = Lock::take(directory)?;
    let Some(mut state) = State::load(directory)? else {
        return Err(FaultError::NoCluster(directory.to_owned()));
    };
    let Some(found) = state.plan.member(member).cloned() else {
        let names: Vec<_> = state.plan.members.iter().map(|member| member.name.as_str()).collect();
        return Err(FaultError::NoMember { member: member.to_owned(), members: names.join(", ") });
    };
    let running = state.process(member);
    let process = || running.ok_or_else(|| FaultError::NotRunning(member.to_owned()));
    let signal = |signal| {
        if process()?.signal(signal) { Ok(()) } else { Err(FaultError::NotRunning(member.to_owned())) }
    };
    let link = |is_connected| {
        let place = found.place.clone().ok_or_else(|| FaultError::NoLink(member.to_owned()));
        async move { Ok(ground::set_connected(&place?, is_connected).await?) }
    };
    match fault {
        Fault::Kill => {
            let process = process()?;
            let ended = tokio::task::spawn_blocking(move || process.kill()).await;
            if ended.unwrap_or(false) { Ok(()) } else { Err(FaultError::DoesNotEnd(member.to_owned())) }
        }
        Fault::Pause => signal(Signal::STOP),
        Fault::Resume => signal(Signal::CONT),
        Fault::Partition => link(false).await,
        Fault::Heal => link(true).await,
        Fault::Restart => {
            if let Some(process) = running
                && !process::stop(process).await
            {
                return Err(FaultError::DoesNotEnd(member.to_owned()));
            }
            start(&mut state, program, &found, longest, &stop).await
        }
        Fault::Replace => {
            let words = replacement::words(&state, &found)?;
            if let Some(process) = running {
                let ended = tokio::task::spawn_blocking(move || process.kill()).await;
                if !ended.unwrap_or(false) {
                    return Err(FaultError::DoesNotEnd(member.to_owned()));
                }
            }
            let remains = |source| FaultError::Remains { member: member.to_owned(), source };
            replacement::empty(&state.plan.directory_of(member)).map_err(remains)?;
            let new = Member { words, ..found };
            state.plan.change(new.clone());
            start(&mut state, program, &new, longest, &stop).await
        }
    }
}

/// Starts a member that does not run, and waits until it serves.
async fn start(
    state: &mut State,
    program: &Path,
    member: &Member,
    longest: Duration,
    stop: &CancellationToken,
) -> Result<(), FaultError> {
    let log = state.plan.log_of(&member.name);
    let mut started = process::start(program, member, &log).await?;
    state.started(&member.name, started.identity);
    state.save()?;
    let ready = tokio::time::timeout(longest, Box::pin(started.ready(ready_line(member.role))));
    match stop.run_until_cancelled(ready).await {
        None => Err(FaultError::Stopped(member.name.clone())),
        Some(Err(_)) => Err(FaultError::NotReady { member: member.name.clone(), after: longest, log }),
        Some(Ok(outcome)) => Ok(outcome?),
    }
}
