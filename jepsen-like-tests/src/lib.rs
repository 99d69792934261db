//! Starts real store processes, breaks them, and speaks to them as any client would.
//!
//! The same harness runs etcd and Barque, so that every expectation is first checked against the original.
//! Sees clients, processes, networks and disks; must never know the insides of the store. `simulation` alone is made of
//! them.

pub mod call;
pub mod certificates;
pub mod checkers;
pub mod client;
pub mod clocks;
pub mod cluster;
pub mod deadline;
pub mod door;
pub mod etcdctl;
pub mod excerpt;
pub mod history;
pub mod load;
pub mod masters;
pub mod memory;
pub mod nemesis;
pub mod network;
mod progress;
pub mod replay;
pub mod report;
pub mod run;
pub mod secure;
pub mod shrink;
pub mod sick_disk;
pub mod simulation;
pub mod small_disk;
pub mod spawn;
pub mod tally;
pub mod workload;
