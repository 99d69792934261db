//! Consensus: openraft behind a thin seam, so that an upgrade of it touches this folder alone.
//!
//! The rest of the store proposes batches of commands, waits for read barriers, changes membership and
//! hears of leadership; it never sees openraft's types.

pub mod codec;
pub mod dial;
pub mod identity;
pub mod leadership;
mod line;
pub mod log_storage;
pub mod network;
pub mod node;
pub mod observe;
pub mod peer_service;
pub mod peers;
pub mod proposals;
pub mod proposer;
pub mod read_index;
pub mod snapshot_transfer;
pub mod snapshots;
pub mod state_machine;
pub mod traffic;
pub mod types;
