//! `/metrics/cadvisor`: what dashboards read of containers, in cAdvisor's names. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::text::{Kind, Text, float, seconds};
use super::{ContainerStats, InterfaceStats, PodStats};

type Of<T> = (&'static str, Kind, &'static str, fn(&T) -> Option<f64>);

const CONTAINER: &[Of<ContainerStats>] = &[
    ("container_cpu_usage_seconds_total", Kind::Counter, "Cumulative cpu time consumed in seconds.", |one| {
        one.cpu.map(|cpu| seconds(cpu.used_ns))
    }),
    ("container_memory_usage_bytes", Kind::Gauge, "Current memory usage in bytes.", |one| {
        one.memory.map(|memory| float(memory.usage))
    }),
    ("container_memory_working_set_bytes", Kind::Gauge, "Current working set in bytes.", |one| {
        one.memory.map(|memory| float(memory.working_set))
    }),
    ("container_memory_rss", Kind::Gauge, "Size of RSS in bytes.", |one| {
        one.memory.map(|memory| float(memory.rss))
    }),
    ("container_spec_memory_limit_bytes", Kind::Gauge, "Memory limit for the container.", |one| {
        one.memory.and_then(|memory| memory.limit).map(float)
    }),
    ("container_fs_usage_bytes", Kind::Gauge, "Number of bytes consumed on the file system.", |one| {
        one.rootfs.map(|fs| float(fs.used))
    }),
    ("container_start_time_seconds", Kind::Gauge, "Start time since unix epoch in seconds.", |one| {
        u64::try_from(one.started_ns).ok().map(seconds)
    }),
];

const INTERFACE: &[Of<InterfaceStats>] = &[
    ("container_network_receive_bytes_total", Kind::Counter, "Cumulative count of bytes received", |one| {
        Some(float(one.received))
    }),
    (
        "container_network_receive_errors_total",
        Kind::Counter,
        "Cumulative count of errors receiving",
        |one| Some(float(one.receive_errors)),
    ),
    ("container_network_transmit_bytes_total", Kind::Counter, "Cumulative count of bytes sent", |one| {
        Some(float(one.sent))
    }),
    ("container_network_transmit_errors_total", Kind::Counter, "Cumulative count of errors sending", |one| {
        Some(float(one.send_errors))
    }),
];

/// The metrics of the containers of pods, and of the pods' networks.
pub(crate) fn text(pods: &[(&Pod, PodStats)]) -> String {
    let mut text = Text::default();
    let names = |pod: &Pod| {
        let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        (namespace.unwrap_or_default(), name.unwrap_or_default())
    };
    for (metric, kind, help, of) in CONTAINER {
        text.family(metric, *kind, help);
        for (pod, stats) in pods {
            let (namespace, name) = names(pod);
            for one in &stats.containers {
                let image = image(pod, &one.name);
                let labels =
                    [("container", &*one.name), ("image", image), ("namespace", &namespace), ("pod", &name)];
                if let Some(value) = of(one) {
                    text.sample(metric, &labels, value, one.cpu.map(|cpu| cpu.at_ns / 1_000_000));
                }
            }
        }
    }
    for (metric, kind, help, of) in INTERFACE {
        text.family(metric, *kind, help);
        for (pod, stats) in pods {
            let (namespace, name) = names(pod);
            for one in &stats.interfaces {
                let labels = [("interface", &*one.name), ("namespace", &namespace), ("pod", &name)];
                if let Some(value) = of(one) {
                    text.sample(metric, &labels, value, stats.cpu.map(|cpu| cpu.at_ns / 1_000_000));
                }
            }
        }
    }
    text.finish()
}

fn image<'a>(pod: &'a Pod, container: &str) -> &'a str {
    let Some(spec) = &pod.spec else { return "" };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter(|one| one.name == container).find_map(|one| one.image.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::MemoryStats;
    use super::*;

    #[test]
    fn containers_and_networks_have_their_metrics() {
        let containers = vec![ContainerStats {
            name: "c".into(),
            memory: Some(MemoryStats { rss: 5, ..MemoryStats::default() }),
            ..ContainerStats::default()
        }];
        let interfaces = vec![InterfaceStats { name: "eth0".into(), sent: 9, ..InterfaceStats::default() }];
        let stats = PodStats { containers, interfaces, ..PodStats::default() };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {"containers": [{"name": "c", "image": "i:1"}]},
        }))
        .unwrap();
        let told = text(&[(&pod, stats)]);
        let labels = "container=\"c\",image=\"i:1\",namespace=\"a\",pod=\"p\"";
        assert!(told.contains(&format!("container_memory_rss{{{labels}}} 5\n")), "{told}");
        let labels = "interface=\"eth0\",namespace=\"a\",pod=\"p\"";
        assert!(told.contains(&format!("container_network_transmit_bytes_total{{{labels}}} 9\n")), "{told}");
        assert!(!told.contains("container_fs_usage_bytes{"), "{told}");
    }
}
