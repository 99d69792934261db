//! Pods that ask for resources, and what disturbs them.

use serde_json::json;

use super::Workload;
use super::cluster::{Cluster, put_node, typed};
use super::shapes::{asking, node, on_node, template};
use crate::Clock;

pub(crate) fn all() -> Vec<Workload> {
    let one = |name, threshold, run| Workload { family: "basic", name, threshold: Some(threshold), run };
    vec![
        one("SchedulingBasic 5000/1000/10000", 680, |clock| basic(clock, 1000, 10_000)),
        one("SchedulingBasic 5000/5000/50000", 810, |clock| basic(clock, 5000, 50_000)),
        one("SchedulingDaemonset 15000/-/30000", 1100, daemonset),
        one("SchedulingWithMixedChurn 5000/-/10000", 710, churn),
        one("SchedulingWhileGated 1/10000/20000", 910, |clock| gated(clock, &json!({}))),
        one("DeletedPodsWithFinalizers 5000/-/5000", 830, deleted),
        one("Unschedulable 5000/100/10000", 590, |clock| unschedulable(clock, 100)),
        one("Unschedulable 5000/20000/10000", 600, |clock| unschedulable(clock, 20_000)),
        one("ExtendedResource 5000/-/5000", 180, extended),
    ]
}

fn basic(clock: &mut Clock, before: usize, measured: usize) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let pod = template("ns-1", json!({}), &json!({}));
    cluster.place(&pod, before);
    clock.start();
    cluster.place(&pod, measured)
}

/// Pods that name their node.
fn daemonset(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(15_000, 3);
    let pod = |at: usize| typed(&template("ns-1", json!({}), &on_node(&format!("node-{}", at % 15_000))));
    let pods: Vec<_> = (0..30_000).map(pod).collect();
    clock.start();
    for pod in &pods {
        cluster.place_one(pod);
    }
    pods.len()
}

/// Nodes and pods come and go meanwhile.
fn churn(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let pod = template("ns-1", json!({}), &json!({}));
    let large = asking("9", "500Mi", "ns-1", json!({}), &json!({}));
    let large = typed(&large);
    clock.start();
    for at in 0..10_000 {
        cluster.place(&pod, 1);
        if at % 10 == 0 {
            put_node(&mut cluster.snapshot, node(5000 + at % 7, &json!({}), &json!({"pods": "0"})));
            let too_large = cluster.pod(&large);
            let decision = cluster.schedule(&too_large);
            assert!(decision.placement().is_none());
            cluster.snapshot.remove_node(&format!("node-{}", 5000 + (at + 3) % 7));
        }
    }
    10_000
}

/// One node with room for all, while others wait for their gates.
pub(crate) fn gated(clock: &mut Clock, spec: &serde_json::Value) -> usize {
    let make = |at| node(at, &json!({}), &json!({"cpu": "100000", "memory": "100Ti", "pods": "100000"}));
    let mut cluster = Cluster::with(1, make);
    let mut waiting = spec.clone();
    waiting["schedulingGates"] = json!([{"name": "wait"}]);
    let waiting = typed(&template("ns-1", json!({"color": "blue"}), &waiting));
    let gated: Vec<_> = (0..10_000).map(|_| cluster.pod(&waiting)).collect();
    assert!(gated.iter().all(|pod| !pod.gates.is_empty()));
    clock.start();
    cluster.place(&template("ns-1", json!({"color": "blue"}), spec), 20_000)
}

fn deleted(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let mut going = template("ns-1", json!({}), &json!({}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["finalizers"] = json!(["a/b"]);
    cluster.place(&going, 5000);
    clock.start();
    cluster.place(&template("ns-1", json!({}), &json!({})), 5000)
}

/// Pods that fit nowhere are looked at again and again between those that do.
fn unschedulable(clock: &mut Clock, pending: usize) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let large = typed(&asking("9", "500Mi", "ns-1", json!({}), &json!({})));
    let large: Vec<_> = (0..pending).map(|_| cluster.pod(&large)).collect();
    let pod = template("ns-1", json!({}), &json!({}));
    clock.start();
    for at in 0..10_000 {
        cluster.place(&pod, 1);
        let decision = cluster.schedule(&large[at % large.len()]);
        assert!(decision.refused().is_some_and(|refused| !refused.message().is_empty()));
    }
    10_000
}

fn extended(clock: &mut Clock) -> usize {
    let make = |at| node(at, &json!({}), &json!({"foo.com/bar": "4"}));
    let mut cluster = Cluster::with(5000, make);
    let mut pod = template("ns-1", json!({}), &json!({}));
    pod["spec"]["containers"][0]["resources"]["requests"]["foo.com/bar"] = json!("1");
    clock.start();
    cluster.place(&pod, 5000)
}
