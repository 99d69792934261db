//! One layer, unpacked into a directory as overlayfs wants it. Every name is resolved inside that directory by the kernel
//! (`RESOLVE_IN_ROOT`): no link, no `..` and no race leads out of it. Must never touch what is outside.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod,
    fchown, fgetxattr, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, openat2,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use tokio_util::sync::CancellationToken;

use super::OPAQUE;
use super::compression::plain;
use super::merged;
use super::tar_stream::{Entry, Modified, TarStream};
use crate::digest::Digest;

/// Files whose names begin so take files of lower layers away (OCI layer specification).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";
/// Names of AUFS' own files, which nobody needs.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Attributes by which overlayfs is steered; those of an archive would lead mounts astray.
const RESERVED_XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// What became of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Of the plain archive.
    pub(crate) diff_id: Digest,
    /// Of all files.
    pub(crate) bytes: u64,
    /// Directories that the archive does not name although something is in them: they should look as in the layers below.
    pub(crate) implied: Vec<PathBuf>,
}

/// Unpacks a layer, compressed or not, into `target`, which is there and empty.
pub(crate) fn unpack<R: Read + Send>(
    archive: R,
    target: &Path,
    cancel: &CancellationToken,
) -> io::Result<Unpacked> {
    let (_, content) = plain(archive)?;
    let mut hashed = Hashed { inner: content, hash: Sha256::new(), cancel };
    let root = open_directory(CWD, target)?;
    let mut tree = Tree { root, bytes: 0, implied: BTreeSet::new(), directories: BTreeMap::new() };
    let mut stream = TarStream::new(&mut hashed);
    while let Some(entry) = stream.next()? {
        let told = || String::from_utf8_lossy(&entry.path).into_owned();
        tree.add(&entry, &mut stream)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", told())))?;
    }
    tree.finish()?;
    stream.finish()?;
    let diff_id = Digest::from_hash(&hashed.hash.finalize());
    let implied = tree.implied.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))).collect();
    Ok(Unpacked { diff_id, bytes: tree.bytes, implied })
}

