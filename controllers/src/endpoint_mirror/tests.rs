//! Endpoints of users and their mirrors.

use serde_json::{Value, json};

use super::*;
use crate::plan::Propagation;
use crate::simulation::World;

fn world(max: usize) -> World {
    let mut world = World::new(1);
    world.run_with(move |_| Mirror::new(max));
    world.create::<Service>(json!({"metadata": {"namespace": "ns", "name": "s"}, "spec": {"ports": []}}));
    world
}

fn settle(world: &mut World) {
    world.let_pass(std::time::Duration::from_secs(1));
}

fn endpoints(world: &mut World, change: Value) {
    let mut endpoints = json!({
        "metadata": {
            "namespace": "ns", "name": "s", "labels": {"l": "v"},
            "annotations": {
                "a": "b", "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        },
        "subsets": [{
            "addresses": [{"ip": "10.0.0.1", "hostname": "h"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "n"}],
            "ports": [{"name": "p", "port": 80, "protocol": "TCP"}],
        }],
    });
    barque_api::patch::merge::merge(&mut endpoints, change);
    world.create::<Endpoints>(endpoints);
}

#[test]
fn endpoints_are_mirrored_and_followed() {
    let mut world = world(1000);
    endpoints(&mut world, json!({}));
    settle(&mut world);
    let slices: Vec<EndpointSlice> = world.api.all();
    assert_eq!(slices.len(), 2, "one of each family");
    let four = serde_json::to_value(slices.iter().find(|it| it.address_type == "IPv4").unwrap()).unwrap();
    assert_eq!(four["ports"], json!([{"name": "p", "port": 80, "protocol": "TCP"}]));
    let expected = json!([
        {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "hostname": "h"},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "nodeName": "n"},
    ]);
    assert_eq!(four["endpoints"], expected);
    let labels = json!({
        "l": "v", "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    });
    assert_eq!(four["metadata"]["labels"], labels);
    assert_eq!(four["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(four["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    let name = four["metadata"]["name"].as_str().unwrap();
    // Other ports: the same slices.
    world.edit::<Endpoints>("ns", "s", |it| {
        it.subsets.as_mut().unwrap()[0].ports.as_mut().unwrap()[0].port = 81;
    });
    settle(&mut world);
    let changed: EndpointSlice = world.api.get("ns", name).unwrap();
    assert_eq!(changed.ports.unwrap()[0].port, Some(81));
    assert_eq!(world.api.all::<EndpointSlice>().len(), 2);
    world.edit::<Service>("ns", "s", |it| {
        it.spec.as_mut().unwrap().selector = Some([("a".to_owned(), "b".to_owned())].into());
    });
    settle(&mut world);
    assert!(world.api.all::<EndpointSlice>().is_empty(), "the service selects now");
}

#[test]
fn what_is_not_to_be_mirrored_is_not() {
    let none = |change: Value| {
        let mut world = world(1000);
        endpoints(&mut world, change);
        settle(&mut world);
        assert!(world.api.all::<EndpointSlice>().is_empty());
    };
    none(json!({"metadata": {"name": "other"}}));
    none(json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}));
    none(json!({"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}}));
    let mut world = world(1000);
    endpoints(&mut world, json!({}));
    settle(&mut world);
    world.api.delete::<Endpoints>(&Key::new("ns", "s"), Propagation::Background, Some(0));
    settle(&mut world);
    assert!(world.api.all::<EndpointSlice>().is_empty());
}

#[test]
fn what_cannot_be_mirrored_is_told() {
    let mut world = world(1);
    endpoints(
        &mut world,
        json!({"subsets": [{"addresses": [{"ip": "0x"}, {"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}]}),
    );
    settle(&mut world);
    let told: Vec<_> =
        world.told.lock().iter().map(|told| format!("{} {}", told.reason, told.text)).collect();
    let many = "TooManyAddressesToMirror A max of 1 addresses can be mirrored to EndpointSlices per Endpoints subset. 2 \
                addresses were skipped";
    assert!(told.contains(&many.to_owned()), "{told:?}");
    let wrong = "InvalidIPAddress Skipped 1 invalid IP addresses when mirroring to EndpointSlices";
    assert!(told.contains(&wrong.to_owned()), "{told:?}");
    let slices: Vec<EndpointSlice> = world.api.all();
    assert_eq!(slices[0].endpoints.as_ref().unwrap().len(), 1);
}
