//! Groups are made, bounded, emptied and removed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};

use super::{CgroupError, Hierarchies, Layout, io, limits};
use crate::spec::Resources;

impl Hierarchies {
    /// Makes a group with its parents, bounded. Returns the directories above it that were not there before, the topmost
    /// first: who removes the group may remove those as well.
    ///
    /// # Errors
    /// When the kernel refuses a directory or a bound.
    pub fn create(&self, group: &Path, resources: &Resources) -> Result<Vec<PathBuf>, CgroupError> {
        let mut made = Vec::new();
        for root in self.roots() {
            let mut directory = root.to_owned();
            for part in group.components() {
                if let Layout::V2(_) = self.0 {
                    hand_down(&directory)?;
                }
                directory.push(part);
                match std::fs::create_dir(&directory) {
                    Ok(()) => {
                        if root.join(group) != directory {
                            made.push(directory.clone());
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(io("make", &directory, error)),
                }
                inherit_cpuset(&directory)?;
            }
            if let Layout::V2(_) = self.0 {
                hand_down(&directory)?;
            }
        }
        self.bound(group, resources)?;
        Ok(made)
    }

    /// Changes what bounds a group.
    ///
    /// # Errors
    /// When the kernel refuses a bound.
    pub fn bound(&self, group: &Path, resources: &Resources) -> Result<(), CgroupError> {
        for setting in limits::settings(self.version(), resources) {
            let Some(directory) = self.directory(setting.controller, group) else { continue };
            let file = directory.join(&setting.file);
            std::fs::write(&file, &setting.value).map_err(|error| io("write", &file, error))?;
        }
        Ok(())
    }

    /// On version 2, short memory ends all processes of the group together, as the kubelet wants it for containers.
    pub(crate) fn end_together(&self, group: &Path) -> Result<(), CgroupError> {
        let Layout::V2(root) = &self.0 else { return Ok(()) };
        let file = root.join(group).join("memory.oom.group");
        match std::fs::write(&file, "1") {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io("write", &file, error)),
            _ => Ok(()),
        }
    }

    /// Sends a signal to every process of a group and of those below it. Who comes while this runs may be missed; killing
    /// is repeated until nobody is left.
    pub(crate) fn signal(&self, group: &Path, signal: Signal) -> usize {
        let mut pids = self.processes(group);
        pids.sort_unstable();
        pids.dedup();
        // Nobody hears of an error: a process that is gone has what was asked for.
        pids.into_iter()
            .filter_map(Pid::from_raw)
            .filter(|pid| rustix::process::kill_process(*pid, signal).is_ok())
            .count()
    }

    /// The processes of a group and of those below it, as ids of this process's namespace.
    pub(crate) fn processes(&self, group: &Path) -> Vec<i32> {
        let mut pids = Vec::new();
        for root in self.roots() {
            for directory in below(&root.join(group)) {
                let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            }
        }
        pids
    }

    /// Removes a group and those below it, in every hierarchy. It must be empty; one that is not there is removed.
    ///
    /// # Errors
    /// When something is still in it.
    pub fn remove(&self, group: &Path) -> Result<(), CgroupError> {
        if group.as_os_str().is_empty()
            || group.components().any(|part| !matches!(part, std::path::Component::Normal(_)))
        {
            // The root of a hierarchy, or something outside of it, is never one of ours.
            return Ok(());
        }
        for root in self.roots() {
            for directory in below(&root.join(group)).iter().rev() {
                remove_directory(directory)?;
            }
        }
        Ok(())
    }
}

/// Removes an empty group; one that holds something stays, and so does one that is not below where groups are.
pub(crate) fn remove_if_empty(directory: &Path) -> bool {
    directory.starts_with("/sys/fs/cgroup") && std::fs::remove_dir(directory).is_ok()
}

/// A group whose last process is just ending is busy for some moments, and nothing tells when it no longer is.
const ATTEMPTS: u32 = 50;

fn remove_directory(directory: &Path) -> Result<(), CgroupError> {
    let mut attempt = 0;
    loop {
        match std::fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt < ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(std::time::Duration::from_millis(u64::from(attempt.min(20))));
            }
            Err(error) => return Err(io("remove", directory, error)),
        }
    }
}

/// A directory and all below it, parents first; nothing if it is not there.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        found.push(directory);
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    found
}

/// Version 2: groups below this one may use the controllers that it has itself. One that is refused is not an error: a
/// limit that needs it is.
fn hand_down(directory: &Path) -> Result<(), CgroupError> {
    let file = directory.join("cgroup.controllers");
    let controllers = std::fs::read_to_string(&file).map_err(|error| io("read", &file, error))?;
    let enabled = std::fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        if !enabled.split_whitespace().any(|name| name == controller) {
            let file = directory.join("cgroup.subtree_control");
            if let Err(error) = std::fs::write(&file, format!("+{controller}")) {
                tracing::debug!(path = %file.display(), controller, %error, "a controller is not handed down");
            }
        }
    }
    Ok(())
}

/// Version 1: a new group of cpuset has no processors and takes no process until it is given some.
fn inherit_cpuset(directory: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        // Version 2 has the file, too, and means the parent's when it is empty.
        let effective = directory.join(name.replace("cpuset.", "cpuset.effective_"));
        if !effective.exists() || !std::fs::read_to_string(&file).is_ok_and(|text| text.trim().is_empty()) {
            continue;
        }
        let Some(parent) = directory.parent() else { continue };
        let inherited = parent.join(name);
        let value = std::fs::read_to_string(&inherited).map_err(|error| io("read", &inherited, error))?;
        std::fs::write(&file, value.trim()).map_err(|error| io("write", &file, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both versions can be tried on a machine that has version 2 beside version 1.
    fn hierarchies() -> Vec<Hierarchies> {
        let beside = PathBuf::from("/sys/fs/cgroup/unified");
        let found = Hierarchies::find().into_iter();
        let second = beside.join("cgroup.procs").exists().then_some(Hierarchies(Layout::V2(beside)));
        found.chain(second).collect()
    }

    #[test]
    fn a_group_is_made_emptied_and_removed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        for (number, hierarchies) in hierarchies().into_iter().enumerate() {
            let top = format!("bqg{}-{number}", std::process::id());
            let group = Path::new(&top).join("kubepods/pod1");
            let made = hierarchies.create(&group, &Resources::default()).unwrap();
            assert_eq!(made.len(), 2 * hierarchies.roots().len());
            assert!(hierarchies.create(&group, &Resources::default()).unwrap().is_empty(), "again");
            let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
            for root in hierarchies.roots() {
                let inner = root.join(&group).join("c1");
                std::fs::create_dir(&inner).unwrap();
                inherit_cpuset(&inner).unwrap();
                std::fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
            }
            assert!(hierarchies.processes(&group).contains(&(child.id() as i32)));
            assert!(hierarchies.stats(&group).is_some());
            crate::teardown::end_processes(&hierarchies, &group).unwrap();
            assert!(!child.wait().unwrap().success());
            hierarchies.remove(&group).unwrap();
            hierarchies.remove(&group).unwrap();
            assert_eq!(hierarchies.stats(&group), None);
            for directory in made.iter().rev() {
                assert!(remove_if_empty(directory), "{}", directory.display());
            }
            assert!(!remove_if_empty(Path::new("/tmp/elsewhere")));
        }
    }

    #[test]
    fn the_root_of_a_hierarchy_is_never_removed() {
        for path in ["", "/", "..", "a/../.."] {
            Hierarchies(Layout::V2("/sys/fs/cgroup/there-is-none".into())).remove(Path::new(path)).unwrap();
        }
    }
}
