//! A file system of a certain size, to be filled. Needs root to mount it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one, or says on standard output that the test is skipped because only root may.
    ///
    /// # Panics
    /// When root cannot mount it either.
    #[must_use]
    pub fn mount(mebibytes: u32) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root to mount a small disk");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory to mount it on");
        let disk = Self { path: dir.path().to_owned(), _dir: dir };
        disk.mount_with(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "small-disk"]);
        Some(disk)
    }

    fn mount_with(&self, arguments: &[&str]) {
        let mounted = Command::new("mount").args(arguments).arg(&self.path).status();
        assert!(mounted.is_ok_and(|status| status.success()), "mount {arguments:?}");
    }

    /// Gives it another size.
    pub fn grow(&self, mebibytes: u32) {
        self.mount_with(&["-o", &format!("remount,size={mebibytes}m")]);
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path.display());
        }
    }
}
