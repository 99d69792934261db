//! Containers on this machine, without a daemon: sandboxes with namespaces of their own, containers made in them by a
//! single-threaded shim for each, what they say kept in logs, and how they ended told. Must never know what a pod is.

mod cgroup;
mod check;
mod cleanup;
mod containers;
mod error;
mod exec;
mod handle;
mod identity;
mod last_word;
mod namespaces;
mod oci;
mod rights;
mod rootfs;
mod sandboxes;
mod seccomp;
mod shim_client;
mod signals;
mod store;
mod streams;
mod teardown;
mod wire;

pub mod log_rotation;
pub mod shim;
pub mod spec;

pub use cgroup::{CgroupError, Hierarchies, Stats};
pub use check::{Finding, check};
pub use cleanup::{Cleaned, cleanup};
pub use containers::{Containers, Settings, is_used};
pub use error::Error;
pub use exec::{ExecOutput, ExecSpec};
pub use identity::Identity;
pub use last_word::last_word;
pub use namespaces::NamespaceError;
pub use rights::missing_rights;
pub use signals::number as signal_number;
pub use streams::{End, Resizer, Stream, Streams};
