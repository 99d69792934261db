//! Pods that a node has from files, without being told by an API server (`--pod-manifest-path`, the kubelet's static pods): they run
//! also when there is none, and each has one in the API server that stands for it. Must never run what only stands for another.

mod defaults;
pub mod events;
pub mod files;
pub mod manifest;
pub mod mirrors;
