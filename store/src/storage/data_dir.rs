//! The data directory: its layout, its owner and its identity.
//!
//! ```text
//! DIR/lock          held by the process that runs on it
//! DIR/identity      cluster, member and incarnation, written once (JSON)
//! DIR/wal/          the log
//! DIR/snapshots/    verified snapshots
//! DIR/records/      the state, written behind; can be rebuilt
//! DIR/recovery/     only while a recovery after the loss of the others is under way: what takes their place
//! ```

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::names::sync_names_of;
use crate::ids::{ClusterId, Incarnation, MemberId};

/// A data directory that this process owns.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held, never used: closing it gives the directory free.
    _lock: File,
}

/// Who a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskIdentity {
    /// Format of the directory.
    pub format: u32,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its member.
    pub member: MemberId,
    /// Drawn when the directory was made.
    pub incarnation: Incarnation,
}

const RECOVERY: &str = "recovery";

/// The layout that this version writes.
pub const FORMAT: u32 = 1;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system says no.
    #[error("--data-dir {dir}: cannot {what}")]
    Io {
        /// Which.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process runs on it.
    #[error(
        "--data-dir {0}: another process is running on this directory; stop it first, or give each member its own directory"
    )]
    Locked(PathBuf),
    /// There is no member's data in it.
    #[error("--data-dir {0}: is no data directory of a member: it has no identity file")]
    Missing(PathBuf),
    /// A recovery was interrupted.
    #[error(
        "--data-dir {0}: a recovery of this directory was interrupted; run the same `kvctl recover` again, it finishes \
         what it began"
    )]
    HalfRecovered(PathBuf),
    /// Its identity file is damaged.
    #[error(
        "--data-dir {dir}: the identity file is damaged ({why}); restore the member: remove it from the cluster, delete its data directory and add it again, or restore a backup"
    )]
    Identity {
        /// Which.
        dir: PathBuf,
        /// How.
        why: String,
    },
    /// It was written by a newer version.
    #[error(
        "--data-dir {dir}: has format {format}, this version knows {FORMAT}; run the version that wrote it"
    )]
    Format {
        /// Which.
        dir: PathBuf,
        /// Found.
        format: u32,
    },
}

/// Whether a directory belongs to a member already.
#[must_use]
pub fn has_identity(path: &Path) -> bool {
    path.join("identity").exists()
}

impl DataDir {
    /// Makes the directory if need be and takes it.
    ///
    /// # Errors
    /// When it cannot be written, another process has it, or a recovery of it was interrupted.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = |what| move |source| DataDirError::Io { dir: path.to_owned(), what, source };
        std::fs::create_dir_all(path).map_err(io("create the directory"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let opened = Self::take(path, lock.map_err(io("write into the directory"))?)?;
        if opened.recovery().exists() {
            Err(DataDirError::HalfRecovered(path.to_owned()))
        } else {
            Ok(opened)
        }
    }

    /// Takes a directory that a member left, and changes nothing in it.
    ///
    /// # Errors
    /// When there is none, or a process runs on it.
    pub fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        let io = |what| move |source| DataDirError::Io { dir: path.to_owned(), what, source };
        if !has_identity(path) && !path.join(RECOVERY).exists() {
            return Err(DataDirError::Missing(path.to_owned()));
        }
        let lock = match File::open(path.join("lock")) {
            // A copy of a directory may come without it.
            Err(error) if error.kind() == ErrorKind::NotFound => File::open(path),
            other => other,
        };
        Self::take(path, lock.map_err(io("open the lock"))?)
    }

    fn take(path: &Path, lock: File) -> Result<Self, DataDirError> {
        let io = |what| move |source| DataDirError::Io { dir: path.to_owned(), what, source };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::Locked(path.to_owned())),
            Err(error) => Err(io("lock the directory")(error.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log's directory.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// The snapshots' directory.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The record store's directory.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.path.join("records")
    }

    /// What an unfinished recovery has still to put in its place.
    #[must_use]
    pub fn recovery(&self) -> PathBuf {
        self.path.join(RECOVERY)
    }

    /// The identity, if the directory has one yet.
    ///
    /// # Errors
    /// When it is damaged or newer than this version.
    pub fn identity(&self) -> Result<Option<DiskIdentity>, DataDirError> {
        let bytes = match std::fs::read(self.path.join("identity")) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(DataDirError::Io { dir: self.path.clone(), what: "read the identity", source });
            }
            Ok(bytes) => bytes,
        };
        let identity: DiskIdentity = serde_json::from_slice(&bytes)
            .map_err(|e| DataDirError::Identity { dir: self.path.clone(), why: e.to_string() })?;
        if identity.format != FORMAT {
            return Err(DataDirError::Format { dir: self.path.clone(), format: identity.format });
        }
        Ok(Some(identity))
    }

    /// Writes the identity of a new directory, durably, with the directory's own name: a member that finds it gone takes
    /// itself for a new one.
    ///
    /// # Errors
    /// When the disk fails.
    ///
    /// # Panics
    /// Never: numbers are valid JSON.
    pub fn set_identity(&self, cluster: ClusterId, member: MemberId) -> Result<DiskIdentity, DataDirError> {
        let identity =
            DiskIdentity { format: FORMAT, cluster, member, incarnation: Incarnation(rand::random()) };
        let text = serde_json::to_string(&identity).expect("numbers are valid JSON");
        let (new, done) = (self.path.join("identity.new"), self.path.join("identity"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &done)?;
            File::open(&self.path)?.sync_all()?;
            sync_names_of(&self.path)
        };
        write().map_err(|source| DataDirError::Io {
            dir: self.path.clone(),
            what: "write the identity",
            source,
        })?;
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_and_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let owner = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Locked(_))));
        assert_eq!(owner.identity().unwrap(), None);
        let identity = owner.set_identity(ClusterId(1), MemberId(2)).unwrap();
        drop(owner);
        let owner = DataDir::open(dir.path()).unwrap();
        assert_eq!(owner.identity().unwrap(), Some(identity));
        assert!(matches!(DataDir::open_existing(dir.path()), Err(DataDirError::Locked(_))));
        drop(owner);
        let owner = DataDir::open_existing(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Locked(_))));
        for damaged in [&b"{"[..], b"", b"{\"format\":1,\"clus\xf4er\":1}"] {
            std::fs::write(dir.path().join("identity"), damaged).unwrap();
            let error = owner.identity().unwrap_err().to_string();
            assert!(error.contains("identity file is damaged"), "{error}");
        }
    }

    #[test]
    fn what_is_not_whole_is_not_started() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open_existing(dir.path()), Err(DataDirError::Missing(_))));
        std::fs::create_dir(dir.path().join(RECOVERY)).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::HalfRecovered(_))));
        assert!(DataDir::open_existing(dir.path()).is_ok());
    }
}
