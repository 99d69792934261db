//! What a container would see of layers, without mounting them: files found through whiteouts, opaque directories and links, never
//! outside the layers.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::unpack::is_opaque;

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// The same directory in all layers that have it, the highest first.
struct Stack {
    directories: Vec<OwnedFd>,
}

enum Found {
    Directory(Stack),
    Link(PathBuf),
    File(OwnedFd),
    Other,
    Nothing,
}

/// Opens a regular file for reading by its absolute path; nothing if there is none. `layers` is the lowest first.
pub(crate) fn open(layers: &[PathBuf], path: &Path) -> io::Result<Option<File>> {
    let mut trail = vec![Stack::of(layers)?];
    let mut rest: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        // The root never leaves the trail.
        let Some(here) = trail.last() else { return Ok(None) };
        match here.look_up(&name)? {
            Found::Directory(stack) => trail.push(stack),
            Found::File(file) if rest.is_empty() => return Ok(Some(File::from(file))),
            Found::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.is_absolute() {
                    trail.truncate(1);
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Found::File(_) | Found::Other | Found::Nothing => return Ok(None),
        }
    }
    Ok(None)
}

/// Opens the highest of the directories that are seen at a path; nothing if none is, or a link leads there.
pub(crate) fn find_directory(layers: &[PathBuf], path: &Path) -> io::Result<Option<OwnedFd>> {
    let mut here = Stack::of(layers)?;
    for name in parts(path) {
        match here.look_up(&name)? {
            Found::Directory(stack) => here = stack,
            _ => return Ok(None),
        }
    }
    Ok(here.directories.into_iter().next())
}

impl Stack {
    /// The root of layers, of which the lowest is the first.
    fn of(layers: &[PathBuf]) -> io::Result<Self> {
        let open = |layer| openat(CWD, layer, directory(OFlags::empty()), Mode::empty());
        let directories = layers.iter().rev().map(open).collect::<rustix::io::Result<_>>()?;
        Ok(Self { directories })
    }

    fn look_up(&self, name: &OsStr) -> io::Result<Found> {
        let mut found = Vec::new();
        for layer in &self.directories {
            let stat = match statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let inside = openat(layer, name, directory(OFlags::NOFOLLOW), Mode::empty())?;
                    let opaque = is_opaque(inside.as_fd())?;
                    found.push(inside);
                    if opaque {
                        break;
                    }
                }
                // Hidden, or something else below a directory: it ends here.
                _ if !found.is_empty() => break,
                FileType::CharacterDevice if stat.st_rdev == 0 => break,
                FileType::Symlink => {
                    let target = readlinkat(layer, name, Vec::new())?;
                    return Ok(Found::Link(PathBuf::from(OsString::from_vec(target.into_bytes()))));
                }
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                    return Ok(Found::File(openat(layer, name, flags, Mode::empty())?));
                }
                _ => return Ok(Found::Other),
            }
        }
        Ok(if found.is_empty() { Found::Nothing } else { Found::Directory(Stack { directories: found }) })
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !matches!(*part, b"" | b".")).map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

fn directory(more: OFlags) -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more
}
