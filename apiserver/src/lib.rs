//! The API server: what stands between the clients of a cluster and its store. Must never know controllers, scheduler or
//! agent.
//!
//! [`storage`] is the narrow waist over the store; [`watch_cache`] serves lists and watches without asking it.

#![allow(
    clippy::result_large_err,
    reason = "a Status is an answer: it is made once, for a request that failed, and handed straight on"
)]

pub mod storage;
pub mod watch_cache;
