//! Why something cannot be done with files, in sentences for whoever has to repair it.

use std::io;
use std::path::{Path, PathBuf};

use super::chain::ChainError;
use crate::config::ConfigError;
use crate::ids::Revision;
use crate::raft::codec::CodecError;
use crate::snapshot::SnapshotError;
use crate::snapshot::format::VERSION_INCREMENT;
use crate::storage::data_dir::DataDirError;
use crate::wal::WalError;

/// See the module's description.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The file system says no.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Something else.
    #[error("{}: is no snapshot of Barque ({what}); name a file that `kvctl snapshot save` wrote", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// A snapshot of etcd.
    #[error("{}: is a snapshot of etcd, not of Barque: `kvctl snapshot import` reads it", path.display())]
    Etcd {
        /// The file.
        path: PathBuf,
    },
    /// Not what was written.
    #[error("{}: is damaged at byte {offset}: {what}; use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How.
        what: String,
    },
    /// From the future.
    #[error(
        "{}: has format version {found}, and this program reads versions up to {}: use the kvctl of the version that \
         wrote it",
        path.display(),
        VERSION_INCREMENT
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Sound checksums over something that no member writes.
    #[error("{}: its content contradicts itself: {what}; use another backup", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// The files do not follow each other.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A flag about the members of the new cluster.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A revision beyond all numbers.
    #[error("--bump-revision {bump}: revision {revision} cannot grow by so much")]
    Bump {
        /// The revision that is restored.
        revision: Revision,
        /// What was asked for.
        bump: u64,
    },
    /// Something is there already.
    #[error("{}: exists and is not empty; a restore never touches existing data: name another directory, or move it away", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Where the new directory is prepared is something else.
    #[error("{}: is in the way: it is not what an interrupted restore leaves; move it away", path.display())]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// Another restore is at work.
    #[error("{}: another restore is writing there", path.display())]
    Restoring {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that a new one cannot take the place of.
    #[error("{}: give the new directory a name, not . or ..", path.display())]
    Unnamed {
        /// The directory.
        path: PathBuf,
    },
    /// A name that cannot be a folder's.
    #[error(
        "--initial-cluster: the name {0:?} cannot be that of a folder; restore this member alone, with --data-dir"
    )]
    FolderName(String),
    /// A data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A log cannot be read.
    #[error("{}: {source}", dir.display())]
    Log {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        source: WalError,
    },
    /// A snapshot in a data directory cannot be read.
    #[error("{}: {what}", dir.display())]
    State {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        what: String,
    },
    /// One is given twice.
    #[error("--data-dir {}: is given twice", .0.display())]
    Twice(PathBuf),
    /// Members of different clusters.
    #[error("--data-dir {}: belongs to cluster {found}, and {} to cluster {first}: recover one cluster at a time", dir.display(), first_dir.display())]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        found: crate::ids::ClusterId,
        /// The first one.
        first_dir: PathBuf,
        /// Its cluster.
        first: crate::ids::ClusterId,
    },
    /// Nothing to go on from.
    #[error("none of the directories can be used; {0}")]
    NothingLeft(String),
}

impl OfflineError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    pub(super) fn state(dir: &Path, what: impl ToString) -> Self {
        Self::State { dir: dir.to_owned(), what: what.to_string() }
    }

    pub(super) fn membership(dir: &Path) -> impl FnOnce(CodecError) -> Self {
        move |error| Self::state(dir, error)
    }
}

/// For files that administrators keep: what to do is another thing than for a member's own.
impl From<SnapshotError> for OfflineError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io { path, action, source } => Self::Io { path, action, source },
            SnapshotError::Damaged { path, offset, what } => Self::Damaged { path, offset, what },
            SnapshotError::Version { path, found } => Self::Version { path, found },
            other => Self::Contradiction { path: PathBuf::new(), what: other.to_string() },
        }
    }
}
