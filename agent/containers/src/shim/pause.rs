//! The first process of a namespace of process ids that several containers share: it does nothing but reap those who lost
//! their parents. It sees nothing of the machine: its root is empty, and it has no rights.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags};

use super::{ShimError, io};

/// The word that says so.
pub(crate) const WORD: &str = "pause";

/// Starts it in a new namespace, from the only thread of a shim; `program` is the word that leads back here. Returns its
/// id.
pub(super) fn start(program: &Path, words: &[std::ffi::OsString], empty: &Path) -> Result<i32, ShimError> {
    let own = std::fs::File::open("/proc/self/ns/pid").map_err(io("open the namespace of process ids"))?;
    std::fs::create_dir_all(empty).map_err(io("make the empty root of the first process"))?;
    #[allow(unsafe_code, reason = "unsharing is unsafe for what it can do with file descriptors")]
    // SAFETY: the file table stays shared (only PID is asked for), and that is the one condition.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
        .map_err(io("make a namespace of process ids"))?;
    let child = Command::new(program)
        .arg0("pause")
        .args(words)
        .arg(empty)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    // Children that come later are numbered by the machine again, unless they are told otherwise.
    rustix::thread::move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .map_err(io("return to the namespace of process ids"))?;
    let child = child.map_err(io("start the first process of the sandbox"))?;
    // The reaper waits for it, as for all children; a `Child` that is dropped neither waits nor kills.
    Ok(i32::try_from(child.id()).unwrap_or(0))
}

/// What it does.
pub(super) fn run(empty: &Path) -> Result<(), ShimError> {
    enclose(empty)?;
    // Without the shim, nobody would end it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(io("end with the shim"))?;
    #[allow(unsafe_code, reason = "no safe binding sets what a signal does")]
    // SAFETY: ignoring is no handler, so that no code runs at a signal. The kernel reaps the children of a process that
    // ignores this one, those that come to it later as well.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN)
    };
    loop {
        rustix::event::pause();
    }
}

fn enclose(empty: &Path) -> Result<(), ShimError> {
    #[allow(unsafe_code, reason = "unsharing is unsafe for what it can do with file descriptors")]
    // SAFETY: as in `start`: the file table stays shared.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC)
    }
    .map_err(io("leave the namespaces of the machine"))?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(io("make mounts private"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", empty, "tmpfs", flags, Some(c"size=4k,mode=555"))
        .map_err(io("mount an empty root"))?;
    std::env::set_current_dir(empty).map_err(io("enter the empty root"))?;
    // The old root comes to lie on the new one, and is taken away.
    rustix::process::pivot_root(".", ".").map_err(io("change the root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(io("leave the root of the machine"))?;
    std::env::set_current_dir("/").map_err(io("enter the empty root"))?;
    rustix::thread::set_no_new_privs(true).map_err(io("give up rights"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).map_err(io("give up rights"))
}
