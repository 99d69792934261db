//! A snapshot that was changed step by step equals one that was built from what is there in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::pod::{HOSTNAME, ZONE};
use crate::test_cluster::{TestCluster, merge, node, pod};

/// Pods of different kinds, some of them of one identity.
fn kind(kind: usize) -> Value {
    let web = |more: Value| {
        let mut pod = json!({"metadata": {"labels": {"app": "web"}}});
        merge(&mut pod, more);
        pod
    };
    let term = |key: &str, more: Value| {
        let mut term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}});
        merge(&mut term, more);
        term
    };
    let required = |term: Value| json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    let spread = |key: &str, when: &str, more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}});
        merge(&mut constraint, more);
        json!({"spec": {"topologySpreadConstraints": [constraint]}})
    };
    match kind {
        0 => json!({}),
        1 => web(json!({"spec": {"affinity": {"podAntiAffinity": required(term(HOSTNAME, json!({})))}}})),
        2 => web(json!({"spec": {"affinity": {"podAffinity": required(term(ZONE, json!({})))}}})),
        3 => web(spread(ZONE, "DoNotSchedule", json!({"nodeTaintsPolicy": "Honor"}))),
        4 => web(spread(HOSTNAME, "ScheduleAnyway", json!({}))),
        5 => {
            let term = term(ZONE, json!({"namespaceSelector": {"matchLabels": {"team": "a"}}}));
            let wishes = json!([{"weight": 7, "podAffinityTerm": term}]);
            let wish = json!({"preferredDuringSchedulingIgnoredDuringExecution": wishes});
            json!({"metadata": {"namespace": "other"}, "spec": {"affinity": {"podAntiAffinity": wish}}})
        }
        _ => {
            let ports = json!([{"containerPort": 80, "hostPort": 80}]);
            let asked = json!({"requests": {"cpu": "1", "example.com/gpu": "1"}});
            json!({"metadata": {"labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"containers": [{"name": "c", "image": "app", "ports": ports, "resources": asked}]}})
        }
    }
}
const KINDS: usize = 7;

#[derive(Clone, Debug)]
enum Step {
    Node { node: usize, zone: Option<usize>, tainted: bool, gpus: usize },
    NoNode { node: usize },
    Pod { pod: usize, kind: usize, node: usize },
    NoPod { pod: usize },
    Assume { pod: usize, kind: usize, node: usize },
    Bound { pod: usize },
    Forget { pod: usize },
    Pending { kind: usize },
    Namespace { labelled: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..4usize;
    let pod = 0..8usize;
    let kind = 0..KINDS;
    prop_oneof![
        3 => (node.clone(), prop::option::of(0..2usize), any::<bool>(), 0..3usize)
            .prop_map(|(node, zone, tainted, gpus)| Step::Node { node, zone, tainted, gpus }),
        1 => node.clone().prop_map(|node| Step::NoNode { node }),
        4 => (pod.clone(), kind.clone(), node.clone())
            .prop_map(|(pod, kind, node)| Step::Pod { pod, kind, node }),
        2 => pod.clone().prop_map(|pod| Step::NoPod { pod }),
        3 => (pod.clone(), kind.clone(), node).prop_map(|(pod, kind, node)| Step::Assume { pod, kind, node }),
        1 => pod.clone().prop_map(|pod| Step::Bound { pod }),
        1 => pod.prop_map(|pod| Step::Forget { pod }),
        2 => kind.prop_map(|kind| Step::Pending { kind }),
        1 => any::<bool>().prop_map(|labelled| Step::Namespace { labelled }),
    ]
}

fn node_name(node: usize) -> String {
    format!("node-{node}")
}

fn pod_name(pod: usize) -> String {
    format!("pod-{pod}")
}

fn node_of(at: usize, zone: Option<usize>, tainted: bool, gpus: usize) -> NodeSpec {
    let mut more = json!({"status": {"allocatable": {"example.com/gpu": gpus.to_string()}}});
    if let Some(zone) = zone {
        merge(&mut more, json!({"metadata": {"labels": {ZONE: format!("zone-{zone}")}}}));
    }
    if tainted {
        merge(&mut more, json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}));
    }
    node(&node_name(at), more)
}

/// What is there in the end.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<usize, NodeSpec>,
    pods: BTreeMap<usize, (usize, usize)>,
    assumed: BTreeSet<usize>,
    pending: BTreeSet<usize>,
    labelled: Option<bool>,
}

