//! The files of one log: those of before rotations, and the one that is written. Must never open one.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    /// What stays when it is renamed.
    pub(crate) inode: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub(crate) written: i64,
}

/// The files of the log at `path` that are there, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn of_log(path: &Path) -> io::Result<Vec<LogFile>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    let mut files = Vec::new();
    for name in ordered(name, names) {
        let path = directory.join(name);
        // One that is renamed or deleted just now is found by the next look.
        if let Ok(metadata) = std::fs::metadata(&path) {
            let written =
                metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
            files.push(LogFile { path, inode: metadata.ino(), written });
        }
    }
    Ok(files)
}

/// Those of the names that belong to the log of this name, the oldest first. Moments in names sort as text; what is
/// compressed cannot be read, and what is being compressed is there twice.
fn ordered(log: &str, mut names: Vec<String>) -> Vec<String> {
    let moment = |name: &str| {
        let moment = name.strip_prefix(log)?.strip_prefix('.')?;
        moment.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-').then(|| moment.to_owned())
    };
    names.retain(|name| name == log || moment(name).is_some());
    names.sort_by_key(|name| (name == log, moment(name)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_come_before_the_one_that_is_written() {
        let names = [
            "0.log",
            "0.log.20260102-030406",
            "10.log",
            "0.log.20260102-030405",
            "0.log.20260101-000000.gz",
            "0.log.20260102-030405.tmp",
            "1.log.20260102-030405",
        ];
        let found = ordered("0.log", names.map(str::to_owned).to_vec());
        assert_eq!(found, ["0.log.20260102-030405", "0.log.20260102-030406", "0.log"]);
    }
}
