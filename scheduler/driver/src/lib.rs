//! The scheduler as a process: watches the cluster through the API, has [`barque_scheduler`] decide, and performs what was
//! decided. Must never decide where a pod goes.
//!
//! `observe` brings what happened, `cluster` keeps it, `driver` takes pods from the queue one after the other, and
//! `act` speaks to the API for many of them at once.

mod act;
mod cluster;
pub mod config;
mod driver;
pub mod explain;
mod metrics;
mod observe;
mod pending;
mod process;
mod status;
mod turns;
mod verdict;
mod volumes;

pub use metrics::Metrics;
pub use process::{SchedulerError, run};
