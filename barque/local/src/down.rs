//! A cluster is taken away: processes, what nodes left, the ground, and the data unless it is kept. Goes on when something
//! cannot be removed, and can be repeated. Must never end a process that is not the cluster's.

use std::path::{Path, PathBuf};

use futures::future::join_all;

use crate::plan::{Ground, Member, Role};
use crate::progress::Progress;
use crate::state::{Lock, State, StateError};
use crate::{ground, leftovers, process};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// The file of the cluster.
    #[error(transparent)]
    State(#[from] StateError),
    /// The cluster needs root.
    #[error("the cluster in {0} has namespaces of its own, for which root is needed")]
    NeedsRoot(PathBuf),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is no cluster.
    Nothing,
    /// It is away, but for what these sentences tell.
    Gone {
        /// What is left.
        left: Vec<String>,
    },
}

/// Takes the cluster of a directory away.
///
/// # Errors
/// When nothing can be done.
pub async fn down(
    directory: &Path,
    program: &Path,
    keep_data: bool,
    progress: &Progress,
) -> Result<Outcome, DownError> {
    if !directory.exists() {
        return Ok(Outcome::Nothing);
    }
    let lock = Lock::take(directory)?;
    let Some(mut state) = State::load(directory)? else {
        drop(lock);
        // What `barque up` and this one made.
        let _ = State::remove(directory);
        let _ = std::fs::remove_dir(directory);
        return Ok(Outcome::Nothing);
    };
    if state.plan.ground != Ground::Loopback && !rustix::process::geteuid().is_root() {
        return Err(DownError::NeedsRoot(directory.to_owned()));
    }
    progress.waiting("the cluster", "stops".to_owned());
    let left = take_away(&mut state, program, keep_data).await;
    progress.came("the cluster");
    Ok(Outcome::Gone { left })
}

/// Stops everything and removes it, the data only if it is not kept; sentences about what is left.
pub(crate) async fn take_away(state: &mut State, program: &Path, keep_data: bool) -> Vec<String> {
    let mut left = Vec::new();
    for role in [Role::Front, Role::Node, Role::Master] {
        left.extend(stop(state, role).await);
        if role == Role::Node {
            left.extend(clean(state, program).await);
        }
    }
    left.extend(ground::remove(&state.plan).await);
    let plan = &state.plan;
    if plan.ground != Ground::Loopback {
        left.extend(leftovers::remove_control_groups(&plan.name));
    }
    for member in &plan.members {
        left.extend(leftovers::unmount_below(&plan.directory_of(&member.name)));
    }
    left.extend(leftovers::remove_tree(&plan.run_directory));
    if let Some(of_all) = plan.run_directory.parent() {
        // It stays while another cluster has something in it.
        let _ = std::fs::remove_dir(of_all);
    }
    if !left.is_empty() {
        // Who comes again needs to know what there was.
        let _ = state.save();
        return left;
    }
    state.processes.clear();
    if keep_data {
        return state.save().err().map(|error| error.to_string()).into_iter().collect();
    }
    left.extend(remove_data(state));
    left
}

/// Stops those that are this, beside each other.
async fn stop(state: &State, role: Role) -> Vec<String> {
    let running = state.plan.of_role(role).filter_map(|member| Some((member, state.process(&member.name)?)));
    let stopping = running.map(|(member, process)| async move {
        let pid = process.pid;
        (!process::stop(process).await).then(|| format!("the process {pid} of {} does not end", member.name))
    });
    join_all(stopping).await.into_iter().flatten().collect()
}

/// Takes away what nodes left behind.
async fn clean(state: &State, program: &Path) -> Vec<String> {
    let cleaning = state.plan.of_role(Role::Node).map(|member: &Member| async move {
        match process::cleanup(program, member).await {
            Ok(left) => left.into_iter().map(|line| format!("of {}: {line}", member.name)).collect(),
            Err(error) => vec![format!("of {}: {error}", member.name)],
        }
    });
    join_all(cleaning).await.into_iter().flatten().collect()
}

fn remove_data(state: &State) -> Vec<String> {
    let plan = &state.plan;
    let mut left = Vec::new();
    for member in &plan.members {
        left.extend(leftovers::remove_tree(&plan.directory_of(&member.name)));
    }
    left.extend(leftovers::remove_tree(&plan.volumes()));
    for file in [plan.kubeconfig(), plan.authority(), plan.resolvers()] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                left.push(format!("the file {}: {error}", file.display()));
            }
            _ => {}
        }
    }
    if left.is_empty() {
        match State::remove(&plan.directory) {
            // Somebody's files may be in it, which stay.
            Ok(()) => drop(std::fs::remove_dir(&plan.directory)),
            Err(error) => left.push(format!("the state in {}: {error}", plan.directory.display())),
        }
    }
    left
}
