//! A machine that shuts down ends its pods first, as the kubelet's graceful node shutdown does. Must never end a pod itself: its
//! worker does.
//!
//! [`plan`] says who has how long and in which order, [`logind`] is what systemd-logind says over D-Bus, [`bus`] the way there, and
//! [`task`] acts.

mod bus;
pub(crate) mod logind;
pub mod plan;
pub(crate) mod task;
