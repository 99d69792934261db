//! Pods near, far and evenly spread.

use serde_json::{Value, json};

use super::{labels, merged, refused, zone};
use crate::plugins::Plugin;
use crate::pod::{HOSTNAME, ZONE};
use crate::test_cluster::{TestCluster, merge};

fn far(key: &str, more: Value) -> Value {
    let mut term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}});
    merge(&mut term, more);
    json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
}

fn near(key: &str, more: Value) -> Value {
    let mut pod = far(key, more);
    let affinity = pod["spec"]["affinity"].as_object_mut().unwrap();
    let terms = affinity.remove("podAntiAffinity").unwrap();
    affinity.insert("podAffinity".to_owned(), terms);
    pod
}

fn web() -> Value {
    labels(json!({"app": "web"}))
}

/// Two zones, of which x has a pod of web.
fn zones() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.node("a", zone("x"));
    cluster.node("b", zone("x"));
    cluster.node("c", zone("y"));
    cluster.running("web", "a", web());
    cluster
}

#[test]
fn pods_stay_away_from_others_and_others_from_them() {
    let mut cluster = zones();
    assert_eq!(cluster.answer("p", far(ZONE, json!({}))), "c");
    cluster.running("web-2", "c", web());
    assert_eq!(
        cluster.answer("q", far(ZONE, json!({}))),
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."
    );
    assert_eq!(cluster.answer("q", far(HOSTNAME, json!({}))), "b");
    cluster.running("lonely", "b", far(HOSTNAME, json!({})));
    cluster.snapshot.remove_node("a");
    cluster.snapshot.remove_node("c");
    assert_eq!(
        cluster.answer("web-3", web()),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    );
    cluster.snapshot.remove_pod("lonely");
    assert_eq!(cluster.answer("web-3", web()), "b");
}

#[test]
fn pods_want_to_be_near_others_and_the_first_one_near_itself() {
    let mut cluster = zones();
    assert!(["a", "b"].contains(&cluster.answer("p", near(ZONE, json!({}))).as_str()));
    assert_eq!(cluster.answer("p", near(HOSTNAME, json!({}))), "a");
    cluster.snapshot.remove_pod("web");
    assert_eq!(
        cluster.answer("q", near(ZONE, json!({}))),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
    );
    let mut first = near(ZONE, json!({}));
    merge(&mut first, web());
    assert_eq!(cluster.answer("r", first.clone()).len(), 1);
    // Not where the label is missing.
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    assert_eq!(cluster.answer("r", first), refused("1 node(s) didn't match pod affinity rules"));
}