fn placed(cluster: &TestCluster, at: usize, which: usize, node: usize) -> PodSpec {
    let mut pod = pod(&pod_name(at), kind(which));
    pod["spec"]["nodeName"] = json!(node_name(node));
    cluster.compile(pod)
}

fn set_namespace(cluster: &mut TestCluster, labelled: bool) {
    cluster.namespace("default", if labelled { json!({"team": "a"}) } else { json!({}) });
}

fn run(cluster: &mut TestCluster, model: &mut Model, handles: &mut Vec<Arc<Pod>>, step: Step) {
    match step {
        Step::Node { node, zone, tainted, gpus } => {
            let spec = node_of(node, zone, tainted, gpus);
            cluster.snapshot.put_node(spec.clone());
            model.nodes.insert(node, spec);
        }
        Step::NoNode { node } => {
            cluster.snapshot.remove_node(&node_name(node));
            model.nodes.remove(&node);
        }
        Step::Pod { pod, kind, node } => {
            let spec = placed(cluster, pod, kind, node);
            cluster.snapshot.put_pod(spec);
            model.pods.insert(pod, (kind, node));
            model.assumed.remove(&pod);
        }
        Step::NoPod { pod } => {
            cluster.snapshot.remove_pod(&pod_name(pod));
            model.pods.remove(&pod);
            model.assumed.remove(&pod);
        }
        Step::Assume { pod, kind: which, node } => {
            let Some(id) = cluster.snapshot.node(&node_name(node)) else { return };
            let pending = cluster.pending(&pod_name(pod), kind(which));
            cluster.snapshot.assume(&pending, id, &ClaimPlan::default());
            model.pods.insert(pod, (which, node));
            model.assumed.insert(pod);
        }
        Step::Bound { pod } => {
            if model.assumed.remove(&pod) {
                let (kind, node) = model.pods[&pod];
                let spec = placed(cluster, pod, kind, node);
                cluster.snapshot.put_pod(spec);
            }
        }
        Step::Forget { pod } => {
            cluster.snapshot.forget(&pod_name(pod), &ClaimPlan::default());
            if model.assumed.remove(&pod) {
                model.pods.remove(&pod);
            }
        }
        Step::Pending { kind: which } => {
            handles.push(cluster.pending("pending", kind(which)));
            model.pending.insert(which);
        }
        Step::Namespace { labelled } => {
            set_namespace(cluster, labelled);
            model.labelled = Some(labelled);
        }
    }
}

