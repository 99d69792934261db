//! Directories that are removed with all that is in them. Must never go through a mount: what somebody mounted there is not ours,
//! and no link is followed.

use std::io;
use std::path::Path;

use rustix::fd::{AsFd as _, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

/// Removes a directory, or what is there instead. What is not there is removed already.
///
/// # Errors
/// With `ResourceBusy` when something is mounted at it or below it: all that comes after it is then still there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a directory without a name is not removed"));
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let parent = match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let name = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    remove_entry(parent.as_fd(), &name, path)
}

fn remove_entry(parent: BorrowedFd<'_>, name: &std::ffi::CStr, path: &Path) -> io::Result<()> {
    let statx = rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    let statx = match statx {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        let text = format!("{} is a mount point and is not removed", path.display());
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
    }
    if FileType::from_raw_mode(statx.stx_mode.into()) != FileType::Directory {
        return ignore_missing(rustix::fs::unlinkat(parent, name, AtFlags::empty()));
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let entry_name = entry.file_name();
        if !matches!(entry_name.to_bytes(), b"." | b"..") {
            let shown = path.join(entry_name.to_string_lossy().as_ref());
            remove_entry(dir.as_fd(), entry_name, &shown)?;
        }
    }
    ignore_missing(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

fn ignore_missing(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::testing::Mounted;
    use super::*;

    #[test]
    fn all_of_it_goes_and_nothing_that_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), "x").unwrap();
        fs::write(tree.join("a/f"), "x").unwrap();
        symlink(&outside, tree.join("a/l")).unwrap();
        symlink("/nowhere", tree.join("dangling")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && outside.join("f").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&tree.join("not/there")).unwrap();
        symlink(&outside, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && outside.join("f").exists());
    }

    #[test]
    fn a_mount_is_not_gone_through_though_it_is_of_the_same_device() {
        let dir = tempfile::tempdir().unwrap();
        let (source, tree) = (dir.path().join("source"), dir.path().join("tree"));
        fs::create_dir_all(tree.join("a/m")).unwrap();
        fs::create_dir(&source).unwrap();
        fs::write(source.join("precious"), "x").unwrap();
        let Some(mounted) = Mounted::bind(&source, &tree.join("a/m")) else { return };
        let error = remove_tree(&tree).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
        assert!(source.join("precious").exists());
        drop(mounted);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && source.join("precious").exists());
    }
}
