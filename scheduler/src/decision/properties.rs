//! Decisions against a judge who looks at everything, slowly.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Decision, Scheduler};
use crate::pod::{HOSTNAME, ZONE};
use crate::profile::Profile;
use crate::test_cluster::{TestCluster, merge};

/// What a pod asks of its neighbours; all that are not `Plain` are of one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Web,
    /// Not on a node with another.
    Alone,
    /// In a zone with another.
    Near,
    /// Evenly over zones.
    Spread,
    /// If possible so.
    SoftSpread,
    /// If possible with others.
    WouldBeNear,
}

const KINDS: [Kind; 7] =
    [Kind::Plain, Kind::Web, Kind::Alone, Kind::Near, Kind::Spread, Kind::SoftSpread, Kind::WouldBeNear];

#[derive(Clone, Copy, Debug)]
struct Pod {
    kind: Kind,
    cpu: i64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    zone: Option<usize>,
    cpu: i64,
    tainted: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Node(usize, Node),
    NoNode(usize),
    Schedule(Pod),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let node = (prop::option::weighted(0.9, 0..3usize), 1..6i64, prop::bool::weighted(0.15));
    let node = node.prop_map(|(zone, cpu, tainted)| Node { zone, cpu, tainted });
    let pod = (prop::sample::select(&KINDS[..]), 1..4i64).prop_map(|(kind, cpu)| Pod { kind, cpu });
    prop_oneof![
        2 => (0..6usize, node).prop_map(|(at, node)| Step::Node(at, node)),
        1 => (0..6usize).prop_map(Step::NoNode),
        12 => pod.prop_map(Step::Schedule),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ]
}

fn object(pod: Pod) -> Value {
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}});
    let spread = |when: &str| {
        let mut constraint = term(ZONE);
        merge(&mut constraint, json!({"maxSkew": 1, "whenUnsatisfiable": when}));
        json!({"topologySpreadConstraints": [constraint]})
    };
    let spec = match pod.kind {
        Kind::Plain | Kind::Web => json!({}),
        Kind::Alone => json!({"affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term(HOSTNAME)]}}}),
        Kind::Near => json!({"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term(ZONE)]}}}),
        Kind::Spread => spread("DoNotSchedule"),
        Kind::SoftSpread => spread("ScheduleAnyway"),
        Kind::WouldBeNear => json!({"affinity": {"podAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": term(HOSTNAME)}]}}}),
    };
    let mut object = crate::test_cluster::requests(json!({"cpu": pod.cpu.to_string(), "memory": "1Gi"}));
    merge(&mut object, json!({"spec": spec}));
    if pod.kind != Kind::Plain {
        merge(&mut object, json!({"metadata": {"labels": {"app": "web"}}}));
    }
    object
}

/// Everything, as it is.
#[derive(Default)]
struct Judge {
    nodes: BTreeMap<usize, Node>,
    pods: Vec<(String, usize, Pod)>,
}

impl Judge {
    fn on(&self, node: usize) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |(_, other, _)| *other == node).map(|(.., pod)| pod)
    }

    fn webs_in(&self, zone: usize) -> i64 {
        let nodes = self.nodes.iter().filter(|(_, node)| node.zone == Some(zone));
        nodes.map(|(at, _)| self.on(*at).filter(|pod| pod.kind != Kind::Plain).count() as i64).sum()
    }

    fn fits(&self, at: usize, pod: Pod) -> bool {
        let node = self.nodes[&at];
        let web = pod.kind != Kind::Plain;
        let mut webs = self.on(at).filter(|pod| pod.kind != Kind::Plain);
        let taken: i64 = self.on(at).map(|pod| pod.cpu).sum();
        let alone = !(web && self.on(at).any(|pod| pod.kind == Kind::Alone));
        let allowed = match pod.kind {
            Kind::Alone => webs.next().is_none(),
            Kind::Near => node.zone.is_some_and(|zone| {
                let zones = self.nodes.values().filter_map(|node| node.zone);
                self.webs_in(zone) > 0 || zones.map(|zone| self.webs_in(zone)).sum::<i64>() == 0
            }),
            Kind::Spread => node.zone.is_some_and(|zone| {
                let zones = self.nodes.values().filter_map(|node| node.zone);
                self.webs_in(zone) + 1 - zones.map(|zone| self.webs_in(zone)).min().unwrap_or(0) <= 1
            }),
            _ => true,
        };
        let room = taken + pod.cpu <= node.cpu && self.on(at).count() < 10;
        room && !node.tainted && alone && allowed
    }
}

