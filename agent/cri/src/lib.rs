//! The Container Runtime Interface, version 1: its messages, and a client over the socket of a runtime. Must never know a pod, nor
//! decide what a runtime is asked for.
//!
//! [`Endpoint`] is where a runtime listens, [`Client`] asks it, [`CriError`] says in a sentence why there is no answer. [`v1`] is
//! the protocol itself, with the traits of those who serve it.

mod client;
mod endpoint;
mod error;

/// The protocol (`runtime.v1`): messages, clients and the servers' traits.
#[allow(
    unused_qualifications,
    unreachable_pub,
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto file carries the documentation"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

pub use client::{Client, Events};
pub use endpoint::{Endpoint, EndpointError};
pub use error::CriError;
