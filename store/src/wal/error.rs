//! Why a log cannot be opened, and why an open one stopped: sentences for the person who has to repair it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::Identity;
use super::format::FORMAT_VERSION;

/// What to do with a member whose log is damaged.
pub(super) const REPAIR: &str = "the other members still have the data: remove this member from the cluster, delete \
its data directory and add it again; when no majority of members is intact, restore the cluster from a backup";

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Its answer.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the log in {} is in use by another process", dir.display())]
    Locked {
        /// Where.
        dir: PathBuf,
    },
    /// Something that was safely on disk is not there any more, or is not what was written.
    #[error("the log is damaged: {}, offset {offset}: {detail}. Starting would lose acknowledged writes, so this member stops; {REPAIR}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// The log of another member or cluster.
    #[error("{} belongs to {found}, but this is {expected}; start with the data directory of this member", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Who asks.
        expected: Identity,
    },
    /// Written by another version of the program.
    #[error("{} has log format version {found}, this program reads version {}; start the version that wrote it", path.display(), FORMAT_VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: u32,
    },
    /// The configuration makes no sense.
    #[error("log configuration: {0}")]
    Config(String),
}

impl WalError {
    pub(super) fn io(action: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action: action.to_owned(), source }
    }
}

/// Why a log stopped. From then on every call fails with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalFailure {
    kind: io::ErrorKind,
    message: Arc<str>,
}

impl WalFailure {
    pub(super) fn new(error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; nothing is lost, make space and start the member again"
            }
            _ => "",
        };
        let message = format!("the log could not be written, this member must stop: {error}{hint}").into();
        Self { kind: error.kind(), message }
    }

    pub(super) fn closed() -> Self {
        Self { kind: io::ErrorKind::NotConnected, message: "the log is closed".into() }
    }

    /// The same as an I/O error.
    #[must_use]
    pub fn to_io(&self) -> io::Error {
        io::Error::new(self.kind, self.message.to_string())
    }
}

impl fmt::Display for WalFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
