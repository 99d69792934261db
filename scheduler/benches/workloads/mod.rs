//! The workloads, named as in `scheduler_perf`.

mod affinity;
mod basic;
mod cluster;
mod preemption;
mod shapes;
mod topology;
mod volumes;

use crate::Clock;

/// One workload.
pub(crate) struct Workload {
    pub(crate) family: &'static str,
    pub(crate) name: &'static str,
    /// Pods a second that Kubernetes' tests hold, if they do.
    pub(crate) threshold: Option<u32>,
    /// Starts the clock once everything is prepared, and tells how many pods were decided on.
    pub(crate) run: fn(&mut Clock) -> usize,
}

pub(crate) fn all() -> Vec<Workload> {
    let mut all = basic::all();
    all.extend(preemption::all());
    all.extend(affinity::all());
    all.extend(topology::all());
    all.extend(volumes::all());
    all
}
