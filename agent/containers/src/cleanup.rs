//! Everything of an agent that no longer runs is removed: shims, what runs in their sandboxes, control groups, mounts,
//! namespaces and directories. Only what the agent's own records name, and mounts within its own directory; processes are
//! ended when they are in its control groups, or are its shims beyond doubt.

use std::path::{Path, PathBuf};

use crate::cgroup::{Hierarchies, remove_if_empty};
use crate::containers::{io, lock};
use crate::error::{Error, chain};
use crate::store::{self, Store};
use crate::{rootfs, teardown};

/// What was removed, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// The sandboxes that are gone.
    pub sandboxes: Vec<String>,
    /// Sentences about what is left.
    pub left: Vec<String>,
}

/// Removes everything below the two directories, and the directories. Refuses while an agent uses them. Blocks.
pub fn cleanup(state_dir: &Path, data_dir: &Path) -> Result<Cleaned, Error> {
    let mut cleaned = Cleaned::default();
    let data = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    if let Ok(state) = std::fs::canonicalize(state_dir) {
        let _lock = lock(&state)?;
        let store = Store { state, data: data.clone() };
        let hierarchies = Hierarchies::find().map_err(Error::Cgroup)?;
        for id in store::names(&store.sandboxes()).map_err(io("list the sandboxes"))? {
            match teardown::sandbox(&store, &hierarchies, &id) {
                Ok(()) => cleaned.sandboxes.push(id),
                Err(error) => cleaned.left.push(format!("of the sandbox {id}: {}", chain(&error))),
            }
        }
        if !cleaned.left.is_empty() {
            return Ok(cleaned);
        }
        // Mounts of which the records were lost.
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(io("read what is mounted"))?;
        for mount in rootfs::mounts_below(&store.sandboxes(), &mounts) {
            rootfs::unmount(&mount).map_err(io(format!("unmount {}", mount.display())))?;
        }
        store::remove(&store.sandboxes()).map_err(io("remove the sandboxes"))?;
        let groups: Vec<PathBuf> = store::read(&store.group_parents()).ok().flatten().unwrap_or_default();
        for directory in groups.iter().rev() {
            // One that somebody else uses stays.
            remove_if_empty(directory);
        }
        for file in [store.group_parents(), store.state.join("lock")] {
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(format!("remove {}", file.display()))(error));
                }
                _ => {}
            }
        }
        // Others may keep something there.
        let _ = std::fs::remove_dir(&store.state);
    }
    // It outlives the machine's run, the state does not.
    store::remove(&data.join("containers")).map_err(io("remove what containers wrote"))?;
    let _ = std::fs::remove_dir(&data);
    Ok(cleaned)
}
