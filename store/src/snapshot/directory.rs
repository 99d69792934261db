//! Names of snapshot files, and the steps that make a file appear in its directory or vanish from it.
//!
//! A name says the log entry up to which the file has everything, so that names sort by age. What has
//! another ending is unfinished and never read as a snapshot.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::SnapshotError;

const FINISHED: &str = "snapshot";
const WRITING: &str = "writing";
/// What the name of a file ends with as long as it is written.
pub const WRITING_ENDING: &str = ".writing";
pub(super) const RECEIVING: &str = "receiving";

/// A complete snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// The digest in its footer: SHA-256 of everything before.
    pub sha256: [u8; 32],
    /// Term of the last applied log entry.
    pub applied_term: u64,
    /// Index of the last applied log entry.
    pub applied_index: u64,
    /// Versions of keys in it.
    pub versions: u64,
}

/// The path of the finished snapshot of a log entry.
#[must_use]
pub fn finished_path(dir: &Path, applied_term: u64, applied_index: u64) -> PathBuf {
    dir.join(format!("{applied_index:020}-{applied_term:020}.{FINISHED}"))
}

pub(super) fn writing_path(dir: &Path, applied_term: u64, applied_index: u64) -> PathBuf {
    finished_path(dir, applied_term, applied_index).with_extension(WRITING)
}

/// The finished snapshots in a directory, newest first. None when there is no directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let mut found = with_ending(dir, FINISHED)?;
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Creates the directory if need be and removes what a stopped writer left. To be called at start, when
/// nothing writes. Partly received snapshots stay: a transfer resumes them.
///
/// # Errors
/// When that fails.
pub fn clean(dir: &Path) -> Result<(), SnapshotError> {
    fs::create_dir_all(dir).map_err(SnapshotError::io(dir, "create the directory"))?;
    // The log is purged in the belief that a snapshot in it stays.
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        sync_dir(above)?;
    }
    for left in with_ending(dir, WRITING)? {
        fs::remove_file(&left).map_err(SnapshotError::io(&left, "remove the unfinished file"))?;
    }
    sync_dir(dir)
}

/// Removes all finished snapshots that are older than `keep`.
///
/// # Errors
/// When that fails; what is left is only wasted space.
pub fn remove_older(dir: &Path, keep: &Path) -> Result<(), SnapshotError> {
    for path in list(dir)?.iter().filter(|path| path.file_name() < keep.file_name()) {
        fs::remove_file(path).map_err(SnapshotError::io(path, "remove the older snapshot"))?;
    }
    sync_dir(dir)
}

/// Gives a complete, synced file its final name, for good.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    fs::rename(from, to).map_err(SnapshotError::io(from, "give the file its name"))?;
    sync_dir(to.parent().expect("the path was made of a directory and a name"))
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), SnapshotError> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(SnapshotError::io(dir, "sync the directory"))
}

pub(super) fn with_ending(dir: &Path, ending: &str) -> Result<Vec<PathBuf>, SnapshotError> {
    let read = || {
        let mut found = vec![];
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
        Ok::<_, std::io::Error>(found)
    };
    match read() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        other => other.map_err(SnapshotError::io(dir, "read the directory")),
    }
}
