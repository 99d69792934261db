//! The replicated, revisioned key/value store that takes etcd's place.
//!
//! Knows nothing of Kubernetes. `ids`, `record`, `command`, `event`, `timeline` and `stored` are the vocabulary;
//! `mvcc`, `lease` and `state` are pure; `wal`, `snapshot`, `records` and `storage` are the disk; `raft` is consensus;
//! `watch`, `rpc`, `http` and `serve` face clients; `member` wires the parts together and `server` runs them. `offline`
//! works on the files of members that do not run.

pub mod activity;
pub mod auth;
pub mod blocking;
pub mod command;
pub mod config;
pub mod error;
pub mod event;
pub mod grouping;
pub mod http;
pub mod identity;
pub mod ids;
pub mod lease;
pub mod listen;
pub mod member;
pub mod metrics;
pub mod mvcc;
pub mod offline;
pub mod raft;
pub mod record;
pub mod records;
pub mod rpc;
pub mod serve;
pub mod server;
pub mod snapshot;
mod socket;
pub mod state;
pub mod storage;
pub mod stored;
pub mod timeline;
pub mod tls;
pub mod tree;
mod varint;
pub mod wal;
pub mod wall_clock;
pub mod watch;
