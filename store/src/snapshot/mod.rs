//! Snapshots: the whole state machine at one applied log entry, in one verified file.
//!
//! Log plus the last verified snapshot is the truth of a member. A file is never changed once it has its
//! final name, and never gets that name before it is complete and on disk. This folder knows nothing of
//! Raft or of how members talk; it must never hand out an item of a block it has not verified.

pub mod directory;
mod error;
pub mod format;
pub mod reader;
pub mod receive;
pub mod saved;
#[cfg(test)]
pub(crate) mod testing;
pub mod writer;

pub use directory::SnapshotFile;
pub use error::SnapshotError;
pub use format::Manifest;
pub use reader::{SnapshotReader, Summary, verify, verify_while};
pub use receive::{Identity, Receiving};
pub use writer::{SnapshotWriter, write_file, write_verified};
