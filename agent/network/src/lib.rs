//! The network of pods: an address and a link for each, and the overlay between nodes. Must never know what a service is.
//!
//! Pods are routed, not bridged: each has a veth pair, one address per family without a network around it, and its
//! default route by an address that only the neighbour table knows. The node has a route per pod, and drops what goes to
//! an address of its pod networks that no pod has. Between nodes there is VXLAN with one route, one neighbour and one
//! forwarding entry per remote node, or plain routes where all nodes share a link.
//!
//! [`Network`] does that; [`cni::Cni`] hands the work to CNI plugins where somebody has configured them.

mod addresses;
mod check;
pub mod cni;
mod error;
pub mod fabric;
mod kernel;
mod messages;
mod model;
mod names;
mod namespace;
mod network;
mod plan;
mod pod;
mod records;
mod sysctl;

pub use addresses::Addresses;
pub use check::{Feature, check};
pub use error::NetworkError;
pub use model::{Backend, Peer, PodAddresses};
pub use names::pod_link_name;
pub use namespace::{connect_tcp, inside};
pub use network::{AdoptedPod, Network, Settings};
