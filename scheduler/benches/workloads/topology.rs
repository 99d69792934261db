//! Pods that are spread.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Workload;
use super::cluster::Cluster;
use super::shapes::{HOST, constraints, node, template};
use crate::Clock;

pub(crate) fn all() -> Vec<Workload> {
    let one = |name, threshold, run| Workload { family: "topology", name, threshold: Some(threshold), run };
    vec![
        one("TopologySpreading 5000/5000/5000", 460, |clock| {
            spreading(clock, &constraints(5, "DoNotSchedule", &json!({})))
        }),
        one("PreferredTopologySpreading 5000/5000/5000", 340, |clock| {
            spreading(clock, &constraints(5, "ScheduleAnyway", &json!({})))
        }),
        one("DefaultTopologySpreading 5000/5000/50000", 160, by_default),
        one("NodeInclusionPolicy 5000/-/4000", 270, inclusion),
    ]
}

fn spreading(clock: &mut Clock, spec: &Value) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    cluster.place(&template("ns-1", json!({}), &json!({})), 5000);
    clock.start();
    cluster.place(&template("ns-1", json!({"color": "blue"}), spec), 5000)
}

/// Pods of a service, which have no constraints of their own.
fn by_default(clock: &mut Clock) -> usize {
    let mut cluster = Cluster::of(5000, 3);
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    cluster.workloads.put_service("ns-1", "web", Some(&labels));
    let pod = template("ns-1", json!({"app": "web"}), &json!({}));
    cluster.place(&pod, 5000);
    clock.start();
    cluster.place(&pod, 50_000)
}

/// Half of the nodes have a taint, and do not count.
fn inclusion(clock: &mut Clock) -> usize {
    let make = |at: usize| {
        let mut node = node(at, &json!({}), &json!({}));
        if at.is_multiple_of(2) {
            node["spec"] = json!({"taints": [{"key": "foo", "value": "", "effect": "NoSchedule"}]});
        }
        node
    };
    let mut cluster = Cluster::with(5000, make);
    let honor = json!({"topologyKey": HOST, "nodeTaintsPolicy": "Honor"});
    let spec = constraints(1, "DoNotSchedule", &honor);
    clock.start();
    cluster.place(&template("ns-1", json!({"color": "blue"}), &spec), 4000)
}