fn put(cluster: &mut TestCluster, at: usize, node: Node) {
    let mut more = json!({"status": {"allocatable": {"cpu": node.cpu.to_string(), "memory": "64Gi"}}});
    if let Some(zone) = node.zone {
        merge(&mut more, json!({"metadata": {"labels": {ZONE: format!("zone-{zone}")}}}));
    }
    if node.tainted {
        merge(&mut more, json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
    }
    cluster.node(&at.to_string(), more);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A pod is placed exactly if some node will do, on one that will do, and with a score that no other node beats: as if
    /// nothing had been known of the pods before.
    #[test]
    fn a_pod_goes_to_the_best_of_the_nodes_that_will_do(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        let (mut cluster, mut judge) = (TestCluster::new(), Judge::default());
        cluster.scheduler = Scheduler::new(vec![Profile::of_defaults("default-scheduler")], seed);
        for at in 0..3 {
            let node = Node { zone: Some(at), cpu: 4, tainted: false };
            judge.nodes.insert(at, node);
            put(&mut cluster, at, node);
        }
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Node(at, node) => {
                    judge.nodes.insert(at, node);
                    put(&mut cluster, at, node);
                }
                Step::NoNode(at) => {
                    judge.nodes.remove(&at);
                    cluster.snapshot.remove_node(&at.to_string());
                }
                Step::Remove(index) => {
                    if !judge.pods.is_empty() {
                        let (name, ..) = judge.pods.swap_remove(index.index(judge.pods.len()));
                        cluster.snapshot.remove_pod(&name);
                    }
                }
                Step::Schedule(asked) => {
                    let name = number.to_string();
                    let pod = cluster.pending(&name, object(asked));
                    let fitting: Vec<usize> =
                        judge.nodes.keys().copied().filter(|at| judge.fits(*at, asked)).collect();
                    let opinions = cluster.scheduler.explain(&cluster.snapshot, &pod, 0);
                    match cluster.decide(&pod) {
                        Decision::Placed(placement) => {
                            let node: usize = cluster.snapshot.node_name(placement.node).parse().unwrap();
                            prop_assert!(fitting.contains(&node), "{:?} on {}", asked, node);
                            prop_assert_eq!(placement.feasible, fitting.len());
                            let scores = opinions.iter().filter_map(|opinion| opinion.verdict.as_ref().ok());
                            let totals = scores.map(|scores| scores.iter().map(|score| score.weighted).sum::<i64>());
                            prop_assert_eq!(Some(placement.total), totals.max());
                            cluster.snapshot.assume(&pod, placement.node, &placement.claims);
                            judge.pods.push((name, node, asked));
                        }
                        Decision::Refused(refused) => {
                            prop_assert!(fitting.is_empty(), "{:?} fits {:?}: {}", asked, fitting, refused.message());
                            prop_assert_eq!(refused.by_node.len(), judge.nodes.len());
                        }
                    }
                }
            }
        }
    }

    /// Pods that are alike, decided on together, end as if each had been decided on by somebody who knew nothing.
    #[test]
    fn pods_that_are_alike_are_placed_as_one_by_one(
        kind in prop::sample::select(&KINDS[..]),
        count in 1..12usize,
        cpus in prop::collection::vec(1..6i64, 1..5),
        seed in any::<u64>(),
    ) {
        let build = || {
            let mut cluster = TestCluster::new();
            for (at, cpu) in cpus.iter().enumerate() {
                put(&mut cluster, at, Node { zone: Some(at % 2), cpu: *cpu, tainted: false });
            }
            cluster
        };
        let pods = |cluster: &mut TestCluster| {
            let one = |at: usize| cluster.pending(&at.to_string(), object(Pod { kind, cpu: 1 }));
            (0..count).map(one).collect::<Vec<_>>()
        };
        let scheduler = || Scheduler::new(vec![Profile::of_defaults("default-scheduler")], seed);
        let mut together = build();
        let all = pods(&mut together);
        let decisions = scheduler().decide_and_assume(&mut together.snapshot, &all, 0);
        let mut apart = build();
        for (pod, decision) in pods(&mut apart).iter().zip(decisions) {
            let best = scheduler().explain(&apart.snapshot, pod, 0);
            let total = best.first().and_then(|opinion| opinion.verdict.as_ref().ok());
            let total = total.map(|scores| scores.iter().map(|score| score.weighted).sum::<i64>());
            prop_assert_eq!(decision.placement().map(|placement| placement.total), total);
            if let Some(placement) = decision.placement() {
                // Among equals either may go first; the rest follows from there.
                let name = together.snapshot.node_name(placement.node);
                let node = apart.snapshot.node(name).unwrap();
                apart.snapshot.assume(pod, node, &placement.claims);
            }
        }
    }
}
