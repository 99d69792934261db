//! Endpoints of services, and what becomes of those without one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plan::Propagation;
use crate::simulation::World;

fn world() -> World {
    let mut world = World::new(1);
    world.run(LegacyEndpoints::default);
    world
}

fn service(world: &mut World, change: Value) {
    let mut service = json!({
        "metadata": {"namespace": "ns", "name": "s", "labels": {"l": "v"}},
        "spec": {
            "selector": {"app": "a"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}],
        },
    });
    barque_api::patch::merge::merge(&mut service, change);
    world.create::<Service>(service);
}

fn pod(world: &mut World, name: &str, ip: &str, ready: bool) {
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [
            {"name": "web", "containerPort": 8080, "protocol": "TCP"},
        ]}]},
    }));
    let ready = if ready { "True" } else { "False" };
    let status = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}],
    });
    world.edit::<Pod>("ns", name, |pod| pod.status = Some(serde_json::from_value(status).unwrap()));
}

fn settle(world: &mut World) {
    world.let_pass(std::time::Duration::from_secs(1));
}

fn stored(world: &World) -> Value {
    serde_json::to_value(world.api.get::<Endpoints>("ns", "s").unwrap()).unwrap()
}

#[test]
fn ready_pods_and_others_are_told_apart() {
    let mut world = world();
    pod(&mut world, "a", "10.1.0.1", true);
    pod(&mut world, "b", "10.1.0.2", false);
    service(&mut world, json!({}));
    settle(&mut world);
    let there = stored(&world);
    assert_eq!(
        there["metadata"]["labels"],
        json!({"l": "v", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );
    let subset = &there["subsets"][0];
    assert_eq!(subset["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let uid = world.api.get::<Pod>("ns", "a").unwrap().uid().to_owned();
    let target = json!({"kind": "Pod", "namespace": "ns", "name": "a", "uid": uid});
    assert_eq!(subset["addresses"], json!([{"ip": "10.1.0.1", "nodeName": "n", "targetRef": target}]));
    assert_eq!(subset["notReadyAddresses"][0]["ip"], "10.1.0.2");
    world.api.delete::<Pod>(&Key::new("ns", "a"), Propagation::Background, Some(30));
    settle(&mut world);
    assert_eq!(stored(&world)["subsets"][0]["addresses"], Value::Null, "who goes is not told");
}

#[test]
fn a_service_that_publishes_all_has_all_as_ready_ones() {
    let mut world = world();
    pod(&mut world, "b", "10.1.0.2", false);
    service(
        &mut world,
        json!({"spec": {"publishNotReadyAddresses": true, "clusterIP": "None", "ports": null}}),
    );
    settle(&mut world);
    let there = stored(&world);
    assert_eq!(there["subsets"][0]["addresses"][0]["ip"], "10.1.0.2");
    assert_eq!(there["subsets"][0]["ports"], Value::Null);
    assert_eq!(there["metadata"]["labels"]["service.kubernetes.io/headless"], "");
}

#[test]
fn what_users_made_stays_until_their_service_goes() {
    let mut world = world();
    world.create::<Endpoints>(json!({"metadata": {"namespace": "ns", "name": "s"}}));
    settle(&mut world);
    assert!(world.api.get::<Endpoints>("ns", "s").is_some(), "it never had a service");
    service(&mut world, json!({"spec": {"selector": null}}));
    settle(&mut world);
    assert_eq!(stored(&world)["metadata"]["labels"], Value::Null, "the service does not select");
    world.api.delete::<Service>(&Key::new("ns", "s"), Propagation::Background, Some(0));
    settle(&mut world);
    assert!(world.api.get::<Endpoints>("ns", "s").is_none());
}

#[test]
fn what_a_service_left_behind_while_nobody_watched_goes() {
    let mut world = world();
    pod(&mut world, "a", "10.1.0.1", true);
    service(&mut world, json!({}));
    settle(&mut world);
    world.api.delete::<Service>(&Key::new("ns", "s"), Propagation::Background, Some(0));
    world.restart();
    settle(&mut world);
    assert!(world.api.get::<Endpoints>("ns", "s").is_none());
}

#[test]
fn no_more_than_a_thousand_are_told_the_ready_ones_first() {
    let subset = |ready: usize, other: usize| {
        let list = |from: usize, count: usize| -> Vec<Value> {
            (from..from + count)
                .map(|number| json!({"ip": format!("10.0.{}.{}", number / 250, number % 250)}))
                .collect()
        };
        json!({"addresses": list(0, ready), "notReadyAddresses": list(10_000, other)})
    };
    let check = |subsets: Value, over: bool, expected: &[(usize, usize)]| {
        let mut subsets: Vec<EndpointSubset> = serde_json::from_value(subsets).unwrap();
        assert_eq!(subsets::truncate(&mut subsets), over);
        let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
        let counts: Vec<_> =
            subsets.iter().map(|it| (count(&it.addresses), count(&it.not_ready_addresses))).collect();
        assert_eq!(counts, expected);
    };
    check(json!([subset(600, 400)]), false, &[(600, 400)]);
    check(json!([subset(600, 500)]), true, &[(600, 400)]);
    check(json!([subset(1500, 500)]), true, &[(1000, 0)]);
    check(json!([subset(1500, 0), subset(500, 9)]), true, &[(750, 0), (250, 0)]);
    check(json!([subset(1000, 1)]), true, &[(1000, 0)]);
}

fn some_subsets() -> impl Strategy<Value = Vec<EndpointSubset>> {
    let addresses = || prop::collection::vec(0u8..6, 0..4);
    let subset = (addresses(), addresses(), prop::collection::vec(1i32..4, 0..3));
    prop::collection::vec(subset, 0..5).prop_map(|all| {
        let address = |number: u8| json!({"ip": format!("10.0.0.{number}")});
        let subset = |(ready, other, ports): (Vec<u8>, Vec<u8>, Vec<i32>)| {
            let list = |all: Vec<u8>| all.into_iter().map(address).collect::<Vec<_>>();
            let ports: Vec<_> =
                ports.into_iter().map(|port| json!({"port": port, "protocol": "TCP"})).collect();
            let subset = json!({"addresses": list(ready), "notReadyAddresses": list(other), "ports": ports});
            serde_json::from_value(subset).unwrap()
        };
        all.into_iter().map(subset).collect()
    })
}

/// Each address with each port, and whether it is ready.
fn pairs(subsets: &[EndpointSubset]) -> std::collections::BTreeMap<(String, i32), bool> {
    let mut pairs = std::collections::BTreeMap::new();
    for subset in subsets {
        let ports: Vec<_> = subset.ports.iter().flatten().map(|port| port.port).collect();
        let ports = if ports.is_empty() { vec![0] } else { ports };
        for (list, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            for address in list.iter().flatten() {
                for port in &ports {
                    *pairs.entry((address.ip.clone(), *port)).or_insert(ready) &= ready;
                }
            }
        }
    }
    pairs
}

proptest! {
    #[test]
    fn the_one_form_tells_the_same_and_stays(subsets in some_subsets()) {
        let packed = subsets::repack(&subsets);
        prop_assert_eq!(pairs(&packed), pairs(&subsets));
        prop_assert_eq!(subsets::repack(&packed), packed);
    }
}
