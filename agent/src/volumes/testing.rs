//! Mounts of tests, which are gone afterwards, also when the test fails.

use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::mount_table::MountTable;

/// A mount.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Nothing when the test must not mount.
    pub(crate) fn bind(source: &Path, target: &Path) -> Option<Self> {
        is_root().then(|| {
            mount_bind(source, target).unwrap();
            Self(target.to_owned())
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// Says so when it is not.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: needs root");
    }
    is_root
}

/// A directory below which everything is unmounted in the end.
pub(crate) struct Root(tempfile::TempDir);

impl Root {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("bq").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for path in MountTable::read().unwrap_or_default().below(self.0.path()) {
            unmount(&path, UnmountFlags::DETACH).ok();
        }
    }
}
