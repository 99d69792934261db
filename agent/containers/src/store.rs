//! What is kept in files, and where: directories of sandboxes and containers, and their states, each replaced as a whole.
//! The files are the truth: whoever reads them sees the last state that was told, whether a shim runs or not.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::spec::{ContainerState, SandboxState};

/// What is kept of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) state: SandboxState,
    /// Its control group, below the root of each hierarchy.
    pub(crate) cgroup: PathBuf,
    /// Everything of it was made; one that was not is removed by the next agent.
    pub(crate) complete: bool,
}

/// The directories of one agent.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Store {
    /// States, sockets, mounts: gone with the machine's next start.
    pub(crate) state: PathBuf,
    /// What containers write.
    pub(crate) data: PathBuf,
}

impl Store {
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    /// The directories of control groups that were made above those of sandboxes, parents first.
    pub(crate) fn group_parents(&self) -> PathBuf {
        self.state.join("cgroups.json")
    }

    pub(crate) fn sandbox(&self, id: &str) -> SandboxDirectory {
        SandboxDirectory(self.sandboxes().join(id))
    }

    pub(crate) fn written(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// What a container wrote: `upper` and `work` of its overlay.
    pub(crate) fn written_by(&self, container: &str) -> PathBuf {
        self.written().join(container)
    }
}

/// The directory of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SandboxDirectory(pub(crate) PathBuf);

impl SandboxDirectory {
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }

    pub(crate) fn shim(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    /// Who the first process of a shared namespace is.
    pub(crate) fn pause(&self) -> PathBuf {
        self.0.join("pause.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    pub(crate) fn namespaces(&self) -> PathBuf {
        self.0.join("ns")
    }

    pub(crate) fn shared_memory(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// Where libcontainer keeps its own states.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.0.join("oci")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn container(&self, id: &str) -> ContainerDirectory {
        ContainerDirectory(self.containers().join(id))
    }

    /// All containers of which a state was kept, by id.
    pub(crate) fn states(&self) -> std::io::Result<Vec<ContainerState>> {
        let mut states = Vec::new();
        for name in names(&self.containers())? {
            if let Some(state) = read(&self.container(&name).state())? {
                states.push(state);
            }
        }
        Ok(states)
    }
}

/// The directory of a container; it is its bundle as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerDirectory(pub(crate) PathBuf);

impl ContainerDirectory {
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    pub(crate) fn document(&self) -> PathBuf {
        self.0.join("config.json")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("rootfs")
    }
}

/// What is in a directory, sorted; nothing if it is not there.
pub(crate) fn names(directory: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a value; nothing if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> std::io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        std::io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    })?;
    Ok(Some(value))
}

/// Replaces a file as a whole: who reads it sees the old value or the new one. Not synced, since the directory does not
/// outlive the machine's run.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    drop(file);
    std::fs::rename(&draft, path)
}

/// Removes a directory with all in it, without entering other file systems' mounts: those must be gone before. One that is
/// not there is removed.
pub(crate) fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a name can be one of a directory, and of a container for libcontainer.
pub(crate) fn valid_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    (1..=128).contains(&id.len()) && id.bytes().all(plain) && id != "." && id != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_replaced_and_a_missing_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        assert_eq!(read::<u32>(&path).unwrap(), None);
        write(&path, &1).unwrap();
        write(&path, &2).unwrap();
        assert_eq!(read::<u32>(&path).unwrap(), Some(2));
        std::fs::write(&path, "no").unwrap();
        assert!(read::<u32>(&path).is_err());
        assert_eq!(names(directory.path()).unwrap(), ["x.json"]);
    }

    #[test]
    fn ids_cannot_lead_elsewhere() {
        for id in ["a", "7f6c-1.x_y+z"] {
            assert!(valid_id(id), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "\u{e4}", &"x".repeat(129)] {
            assert!(!valid_id(id), "{id}");
        }
    }
}
