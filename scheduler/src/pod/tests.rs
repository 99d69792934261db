//! Pods as they are compiled.

use serde_json::{Value, json};

use super::*;

fn compile(pod: Value, workloads: &Workloads) -> PodSpec {
    let defaults = DefaultSpread::of_system();
    let surroundings = Surroundings { workloads, default_spread: &defaults };
    PodSpec::of(&serde_json::from_value(pod).unwrap(), surroundings).unwrap()
}

fn pod(spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([]);
    }
    json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"app": "web", "rev": "1"}}, "spec": spec})
}

#[test]
fn images_without_a_tag_are_the_latest() {
    let table = [
        ("nginx", "nginx:latest"),
        ("nginx:1", "nginx:1"),
        ("registry:5000/nginx", "registry:5000/nginx:latest"),
        ("registry:5000/nginx:1", "registry:5000/nginx:1"),
        ("nginx@sha256:ab", "nginx@sha256:ab"),
    ];
    for (image, name) in table {
        assert_eq!(tagged(image), name);
    }
}

#[test]
fn host_ports_conflict_by_address_protocol_and_number() {
    let port = |ip: &str, protocol: &str, port| HostPort { ip: ip.into(), protocol: protocol.into(), port };
    let one = port("127.0.0.1", "TCP", 80);
    let table = [
        (port("127.0.0.1", "TCP", 80), true),
        (port("0.0.0.0", "TCP", 80), true),
        (port("127.0.0.2", "TCP", 80), false),
        (port("127.0.0.1", "UDP", 80), false),
        (port("127.0.0.1", "TCP", 81), false),
    ];
    for (other, conflicts) in table {
        assert_eq!((one.conflicts(&other), other.conflicts(&one)), (conflicts, conflicts), "{other:?}");
    }
}

#[test]
fn terms_mean_the_own_namespace_unless_they_say_which() {
    let term = |more: Value| {
        let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
        let compiled = compile(pod(json!({"affinity": {"podAffinity": required}})), &Workloads::default());
        compiled.terms.affinity[0].pods.clone()
    };
    assert_eq!(*term(json!({})).namespaces, ["ns".into()]);
    assert_eq!(*term(json!({"namespaces": ["b", "a"]})).namespaces, ["a".into(), "b".into()]);
    let everywhere = term(json!({"namespaceSelector": {}}));
    assert!(everywhere.namespaces.is_empty() && everywhere.namespace_selector.is_everything());
    let keyed = term(json!({"matchLabelKeys": ["rev", "none"], "mismatchLabelKeys": ["app"]}));
    assert_eq!(keyed.selector.to_string(), "app in (web),app notin (web),rev in (1)");
}

#[test]
fn spread_constraints_have_their_defaults() {
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["rev"]});
    let soft = json!({"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        "minDomains": 3, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"});
    let spec = json!({"topologySpreadConstraints": [constraint, soft]});
    let terms = compile(pod(spec), &Workloads::default()).terms;
    let [hard] = &*terms.hard_spread else { panic!("{terms:?}") };
    assert_eq!(hard.selector.to_string(), "app in (web),rev in (1)");
    assert_eq!((hard.min_domains, hard.honors_affinity, hard.honors_taints), (1, true, false));
    let [soft] = &*terms.soft_spread else { panic!("{terms:?}") };
    assert!(soft.selector.is_nothing());
    assert_eq!((soft.min_domains, soft.honors_affinity, soft.honors_taints), (3, false, true));
    assert!(terms.soft_spread_needs_all_keys);
}

#[test]
fn pods_of_a_service_or_controller_are_spread_by_default() {
    let mut workloads = Workloads::default();
    assert!(compile(pod(json!({})), &workloads).terms.is_empty());
    let labels = |value: &str| [("app".to_owned(), value.to_owned())].into();
    workloads.put_service("ns", "web", Some(&labels("web")));
    workloads.put_service("ns", "other", Some(&labels("db")));
    let terms = compile(pod(json!({})), &workloads).terms;
    let seen: Vec<_> = terms.soft_spread.iter().map(|it| (&*it.topology_key, it.max_skew)).collect();
    assert_eq!(seen, [(HOSTNAME, 3), (ZONE, 5)]);
    assert_eq!(terms.soft_spread[0].selector.to_string(), "app in (web)");
    assert!(!terms.soft_spread_needs_all_keys);

    let selector = serde_json::from_value(json!({"matchLabels": {"rev": "1"}})).unwrap();
    workloads.put_owner(OwnerKind::ReplicaSet, "ns", "rs", Some(&selector)).unwrap();
    let mut owned = pod(json!({}));
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}]);
    let terms = compile(owned, &workloads).terms;
    assert_eq!(terms.soft_spread[0].selector.to_string(), "app in (web),rev in (1)");
    workloads.remove_service("ns", "web");
    workloads.remove_owner(OwnerKind::ReplicaSet, "ns", "rs");
    assert!(compile(pod(json!({})), &workloads).terms.is_empty());
}

#[test]
fn ephemeral_claims_are_named_after_the_pod() {
    let spec = json!({"volumes": [
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ]});
    let volumes = compile(pod(spec), &Workloads::default()).volumes;
    let claims: Vec<_> = volumes.claims.iter().map(|claim| (&*claim.name, claim.ephemeral)).collect();
    assert_eq!(claims, [("data", false), ("p-b", true)]);
}
