//! Pods that find room only where others go.

use barque_scheduler::preemption::{Budgets, Outcome, Preemptor};
use serde_json::json;

use super::Workload;
use super::cluster::{Cluster, typed};
use super::shapes::asking;
use crate::Clock;

pub(crate) fn all() -> Vec<Workload> {
    let one = |name, threshold, run| Workload { family: "preemption", name, threshold, run };
    vec![
        one("PreemptionBasic 1000/4000/1000", None, |clock| preempt(clock, 1000, 4000, 1000)),
        one("PreemptionAsync 5000/20000/5000", Some(570), |clock| preempt(clock, 5000, 20_000, 5000)),
    ]
}

/// Every pod is refused, has others evicted, and is then placed where they were.
fn preempt(clock: &mut Clock, nodes: usize, before: usize, measured: usize) -> usize {
    let mut cluster = Cluster::of(nodes, 3);
    let mut preemptor = Preemptor::new(1);
    let budgets = Budgets::default();
    cluster.place(&asking("900m", "500Mi", "ns-1", json!({}), &json!({})), before);
    let mut high = typed(&asking("3000m", "500Mi", "ns-1", json!({}), &json!({"priority": 10})));
    clock.start();
    for _ in 0..measured {
        let pod = cluster.pod(&high);
        let decision = cluster.schedule(&pod);
        let refused = decision.refused().expect("all nodes are full");
        let profile = &cluster.scheduler.profiles()[0];
        let outcome = preemptor.plan(&cluster.snapshot, &pod, profile, refused, &budgets);
        let Outcome::Preempt(preemption) = outcome else { panic!("{outcome:?}") };
        cluster.snapshot.nominate(&pod, preemption.node);
        for victim in &preemption.victims {
            cluster.snapshot.remove_pod(&victim.uid);
        }
        high.status = serde_json::from_value(json!({
            "nominatedNodeName": cluster.snapshot.node_name(preemption.node),
        }))
        .expect("a status");
        let decision = cluster.again(&pod, &high);
        assert_eq!(decision.placement().map(|placement| placement.node), Some(preemption.node));
        high.status = None;
    }
    measured
}
