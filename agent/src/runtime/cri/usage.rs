//! What pods and their containers use, as the runtime counts it, in the words of the node API. Must never measure.

use std::collections::BTreeMap;

use barque_cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::CriRuntime;
use super::labels::{CONTAINER_NAME, POD_UID};
use crate::node_api::stats::{ContainerStats, CpuStats, MemoryStats, PodStats};
use crate::pods::spec;
use crate::volumes::Usage;

fn value(value: Option<&v1::UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

fn cpu(used: &v1::CpuUsage) -> CpuStats {
    CpuStats { at_ns: used.timestamp, used_ns: value(used.usage_core_nano_seconds.as_ref()) }
}

fn memory(used: &v1::MemoryUsage) -> MemoryStats {
    let working_set = value(used.working_set_bytes.as_ref());
    let available = used.available_bytes.as_ref().map(|available| available.value);
    MemoryStats {
        at_ns: used.timestamp,
        // Some runtimes tell the working set alone.
        usage: value(used.usage_bytes.as_ref()).max(working_set),
        working_set,
        rss: value(used.rss_bytes.as_ref()),
        // What is left of the bound, when there is one.
        limit: available.filter(|left| *left > 0).map(|left| left.saturating_add(working_set)),
        page_faults: value(used.page_faults.as_ref()),
        major_page_faults: value(used.major_page_faults.as_ref()),
    }
}

/// All containers together: what else a sandbox uses is next to nothing, and not all runtimes tell it.
fn total(containers: &[ContainerStats]) -> (Option<CpuStats>, Option<MemoryStats>) {
    let cpu = containers.iter().filter_map(|container| container.cpu).reduce(|one, other| CpuStats {
        at_ns: one.at_ns.max(other.at_ns),
        used_ns: one.used_ns.saturating_add(other.used_ns),
    });
    let memory =
        containers.iter().filter_map(|container| container.memory).reduce(|one, other| MemoryStats {
            at_ns: one.at_ns.max(other.at_ns),
            usage: one.usage.saturating_add(other.usage),
            working_set: one.working_set.saturating_add(other.working_set),
            rss: one.rss.saturating_add(other.rss),
            limit: None,
            page_faults: one.page_faults.saturating_add(other.page_faults),
            major_page_faults: one.major_page_faults.saturating_add(other.major_page_faults),
        });
    (cpu, memory)
}

impl CriRuntime {
    /// What the runtime says of a pod's containers.
    async fn told_of(&self, uid: &str) -> Option<v1::ListContainerStatsResponse> {
        let filter = v1::ContainerStatsFilter {
            label_selector: [(POD_UID.to_owned(), uid.to_owned())].into(),
            ..v1::ContainerStatsFilter::default()
        };
        let request = v1::ListContainerStatsRequest { filter: Some(filter) };
        let told = self.client.list_container_stats(request).await;
        told.inspect_err(|error| tracing::debug!(%error, "what a pod uses is not known")).ok()
    }

    /// What its containers wrote into their roots, as far as the runtime says it.
    pub(super) async fn written_by(&self, pod: &Pod) -> BTreeMap<String, Usage> {
        let told = self.told_of(spec::uid(pod)).await;
        let of = |stats: v1::ContainerStats| {
            let (name, layer) = (stats.attributes?.labels.remove(CONTAINER_NAME)?, stats.writable_layer?);
            let bytes = value(layer.used_bytes.as_ref());
            Some((name, Usage { bytes, inodes: value(layer.inodes_used.as_ref()) }))
        };
        told.into_iter().flat_map(|told| told.stats).filter_map(of).collect()
    }

    pub(super) async fn usage(&self, pod: &Pod) -> Option<PodStats> {
        let uid = spec::uid(pod);
        let known = self.look(uid).await;
        let sandbox = known.sandbox?;
        let told = self.told_of(uid).await?;
        let of = |stats: v1::ContainerStats| {
            let attributes = stats.attributes?;
            let running = known.containers.iter().find(|state| state.spec.id == attributes.id)?;
            let barque_containers::spec::Phase::Running { started_ns } = running.phase else { return None };
            Some(ContainerStats {
                name: attributes.labels.get(CONTAINER_NAME)?.clone(),
                started_ns,
                cpu: stats.cpu.as_ref().map(cpu),
                memory: stats.memory.as_ref().map(memory),
                rootfs: None,
                logs: None,
            })
        };
        let containers: Vec<ContainerStats> = told.stats.into_iter().filter_map(of).collect();
        let (cpu, memory) = total(&containers);
        Some(PodStats {
            started_ns: sandbox.created_ns,
            cpu,
            memory,
            processes: None,
            interfaces: Vec::new(),
            containers,
            ephemeral_storage: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let number = |value| Some(v1::UInt64Value { value });
        let used = v1::MemoryUsage {
            timestamp: 5,
            working_set_bytes: number(10),
            available_bytes: number(90),
            ..v1::MemoryUsage::default()
        };
        let memory = memory(&used);
        assert_eq!((memory.usage, memory.working_set, memory.limit), (10, 10, Some(100)));
        let cpu =
            cpu(&v1::CpuUsage { timestamp: 7, usage_core_nano_seconds: number(3), usage_nano_cores: None });
        let one = ContainerStats { cpu: Some(cpu), memory: Some(memory), ..ContainerStats::default() };
        let (cpu, memory) = total(&[one.clone(), ContainerStats::default(), one]);
        assert_eq!(cpu, Some(CpuStats { at_ns: 7, used_ns: 6 }));
        assert_eq!(memory.map(|memory| (memory.working_set, memory.limit)), Some((20, None)));
        assert_eq!(total(&[]), (None, None));
    }
}
