//! Every plugin by itself: each of its answers once.

mod neighbours;
mod storage;

use serde_json::{Value, json};

use crate::decision::Decision;
use crate::plugins::Plugin;
use crate::pod::{HOSTNAME, ZONE};
use crate::profile::{Profile, ScoredResource, Strategy};
use crate::test_cluster::{TestCluster, merge, requests};

/// The answer of a cluster with one node, `n`.
fn one_node(node: Value, pod: Value) -> String {
    let mut cluster = TestCluster::new();
    cluster.node("n", node);
    cluster.answer("p", pod)
}

fn refused(reason: &str) -> String {
    format!("0/1 nodes are available: {reason}.")
}

fn labels(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

fn zone(zone: &str) -> Value {
    labels(json!({ZONE: zone}))
}

#[test]
fn cordoned_nodes_are_for_those_that_tolerate_it() {
    let cordoned = || json!({"spec": {"unschedulable": true}});
    assert_eq!(one_node(cordoned(), json!({})), refused("1 node(s) were unschedulable"));
    let toleration = json!({"key": "node.kubernetes.io/unschedulable", "operator": "Exists"});
    assert_eq!(one_node(cordoned(), json!({"spec": {"tolerations": [toleration]}})), "n");
}

#[test]
fn untolerated_taints_are_told_with_key_and_value() {
    let taint = |effect: &str| json!({"spec": {"taints": [{"key": "a", "value": "b", "effect": effect}]}});
    let words = refused("1 node(s) had untolerated taint {a: b}");
    for (effect, answer) in [("NoSchedule", &*words), ("NoExecute", &*words), ("PreferNoSchedule", "n")] {
        assert_eq!(one_node(taint(effect), json!({})), answer, "{effect}");
    }
}

#[test]
fn preferred_taints_and_labels_decide_between_nodes() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({"spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}}));
    cluster.node("b", json!({}));
    assert_eq!(cluster.answer("p", json!({})), "b");
    let preference = json!({"weight": 5, "preference": {"matchExpressions": [
        {"key": HOSTNAME, "operator": "In", "values": ["a"]}]}});
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}});
    // The taint counts 3, the preference 2.
    let pod = cluster.pending("q", json!({"spec": {"affinity": affinity}}));
    let Decision::Placed(placement) = cluster.decide(&pod) else { panic!() };
    let score = |plugin| placement.scores.iter().find(|score| score.plugin == plugin).unwrap();
    assert_eq!(cluster.snapshot.node_name(placement.node), "b");
    assert_eq!(score(Plugin::TaintToleration).weighted, 300);
    let toleration = json!({"key": "a", "operator": "Exists"});
    let spec = json!({"spec": {"affinity": affinity, "tolerations": [toleration]}});
    assert_eq!(cluster.answer("r", spec), "a");
}

#[test]
fn labels_of_nodes_must_match() {
    let selector = |zone: &str| json!({"spec": {"nodeSelector": {ZONE: zone}}});
    assert_eq!(one_node(zone("x"), selector("x")), "n");
    assert_eq!(
        one_node(zone("x"), selector("y")),
        refused("1 node(s) didn't match Pod's node affinity/selector")
    );
}

#[test]
fn a_profile_adds_to_affinity() {
    let mut profile = Profile::of_defaults("default-scheduler");
    let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]});
    profile.added_affinity.required =
        Some(crate::pod::NodeTerms::of(&serde_json::from_value(terms).unwrap()));
    let mut cluster = TestCluster::with(profile);
    cluster.node("a", json!({}));
    let words = refused("1 node(s) didn't match scheduler-enforced node affinity");
    assert_eq!(cluster.answer("p", json!({})), words);
    cluster.node("b", labels(json!({"gpu": "yes"})));
    assert_eq!(cluster.answer("p", json!({})), "b");
}

#[test]
fn pods_that_name_nodes_are_only_tried_there() {
    let named = |names: &[&str]| {
        let fields: Vec<_> = names
            .iter()
            .map(|name| json!({"key": "metadata.name", "operator": "In", "values": [name]}))
            .collect();
        let required = json!({"nodeSelectorTerms": [{"matchFields": fields}]});
        json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": required}}}})
    };
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    cluster.node("b", json!({"status": {"allocatable": {"cpu": "100m"}}}));
    cluster.node("c", json!({}));
    assert_eq!(cluster.answer("p", named(&["c"])), "c");
    assert_eq!(
        cluster.answer("q", named(&["b"])),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    assert_eq!(
        cluster.answer("r", named(&["a", "b"])),
        "0/3 nodes are available: pod affinity terms conflict."
    );
}

#[test]
fn a_pod_with_a_node_of_its_own_goes_nowhere_else() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    let named = json!({"spec": {"nodeName": "b"}});
    assert_eq!(cluster.answer("p", named.clone()), refused("1 node(s) didn't match the requested node name"));
    cluster.node("b", json!({}));
    assert_eq!(cluster.answer("p", named), "b");
}

