//! Volumes that belong to a pod's group: files are given to it, and its members may read or write them. Must never follow a link.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

/// What the group may do with files.
const READ_WRITE: u32 = 0o660;
/// What it may do with files that nobody may change.
const READ_ONLY: u32 = 0o440;
/// What it may do with directories besides.
const SEARCH: u32 = 0o110;
/// New files of a directory belong to its group.
const SET_GROUP: u32 = 0o2000;

/// A pod's group, for one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub gid: u32,
    /// Its members cannot write.
    pub read_only: bool,
}

impl Group {
    /// The mode that a file or directory of this mode gets.
    #[must_use]
    pub fn mode(self, mode: u32, is_directory: bool) -> u32 {
        let of_files = if self.read_only { READ_ONLY } else { READ_WRITE };
        let of_directories = if is_directory { SEARCH | SET_GROUP } else { 0 };
        (mode & 0o7777) | of_files | of_directories
    }

    /// Whether a volume whose top is this belongs to the group already.
    #[must_use]
    pub fn has(self, gid: u32, mode: u32) -> bool {
        gid == self.gid && self.mode(mode, true) == mode & 0o7777
    }
}

/// Gives everything below a path to the group, the path itself last: it tells that all is done.
///
/// # Errors
/// About the first thing that cannot be given; a second call goes on.
pub fn give(path: &Path, group: Group) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group)?;
        }
    }
    give_top(path, group)
}

/// Gives only the path itself to the group.
///
/// # Errors
/// When it cannot be given.
pub(super) fn give_top(path: &Path, group: Group) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.gid() != group.gid {
        lchown(path, None, Some(group.gid))?;
    }
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    // Of the mode before, since the change of the owner took some rights away.
    let mode = group.mode(metadata.mode(), metadata.is_dir());
    if fs::symlink_metadata(path)?.mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// As [`give`], but not when the top of the volume belongs to the group already.
///
/// # Errors
/// As [`give`].
pub fn give_on_mismatch(path: &Path, group: Group) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if group.has(metadata.gid(), metadata.mode()) { Ok(()) } else { give(path, group) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn modes_grow_by_what_the_group_may() {
        let (rw, ro) = (Group { gid: 5, read_only: false }, Group { gid: 5, read_only: true });
        let table = [
            (rw, 0o600, false, 0o660),
            (rw, 0o755, true, 0o2775),
            (rw, 0o700, true, 0o2770),
            (ro, 0o600, false, 0o640),
            (ro, 0o755, true, 0o2755),
            (rw, 0o4755, false, 0o4775),
        ];
        for (group, mode, is_directory, expected) in table {
            assert_eq!(group.mode(mode, is_directory), expected, "{mode:o}");
        }
        assert!(rw.has(5, 0o2770) && !rw.has(6, 0o2770) && !rw.has(5, 0o770) && !rw.has(5, 0o2750));
    }

    #[test]
    fn files_are_given_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("f"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::create_dir(volume.join("d")).unwrap();
        fs::write(volume.join("d/f"), "x").unwrap();
        symlink(outside.path().join("f"), volume.join("l")).unwrap();
        let group = Group { gid: 4321, read_only: false };
        give(&volume, group).unwrap();
        let of = |path: &Path| {
            let metadata = fs::symlink_metadata(path).unwrap();
            (metadata.gid(), metadata.mode() & 0o7777)
        };
        assert_eq!(of(&volume.join("d")).0, 4321);
        assert_eq!(of(&volume.join("d")).1 & 0o2770, 0o2770);
        assert_eq!(of(&volume.join("d/f")).1 & 0o660, 0o660);
        assert_eq!(of(&volume.join("l")).0, 4321);
        assert_ne!(of(&outside.path().join("f")).0, 4321);
        lchown(volume.join("d/f"), None, Some(0)).unwrap();
        give_on_mismatch(&volume, group).unwrap();
        assert_eq!(of(&volume.join("d/f")).0, 0, "the top was right already");
        lchown(&volume, None, Some(0)).unwrap();
        give_on_mismatch(&volume, group).unwrap();
        assert_eq!(of(&volume.join("d/f")).0, 4321);
    }
}
