//! The kubelet's summary of a node and its pods (`stats.k8s.io/v1alpha1`, `/stats/summary`). Pure.

use barque_api::time::Time;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::machine::MachineStats;
use super::rates::Rates;
use super::{ContainerStats, CpuStats, FsStats, InterfaceStats, MemoryStats, PodStats, VolumeStats};

/// The summary of a node and its pods that run.
pub(crate) fn summary(
    node: &str,
    machine: &MachineStats,
    pods: &[(&Pod, PodStats, &[VolumeStats])],
    rates: &mut Rates,
) -> Value {
    rates.begin();
    let mut told = Map::new();
    told.insert("nodeName".to_owned(), node.into());
    put(&mut told, "startTime", machine.started.map(|at| Time::of_unix(at).to_string().into()));
    put(&mut told, "cpu", machine.cpu.map(|stats| cpu("node".to_owned(), stats, rates)));
    put(&mut told, "memory", machine.memory.map(|stats| memory(stats, machine.memory_available)));
    put(&mut told, "network", network(&machine.interfaces, machine.cpu.map(|cpu| cpu.at_ns)));
    put(&mut told, "fs", machine.fs.map(fs));
    put(
        &mut told,
        "runtime",
        machine.fs.map(|stats| json!({"imageFs": fs(stats), "containerFs": fs(stats)})),
    );
    put(
        &mut told,
        "rlimit",
        machine
            .processes
            .map(|(most, now)| json!({"time": time(machine.cpu), "maxpid": most, "curproc": now})),
    );
    let pods: Vec<Value> = pods.iter().map(|(one, stats, volumes)| pod(one, stats, volumes, rates)).collect();
    json!({"node": told, "pods": pods})
}

fn put(to: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        to.insert(name.to_owned(), value);
    }
}

fn moment(ns: i64) -> String {
    Time::of_unix(ns.div_euclid(1_000_000_000)).to_string()
}

fn time(cpu: Option<CpuStats>) -> String {
    moment(cpu.map_or(0, |cpu| cpu.at_ns))
}

fn pod(pod: &Pod, stats: &PodStats, volumes: &[VolumeStats], rates: &mut Rates) -> Value {
    let metadata = &pod.metadata;
    let uid = metadata.uid.clone().unwrap_or_default();
    let mut told = Map::new();
    let reference = json!({"name": metadata.name, "namespace": metadata.namespace, "uid": uid});
    told.insert("podRef".to_owned(), reference);
    told.insert("startTime".to_owned(), moment(stats.started_ns).into());
    let containers: Vec<Value> = stats.containers.iter().map(|one| container(&uid, one, rates)).collect();
    told.insert("containers".to_owned(), containers.into());
    put(&mut told, "cpu", stats.cpu.map(|stats| cpu(uid.clone(), stats, rates)));
    put(&mut told, "memory", stats.memory.map(|stats| memory(stats, None)));
    put(&mut told, "network", network(&stats.interfaces, stats.cpu.map(|cpu| cpu.at_ns)));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes: Vec<Value> = volumes.iter().map(|one| volume(namespace, one)).collect();
    put(&mut told, "volume", Some(volumes).filter(|all| !all.is_empty()).map(Value::from));
    put(&mut told, "ephemeral-storage", stats.ephemeral_storage.map(fs));
    put(&mut told, "process_stats", stats.processes.map(|count| json!({"process_count": count})));
    told.into()
}

fn volume(namespace: &str, stats: &VolumeStats) -> Value {
    let mut told = fs(stats.fs);
    told["name"] = stats.name.clone().into();
    if let Some(claim) = &stats.claim {
        told["pvcRef"] = json!({"name": claim, "namespace": namespace});
    }
    told
}

fn container(pod: &str, stats: &ContainerStats, rates: &mut Rates) -> Value {
    let mut told = Map::new();
    told.insert("name".to_owned(), stats.name.clone().into());
    told.insert("startTime".to_owned(), moment(stats.started_ns).into());
    let name = format!("{pod}/{}", stats.name);
    put(&mut told, "cpu", stats.cpu.map(|stats| cpu(name, stats, rates)));
    put(&mut told, "memory", stats.memory.map(|stats| memory(stats, None)));
    put(&mut told, "rootfs", stats.rootfs.map(fs));
    put(&mut told, "logs", stats.logs.map(fs));
    told.into()
}

