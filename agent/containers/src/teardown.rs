//! How a container and a sandbox are taken away without their shim, and by it: processes ended, control groups, mounts,
//! namespaces and directories removed. Every step may find its work done already. Blocks.

use std::path::Path;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::cgroup::{CgroupError, Hierarchies};
use crate::identity::{self, Identity};
use crate::store::{SandboxDirectory, SandboxRecord, Store};
use crate::{namespaces, rootfs, store};

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TeardownError {
    #[error("processes of the control group {0} do not end")]
    Undying(std::path::PathBuf),
    #[error("the shim (process {0}) does not end")]
    UndyingShim(i32),
    #[error("a control group is left")]
    Cgroup(#[source] CgroupError),
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> TeardownError {
    let path = path.to_owned();
    move |source| TeardownError::Io { action, path, source }
}

/// Ends all processes of a group and of those below it, and waits until they have ended.
pub(crate) fn end_processes(hierarchies: &Hierarchies, group: &Path) -> Result<(), TeardownError> {
    // Who forks while this runs needs more rounds; each ends all who were there at its beginning.
    for _ in 0..100 {
        let listed = hierarchies.processes(group);
        if listed.is_empty() {
            return Ok(());
        }
        let handles: Vec<(i32, OwnedFd)> = listed
            .into_iter()
            .filter_map(|pid| {
                let handle = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
                Some((pid, handle))
            })
            .collect();
        // A handle means one process; who is listed now, while we have it, is the one that it means.
        let still = hierarchies.processes(group);
        for (pid, handle) in &handles {
            if still.contains(pid) {
                // One that has just ended has what was wanted.
                let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
            }
        }
        for (_, handle) in &handles {
            if !identity::wait(handle, Duration::from_secs(10)) {
                return Err(TeardownError::Undying(group.to_owned()));
            }
        }
    }
    Err(TeardownError::Undying(group.to_owned()))
}

/// Removes what a container had. Its processes are ended if some are left.
pub(crate) fn container(
    store: &Store,
    hierarchies: &Hierarchies,
    sandbox: &SandboxDirectory,
    group: &Path,
    id: &str,
) -> Result<(), TeardownError> {
    let group = group.join(id);
    end_processes(hierarchies, &group)?;
    hierarchies.remove(&group).map_err(TeardownError::Cgroup)?;
    let directory = sandbox.container(id);
    let root = directory.root();
    rootfs::unmount(&root).map_err(io("unmount", &root))?;
    let runtime = sandbox.runtime().join(id);
    let written = store.written_by(id);
    // The state goes last: while it is there, somebody will try again.
    for path in [&runtime, &written, &directory.0] {
        store::remove(path).map_err(io("remove", path))?;
    }
    Ok(())
}

/// Removes what a sandbox had, with its shim and its containers.
pub(crate) fn sandbox(store: &Store, hierarchies: &Hierarchies, id: &str) -> Result<(), TeardownError> {
    let directory = store.sandbox(id);
    end_shim(&directory)?;
    // A record that cannot be read is of one whose making was interrupted before there was anything else.
    let record: Option<SandboxRecord> = store::read(&directory.record()).ok().flatten();
    if let Some(record) = &record {
        let containers = directory.containers();
        for name in store::names(&containers).map_err(io("list", &containers))? {
            container(store, hierarchies, &directory, &record.cgroup, &name)?;
        }
        end_processes(hierarchies, &record.cgroup)?;
        hierarchies.remove(&record.cgroup).map_err(TeardownError::Cgroup)?;
    }
    let namespaces = directory.namespaces();
    namespaces::release(&namespaces).map_err(io("release the namespaces of", &namespaces))?;
    let memory = directory.shared_memory();
    rootfs::unmount(&memory).map_err(io("unmount", &memory))?;
    // Whatever is still mounted there, a record that is lost cannot name.
    let mounts = Path::new("/proc/self/mountinfo");
    let mounted = std::fs::read(mounts).map_err(io("read", mounts))?;
    for mount in rootfs::mounts_below(&directory.0, &mounted) {
        rootfs::unmount(&mount).map_err(io("unmount", &mount))?;
    }
    store::remove(&directory.0).map_err(io("remove", &directory.0))
}

/// Ends the shim of a sandbox, and the first process of a shared namespace, which the kernel ends with it in most cases.
pub(crate) fn end_shim(directory: &SandboxDirectory) -> Result<(), TeardownError> {
    let pause: Option<Identity> = store::read(&directory.pause()).ok().flatten();
    for process in [shim(directory), pause].into_iter().flatten() {
        if !process.kill() {
            return Err(TeardownError::UndyingShim(process.pid));
        }
    }
    Ok(())
}

/// Who the shim of a sandbox is.
fn shim(directory: &SandboxDirectory) -> Option<Identity> {
    store::read(&directory.shim()).ok().flatten()
}
