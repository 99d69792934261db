//! The replicated, revisioned key/value store that takes etcd's place.
//!
//! Knows nothing of Kubernetes. `ids`, `record`, `command`, `event` and `stored` are the vocabulary; `mvcc`,
//! `lease` and `state` are pure; `wal`, `snapshot`, `records` and `storage` are the disk; `raft` is consensus;
//! `watch` and `rpc` face clients; `member` wires them together.

pub mod serve;
pub mod http;
pub mod listen;
pub mod tls;
mod socket;
pub mod metrics;
pub mod config;
pub mod identity;
pub mod command;
pub mod error;
pub mod event;
pub mod ids;
pub mod lease;
pub mod member;
pub mod mvcc;
pub mod raft;
pub mod record;
pub mod records;
pub mod rpc;
pub mod snapshot;
pub mod state;
pub mod storage;
pub mod stored;
pub mod wal;
pub mod watch;