#[test]
fn ports_are_had_by_one_pod() {
    let port = |port: u16| {
        let ports = json!([{"containerPort": 80, "hostPort": port}]);
        json!({"spec": {"containers": [{"name": "c", "image": "app", "ports": ports}]}})
    };
    let mut cluster = TestCluster::new();
    cluster.node("n", json!({}));
    cluster.running("a", "n", port(80));
    assert_eq!(cluster.answer("p", port(81)), "n");
    assert_eq!(
        cluster.answer("q", port(80)),
        refused("1 node(s) didn't have free ports for the requested pod ports")
    );
    cluster.snapshot.remove_pod("a");
    assert_eq!(cluster.answer("q", port(80)), "n");
}

#[test]
fn resources_must_be_enough() {
    let table = [
        (json!({"cpu": "4", "memory": "8Gi"}), "n".to_owned()),
        (json!({"cpu": "4001m"}), refused("1 Insufficient cpu")),
        (json!({"cpu": "5", "memory": "9Gi"}), refused("1 Insufficient cpu, 1 Insufficient memory")),
        (json!({"ephemeral-storage": "1"}), refused("1 Insufficient ephemeral-storage")),
        (json!({"example.com/gpu": "1"}), "n".to_owned()),
        (json!({"example.com/gpu": "2"}), refused("1 Insufficient example.com/gpu")),
        (json!({"example.com/none": "1"}), refused("1 Insufficient example.com/none")),
    ];
    for (asked, answer) in table {
        let node = json!({"status": {"allocatable": {"example.com/gpu": "1"}}});
        assert_eq!(one_node(node, requests(asked.clone())), answer, "{asked}");
    }
    let node = json!({"status": {"allocatable": {"pods": "0"}}});
    assert_eq!(one_node(node, json!({})), refused("1 Too many pods"));
}

#[test]
fn what_no_eviction_can_give_is_not_resolvable() {
    let mut cluster = TestCluster::new();
    cluster.node("n", json!({}));
    cluster.running("a", "n", requests(json!({"cpu": "3"})));
    for (cpu, resolvable) in [("2", true), ("5", false)] {
        let pod = cluster.pending(cpu, requests(json!({"cpu": cpu})));
        let decision = cluster.decide(&pod);
        assert_eq!(decision.refused().unwrap().resolvable().count() == 1, resolvable, "{cpu}");
    }
}

#[test]
fn ignored_resources_need_not_be_enough() {
    let mut profile = Profile::of_defaults("default-scheduler");
    profile.fit.ignored_resources = vec!["a.com/x".into()];
    profile.fit.ignored_resource_groups = vec!["b.com".into()];
    let mut cluster = TestCluster::with(profile);
    cluster.node("n", json!({}));
    assert_eq!(cluster.answer("p", requests(json!({"a.com/x": "1", "b.com/y": "1"}))), "n");
    assert_eq!(cluster.answer("q", requests(json!({"a.com/z": "1"}))), refused("1 Insufficient a.com/z"));
}

/// The score of a plugin for the only node.
fn score(profile: Profile, node: Value, pod: Value, plugin: Plugin) -> i64 {
    let mut cluster = TestCluster::with(profile);
    cluster.node("n", node);
    let pod = cluster.pending("p", pod);
    let Decision::Placed(placement) = cluster.decide(&pod) else { panic!() };
    placement.scores.iter().find(|score| score.plugin == plugin).unwrap().raw
}

