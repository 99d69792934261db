//! The network of pods with a real kernel, in network namespaces.

#![allow(clippy::unwrap_used, reason = "tests")]

mod lab;
mod nodes;
mod plugins;
