//! Pods of a node: what a runtime tells of one, what is to be done for it, what is told of it, and who does it.
//!
//! [`plan`], [`status`] and [`probes`] decide; [`worker`] observes, acts and writes; [`dispatch`] has one worker for each pod.

mod acts;
pub mod allocation;
mod conditions;
mod container_status;
pub mod dispatch;
#[cfg(test)]
mod dispatch_tests;
pub mod failures;
pub mod index;
mod news;
pub mod observed;
pub mod phase;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod probes;
pub mod resize;
#[cfg(test)]
mod resize_tests;
pub mod spec;
pub mod status;
pub mod status_patch;
#[cfg(test)]
mod status_tests;
pub mod worker;
#[cfg(test)]
mod worker_tests;
