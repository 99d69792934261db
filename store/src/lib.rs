//! The replicated, revisioned key/value store that takes etcd's place.
//!
//! Knows nothing of Kubernetes. Arrows between its modules point down this list only.

pub mod serve;
pub mod http;
pub mod listen;
pub mod tls;
mod socket;
pub mod metrics;
pub mod config;
pub mod identity;
pub mod command;
pub mod ids;
pub mod raft;
pub mod record;
