//! Pods with secrets and claims.

use barque_scheduler::volume::{ClaimSpec, VolumeSpec, limits_of};
use serde_json::{Value, json};

use super::Workload;
use super::cluster::{Cluster, typed};
use super::shapes::{claim, csi, csi_node, in_tree, template, volume, with_claim, with_volume};
use crate::Clock;

pub(crate) fn all() -> Vec<Workload> {
    let one = |name, threshold, run| Workload { family: "volumes", name, threshold: Some(threshold), run };
    vec![
        one("Secrets 5000/5000/10000", 790, secrets),
        one("InTreePVs 5000/-/2000", 290, |clock| claims(clock, 0, 2000, &in_tree)),
        one("MigratedInTreePVs 5000/5000/5000", 100, |clock| claims(clock, 5000, 5000, &in_tree)),
        one("CSIPVs 5000/5000/5000", 100, |clock| claims(clock, 5000, 5000, &csi)),
    ]
}

fn secrets(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let secret = json!({"secret": {"secretName": "secret"}});
    let pod = template("ns-1", json!({}), &with_volume(&secret));
    cluster.place(&pod, 5000);
    clock.start();
    cluster.place(&pod, 10_000)
}

/// Each pod has a claim of its own, which is bound.
fn claims(clock: &mut Clock, before: usize, measured: usize, source: &dyn Fn(usize) -> Value) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    for at in 0..5000 {
        let node = serde_json::from_value(csi_node(at)).expect("a CSINode");
        let (name, limits) = limits_of(&node).expect("a CSINode");
        cluster.snapshot.put_limits(name, limits);
    }
    let mut pods = Vec::new();
    for at in 0..before + measured {
        let volume = serde_json::from_value(volume(at, &source(at))).expect("a volume");
        let claim = serde_json::from_value(claim(at)).expect("a claim");
        cluster.snapshot.put_volume(VolumeSpec::of(&volume).expect("a volume"));
        cluster.snapshot.put_claim(ClaimSpec::of(&claim).expect("a claim"));
        pods.push(typed(&template("ns-1", json!({}), &with_claim(at))));
    }
    for (at, pod) in pods.iter().enumerate() {
        if at == before {
            clock.start();
        }
        cluster.place_one(pod);
    }
    measured
}
