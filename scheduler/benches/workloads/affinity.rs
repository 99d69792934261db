//! Pods that want to be near others, or far from them.

use serde_json::{Value, json};

use super::Workload;
use super::basic::gated;
use super::cluster::{Cluster, typed};
use super::shapes::{HOST, ZONE, affinity, anywhere, in_zones, node_of, template, term};
use crate::Clock;

pub(crate) fn all() -> Vec<Workload> {
    let one = |name, threshold, run| Workload { family: "affinity", name, threshold: Some(threshold), run };
    vec![
        one("PodAntiAffinity 5000/1000/2000", 60, |clock| {
            let far = affinity("podAntiAffinity", &term("green", HOST, &json!({})), true);
            same(clock, Cluster::of(5000, 3), "green", &far, 1000, 2000)
        }),
        one("PodMatchingAntiAffinity 5000/-/5000", 595, matching_anti_affinity),
        one("PodAffinity 5000/5000/5000", 35, |clock| {
            let near = affinity("podAffinity", &term("blue", ZONE, &json!({})), true);
            same(clock, Cluster::of(5000, 1), "blue", &near, 5000, 5000)
        }),
        one("PreferredPodAffinity 5000/5000/5000", 90, |clock| {
            let near = affinity("podAffinity", &term("red", HOST, &json!({})), false);
            same(clock, Cluster::of(5000, 3), "red", &near, 5000, 5000)
        }),
        one("PreferredPodAntiAffinity 5000/5000/5000", 90, |clock| {
            let far = affinity("podAntiAffinity", &term("yellow", HOST, &json!({})), false);
            same(clock, Cluster::of(5000, 3), "yellow", &far, 5000, 5000)
        }),
        one("NodeAffinity 5000/5000/10000", 220, node_affinity),
        one("MixedSchedulingBasePod 5000/-/5000", 140, mixed),
        one("RequiredPodAntiAffinity NSSelector 6000/-/2000", 24, |clock| {
            let far = affinity("podAntiAffinity", &term("green", HOST, &anywhere()), true);
            several(clock, Cluster::of(6000, 3), "green", &far, 2000)
        }),
        one("PreferredAntiAffinity NSSelector 5000/-/2000", 55, |clock| {
            let far = affinity("podAntiAffinity", &term("yellow", HOST, &anywhere()), false);
            several(clock, Cluster::of(5000, 3), "yellow", &far, 2000)
        }),
        one("RequiredAffinity NSSelector 5000/-/2000", 35, |clock| {
            let near = affinity("podAffinity", &term("blue", ZONE, &anywhere()), true);
            several(clock, Cluster::of(5000, 1), "blue", &near, 2000)
        }),
        one("PreferredAffinity NSSelector 5000/-/5000", 90, |clock| {
            let near = affinity("podAffinity", &term("red", HOST, &anywhere()), false);
            several(clock, Cluster::of(5000, 3), "red", &near, 5000)
        }),
        one("GatedPodsWithPodAffinity 1/10000/20000", 110, |clock| {
            gated(clock, &affinity("podAffinity", &term("blue", HOST, &json!({})), true))
        }),
    ]
}

/// Pods that are all alike, in two namespaces.
fn same(
    clock: &mut Clock,
    mut cluster: Cluster,
    color: &str,
    spec: &Value,
    before: usize,
    measured: usize,
) -> usize {
    cluster.place(&template("ns-0", json!({"color": color}), spec), before);
    clock.start();
    cluster.place(&template("ns-1", json!({"color": color}), spec), measured)
}

/// Pods in a hundred namespaces that all see each other.
fn several(clock: &mut Clock, mut cluster: Cluster, color: &str, spec: &Value, measured: usize) -> usize {
    let pods: Vec<_> =
        (0..100).map(|at| typed(&template(&format!("ns-{at}"), json!({"color": color}), spec))).collect();
    for at in 0..2000 {
        cluster.place_one(&pods[at % pods.len()]);
    }
    clock.start();
    for at in 0..measured {
        cluster.place_one(&pods[at % pods.len()]);
    }
    measured
}

/// Pods without terms of their own, beside some that do not want them.
fn matching_anti_affinity(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let far = affinity("podAntiAffinity", &term("green", HOST, &json!({})), true);
    cluster.place(&template("ns-1", json!({"color": "blue"}), &far), 1000);
    clock.start();
    cluster.place(&template("ns-1", json!({"color": "green"}), &json!({})), 5000)
}

fn node_affinity(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::with(5000, |at| node_of(at, 3));
    let pod = template("ns-1", json!({}), &in_zones(&["zone1", "zone2"]));
    cluster.place(&pod, 5000);
    clock.start();
    cluster.place(&pod, 10_000)
}

/// Ordinary pods among those of all kinds.
fn mixed(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let put = |cluster: &mut Cluster, color: &str, spec: Value, count| {
        cluster.place(&template("ns-0", json!({"color": color}), &spec), count);
    };
    put(&mut cluster, "white", json!({}), 2000);
    put(&mut cluster, "blue", affinity("podAffinity", &term("blue", ZONE, &json!({})), true), 2000);
    put(&mut cluster, "green", affinity("podAntiAffinity", &term("green", HOST, &json!({})), true), 2000);
    put(&mut cluster, "red", affinity("podAffinity", &term("red", HOST, &json!({})), false), 2000);
    put(&mut cluster, "yellow", affinity("podAntiAffinity", &term("yellow", HOST, &json!({})), false), 2000);
    clock.start();
    cluster.place(&template("ns-0", json!({"color": "white"}), &json!({})), 5000)
}
