//! What can go wrong with a snapshot file. Each text says which file, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{FormatError, VERSION_INCREMENT};
use crate::ids::Revision;

/// A snapshot cannot be written, read or received.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("snapshot {}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "snapshot {} is damaged at byte {offset}: {what}; move the file away: instead of its own the member then \
         takes an older one or asks the leader, instead of a backup take another one",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A newer program wrote it.
    #[error(
        "snapshot {} has format version {found}, this program reads versions up to {}; start the newer program again",
        path.display(),
        VERSION_INCREMENT
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A part where the whole is needed.
    #[error(
        "snapshot {} is an increment, which holds only what came after revision {since}; it needs the snapshot \
         before it",
        path.display()
    )]
    Increment {
        /// The file.
        path: PathBuf,
        /// It begins behind this revision.
        since: Revision,
    },
    /// It was not wanted any more.
    #[error("the snapshot was given up: the member stops")]
    Stopped,
    /// The state machine failed while it was being written out.
    #[error("the state cannot be read for a snapshot: {0}")]
    Source(String),
    /// A chunk does not continue what was received.
    #[error("a snapshot chunk begins at byte {found}, but {expected} bytes were received; go on from there")]
    WrongOffset {
        /// Where the next chunk must begin.
        expected: u64,
        /// Where it began.
        found: u64,
    },
    /// More bytes than announced.
    #[error("a snapshot of {announced} bytes was announced, a chunk ends at byte {end}; start over")]
    TooLong {
        /// The announced size.
        announced: u64,
        /// Where the chunk would end.
        end: u64,
    },
    /// Finished too early.
    #[error("only {received} of {announced} bytes of a snapshot were received; go on from there")]
    Incomplete {
        /// Bytes here.
        received: u64,
        /// The announced size.
        announced: u64,
    },
    /// A sound file, but another one than announced.
    #[error("the received snapshot is not the announced one ({what}); start over")]
    OtherSnapshot {
        /// What differs.
        what: &'static str,
    },
}

impl SnapshotError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.into() }
    }

    pub(super) fn format(path: &Path, offset: u64, error: FormatError) -> Self {
        match error {
            FormatError::Version(found) => Self::Version { path: path.to_owned(), found },
            other => Self::damaged(path, offset, other.to_string()),
        }
    }
}
