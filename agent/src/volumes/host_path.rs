//! Paths of the machine that pods name, checked against what they shall be, and made where that is asked for.

use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Sees to it that the path is what it shall be.
///
/// # Errors
/// In the kubelet's words.
pub fn ensure(path: &Path, kind: &str) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let failed = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(told(error)),
    };
    match (kind, found) {
        // A runtime that is given nothing to mount makes a directory.
        ("" | "DirectoryOrCreate", None) => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(told)
        }
        ("FileOrCreate", None) => {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
            file.map(drop).map_err(told)
        }
        ("", Some(_)) => Ok(()),
        ("Directory" | "DirectoryOrCreate", found) => {
            if found.is_some_and(|it| it.is_dir()) {
                Ok(())
            } else {
                failed("a directory")
            }
        }
        // Devices and sockets are files too.
        ("File" | "FileOrCreate", found) => {
            if found.is_some_and(|it| !it.is_dir()) {
                Ok(())
            } else {
                failed("a file")
            }
        }
        ("Socket", found) => {
            is(found, FileType::is_socket).then_some(()).ok_or(()).or_else(|()| failed("a socket file"))
        }
        ("CharDevice", found) => {
            if is(found, FileType::is_char_device) {
                Ok(())
            } else {
                failed("a character device")
            }
        }
        ("BlockDevice", found) => {
            if is(found, FileType::is_block_device) {
                Ok(())
            } else {
                failed("a block device")
            }
        }
        (other, _) => Err(format!("{other} is an invalid volume type")),
    }
}

fn is(found: Option<FileType>, what: fn(&FileType) -> bool) -> bool {
    found.is_some_and(|it| what(&it))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn paths_are_what_they_shall_be_or_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("dir")).unwrap();
        fs::write(path("file"), "x").unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let fine = [
            ("dir", ""),
            ("dir", "Directory"),
            ("dir", "DirectoryOrCreate"),
            ("new/deep", "DirectoryOrCreate"),
            ("other/deep", ""),
            ("file", "File"),
            ("file", "FileOrCreate"),
            ("new/file", "FileOrCreate"),
            ("socket", "Socket"),
            ("/dev/null", "CharDevice"),
        ];
        for (name, kind) in fine {
            assert_eq!(ensure(&path(name), kind), Ok(()), "{name} {kind}");
        }
        assert!(path("new/deep").is_dir() && path("other/deep").is_dir() && path("new/file").is_file());
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "x");
        let wrong = [
            ("file", "Directory", "a directory"),
            ("file", "DirectoryOrCreate", "a directory"),
            ("none", "Directory", "a directory"),
            ("dir", "File", "a file"),
            ("none", "File", "a file"),
            ("file", "Socket", "a socket file"),
            ("file", "CharDevice", "a character device"),
            ("/dev/null", "BlockDevice", "a block device"),
        ];
        for (name, kind, what) in wrong {
            let expected = format!("hostPath type check failed: {} is not {what}", path(name).display());
            assert_eq!(ensure(&path(name), kind), Err(expected), "{name} {kind}");
        }
        assert!(!path("none").exists());
    }
}
