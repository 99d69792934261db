//! Parts of volumes that containers mount instead of the whole. Whoever can write to the volume can put links there at any moment:
//! must never resolve a path otherwise than by the kernel, within the volume, and mount anything else than what was opened then.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::mount_table::MountTable;

/// Opens what is at a path within the volume, wherever links within it lead; what is not there is made, as directories.
fn open_within(volume: &OwnedFd, path: &Path, may_make: bool, mode: Mode) -> io::Result<OwnedFd> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(volume, path, flags, Mode::empty(), resolve)
    };
    let (mut below, mut current) = (PathBuf::from("."), open(Path::new("."))?);
    for part in path.components() {
        let name = match part {
            Component::CurDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of its volume")),
        };
        below.push(name);
        current = match open(&below) {
            Err(Errno::NOENT) if may_make => {
                match rustix::fs::mkdirat(&current, name, mode) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open(&below)?
            }
            Err(Errno::XDEV) => {
                let text = format!("{} leads out of its volume", path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            other => other?,
        };
    }
    Ok(current)
}

/// Mounts a part of a volume at a place of the agent's, and stays with what is mounted there if it is still the same.
///
/// # Errors
/// When the path leads out of the volume, or cannot be made or mounted.
pub(super) fn prepare(volume: &Path, path: &Path, may_make: bool, target: &Path) -> io::Result<()> {
    let top = rustix::fs::openat(CWD, volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // Directories that are made are as open as the volume is.
    let mode = Mode::from_raw_mode(fs::metadata(volume)?.mode() & 0o777);
    let found = File::from(open_within(&top, path, may_make, mode)?);
    let wanted = found.metadata()?;
    if MountTable::read()?.has(target) {
        let there = fs::metadata(target)?;
        if (there.dev(), there.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(());
        }
        rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match fs::symlink_metadata(target) {
        Ok(there) if there.is_dir() == wanted.is_dir() => {}
        Ok(_) => {
            super::remove::remove_tree(target)?;
            make_target(target, wanted.is_dir())?;
        }
        Err(_) => make_target(target, wanted.is_dir())?,
    }
    let opened = format!("/proc/self/fd/{}", found.as_raw_fd());
    super::act::bind(Path::new(&opened), target, false)
}

fn make_target(target: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        DirBuilder::new().mode(0o750).create(target)
    } else {
        File::create_new(target).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::{Root, is_root};
    use super::*;

    #[test]
    fn parts_are_mounted_within_their_volume_and_nowhere_else() {
        if !is_root() {
            return;
        }
        let root = Root::new();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("volume/d")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("outside/f"), "secret").unwrap();
        fs::write(at("volume/d/f"), "mine").unwrap();
        symlink("d", at("volume/inner")).unwrap();
        symlink(at("outside"), at("volume/absolute")).unwrap();
        symlink("../outside", at("volume/relative")).unwrap();
        let volume = at("volume");
        let run = |path: &str, may_make: bool, target: &str| {
            prepare(&volume, Path::new(path), may_make, &at(target))
        };
        run("d", true, "t/0").unwrap();
        assert_eq!(fs::read_to_string(at("t/0/f")).unwrap(), "mine");
        run("inner/f", true, "t/1").unwrap();
        assert_eq!(fs::read_to_string(at("t/1")).unwrap(), "mine");
        run("new/deep", true, "t/2").unwrap();
        assert!(at("volume/new/deep").is_dir());
        fs::write(at("t/2/x"), "y").unwrap();
        assert!(at("volume/new/deep/x").exists());
        for path in ["absolute", "absolute/f", "relative/f", "relative/new", "d/../../outside"] {
            let error = run(path, true, "t/3").unwrap_err();
            assert!(!matches!(error.kind(), io::ErrorKind::NotFound), "{path}: {error}");
            assert!(!MountTable::read().unwrap().has(&at("t/3")), "{path}");
        }
        assert!(!at("outside/new").exists());
        let error = run("none", false, "t/4").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_unmounted_with_a_part_stays_mounted_on_the_machine() {
        if !is_root() {
            return;
        }
        let root = Root::new();
        let at = |name: &str| root.path().join(name);
        for dir in ["volume", "other"] {
            fs::create_dir(at(dir)).unwrap();
        }
        // The volume is a mount that tells others of what is mounted in it.
        rustix::mount::mount_bind(at("volume"), at("volume")).unwrap();
        rustix::mount::mount_change(at("volume"), rustix::mount::MountPropagationFlags::SHARED).unwrap();
        fs::create_dir_all(at("volume/d/early")).unwrap();
        fs::create_dir_all(at("volume/d/late")).unwrap();
        rustix::mount::mount_bind(at("other"), at("volume/d/early")).unwrap();
        prepare(&at("volume"), Path::new("d"), true, &at("t/0")).unwrap();
        rustix::mount::mount_bind(at("other"), at("volume/d/late")).unwrap();
        let table = MountTable::read().unwrap();
        assert!(table.has(&at("t/0/late")) && !table.has(&at("t/0/early")));
        super::super::act::tear_down(&at("t")).unwrap();
        let table = MountTable::read().unwrap();
        assert!(table.has(&at("volume/d/late")) && table.has(&at("volume/d/early")) && !at("t").exists());
    }

    #[test]
    fn what_was_replaced_meanwhile_is_mounted_anew() {
        if !is_root() {
            return;
        }
        let root = Root::new();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("volume")).unwrap();
        fs::write(at("volume/f"), "one").unwrap();
        let run = || prepare(&at("volume"), Path::new("f"), true, &at("t/0"));
        run().unwrap();
        run().unwrap();
        assert_eq!(MountTable::read().unwrap().below(&at("t")).len(), 1, "once");
        fs::write(at("volume/next"), "two").unwrap();
        fs::rename(at("volume/next"), at("volume/f")).unwrap();
        assert_eq!(fs::read_to_string(at("t/0")).unwrap(), "one", "as the container has it");
        run().unwrap();
        assert_eq!(fs::read_to_string(at("t/0")).unwrap(), "two");
        assert_eq!(MountTable::read().unwrap().below(&at("t")).len(), 1);
    }
}
