//! What members leave on the machine besides processes and links: mounts, control groups, files. Must never remove what is
//! behind a mount.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

/// Where control groups are.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// The mounts below a directory, the innermost first, of `/proc/self/mountinfo`.
fn mounts_below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescaped(point)))
        .filter(|point| point.starts_with(directory) && point != directory)
        .collect();
    // Later ones are on earlier ones.
    found.reverse();
    found
}

/// The kernel writes spaces and the like as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unmounts everything below a directory; sentences about what is left.
pub(crate) fn unmount_below(directory: &Path) -> Vec<String> {
    let table = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(table) => table,
        Err(error) => return vec![format!("the mounts below {}: {error}", directory.display())],
    };
    let mut left = Vec::new();
    for point in mounts_below(&table, directory) {
        if let Err(error) = unmount(&point, UnmountFlags::DETACH) {
            left.push(format!("the mount {}: {error}", point.display()));
        }
    }
    left
}

/// Removes a directory with all that is in it, once nothing is mounted there; sentences about what is left.
pub(crate) fn remove_tree(directory: &Path) -> Vec<String> {
    let left = unmount_below(directory);
    if !left.is_empty() {
        return left;
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            vec![format!("the directory {}: {error}", directory.display())]
        }
        _ => Vec::new(),
    }
}

/// Removes the control group of this name in all hierarchies, with those below it; nothing may run in them any more.
pub(crate) fn remove_control_groups(name: &str) -> Vec<String> {
    let root = Path::new(CONTROL_GROUPS);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left = Vec::new();
    for directory in hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(name)) {
        // Hierarchies have several names.
        if directory.is_dir()
            && let Err(error) = remove_groups(&directory)
        {
            left.push(format!("the control group {}: {error}", directory.display()));
        }
    }
    left
}

fn remove_groups(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_place() {
        let table = "21 1 0:1 / / rw - ext4 /dev/a rw\n\
            22 21 0:2 / /d rw - tmpfs none rw\n\
            23 22 0:3 / /d/n1/a\\040b rw - tmpfs none rw\n\
            24 23 0:3 / /d/n1/a\\040b/c rw - tmpfs none rw\n\
            25 21 0:4 / /data rw - tmpfs none rw\n";
        let found = mounts_below(table, Path::new("/d"));
        assert_eq!(found, [PathBuf::from("/d/n1/a b/c"), PathBuf::from("/d/n1/a b")]);
        assert!(mounts_below(table, Path::new("/e")).is_empty());
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped("/a\\040b\\134"), "/a b\\");
        assert_eq!(unescaped("/a\\04"), "/a\\04");
    }
}
