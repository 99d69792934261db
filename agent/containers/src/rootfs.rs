//! The root of a container: the layers of its image under a directory that takes what is written, as an overlay. Mounts
//! and unmounts; never touches a layer.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    /// An image without layers.
    #[error("the image has no layers")]
    NoLayers,
    /// More than fit into what the kernel reads.
    #[error("the image has {layers} layers, which is more than can be mounted as one root")]
    TooMany {
        /// How many.
        layers: usize,
    },
    /// A directory or mount.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> RootError {
    RootError::Io { action, path: path.to_owned(), source: source.into() }
}

/// The size of what mount(2) takes: a page, with a zero at the end.
const OPTIONS: usize = 4095;

/// What is written is not synced, neither when a program asks for it nor at the end: it is never mounted again, and after a
/// crash of the machine it is removed.
const VOLATILE: &[u8] = b",volatile";

fn mount_line(options: &[u8], target: &Path) -> rustix::io::Result<()> {
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())
}

/// Mounts the layers (the lowest first) at `target`; `upper` takes what is written, `work` is the kernel's, both on one
/// file system. The mount is private: nothing of it appears elsewhere.
pub(crate) fn mount(layers: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<(), RootError> {
    if layers.is_empty() {
        return Err(RootError::NoLayers);
    }
    for directory in [upper, work, target] {
        std::fs::create_dir_all(directory).map_err(|error| io("make", directory, error))?;
    }
    for layer in layers {
        // The kernel's word for a layer that is missing does not say which.
        std::fs::metadata(layer).map_err(|error| io("use the layer", layer, error))?;
    }
    let mut held = Vec::new();
    let mut options = match line(layers, upper, work) {
        Some(line) => line,
        None => {
            let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
            let layers = by_descriptor(&layers, &mut held)?;
            let others = by_descriptor(&[upper, work], &mut held)?;
            line(&layers, &others[0], &others[1]).ok_or(RootError::TooMany { layers: layers.len() })?
        }
    };
    let plain = options.len();
    options.extend_from_slice(VOLATILE);
    let mounted = match mount_line(&options, target) {
        // Before Linux 5.10 there is no such option.
        Err(Errno::INVAL) => mount_line(&options[..plain], target),
        mounted => mounted,
    };
    mounted.map_err(|error| io("mount an overlay at", target, error))?;
    rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE)
        .map_err(|error| io("make private", target, error))
}

/// The options in one line, if they fit and need no quoting that differs between kernels.
fn line(layers: &[PathBuf], upper: &Path, work: &Path) -> Option<Vec<u8>> {
    let plain = |path: &Path| !path.as_os_str().as_bytes().iter().any(|byte| b":,\\\"".contains(byte));
    if !layers.iter().map(PathBuf::as_path).chain([upper, work]).all(plain) {
        return None;
    }
    let mut line = b"lowerdir=".to_vec();
    for (at, layer) in layers.iter().rev().enumerate() {
        if at > 0 {
            line.push(b':');
        }
        line.extend_from_slice(layer.as_os_str().as_bytes());
    }
    for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        line.extend_from_slice(key);
        line.extend_from_slice(path.as_os_str().as_bytes());
    }
    (line.len() + VOLATILE.len() <= OPTIONS).then_some(line)
}

/// Opens the directories, and names them by their descriptors: short, and without anything that needs quoting. Every kernel
/// takes that; the calls that take each layer by itself are of Linux 6.7.
fn by_descriptor(paths: &[&Path], held: &mut Vec<OwnedFd>) -> Result<Vec<PathBuf>, RootError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::with_capacity(paths.len());
    for path in paths {
        let opened =
            rustix::fs::open(*path, flags, Mode::empty()).map_err(|error| io("open", path, error))?;
        names.push(format!("/proc/self/fd/{}", opened.as_raw_fd()).into());
        held.push(opened);
    }
    Ok(names)
}

/// Unmounts, however busy; what is not mounted is unmounted.
pub(crate) fn unmount(target: &Path) -> std::io::Result<()> {
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Once more, for what was mounted twice.
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a directory of the root with its parents, as it looks from inside: a link cannot lead out of it.
pub(crate) fn make_directory(root: &Path, directory: &Path) -> Result<(), RootError> {
    let opened = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io("open", root, error))?;
    let inside = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&opened, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let mut path = PathBuf::from("/");
    for component in directory.components() {
        let Component::Normal(name) = component else { continue };
        let parent = inside(&path).map_err(|error| io("open", &path, error))?;
        path.push(name);
        match inside(&path) {
            Ok(_) => {}
            Err(Errno::NOENT) => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                .map_err(|error| io("make", &path, error))?,
            Err(error) => return Err(io("open", &path, error)),
        }
    }
    Ok(())
}

/// Where something is mounted at or below a directory, the innermost first.
pub(crate) fn mounts_below(directory: &Path, mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .filter(|path| path.starts_with(directory))
        .collect();
    found.reverse();
    found
}

/// The kernel writes blanks and the like as three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_is_named_first() {
        let layers = ["/a".into(), "/b".into(), "/c".into()];
        let written = line(&layers, Path::new("/u"), Path::new("/w")).unwrap();
        assert_eq!(written, b"lowerdir=/c:/b:/a,upperdir=/u,workdir=/w");
    }

    #[test]
    fn what_does_not_fit_into_one_line_is_not_written_as_one() {
        let many: Vec<PathBuf> = (0..200).map(|n| format!("/layers/{n:060}").into()).collect();
        assert_eq!(line(&many, Path::new("/u"), Path::new("/w")), None);
        assert_eq!(line(&["/a:b".into()], Path::new("/u"), Path::new("/w")), None);
    }

    #[test]
    fn mounts_are_found_from_the_inside_out() {
        let text = b"1 0 8:1 / / rw - ext4 d rw\n2 1 0:5 / /run/a rw - tmpfs t rw\n3 2 0:6 / /run/a/b\\040c rw - tmpfs t rw\n\
            4 1 0:7 / /run/ab rw - tmpfs t rw\n";
        let found = mounts_below(Path::new("/run/a"), text);
        assert_eq!(found, [PathBuf::from("/run/a/b c"), PathBuf::from("/run/a")]);
    }
}