#[test]
fn all_affinity_terms_must_mean_the_same_pod() {
    let mut cluster = zones();
    let mut pod = near(ZONE, json!({}));
    let terms = &mut pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let other = json!({"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"tier": "front"}}});
    terms.as_array_mut().unwrap().push(other);
    cluster.running("front", "b", labels(json!({"tier": "front"})));
    assert_eq!(
        cluster.answer("p", pod.clone()),
        "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."
    );
    cluster.running("both", "c", labels(json!({"app": "web", "tier": "front"})));
    assert_eq!(cluster.answer("p", pod), "c");
}

#[test]
fn namespaces_are_meant_by_name_or_by_label() {
    let mut cluster = zones();
    let elsewhere = |more: Value| {
        let mut pod = far(ZONE, more);
        merge(&mut pod, json!({"metadata": {"namespace": "other"}}));
        pod
    };
    let by_label = || json!({"namespaceSelector": {"matchLabels": {"team": "a"}}});
    // Its own namespace has no pods of web.
    let free = |answer: String| ["a", "b", "c"].contains(&answer.as_str());
    assert!(free(cluster.answer("p", elsewhere(json!({})))));
    assert_eq!(cluster.answer("p", elsewhere(json!({"namespaces": ["default"]}))), "c");
    assert_eq!(cluster.answer("p", elsewhere(json!({"namespaceSelector": {}}))), "c");
    for _ in 0..20 {
        // All will do; one in x would be chosen soon.
        assert!(free(cluster.answer("p", elsewhere(by_label()))));
    }
    cluster.namespace("default", json!({"team": "a"}));
    for _ in 0..20 {
        assert_eq!(cluster.answer("p", elsewhere(by_label())), "c");
    }
    cluster.namespace("default", json!({"team": "b"}));
    let opinions = {
        let pod = cluster.pending("p", elsewhere(by_label()));
        cluster.scheduler.explain(&cluster.snapshot, &pod, 0)
    };
    assert!(opinions.iter().all(|opinion| opinion.verdict.is_ok()));
}

#[test]
fn wishes_to_be_near_or_far_are_scored_both_ways() {
    let wish = |kind: &str| {
        let term = json!({"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}}});
        let wishes = json!([{"weight": 10, "podAffinityTerm": term}]);
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": wishes}}}})
    };
    let mut cluster = zones();
    assert!(["a", "b"].contains(&cluster.answer("p", wish("podAffinity")).as_str()));
    assert_eq!(cluster.answer("p", wish("podAntiAffinity")), "c");
    // The same of pods that are there.
    cluster.snapshot.remove_pod("web");
    cluster.running("likes", "c", wish("podAffinity"));
    assert_eq!(cluster.answer("q", web()), "c");
    cluster.snapshot.remove_pod("likes");
    cluster.running("dislikes", "c", wish("podAntiAffinity"));
    assert_ne!(cluster.answer("q", web()), "c");
    cluster.snapshot.remove_pod("dislikes");
    cluster.running("needs", "c", near(ZONE, json!({})));
    assert_eq!(cluster.answer("q", web()), "c");
}

fn spread(skew: i32, key: &str, when: &str, more: Value) -> Value {
    let mut constraint = json!({"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}});
    merge(&mut constraint, more);
    let mut pod = web();
    merge(&mut pod, json!({"spec": {"topologySpreadConstraints": [constraint]}}));
    pod
}

#[test]
fn hard_spreading_holds() {
    let mut cluster = zones();
    let hard = |more| spread(1, ZONE, "DoNotSchedule", more);
    assert_eq!(cluster.answer("p", hard(json!({}))), "c");
    cluster.node("c", merged(zone("y"), json!({"spec": {"unschedulable": true}})));
    assert_eq!(
        cluster.answer("p", hard(json!({}))),
        "0/3 nodes are available: 1 node(s) were unschedulable, \
         2 node(s) didn't match pod topology spread constraints."
    );
    // Cordoned nodes count, unless taints are honoured.
    let taint = json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    cluster.node("c", merged(zone("y"), json!({"spec": {"unschedulable": true, "taints": [taint]}})));
    assert!(["a", "b"].contains(&cluster.answer("p", hard(json!({"nodeTaintsPolicy": "Honor"}))).as_str()));
    // A node without the label.
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    assert_eq!(
        cluster.answer("p", hard(json!({}))),
        refused("1 node(s) didn't match pod topology spread constraints (missing required label)")
    );
}

#[test]
fn too_few_domains_count_as_an_empty_one() {
    let mut cluster = zones();
    cluster.running("web-2", "c", web());
    let with = |domains: i32| spread(1, ZONE, "DoNotSchedule", json!({"minDomains": domains}));
    assert_eq!(cluster.answer("p", with(2)).len(), 1);
    assert_eq!(
        cluster.answer("p", with(3)),
        "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn only_nodes_that_the_pod_may_run_on_make_domains() {
    let mut cluster = zones();
    let selector = json!({"spec": {"nodeSelector": {ZONE: "x"}}});
    let honor = merged(spread(1, ZONE, "DoNotSchedule", json!({})), selector.clone());
    assert!(["a", "b"].contains(&cluster.answer("p", honor).as_str()));
    let ignore = spread(1, ZONE, "DoNotSchedule", json!({"nodeAffinityPolicy": "Ignore"}));
    assert_eq!(
        cluster.answer("p", merged(ignore, selector)),
        "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, \
         2 node(s) didn't match pod topology spread constraints."
    );
}

#[test]
fn pods_that_go_do_not_count_for_spreading() {
    let mut cluster = zones();
    cluster.running(
        "web",
        "a",
        merged(web(), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
    );
    let pod = cluster.pending("p", spread(1, ZONE, "DoNotSchedule", json!({})));
    assert!(cluster.scheduler.explain(&cluster.snapshot, &pod, 0).iter().all(|one| one.verdict.is_ok()));
}

#[test]
fn soft_spreading_is_scored() {
    let mut cluster = zones();
    assert_eq!(cluster.answer("p", spread(1, ZONE, "ScheduleAnyway", json!({}))), "c");
    assert_ne!(cluster.answer("p", spread(1, HOSTNAME, "ScheduleAnyway", json!({}))), "a");
    // Two zones: ln(2 + 2) for the pod in x, nothing for y.
    let pod = cluster.pending("q", spread(1, ZONE, "ScheduleAnyway", json!({})));
    let opinions = cluster.scheduler.explain(&cluster.snapshot, &pod, 0);
    let seen: Vec<_> = opinions
        .iter()
        .map(|one| {
            let scores = one.verdict.as_ref().unwrap();
            let score = scores.iter().find(|score| score.plugin == Plugin::PodTopologySpread).unwrap();
            (cluster.snapshot.node_name(one.node), score.raw, score.normalized)
        })
        .collect();
    assert_eq!(seen[0], ("c", 0, 100));
    assert!(seen[1..].iter().all(|(_, raw, normalized)| (*raw, *normalized) == (1, 0)), "{seen:?}");
}

#[test]
fn pods_of_a_service_are_spread_by_default() {
    let mut cluster = zones();
    let labels = [("app".to_owned(), "web".to_owned())].into();
    cluster.workloads.put_service("default", "web", Some(&labels));
    assert_eq!(cluster.answer("p", web()), "c");
}
