//! A node as the cluster sees it: registered, alive by its lease, with conditions; and which pods it takes.

pub mod admission;
pub mod csi_node;
pub mod identity;
pub mod plan;
pub mod status;
pub mod task;
#[cfg(test)]
mod task_tests;
pub mod watch;
