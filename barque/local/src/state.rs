//! What is known of a cluster of this machine between two commands, in a file that is whole or not there. Must never name a
//! process by its number alone: numbers are used again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use barque_containers::Identity;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// The file's name.
const FILE: &str = "cluster.json";
/// Held by who changes the cluster.
const LOCK: &str = "lock";

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Its layout.
    pub plan: Plan,
    /// Which start of the machine the processes are of.
    pub boot: String,
    /// The processes, by the names of members.
    #[serde(default)]
    pub processes: BTreeMap<String, Identity>,
    /// Members that have been ready once, and so are known to the others.
    #[serde(default)]
    pub joined: BTreeSet<String>,
}

/// Why the state is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be used.
    #[error("{path} cannot be used")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file says something else.
    #[error(
        "{path} is not what `barque up` has written ({problem}); mend it, or remove the directory when nothing of it runs"
    )]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Somebody else is at it.
    #[error("another `barque up`, `down` or `fault` works on {0}; wait until it has ended")]
    Locked(PathBuf),
}

impl State {
    /// A cluster of which nothing runs yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, boot: boot(), processes: BTreeMap::new(), joined: BTreeSet::new() }
    }

    /// The process of a member, if it runs.
    #[must_use]
    pub fn process(&self, member: &str) -> Option<Identity> {
        // After a start of the machine, ticks are counted anew.
        if self.boot != boot() {
            return None;
        }
        self.processes.get(member).copied().filter(|process| process.alive().is_some())
    }

    /// Which members run.
    #[must_use]
    pub fn running(&self) -> Vec<&str> {
        let names = self.plan.members.iter().map(|member| member.name.as_str());
        names.filter(|name| self.process(name).is_some()).collect()
    }

    /// A member has been started.
    pub fn started(&mut self, member: &str, process: Identity) {
        let boot = boot();
        if self.boot != boot {
            self.processes.clear();
            self.boot = boot;
        }
        self.processes.insert(member.to_owned(), process);
    }

    /// The state of the directory, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(directory: &Path) -> Result<Option<Self>, StateError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::File { path, source }),
        };
        match serde_json::from_slice(&text) {
            Ok(state) => Ok(Some(state)),
            Err(error) => Err(StateError::Content { path, problem: error.to_string() }),
        }
    }

    /// Writes it; who reads meanwhile gets the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(self).expect("names, numbers and paths of text are JSON");
        let path = self.plan.directory.join(FILE);
        write_private(&path, &text).map_err(|source| StateError::File { path, source })
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn remove(directory: &Path) -> io::Result<()> {
        for name in [FILE, LOCK] {
            match fs::remove_file(directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes a file that only its owner reads, in one step.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// The right to change the cluster of a directory, until it is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// When another has it, or there is no such directory.
    pub fn take(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(LOCK);
        let wrong = |source: io::Error| StateError::File { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(wrong)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(StateError::Locked(directory.to_owned())),
            Err(error) => Err(wrong(error.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It ends with the file anyway.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Which start of the machine this is.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::plan::Wanted;

    fn state(directory: &Path) -> State {
        let wanted = Wanted {
            name: "barque".to_owned(),
            masters: 1,
            nodes: 1,
            subnet: None,
            listen: "127.0.0.1:6443".parse().unwrap(),
            restore: None,
            directory: directory.to_owned(),
            run_directory: directory.join("run"),
            is_privileged: true,
        };
        State::new(Plan::of(&wanted).unwrap())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(State::load(directory.path()).unwrap(), None);
        let mut state = state(directory.path());
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        state.started("m1", me);
        state.joined.insert("m1".to_owned());
        state.save().unwrap();
        assert_eq!(State::load(directory.path()).unwrap(), Some(state));
        fs::write(directory.path().join(FILE), "{").unwrap();
        let told = State::load(directory.path()).unwrap_err().to_string();
        assert!(told.contains("cluster.json") && told.contains("barque up"), "{told}");
        State::remove(directory.path()).unwrap();
        State::remove(directory.path()).unwrap();
    }

    #[test]
    fn only_the_same_process_of_the_same_start_of_the_machine_runs() {
        let mut state = state(Path::new("/nowhere"));
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        state.started("m1", me);
        assert_eq!(state.running(), ["m1"]);
        state.boot = "another".to_owned();
        assert!(state.running().is_empty());
        state.started("n1", me);
        assert_eq!(state.running(), ["n1"]);
    }

    #[test]
    fn one_changes_the_cluster_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::take(directory.path()).unwrap();
        assert!(matches!(Lock::take(directory.path()), Err(StateError::Locked(_))));
        drop(held);
        Lock::take(directory.path()).unwrap();
    }
}
