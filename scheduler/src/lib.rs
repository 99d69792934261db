//! The scheduler of a Kubernetes-compatible cluster: which node a pod goes to, and if none, why not.
//!
//! Pure: must never do I/O, read a clock or a source of chance; time and seeds are handed in. Who drives it compiles
//! objects ([`pod`], [`node`]).

mod chance;
pub mod config;
pub mod decision;
pub mod label_set;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod profile;
pub mod queue;
pub mod snapshot;
pub mod taint;
pub mod volume;

#[cfg(test)]
mod test_cluster;
