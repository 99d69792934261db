//! The replicated, revisioned key/value store that takes etcd's place.
//!
//! Knows nothing of Kubernetes. Arrows between its modules point down this list only.

pub mod command;
pub mod config;
pub mod http;
pub mod identity;
pub mod ids;
pub mod listen;
pub mod metrics;
pub mod raft;
pub mod record;
pub mod serve;
mod socket;
pub mod tls;
