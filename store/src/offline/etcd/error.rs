//! Why a snapshot of etcd cannot be imported, in sentences for whoever asked for it.

use std::io;
use std::path::{Path, PathBuf};

use super::super::bbolt::BboltError;

/// See the module's description.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
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
    #[error(
        "{}: is no snapshot of etcd ({what}); name a file that `etcdctl snapshot save` wrote, or the member/snap/db of \
         a stopped member",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        what: &'static str,
    },
    /// Nothing to import.
    #[error("{}: is a snapshot of Barque already: `kvctl snapshot restore` takes it as it is", path.display())]
    Ours {
        /// The file.
        path: PathBuf,
    },
    /// A database as it lies in a data directory.
    #[error(
        "{}: has no digest behind it, as snapshots have; if it was copied from the data directory of a stopped member, \
         give --skip-hash-check",
        path.display()
    )]
    NoDigest {
        /// The file.
        path: PathBuf,
    },
    /// Other bytes than were saved.
    #[error("{}: does not fit its digest: it was cut off or damaged; use another backup", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
    },
    /// The database is not what etcd wrote.
    #[error("{}: is damaged: {what}; use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// Something is there already.
    #[error("{}: exists, and nothing is overwritten: name another file, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl ImportError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

/// What stops the reading of a bucket.
#[derive(Debug)]
pub(super) enum Stop {
    /// The database cannot be read.
    Database(BboltError),
    /// What it holds makes no sense; the words say what.
    Content(String),
    /// The result cannot be written.
    Told(ImportError),
}

impl From<BboltError> for Stop {
    fn from(error: BboltError) -> Self {
        Self::Database(error)
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Content(what)
    }
}

impl From<ImportError> for Stop {
    fn from(error: ImportError) -> Self {
        Self::Told(error)
    }
}

impl Stop {
    /// As an error about this file.
    pub(super) fn of(self, path: &Path) -> ImportError {
        match self {
            Self::Told(error) => error,
            Self::Database(BboltError::Io(source)) => ImportError::io(path, "read")(source),
            Self::Database(error) => ImportError::Damaged { path: path.to_owned(), what: error.to_string() },
            Self::Content(what) => ImportError::Damaged { path: path.to_owned(), what },
        }
    }
}
