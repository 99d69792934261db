//! Devices of the machine that a container gets: which they are is looked up here, how the specification says it is pure.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde_json::{Value, json};

use crate::spec::Device;

/// A device node as it will be in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub(crate) path: PathBuf,
    pub(crate) block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) access: String,
}

impl HostDevice {
    fn kind(&self) -> &'static str {
        if self.block { "b" } else { "c" }
    }

    /// The node.
    pub(super) fn node(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }

    /// That it may be used.
    pub(super) fn rule(&self) -> Value {
        json!({
            "allow": true,
            "type": self.kind(),
            "major": self.major,
            "minor": self.minor,
            "access": self.access,
        })
    }
}

/// What the chosen ones are; a directory stands for all devices below it. Errors are sentences.
pub(crate) fn chosen(devices: &[Device]) -> Result<Vec<HostDevice>, String> {
    let mut found = Vec::new();
    for device in devices {
        let story = |error: std::io::Error| {
            format!("the device {} cannot be used: {error}", device.host_path.display())
        };
        if std::fs::metadata(&device.host_path).map_err(story)?.is_dir() {
            collect(&device.host_path, &device.container_path, &device.permissions, &mut found);
        } else {
            let node = look(&device.host_path, &device.container_path, &device.permissions)
                .map_err(|error| story(error.into()))?;
            found.push(node.ok_or_else(|| format!("{} is not a device", device.host_path.display()))?);
        }
    }
    Ok(found)
}

/// What the privileged get: all devices, but for terminals and what a container has mounts of its own for.
pub(crate) fn all_of_the_machine() -> Vec<HostDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut found);
    found
}

/// Never taken from the machine: each container has its own.
const OWN: &[&str] = &[
    "/dev/pts",
    "/dev/shm",
    "/dev/fd",
    "/dev/mqueue",
    "/dev/console",
    "/dev/ptmx",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/.lxc",
    "/dev/.lxd-mounts",
    "/dev/.udev",
];

fn collect(directory: &Path, destination: &Path, access: &str, found: &mut Vec<HostDevice>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if OWN.iter().any(|own| path == Path::new(own)) {
            continue;
        }
        let inside = destination.join(entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect(&path, &inside, access, found);
        } else if !kind.is_symlink()
            && let Ok(Some(node)) = look(&path, &inside, access)
        {
            found.push(node);
        }
    }
}

fn look(path: &Path, inside: &Path, access: &str) -> rustix::io::Result<Option<HostDevice>> {
    let stat = rustix::fs::stat(path)?;
    let block = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return Ok(None),
    };
    Ok(Some(HostDevice {
        path: inside.to_owned(),
        block,
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        mode: stat.st_mode & 0o777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        access: access.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_and_what_is_none_is_told() {
        let device = |path: &str| Device {
            host_path: path.into(),
            container_path: "/dev/inside".into(),
            permissions: "r".into(),
        };
        let found = chosen(&[device("/dev/null")]).unwrap();
        assert_eq!((found[0].major, found[0].minor, found[0].block), (1, 3, false));
        assert_eq!(found[0].path, Path::new("/dev/inside"));
        assert!(chosen(&[device("/proc/version")]).unwrap_err().contains("not a device"));
        assert!(chosen(&[device("/dev/there-is-no-such-device")]).is_err());
    }
}
