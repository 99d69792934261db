//! Layers stacked by the kernel, for tests that compare with it. Must never outlive its test.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mount that goes with the test, also when it fails.
pub(crate) struct Stacked(PathBuf);

impl Stacked {
    /// Mounts `layers`, the lowest first, at `root` in a directory, with what is written beside it.
    pub(crate) fn new(layers: &[PathBuf], directory: &Path, read_only: bool) -> Self {
        // Descriptors stand for the paths, so that many layers fit into the page that the kernel reads.
        let mut held = Vec::new();
        let lower: Vec<String> = layers.iter().rev().map(|layer| by_descriptor(layer, &mut held)).collect();
        let mut made = |name: &str| {
            std::fs::create_dir_all(directory.join(name)).unwrap();
            by_descriptor(&directory.join(name), &mut held)
        };
        let (upper, work) = (made("upper"), made("work"));
        let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
        let root = directory.join("root");
        std::fs::create_dir_all(&root).unwrap();
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        let options = CString::new(options).unwrap();
        mount(c"overlay", &root, c"overlay", flags, Some(options.as_c_str())).unwrap();
        Self(root)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> String {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty()).unwrap();
    let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
    held.push(directory);
    name
}
