//! What the kernel and this process's rights allow of what containers need, each tried rather than guessed, without leaving
//! anything.

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::PidfdFlags;
use rustix::thread::UnshareFlags;

use crate::cgroup::Hierarchies;
use crate::error::chain;
use crate::rights::missing_rights;

/// One thing that containers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: &'static str,
    /// It is there.
    pub ok: bool,
    /// A sentence: what was found, or what is missing and what follows from it.
    pub story: String,
}

/// Looks at everything. Blocks for a moment.
pub fn check() -> Vec<Finding> {
    vec![root(), rights(), control_groups(), overlay(), namespaces(), seccomp(), process_handles()]
}

fn finding(name: &'static str, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding { name, ok, story: result.unwrap_or_else(|story| story) }
}

fn root() -> Finding {
    let root = rustix::process::geteuid().is_root();
    finding(
        "root",
        if root {
            Ok("runs as root".to_owned())
        } else {
            Err("runs as another user; containers need root".to_owned())
        },
    )
}

fn rights() -> Finding {
    let result = match missing_rights() {
        Ok(missing) if missing.is_empty() => Ok("the capabilities that containers need are there".to_owned()),
        Ok(missing) => Err(format!("the process lacks {}", missing.join(", "))),
        Err(error) => Err(format!("the kernel does not tell which capabilities there are: {error}")),
    };
    finding("capabilities", result)
}

fn control_groups() -> Finding {
    let result = Hierarchies::find().map_err(|error| chain(&error)).and_then(|hierarchies| {
        let controllers = hierarchies.controllers();
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|name| !controllers.iter().any(|controller| controller == name))
            .collect();
        let found = format!("version {} with {}", hierarchies.version(), controllers.join(", "));
        if missing.is_empty() {
            Ok(found)
        } else {
            Err(format!("{found}; {} missing: what they bound is not bounded", missing.join(" and ")))
        }
    });
    finding("control groups", result)
}

fn overlay() -> Finding {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = known.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay");
    finding(
        "overlayfs",
        if has {
            Ok("the kernel has it".to_owned())
        } else {
            Err("the kernel has none, or its module is not loaded (modprobe overlay)".to_owned())
        },
    )
}

/// Makes all namespaces in a thread that ends with them, and mounts something there.
fn namespaces() -> Finding {
    let tried = std::thread::spawn(|| {
        let flags = UnshareFlags::NEWNS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWPID;
        #[allow(unsafe_code, reason = "unsharing is unsafe for what it can do with file descriptors")]
        // SAFETY: the file table stays shared (no FILES among the flags), and that is the one condition.
        unsafe { rustix::thread::unshare_unsafe(flags) }
            .map_err(|error| format!("namespaces cannot be made: {error}"))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|error| format!("mounts cannot be changed: {error}"))?;
        rustix::mount::mount("tmpfs", "/proc", "tmpfs", MountFlags::empty(), None)
            .map_err(|error| format!("nothing can be mounted: {error}"))?;
        Ok("mount, network, IPC, UTS and process namespaces can be made and mounted in".to_owned())
    })
    .join();
    finding("namespaces", tried.unwrap_or_else(|_| Err("the thread that tried it panicked".to_owned())))
}

fn seccomp() -> Finding {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    finding(
        "seccomp",
        match actions {
            Ok(actions) => Ok(format!("filters can {}", actions.trim().replace(' ', ", "))),
            Err(_) => Err("the kernel has none; containers that ask for a profile cannot run".to_owned()),
        },
    )
}

fn process_handles() -> Finding {
    let own = rustix::process::getpid();
    finding(
        "pidfd",
        match rustix::process::pidfd_open(own, PidfdFlags::empty()) {
            Ok(_) => Ok("processes can be waited for by a handle".to_owned()),
            Err(error) => {
                Err(format!("processes cannot be waited for by a handle: {error}; it needs Linux 5.3"))
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told_with_a_sentence() {
        let findings = check();
        assert!(findings.iter().all(|finding| !finding.story.is_empty()));
        assert!(findings.iter().any(|finding| finding.name == "control groups"));
        assert!(std::path::Path::new("/proc/self").exists(), "what was tried stayed where it was tried");
    }
}
