//! `/metrics/resource`: what `metrics-server` and autoscalers read, in the kubelet's names. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::machine::MachineStats;
use super::text::{Kind, Text, float, seconds};
use super::{CpuStats, MemoryStats, PodStats};

/// The metrics of a node and its pods that run.
pub(crate) fn text(machine: &MachineStats, pods: &[(&Pod, PodStats)]) -> String {
    let mut text = Text::default();
    let cpu_used = |text: &mut Text, name: &str, labels: &[(&str, &str)], cpu: Option<CpuStats>| {
        if let Some(cpu) = cpu {
            text.sample(name, labels, seconds(cpu.used_ns), Some(cpu.at_ns / 1_000_000));
        }
    };
    let memory_used = |text: &mut Text, name: &str, labels: &[(&str, &str)], memory: Option<MemoryStats>| {
        if let Some(memory) = memory {
            text.sample(name, labels, float(memory.working_set), Some(memory.at_ns / 1_000_000));
        }
    };
    let cpu_help =
        |whose: &str| format!("[STABLE] Cumulative cpu time consumed by the {whose} in core-seconds");
    let memory_help = |whose: &str| format!("[STABLE] Current working set of the {whose} in bytes");

    text.family("container_cpu_usage_seconds_total", Kind::Counter, &cpu_help("container"));
    each_container(pods, |labels, one| {
        cpu_used(&mut text, "container_cpu_usage_seconds_total", labels, one.cpu);
    });
    text.family("container_memory_working_set_bytes", Kind::Gauge, &memory_help("container"));
    each_container(pods, |labels, one| {
        memory_used(&mut text, "container_memory_working_set_bytes", labels, one.memory);
    });
    let help = "[STABLE] Start time of the container since unix epoch in seconds";
    text.family("container_start_time_seconds", Kind::Gauge, help);
    each_container(pods, |labels, one| {
        let started = seconds(u64::try_from(one.started_ns).unwrap_or(0));
        text.sample("container_start_time_seconds", labels, started, None);
    });
    text.family("node_cpu_usage_seconds_total", Kind::Counter, &cpu_help("node"));
    cpu_used(&mut text, "node_cpu_usage_seconds_total", &[], machine.cpu);
    text.family("node_memory_working_set_bytes", Kind::Gauge, &memory_help("node"));
    memory_used(&mut text, "node_memory_working_set_bytes", &[], machine.memory);
    text.family("pod_cpu_usage_seconds_total", Kind::Counter, &cpu_help("pod"));
    each_pod(pods, |labels, one| cpu_used(&mut text, "pod_cpu_usage_seconds_total", labels, one.cpu));
    text.family("pod_memory_working_set_bytes", Kind::Gauge, &memory_help("pod"));
    each_pod(pods, |labels, one| memory_used(&mut text, "pod_memory_working_set_bytes", labels, one.memory));
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    text.family("resource_scrape_error", Kind::Gauge, help);
    let failed = machine.cpu.is_none() || machine.memory.is_none();
    text.sample("resource_scrape_error", &[], if failed { 1.0 } else { 0.0 }, None);
    text.finish()
}

/// Namespace and name of a pod.
fn names(pod: &Pod) -> (&str, &str) {
    (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}

fn each_pod(pods: &[(&Pod, PodStats)], mut each: impl FnMut(&[(&str, &str)], &PodStats)) {
    for (pod, stats) in pods {
        let (namespace, name) = names(pod);
        each(&[("namespace", namespace), ("pod", name)], stats);
    }
}

fn each_container(pods: &[(&Pod, PodStats)], mut each: impl FnMut(&[(&str, &str)], &super::ContainerStats)) {
    for (pod, stats) in pods {
        let (namespace, name) = names(pod);
        for one in &stats.containers {
            each(&[("container", &one.name), ("namespace", namespace), ("pod", name)], one);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ContainerStats;
    use super::*;

    #[test]
    fn node_pods_and_containers_have_their_metrics() {
        let cpu = Some(CpuStats { at_ns: 2_000_000, used_ns: 1_500_000_000 });
        let memory = Some(MemoryStats { at_ns: 2_000_000, working_set: 10, ..MemoryStats::default() });
        let containers = vec![ContainerStats {
            name: "c".into(),
            started_ns: 3_000_000_000,
            cpu,
            memory,
            ..ContainerStats::default()
        }];
        let stats = PodStats { cpu, memory, containers, ..PodStats::default() };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}})).unwrap();
        let machine = MachineStats { cpu, memory, ..MachineStats::default() };
        let told = text(&machine, &[(&pod, stats)]);
        for line in [
            "node_cpu_usage_seconds_total 1.5 2\n",
            "node_memory_working_set_bytes 10 2\n",
            "pod_cpu_usage_seconds_total{namespace=\"a\",pod=\"p\"} 1.5 2\n",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"a\",pod=\"p\"} 10 2\n",
            "container_start_time_seconds{container=\"c\",namespace=\"a\",pod=\"p\"} 3\n",
            "resource_scrape_error 0\n",
        ] {
            assert!(told.contains(line), "{line} is missing in\n{told}");
        }
        assert!(text(&MachineStats::default(), &[]).ends_with("resource_scrape_error 1\n"));
    }
}