/// Gives a directory in `target` the owner, mode and time of the one that the layers `below` show in its place, if they do.
pub(crate) fn inherit(target: &Path, directory: &Path, below: &[PathBuf]) -> io::Result<()> {
    let Some(theirs) = merged::find_directory(below, directory)? else { return Ok(()) };
    let ours = open_directory(CWD, target)?;
    let ours = enter(ours.as_fd(), directory)?;
    let stat = rustix::fs::fstat(&theirs)?;
    fchown(&ours, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(&ours, Mode::from_raw_mode(stat.st_mode))?;
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Ok(futimens(&ours, &times(Modified { seconds: stat.st_mtime, nanoseconds }))?)
}

struct Tree {
    root: OwnedFd,
    bytes: u64,
    /// Directories that nobody named yet.
    implied: BTreeSet<Vec<u8>>,
    /// When directories were changed: set at the end, since filling them changes it.
    directories: BTreeMap<Vec<u8>, Modified>,
}

impl Tree {
    fn add(&mut self, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
        let path = clean(&entry.path)?;
        let Some((name, parent)) = path.split_last() else {
            // The root itself.
            if entry.kind == EntryType::Directory {
                let root = open_directory(&self.root, Path::new("."))?;
                return self.dress_directory(&root, Vec::new(), entry);
            }
            return Ok(());
        };
        let full = path.join(&b'/');
        let parent_path = parent.join(&b'/');
        let parent = self.parent(parent)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(parent.as_fd(), name, hidden, &parent_path);
        }
        let name = OsStr::from_bytes(name);
        let found = kind_of(parent.as_fd(), name)?;
        let is_directory = entry.kind == EntryType::Directory;
        let replaced = found.is_some_and(|found| !(is_directory && found == FileType::Directory));
        if replaced {
            self.remove(parent.as_fd(), name, &full)?;
        }
        match entry.kind {
            EntryType::Directory => {
                if found != Some(FileType::Directory) {
                    mkdirat(&parent, name, Mode::RWXU)?;
                }
                let directory = open_directory(&parent, Path::new(name))?;
                // What it replaces, a whiteout for one, hid what is below; so does it.
                if replaced {
                    make_opaque(directory.as_fd())?;
                }
                self.implied.remove(&full);
                return self.dress_directory(&directory, full, entry);
            }
            EntryType::Regular | EntryType::Continuous => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                self.bytes += io::copy(content, &mut file)?;
                dress(file.as_fd(), entry)?;
                futimens(&file, &times(entry.modified))?;
                return Ok(());
            }
            EntryType::Link => {
                let target = clean(&entry.link)?;
                let Some((target_name, target_parent)) = target.split_last() else {
                    return Err(invalid("a hard link to the root"));
                };
                let directory =
                    enter(self.root.as_fd(), Path::new(OsStr::from_bytes(&target_parent.join(&b'/'))))?;
                linkat(&directory, OsStr::from_bytes(target_name), &parent, name, AtFlags::empty())?;
                return Ok(());
            }
            EntryType::Symlink => symlinkat(OsStr::from_bytes(&entry.link), &parent, name)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, device) = match entry.kind {
                    EntryType::Char => (FileType::CharacterDevice, makedev(entry.device.0, entry.device.1)),
                    EntryType::Block => (FileType::BlockDevice, makedev(entry.device.0, entry.device.1)),
                    _ => (FileType::Fifo, 0),
                };
                match mknodat(&parent, name, kind, Mode::RUSR | Mode::WUSR, device) {
                    // Inside a user namespace nobody may; containers get their devices from the runtime.
                    Err(Errno::PERM) if kind != FileType::Fifo => {
                        tracing::warn!("{}: devices cannot be made here", String::from_utf8_lossy(&full));
                        return Ok(());
                    }
                    made => made?,
                }
            }
            other => {
                return Err(invalid(format!(
                    "entries of type {:?} are not supported",
                    other.as_byte() as char
                )));
            }
        }
        dress_by_name(parent.as_fd(), name, entry)
    }

    /// The directory that an entry goes into, made where the archive does not name it.
    fn parent(&mut self, parts: &[Vec<u8>]) -> io::Result<OwnedFd> {
        let path = parts.join(&b'/');
        match enter(self.root.as_fd(), Path::new(OsStr::from_bytes(&path))) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            found => return found,
        }
        let mut directory = open_directory(&self.root, Path::new("."))?;
        for (depth, name) in parts.iter().enumerate() {
            let so_far = parts[..=depth].join(&b'/');
            let name = OsStr::from_bytes(name);
            match kind_of(directory.as_fd(), name)? {
                // A link leads wherever it leads, as the kernel sees it in this root.
                Some(FileType::Directory | FileType::Symlink) => {}
                found => {
                    if found.is_some() {
                        self.remove(directory.as_fd(), name, &so_far)?;
                    }
                    mkdirat(&directory, name, Mode::RWXU)?;
                    let made = open_directory(&directory, Path::new(name))?;
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                    if found.is_some() {
                        make_opaque(made.as_fd())?;
                    } else {
                        self.implied.insert(so_far.clone());
                    }
                }
            }
            directory = enter(self.root.as_fd(), Path::new(OsStr::from_bytes(&so_far)))?;
        }
        Ok(directory)
    }

    fn whiteout(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        hidden: &[u8],
        parent_path: &[u8],
    ) -> io::Result<()> {
        if name == OPAQUE_WHITEOUT {
            return make_opaque(parent);
        }
        if name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(invalid("a whiteout of nothing"));
        }
        let full = if parent_path.is_empty() { hidden.to_vec() } else { [parent_path, hidden].join(&b'/') };
        let hidden = OsStr::from_bytes(hidden);
        match kind_of(parent, hidden)? {
            // Whiteouts are for the layers below: what this layer brought itself stays, without what is below it.
            Some(FileType::Directory) => {
                self.implied.remove(&full);
                let directory = open_directory(parent, Path::new(hidden))?;
                make_opaque(directory.as_fd())
            }
            Some(_) => Ok(()),
            None => Ok(mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?),
        }
    }

    /// Removes what is in the way of a new entry, with everything in it.
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &OsStr, full: &[u8]) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            removed => return Ok(removed?),
        }
        std::fs::remove_dir_all(by_descriptor(parent, name))?;
        let below = [full, b"/"].concat();
        let gone = |path: &[u8]| path == full || path.starts_with(&below);
        self.implied.retain(|path| !gone(path));
        self.directories.retain(|path, _| !gone(path));
        Ok(())
    }

    fn dress_directory(&mut self, directory: &OwnedFd, path: Vec<u8>, entry: &Entry) -> io::Result<()> {
        dress(directory.as_fd(), entry)?;
        self.directories.insert(path, entry.modified);
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        // Times of directories do not disturb each other.
        for (path, modified) in &self.directories {
            let directory = enter(self.root.as_fd(), Path::new(OsStr::from_bytes(path)))?;
            futimens(&directory, &times(*modified))?;
        }
        Ok(())
    }
}

