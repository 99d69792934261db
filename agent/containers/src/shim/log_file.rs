//! The file that a container's output is written to, and its rotation: when it is full it gets a name with the time, a new
//! one is begun, and the oldest ones are removed. What cannot be written, because a disk is full, is dropped: a container
//! never waits for its log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::log_rotation::{rotated_name, superfluous};
use crate::wire::LogLimits;

/// A log.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    limits: LogLimits,
    file: Option<File>,
    size: u64,
}

impl LogFile {
    /// Opens the file, or makes it with its directory.
    pub(super) fn open(path: &Path, limits: LogLimits) -> std::io::Result<Self> {
        let mut log = Self { path: path.to_owned(), limits, file: None, size: 0 };
        if !path.as_os_str().is_empty() {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            log.reopen()?;
        }
        Ok(log)
    }

    /// Begins again at the path: somebody has renamed the file.
    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes whole entries.
    pub(super) fn write(&mut self, entries: &[u8], now_ns: i64) {
        if self.limits.file_bytes > 0
            && self.size > 0
            && self.size + entries.len() as u64 > self.limits.file_bytes
        {
            self.rotate(now_ns);
        }
        if let Some(file) = &mut self.file
            && file.write_all(entries).is_ok()
        {
            self.size += entries.len() as u64;
        }
    }

    fn rotate(&mut self, now_ns: i64) {
        let Some(name) = self.path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return;
        };
        let kept = rotated_name(&name, now_ns);
        // A file that cannot be renamed is written on: it grows, and nothing is lost.
        if std::fs::rename(&self.path, self.path.with_file_name(kept)).is_err() || self.reopen().is_err() {
            return;
        }
        let Some(directory) = self.path.parent() else { return };
        let names = crate::store::names(directory).unwrap_or_default();
        for old in superfluous(&name, names, self.limits.files) {
            // One that is gone is what was wanted; another try comes with the next rotation.
            let _ = std::fs::remove_file(directory.join(old));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_rotated_and_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pod/c/0.log");
        let mut log = LogFile::open(&path, LogLimits { file_bytes: 10, files: 3 }).unwrap();
        for (now, entry) in [(1, "first\n"), (2, "second\n"), (3, "third\n"), (4, "4\n")] {
            log.write(entry.as_bytes(), now);
        }
        let names = crate::store::names(path.parent().unwrap()).unwrap();
        assert_eq!(names.len(), 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n4\n");
        let all: String =
            names.iter().map(|name| std::fs::read_to_string(path.with_file_name(name)).unwrap()).collect();
        assert_eq!(all.len(), "first\nsecond\nthird\n4\n".len());
    }

    #[test]
    fn a_renamed_file_is_left_alone_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut log = LogFile::open(&path, LogLimits { file_bytes: 0, files: 1 }).unwrap();
        log.write(b"a\n", 1);
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        log.reopen().unwrap();
        log.write(b"b\n", 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "b\n");
        assert_eq!(std::fs::read_to_string(directory.path().join("old")).unwrap(), "a\n");
    }
}
