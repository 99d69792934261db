//! The namespaces of a sandbox: made by a thread that lives for nothing else, and kept alive by files that they are
//! mounted on, so that no process is needed. The thread's namespaces are never those of another thread.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;

/// Why the namespaces were not made.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A call of the kernel.
    #[error("cannot {action}")]
    Call {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A kernel parameter.
    #[error("cannot set the kernel parameter {name} to {value:?}: {source}")]
    Parameter {
        /// Which.
        name: String,
        /// To what.
        value: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A kernel parameter that is not one of the sandbox.
    #[error("the kernel parameter {0} belongs to the machine; a sandbox has those of {1} only")]
    NotOurs(String, &'static str),
}

fn call(action: &'static str) -> impl Fn(rustix::io::Errno) -> NamespaceError {
    move |source| NamespaceError::Call { action, source: source.into() }
}

/// Which are made, and how they look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    pub(crate) uts: bool,
    pub(crate) hostname: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Wanted {
    fn kinds(&self) -> Vec<(&'static str, UnshareFlags)> {
        [
            (self.network, "net", UnshareFlags::NEWNET),
            (self.ipc, "ipc", UnshareFlags::NEWIPC),
            (self.uts, "uts", UnshareFlags::NEWUTS),
        ]
        .into_iter()
        .filter(|(wanted, ..)| *wanted)
        .map(|(_, name, flag)| (name, flag))
        .collect()
    }
}

/// Makes the namespaces and mounts them on files in a directory, named `net`, `ipc` and `uts`. Blocks. What a failure
/// leaves behind, the caller unmounts.
pub(crate) fn pin(directory: &Path, wanted: &Wanted) -> Result<(), NamespaceError> {
    for name in wanted.parameters.keys() {
        allowed(name, wanted)?;
    }
    let io = |action| move |source| NamespaceError::Call { action, source };
    std::fs::create_dir_all(directory).map_err(io("make the directory of the namespaces"))?;
    let kinds = wanted.kinds();
    for (name, _) in &kinds {
        std::fs::File::create(directory.join(name)).map_err(io("make the file of a namespace"))?;
    }
    if kinds.is_empty() {
        return Ok(());
    }
    let (directory, wanted) = (directory.to_owned(), wanted.clone());
    let thread = std::thread::Builder::new()
        .name("namespaces".to_owned())
        .spawn(move || inside(&directory, &wanted, &kinds))
        .map_err(io("start the thread that makes namespaces"))?;
    thread.join().unwrap_or_else(|_| {
        Err(NamespaceError::Call {
            action: "make namespaces",
            source: std::io::Error::other("the thread panicked"),
        })
    })
}

/// What the thread does.
fn inside(directory: &Path, wanted: &Wanted, kinds: &[(&str, UnshareFlags)]) -> Result<(), NamespaceError> {
    let flags = kinds.iter().fold(UnshareFlags::empty(), |all, (_, flag)| all | *flag);
    #[allow(unsafe_code, reason = "unsharing is unsafe for what it can do with file descriptors")]
    // SAFETY: the file table stays shared (no FILES among the flags), and that is the one condition.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(call("make namespaces"))?;
    for (name, _) in kinds {
        let source = PathBuf::from("/proc/thread-self/ns").join(name);
        rustix::mount::mount_bind(source, directory.join(name)).map_err(call("mount a namespace"))?;
    }
    if wanted.uts && !wanted.hostname.is_empty() {
        rustix::system::sethostname(wanted.hostname.as_bytes()).map_err(call("set the name of the host"))?;
    }
    if wanted.network {
        loopback_up().map_err(call("bring up the loopback interface"))?;
    }
    for (name, value) in &wanted.parameters {
        std::fs::write(parameter_file(name), value).map_err(|source| NamespaceError::Parameter {
            name: name.clone(),
            value: value.clone(),
            source,
        })?;
    }
    Ok(())
}

/// The file of a kernel parameter. Dots separate, unless a slash comes first: then slashes do, and dots are part of names.
fn parameter_file(name: &str) -> PathBuf {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let path = if slashes { name.to_owned() } else { name.replace('.', "/") };
    Path::new("/proc/sys").join(path)
}

/// Only parameters of namespaces that the sandbox has are set: others would be set for the machine.
fn allowed(name: &str, wanted: &Wanted) -> Result<(), NamespaceError> {
    let file = parameter_file(name);
    let file = file.strip_prefix("/proc/sys").unwrap_or(&file);
    let outside = file.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
    let first = |text: &str| file.starts_with(text);
    let ipc = first("fs/mqueue")
        || ["shm", "msg", "sem"].iter().any(|kind| {
            first("kernel") && file.file_name().is_some_and(|last| last.to_string_lossy().starts_with(kind))
        });
    let ours = !outside && ((wanted.network && first("net")) || (wanted.ipc && ipc));
    if ours {
        Ok(())
    } else {
        Err(NamespaceError::NotOurs(
            name.to_owned(),
            "net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.*",
        ))
    }
}

/// Releases the namespaces of a directory and removes their files. What is not there is released.
pub(crate) fn release(directory: &Path) -> std::io::Result<()> {
    for name in ["net", "ipc", "uts"] {
        let file = directory.join(name);
        crate::rootfs::unmount(&file)?;
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Asks the kernel (rtnetlink) to set IFF_UP on the first interface, which is the loopback of every network namespace.
fn loopback_up() -> rustix::io::Result<()> {
    const NEW_LINK: u16 = 16;
    const REQUEST_ACKNOWLEDGED: u16 = 0x1 | 0x4;
    const UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_ACKNOWLEDGED.to_ne_bytes());
    // Sequence and port; then family, padding and type; then index, flags, and which flags to change.
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(1u32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is 0, which is no protocol in particular.
        None,
    )?;
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (_, length) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let code = answer[..length]
        .get(16..20)
        .map(|bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(rustix::io::Errno::from_raw_os_error(-code)),
        None => Err(rustix::io::Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_in_both_ways() {
        assert_eq!(parameter_file("net.core.somaxconn"), Path::new("/proc/sys/net/core/somaxconn"));
        assert_eq!(parameter_file("net/ipv4/conf/eth0.1/x"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/x"));
    }

    #[test]
    fn the_machines_parameters_are_not_set() {
        let all = Wanted { network: true, ipc: true, uts: true, ..Wanted::default() };
        for name in
            ["net.core.somaxconn", "kernel.shmmax", "kernel.msgmax", "kernel.sem", "fs.mqueue.msg_max"]
        {
            assert!(allowed(name, &all).is_ok(), "{name}");
        }
        for name in ["vm.swappiness", "kernel.panic", "fs.file-max", "net/../vm/swappiness", ""] {
            assert!(allowed(name, &all).is_err(), "{name}");
        }
        assert!(allowed("net.core.somaxconn", &Wanted::default()).is_err(), "the machine's network");
    }
}