/// Owner, attributes, mode, in this order: a new owner takes capabilities and set-user-id away.
fn dress(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    for (name, value) in allowed_xattrs(entry) {
        tolerated(name, fsetxattr(file, name, value, XattrFlags::empty()))?;
    }
    Ok(fchmod(file, Mode::from_raw_mode(entry.mode))?)
}

/// The same for what cannot be opened without consequences: links and devices.
fn dress_by_name(parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    for (attribute, value) in allowed_xattrs(entry) {
        let set = lsetxattr(by_descriptor(parent, name), attribute, value, XattrFlags::empty());
        tolerated(attribute, set)?;
    }
    if entry.kind != EntryType::Symlink {
        // Just made, and nobody else writes here: it is no link.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    Ok(utimensat(parent, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn allowed_xattrs(entry: &Entry) -> impl Iterator<Item = (&OsStr, &[u8])> {
    let reserved = |name: &[u8]| RESERVED_XATTRS.iter().any(|prefix| name.starts_with(prefix));
    entry
        .xattrs
        .iter()
        .filter(move |(name, _)| !reserved(name))
        .map(|(name, value)| (OsStr::from_bytes(name), value.as_slice()))
}

/// File systems and user namespaces that cannot keep an attribute do not make an image useless.
fn tolerated(name: &OsStr, set: rustix::io::Result<()>) -> io::Result<()> {
    match set {
        Err(error @ (Errno::NOTSUP | Errno::PERM)) => {
            tracing::warn!("the attribute {} is not kept: {error}", name.to_string_lossy());
            Ok(())
        }
        other => Ok(other?),
    }
}

fn make_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let mut value = [0_u8; 1];
    match fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The parts of a path; those that lead up end at the root.
fn clean(path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part if part.contains(&0) => return Err(invalid("a zero in a name")),
            part => parts.push(part.to_vec()),
        }
    }
    Ok(parts)
}

/// Opens a directory below `root`, which no link leads out of.
fn enter(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        match openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
            // The kernel could not be sure that nothing was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            found => return Ok(found?),
        }
    }
}

fn open_directory(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

fn kind_of(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<FileType>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// For calls that know only paths; the descriptor is ours, and the name has no slash.
fn by_descriptor(parent: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name)
}

fn times(modified: Modified) -> Timestamps {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Hashes what passes, and ends when nobody wants it any more.
struct Hashed<'a, R> {
    inner: R,
    hash: Sha256,
    cancel: &'a CancellationToken,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            // Not `Interrupted`, which readers try again.
            return Err(io::Error::other("cancelled"));
        }
        let read = self.inner.read(buf)?;
        self.hash.update(&buf[..read]);
        Ok(read)
    }
}