#[test]
fn strategies_score_as_upstream() {
    let shape = || Strategy::RequestedToCapacityRatio(vec![(0, 0), (50, 40), (100, 100)]);
    // 1 of 4 cores and 4 of 8 GiB are asked.
    let table = [
        (Strategy::LeastAllocated, vec![1, 1], (75 + 50) / 2),
        (Strategy::LeastAllocated, vec![3, 1], (3 * 75 + 50) / 4),
        (Strategy::MostAllocated, vec![1, 1], (25 + 50) / 2),
        // 25 % is half way to 40, 50 % is 40.
        (shape(), vec![1, 1], 30),
    ];
    for (strategy, weights, expected) in table {
        let mut profile = Profile::of_defaults("default-scheduler");
        let resources = ["cpu", "memory"].iter().zip(weights);
        profile.fit.resources =
            resources.map(|(name, weight)| ScoredResource { name: (*name).into(), weight }).collect();
        profile.fit.strategy = strategy.clone();
        let pod = requests(json!({"cpu": "1", "memory": "4Gi"}));
        assert_eq!(score(profile, json!({}), pod, Plugin::NodeResourcesFit), expected, "{strategy:?}");
    }
}

#[test]
fn pods_that_ask_for_nothing_are_scored_with_something_and_not_balanced() {
    let profile = || Profile::of_defaults("default-scheduler");
    let pod = || json!({"spec": {"containers": [{"name": "c", "image": "app"}]}});
    // 100m of 4 cores, 200 MiB of 8 GiB.
    assert_eq!(score(profile(), json!({}), pod(), Plugin::NodeResourcesFit), (97 + 97) / 2);
    assert_eq!(score(profile(), json!({}), pod(), Plugin::NodeResourcesBalancedAllocation), 0);
}

#[test]
fn balance_is_the_deviation() {
    let pod = requests(json!({"cpu": "1", "memory": "4Gi"}));
    let profile = Profile::of_defaults("default-scheduler");
    // A quarter and a half differ by a quarter, of which the deviation is half.
    assert_eq!(score(profile, json!({}), pod, Plugin::NodeResourcesBalancedAllocation), 87);
    let mut profile = Profile::of_defaults("default-scheduler");
    profile.balanced.push(ScoredResource { name: "a.com/x".into(), weight: 1 });
    let pod = requests(json!({"cpu": "1", "memory": "4Gi", "a.com/x": "3"}));
    let node = json!({"status": {"allocatable": {"a.com/x": "4"}}});
    // 0.25, 0.5 and 0.75.
    assert_eq!(score(profile, node, pod, Plugin::NodeResourcesBalancedAllocation), 79);
}

#[test]
fn images_count_by_size_and_by_how_many_nodes_have_them() {
    let profile = || Profile::of_defaults("default-scheduler");
    let node = |bytes: i64| json!({"status": {"images": [{"names": ["app:latest"], "sizeBytes": bytes}]}});
    let mib = 1024 * 1024;
    let table = [(10, 0), (23, 0), (1000, 100), (2000, 100), (500, 48)];
    for (size, expected) in table {
        let score = score(profile(), node(size * mib), json!({}), Plugin::ImageLocality);
        assert_eq!(score, expected, "{size}");
    }
    let mut cluster = TestCluster::new();
    cluster.node("a", node(500 * mib));
    cluster.node("b", json!({}));
    // Half of the nodes have it: half of its size counts.
    let pod = cluster.pending("p", json!({}));
    let Decision::Placed(placement) = cluster.decide(&pod) else { panic!() };
    assert_eq!(cluster.snapshot.node_name(placement.node), "a");
    let image = placement.scores.iter().find(|score| score.plugin == Plugin::ImageLocality).unwrap();
    assert_eq!(image.raw, 100 * (250 - 23) / (1000 - 23));
}

fn merged(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

#[test]
fn gates_are_told() {
    assert_eq!(crate::plugins::gated(&[]), None);
    let refusal = crate::plugins::gated(&["a".into(), "b".into()]).unwrap();
    assert_eq!(&*refusal.reasons[0], "waiting for scheduling gates: [a b]");
}

#[test]
fn plugins_that_are_off_do_not_speak() {
    let mut profile = Profile::of_defaults("default-scheduler");
    profile.filters = crate::plugins::PluginSet::default();
    profile.scores.retain(|(plugin, _)| *plugin == Plugin::ImageLocality);
    let mut cluster = TestCluster::with(profile);
    cluster.node("a", json!({"spec": {"unschedulable": true}}));
    let pod = cluster.pending("p", requests(json!({"cpu": "100"})));
    let decision = cluster.decide(&pod);
    let scores: Vec<_> = decision.placement().unwrap().scores.iter().map(|score| score.plugin).collect();
    assert_eq!(scores, [Plugin::ImageLocality]);
}
