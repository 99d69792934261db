//! The programs together, as their users meet them: real processes, real clients, real kubectl, nodes in namespaces. One binary,
//! so that tests that mostly wait do so beside each other.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod agent;
mod all_night;
mod certificates;
mod client;
mod clocks;
mod cluster;
mod containers;
mod controllers;
mod cri;
mod ecosystem;
mod hollow;
mod hostile;
mod issuer;
mod kubectl;
mod lint;
mod masters;
mod metrics_server;
mod namespaces;
mod nodes;
mod on_etcd;
mod policies_and_volumes;
mod python;
mod scenarios;
mod scheduler;
mod shutdown;
mod store_command_line;
mod streams;
mod surface;
mod systemd;
mod two_servers;
mod ui;
mod unkind;
mod up;
