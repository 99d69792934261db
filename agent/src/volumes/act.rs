//! Steps of the plan, done. Everything here blocks; must never decide what should be there.

use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::csi;
use super::layout::Layout;
use super::mount_table::MountTable;
use super::plan::Step;
use super::remove::remove_tree;
use super::{atomic_writer, host_path, ownership};

/// The longest text of options that the kernel takes.
const LONGEST_OPTIONS: usize = 4095;

/// Does one step.
///
/// # Errors
/// When it cannot be done; a second call tries it again.
pub(super) fn perform(step: &Step, now: Timestamp) -> io::Result<()> {
    match step {
        Step::MakeDirectory { path, mode } => make_directory(path, *mode),
        Step::MountMemory { path, kind, options, mode } => {
            mount(kind, path, kind, MountFlags::empty(), options)?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        }
        Step::CheckHostPath { path, kind } => host_path::ensure(path, kind).map_err(io::Error::other),
        Step::Bind { from, to, read_only } => bind(from, to, *read_only),
        Step::Overlay { layers, to } => overlay(layers, to),
        Step::Write { dir, payload, group } => {
            if let Some(group) = group {
                ownership::give_top(dir, *group)?;
            }
            atomic_writer::write(dir, payload, *group, now).map(drop)
        }
        Step::MarkReady(path) => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
            }
            fs::File::create(path).map(drop)
        }
        Step::Give { path, group, always: true } => ownership::give(path, *group),
        Step::Give { path, group, always: false } => ownership::give_on_mismatch(path, *group),
    }
}

/// Directories above it are the agent's and nobody else's.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn mount(source: &str, target: &Path, kind: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    if options.len() > LONGEST_OPTIONS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "there are more layers than the kernel takes",
        ));
    }
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(source, target, kind, flags, options.as_c_str())?)
}

/// Without what is mounted below the source. What is mounted there later is seen here too, but what is unmounted here never is
/// there: the machine's own mounts must outlive the pod.
pub(super) fn bind(from: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    rustix::mount::mount_bind(from, to)?;
    let changed = rustix::mount::mount_change(to, MountPropagationFlags::DOWNSTREAM)
        .and_then(|()| rustix::mount::mount_change(to, MountPropagationFlags::SHARED))
        .and_then(|()| match read_only {
            true => rustix::mount::mount_remount(to, MountFlags::BIND | MountFlags::RDONLY, c""),
            false => Ok(()),
        });
    // Half a mount must not be taken for a whole one.
    changed.or_else(|error| {
        rustix::mount::unmount(to, UnmountFlags::DETACH)?;
        Err(io::Error::from(error))
    })
}

fn overlay(layers: &[PathBuf], to: &Path) -> io::Result<()> {
    let mut options = String::from("lowerdir=");
    // The kernel wants the highest first.
    for (index, layer) in layers.iter().rev().enumerate() {
        let text = layer.to_str().filter(|text| !text.contains([':', ',', '\\']));
        let Some(text) = text else {
            let text = format!(
                "{} cannot be a layer: its path has a colon, a comma or a backslash",
                layer.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        options.extend([if index == 0 { "" } else { ":" }, text]);
    }
    mount("overlay", to, "overlay", MountFlags::RDONLY, &options)
}

/// Unmounts what is mounted below a pod's directory, and removes it.
///
/// # Errors
/// When something is in use or hangs; nothing is removed then that is behind a mount.
pub(super) fn tear_down(dir: &Path) -> io::Result<()> {
    for path in MountTable::read()?.below(dir) {
        match rustix::mount::unmount(&path, UnmountFlags::NOFOLLOW) {
            // It went with another.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => {
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("{} cannot be unmounted: {error}", path.display()),
                ));
            }
            Ok(()) => {}
        }
    }
    remove_tree(dir)
}

/// Tears down the directories of all pods below an agent's directory, with no agent there. Tells whose they were, and what could
/// not be done.
#[must_use]
pub fn tear_down_all(root: &Path) -> (Vec<String>, Vec<String>) {
    let (mut uids, mut left) = (Vec::new(), Vec::new());
    let of_drivers = csi::of_node(root);
    if let Err(error) = tear_down(&of_drivers) {
        left.push(format!("of the volumes in {}: {error}", of_drivers.display()));
    }
    let pods = Layout::new(root.to_owned()).pods();
    let entries = fs::read_dir(&pods).into_iter().flatten().flatten();
    for entry in entries {
        match tear_down(&entry.path()) {
            Ok(()) => uids.push(entry.file_name().to_string_lossy().into_owned()),
            Err(error) => left.push(format!("of the volumes in {}: {error}", entry.path().display())),
        }
    }
    (uids, left)
}

/// What a directory holds on its own file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are taken of the disk, or of memory.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// What a directory holds. What vanishes meanwhile is not counted.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn usage(dir: &Path) -> io::Result<Usage> {
    use std::os::unix::fs::MetadataExt as _;
    let top = fs::symlink_metadata(dir)?;
    let mut usage = Usage::default();
    let mut open = vec![dir.to_owned()];
    // A file of several names is counted once.
    let mut seen = std::collections::HashSet::new();
    while let Some(path) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != top.dev()
            || metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino())
        {
            continue;
        }
        usage.bytes += metadata.blocks() * 512;
        usage.inodes += 1;
        if metadata.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            open.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    Ok(usage)
}
