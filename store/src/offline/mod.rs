//! What is done with files while no member runs: saved snapshots are described, verified and restored into data
//! directories, and a cluster that lost its quorum for good goes on from what is left. The one module that the
//! administrator's tool uses; it speaks with nobody. Snapshots of etcd become snapshots of ours.
//!
//! Everything is checked before the first write. Data that is there is never changed or deleted: a restore writes
//! into an empty place, a recovery moves what was there aside. What is written appears whole, under its final name.

mod bbolt;
mod chain;
mod cluster;
mod content;
mod directory;
mod error;
pub mod etcd;
mod file;
mod rebase;
pub mod recover;
pub mod restore;
#[cfg(test)]
mod testing;
pub mod verify;

use std::path::PathBuf;

pub use crate::config::{DEFAULT_NAME, DEFAULT_PEER_URL, DEFAULT_TOKEN};
pub use chain::ChainError;
pub use error::OfflineError;

/// `--data-dir` of a member whose name is `name`, when it is not given.
#[must_use]
pub fn default_data_dir(name: &str) -> PathBuf {
    PathBuf::from(format!("{name}.barque"))
}

/// How far a long step has come. `total` is an estimate while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// In any unit.
    pub done: u64,
    /// In the same unit.
    pub total: u64,
}

/// Hears of progress.
pub type Progress<'a> = &'a mut dyn FnMut(Step);
