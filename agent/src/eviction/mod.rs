//! Pods leave a node that runs out of something, as the kubelet evicts them, before the kernel chooses a process. Must never end
//! a pod itself: its worker does.
//!
//! [`signals`] is what is looked at, [`thresholds`] what follows for the node, [`limits`] which pods hold more than they may,
//! [`ranking`] who goes first; [`usage`] measures and [`task`] acts.

pub mod limits;
pub mod ranking;
pub mod signals;
pub(crate) mod task;
pub mod thresholds;
pub mod usage;