fn cpu(name: String, stats: CpuStats, rates: &mut Rates) -> Value {
    let mut told = json!({"time": moment(stats.at_ns), "usageCoreNanoSeconds": stats.used_ns});
    if let Some(cores) = rates.nano_cores(name, stats) {
        told["usageNanoCores"] = cores.into();
    }
    told
}

fn memory(stats: MemoryStats, available: Option<u64>) -> Value {
    let mut told = json!({
        "time": moment(stats.at_ns), "usageBytes": stats.usage, "workingSetBytes": stats.working_set,
        "rssBytes": stats.rss, "pageFaults": stats.page_faults, "majorPageFaults": stats.major_page_faults,
    });
    let left = available.or_else(|| stats.limit.map(|limit| limit.saturating_sub(stats.working_set)));
    if let Some(left) = left {
        told["availableBytes"] = left.into();
    }
    told
}

fn fs(stats: FsStats) -> Value {
    json!({
        "time": moment(stats.at_ns), "availableBytes": stats.available, "capacityBytes": stats.capacity,
        "usedBytes": stats.used, "inodes": stats.inodes, "inodesFree": stats.inodes_free,
        "inodesUsed": stats.inodes_used,
    })
}

fn network(interfaces: &[InterfaceStats], at: Option<i64>) -> Option<Value> {
    let one = |stats: &InterfaceStats| {
        json!({
            "name": stats.name, "rxBytes": stats.received, "rxErrors": stats.receive_errors,
            "txBytes": stats.sent, "txErrors": stats.send_errors,
        })
    };
    let mut told = one(interfaces.first()?);
    told["time"] = moment(at.unwrap_or(0)).into();
    told["interfaces"] = interfaces.iter().map(one).collect();
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_pods_are_told_in_the_kubelets_form() {
        let cpu = |at: i64, used_ns| Some(CpuStats { at_ns: at * 1_000_000_000, used_ns });
        let memory = MemoryStats { working_set: 30, limit: Some(100), ..MemoryStats::default() };
        let stats = |at, used| PodStats {
            containers: vec![ContainerStats {
                name: "c".into(),
                cpu: cpu(at, used),
                ..ContainerStats::default()
            }],
            memory: Some(memory),
            interfaces: vec![InterfaceStats {
                name: "eth0".into(),
                received: 7,
                ..InterfaceStats::default()
            }],
            ..PodStats::default()
        };
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}})).unwrap();
        let machine = |at, used| MachineStats {
            cpu: cpu(at, used),
            memory: Some(MemoryStats::default()),
            memory_available: Some(9),
            ..MachineStats::default()
        };
        let mut rates = Rates::default();
        let first = summary("n1", &machine(0, 0), &[(&pod, stats(0, 0), &[])], &mut rates);
        assert!(first["node"]["cpu"].get("usageNanoCores").is_none());
        let second =
            summary("n1", &machine(10, 5_000_000_000), &[(&pod, stats(10, 1_000_000_000), &[])], &mut rates);
        let node = &second["node"];
        assert_eq!((&node["nodeName"], &node["cpu"]["usageNanoCores"]), (&json!("n1"), &json!(500_000_000)));
        assert_eq!(
            (&node["memory"]["availableBytes"], &node["cpu"]["time"]),
            (&json!(9), &json!("1970-01-01T00:00:10Z"))
        );
        let told = &second["pods"][0];
        assert_eq!(told["podRef"], json!({"name": "p", "namespace": "a", "uid": "u"}));
        assert_eq!(told["containers"][0]["cpu"]["usageNanoCores"], 100_000_000);
        assert_eq!((&told["memory"]["availableBytes"], &told["network"]["rxBytes"]), (&json!(70), &json!(7)));
        assert!(node.get("network").is_none());
    }
}
