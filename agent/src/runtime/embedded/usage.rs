//! What pods and their containers use, in the words of the node API. Must never measure: control groups count by themselves.

use std::collections::BTreeMap;

use barque_containers::Stats;
use barque_containers::spec::{ContainerState, Phase};
use barque_network::pod_link_name;
use k8s_openapi::api::core::v1::Pod;

use super::EmbeddedRuntime;
use crate::node_api::stats::machine::interface_of;
use crate::node_api::stats::{ContainerStats, CpuStats, InterfaceStats, MemoryStats, PodStats};
use crate::pods::spec;
use crate::volumes::{Usage, usage};

fn cpu(stats: &Stats, at_ns: i64) -> CpuStats {
    CpuStats { at_ns, used_ns: stats.cpu_ns }
}

fn memory(stats: &Stats, at_ns: i64, limit: Option<i64>) -> MemoryStats {
    MemoryStats {
        at_ns,
        usage: stats.memory_usage,
        working_set: stats.memory_working_set,
        rss: stats.memory_rss,
        limit: limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0),
        page_faults: stats.page_faults,
        major_page_faults: stats.major_page_faults,
    }
}

impl EmbeddedRuntime {
    pub(super) fn usage(&self, pod: &Pod) -> Option<PodStats> {
        let containers = &self.containers;
        let uid = spec::uid(pod);
        let sandbox = containers.sandbox(uid).ok()?;
        let whole = containers.sandbox_stats(uid).ok().flatten();
        let now = i64::try_from(self.provisions.supplies.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        let of = |state: ContainerState| {
            let Phase::Running { started_ns } = state.phase else { return None };
            let stats = containers.stats(&state.spec.id).ok().flatten();
            Some(ContainerStats {
                name: state.spec.name,
                started_ns,
                cpu: stats.as_ref().map(|stats| cpu(stats, now)),
                memory: stats.as_ref().map(|stats| memory(stats, now, state.spec.resources.memory_bytes)),
                rootfs: None,
                logs: None,
            })
        };
        let namespace = sandbox.network_namespace.is_some();
        Some(PodStats {
            started_ns: sandbox.created_ns,
            cpu: whole.as_ref().map(|stats| cpu(stats, now)),
            memory: whole.as_ref().map(|stats| memory(stats, now, sandbox.spec.resources.memory_bytes)),
            processes: whole.as_ref().map(|stats| stats.pids),
            interfaces: if namespace { Self::interfaces(uid) } else { Vec::new() },
            containers: containers.containers(uid).ok()?.into_iter().filter_map(of).collect(),
            ephemeral_storage: None,
        })
    }

    /// What all instances of its containers wrote into their roots.
    pub(super) async fn written_by(&self, pod: &Pod) -> BTreeMap<String, Usage> {
        let Ok(all) = self.containers.containers(spec::uid(pod)) else { return BTreeMap::new() };
        let place = |state: ContainerState| (state.spec.name, self.containers.written_by(&state.spec.id));
        let places: Vec<_> = all.into_iter().map(place).collect();
        let work = move || {
            let mut written = BTreeMap::<String, Usage>::new();
            for (name, place) in places {
                // One that has just gone wrote nothing.
                let sum = written.entry(name).or_default();
                *sum = sum.plus(usage(&place).unwrap_or_default());
            }
            written
        };
        // It cannot fail; what ends it is the end of the process.
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// The pod's link, counted at the node's end: what one sends the other receives.
    fn interfaces(uid: &str) -> Vec<InterfaceStats> {
        let Some(traffic) = interface_of(&pod_link_name(uid)) else { return Vec::new() };
        vec![InterfaceStats {
            name: "eth0".to_owned(),
            received: traffic.sent,
            receive_errors: traffic.send_errors,
            sent: traffic.received,
            send_errors: traffic.receive_errors,
        }]
    }
}