/// Everything that decisions read, by name.
fn dump(snapshot: &Snapshot) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut nodes = BTreeMap::new();
    let columns = &snapshot.columns;
    for (node, spec) in columns.present() {
        let at = node.at();
        let amounts = |columns: &[Vec<i64>]| {
            let named = snapshot.columns.resource_names.iter().zip(columns);
            named
                .filter(|(_, column)| column[at] != 0)
                .map(|(name, column)| (name.clone(), column[at]))
                .collect()
        };
        let (offered, taken): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (amounts(&columns.allocatable), amounts(&columns.requested));
        let pods: BTreeSet<_> = snapshot.pods_on(node).map(|pod| pod.name.name.clone()).collect();
        let mut ports = columns.ports[at].clone();
        ports.sort_by_key(|port| format!("{port:?}"));
        let scored = (columns.scored_cpu_milli[at], columns.scored_memory[at]);
        // A resource is only looked for once somebody asked for it.
        let offered: BTreeMap<_, _> =
            offered.into_iter().filter(|(name, _)| taken.contains_key(name)).collect();
        nodes.insert(spec.name.to_string(), format!("{offered:?} {taken:?} {scored:?} {pods:?} {ports:?}"));
    }
    let mut counts = BTreeMap::new();
    let place = |key: KeyId, place: usize| {
        let (name, value) = snapshot.census.topology.names(key, place);
        if name.is_empty() { columns.names[place].to_string() } else { value.to_owned() }
    };
    let (counters, carried) = snapshot.census.all();
    for counter in counters {
        let all = counter.pods.iter().zip(&counter.nodes).enumerate();
        let told = all.filter(|(_, (pods, nodes))| **pods != 0 || **nodes != 0);
        let told: BTreeMap<_, _> = told.map(|(at, counts)| (place(counter.key, at), counts)).collect();
        counts.insert(format!("{:?}", counter.counted), format!("{told:?}"));
    }
    for one in carried {
        let all = one.amounts.iter().enumerate().filter(|(_, amount)| **amount != 0);
        let told: BTreeMap<_, _> = all.map(|(at, amount)| (place(one.key, at), amount)).collect();
        counts.insert(format!("{:?} {:?}", one.carry, one.term), format!("{told:?} {}", one.carriers));
    }
    (nodes, counts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_snapshot_equals_one_built_afresh(steps in prop::collection::vec(step(), 0..60), sweep in any::<bool>()) {
        let (mut cluster, mut model, mut handles) = (TestCluster::new(), Model::default(), Vec::new());
        for step in steps {
            run(&mut cluster, &mut model, &mut handles, step);
        }
        if sweep {
            handles.clear();
            cluster.snapshot.sweep();
            for kind in std::mem::take(&mut model.pending) {
                run(&mut cluster, &mut model, &mut handles, Step::Pending { kind });
            }
        }
        prop_assert!(cluster.snapshot.census.is_consistent());
        let mut fresh = TestCluster::new();
        if let Some(labelled) = model.labelled {
            set_namespace(&mut fresh, labelled);
        }
        for spec in model.nodes.into_values() {
            fresh.snapshot.put_node(spec);
        }
        for (pod, (kind, node)) in model.pods {
            let spec = placed(&fresh, pod, kind, node);
            fresh.snapshot.put_pod(spec);
        }
        let again: Vec<_> = model.pending.into_iter().map(|which| fresh.pending("pending", kind(which))).collect();
        let ((nodes, counts), (fresh_nodes, fresh_counts)) = (dump(&cluster.snapshot), dump(&fresh.snapshot));
        prop_assert_eq!(nodes, fresh_nodes);
        // Terms that nobody has any more may be counted until they are swept.
        for (counted, told) in fresh_counts {
            prop_assert_eq!(counts.get(&counted), Some(&told), "{}", counted);
        }
        drop(again);
    }
}

#[test]
fn what_nobody_asks_any_more_is_not_counted_for_ever() {
    let mut cluster = TestCluster::new();
    cluster.node("n", json!({}));
    for at in 0..2000 {
        let mut pod = kind(3);
        merge(&mut pod, json!({"metadata": {"labels": {"number": at.to_string()}}}));
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"] =
            json!({"matchLabels": {"number": at.to_string()}});
        cluster.pending("p", pod);
    }
    let (counters, _) = cluster.snapshot.census.all();
    assert!(counters.count() < 600);
}

#[test]
fn pods_that_ended_take_nothing() {
    let mut cluster = TestCluster::new();
    let node = cluster.node("n", json!({}));
    cluster.running("p", "n", json!({}));
    assert_eq!((cluster.snapshot.pods(), cluster.snapshot.pods_on(node).count()), (1, 1));
    cluster.running("p", "n", json!({"status": {"phase": "Succeeded"}}));
    assert_eq!((cluster.snapshot.pods(), cluster.snapshot.pods_on(node).count()), (0, 0));
}

#[test]
fn a_pod_that_was_seen_bound_is_not_forgotten() {
    let mut cluster = TestCluster::new();
    let node = cluster.node("n", json!({}));
    let pod = cluster.pending("p", json!({}));
    cluster.snapshot.assume(&pod, node, &ClaimPlan::default());
    assert_eq!(cluster.snapshot.placement("p"), Some((node, true)));
    cluster.running("p", "n", json!({}));
    cluster.snapshot.forget("p", &ClaimPlan::default());
    assert_eq!(cluster.snapshot.placement("p"), Some((node, false)));
}

#[test]
fn changes_are_told_until_they_are_too_many() {
    let mut cluster = TestCluster::new();
    let start = cluster.snapshot.change_count();
    let node = cluster.node("n", json!({}));
    assert_eq!(cluster.snapshot.changed_since(start), Some(&[node][..]));
    let seen = cluster.snapshot.change_count();
    // What is the same is no change.
    cluster.node("n", json!({}));
    assert_eq!(cluster.snapshot.changed_since(seen), Some(&[][..]));
    for _ in 0..1000 {
        cluster.running("p", "n", json!({}));
        cluster.snapshot.remove_pod("p");
    }
    assert_eq!(cluster.snapshot.changed_since(seen), None);
}
