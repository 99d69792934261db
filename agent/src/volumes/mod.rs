//! The directories of pods: made and mounted before containers start, kept up to date while they run, unmounted and removed when the
//! pod has ended. Must never remove what is behind a mount, or touch anything outside of the agent's own directory that a pod did
//! not name.
//!
//! [`Volumes`] observes and acts; [`plan`](mod@plan), [`payload`] and [`claims`] decide.

mod act;
pub mod atomic_writer;
pub mod claims;
pub mod csi;
pub mod host_path;
pub mod layout;
pub mod local_path;

pub mod mount_table;
pub mod ownership;
pub mod payload;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod remove;
mod set;
#[cfg(test)]
mod set_tests;
mod source;
mod stats;
mod sub_path;
#[cfg(test)]
mod testing;
mod tokens;

pub(crate) use act::usage;
pub use act::{Usage, tear_down_all};
pub use set::{NodeDrivers, VolumeError, Volumes};
pub use source::ImageLayers;
