//! The narrow seam between the log and the file system, so that tests and simulations can lose, tear and refuse writes.
//!
//! Nothing else in the log touches files. Names are plain names inside the log's own directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

const LOCK_FILE: &str = "LOCK";

/// The directory of a log.
pub trait Disk: Send + Sync + 'static {
    /// Names of the files in the directory.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A new, empty file for reading and writing. One of that name is replaced.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes a file. Who has it open can go on reading.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn sync_directory(&self) -> io::Result<()>;
    /// For messages.
    fn path_of(&self, name: &str) -> PathBuf;
}

/// A file in it.
pub trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn length(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on; an error when the file ends before.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content and the length durable.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn sync(&self) -> io::Result<()>;
}

/// Whether a disk of the operating system is asked to make things durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    /// It is.
    On,
    /// Whatever is acknowledged may be lost with the power: for tests.
    Off,
}

/// A directory of the operating system, locked against a second process.
#[derive(Debug)]
pub(super) struct OsDisk {
    directory: PathBuf,
    handle: File,
    syncs: Syncs,
    _lock: File,
}

impl OsDisk {
    /// Opens a directory, creating it when its parent exists. `None`: another process has it open.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn open(directory: &Path, syncs: Syncs) -> io::Result<Option<Self>> {
        match std::fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Whoever made it may have been ended before its name was durable.
            _ => {}
        }
        if syncs == Syncs::On
            && let Some(parent) = directory.parent()
        {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(parent)?.sync_all()?;
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(LOCK_FILE))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let handle = File::open(directory)?;
        Ok(Some(Self { directory: directory.to_owned(), handle, syncs, _lock: lock }))
    }
}

impl Disk for OsDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let path = self.directory.join(name);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(Box::new(OsFile { file, syncs: self.syncs }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.directory.join(name))?;
        Ok(Box::new(OsFile { file, syncs: self.syncs }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.syncs {
            Syncs::On => self.handle.sync_all(),
            Syncs::Off => Ok(()),
        }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

struct OsFile {
    file: File,
    syncs: Syncs,
}

impl DiskFile for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        match self.syncs {
            Syncs::On => self.file.sync_data(),
            Syncs::Off => Ok(()),
        }
    }
}
