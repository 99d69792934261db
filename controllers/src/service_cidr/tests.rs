//! Ranges of services, from their beginning to their end.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::plan::Propagation;
use crate::simulation::World;

fn world() -> World {
    let mut world = World::new(1);
    world.run(ServiceCidrs::default);
    world
}

fn range(world: &mut World, name: &str, cidrs: &[&str]) {
    world.create::<ServiceCIDR>(json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}}));
    pass(world, 1);
}

fn address_of(world: &mut World, ip: &str) {
    world.create::<IPAddress>(json!({
        "metadata": {"name": ip, "labels": {
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4",
        }},
        "spec": {"parentRef": {"resource": "services", "name": "s", "namespace": "ns"}},
    }));
    pass(world, 1);
}

fn delete(world: &mut World, name: &str) {
    world.api.delete::<ServiceCIDR>(&Key::new("", name), Propagation::Background, None);
}

fn pass(world: &mut World, seconds: u64) {
    world.let_pass(Duration::from_secs(seconds));
}

fn ready(world: &World, name: &str) -> Option<(String, String)> {
    let object: ServiceCIDR = world.api.get("", name)?;
    let condition = object.status?.conditions?.into_iter().find(|condition| condition.type_ == "Ready")?;
    Some((condition.status, condition.message))
}

#[test]
fn a_range_is_protected_and_then_ready() {
    let mut world = world();
    range(&mut world, "a", &["10.0.0.0/24"]);
    let object: ServiceCIDR = world.api.get("", "a").unwrap();
    assert_eq!(object.metadata.finalizers.unwrap(), ["networking.k8s.io/service-cidr-finalizer"]);
    assert_eq!(ready(&world, "a"), Some(("True".to_owned(), "Kubernetes Service CIDR is ready".to_owned())));
}

#[test]
fn a_range_that_nobody_needs_goes_after_a_while() {
    let mut world = world();
    range(&mut world, "a", &["10.0.0.0/24"]);
    address_of(&mut world, "10.0.1.1");
    delete(&mut world, "a");
    pass(&mut world, 9);
    assert!(world.api.get::<ServiceCIDR>("", "a").is_some());
    pass(&mut world, 2);
    assert!(world.api.get::<ServiceCIDR>("", "a").is_none());
}

#[test]
fn a_range_with_addresses_stays_until_they_are_gone_or_elsewhere_too() {
    let mut world = world();
    range(&mut world, "a", &["10.0.0.0/24"]);
    address_of(&mut world, "10.0.0.7");
    delete(&mut world, "a");
    pass(&mut world, 60);
    let (status, message) = ready(&world, "a").unwrap();
    assert_eq!(status, "False");
    assert!(message.starts_with("There are still IPAddresses referencing the ServiceCIDR"), "{message}");
    range(&mut world, "small", &["10.0.0.8/29"]);
    pass(&mut world, 60);
    assert!(world.api.get::<ServiceCIDR>("", "a").is_some(), "the address is not in it");
    range(&mut world, "large", &["10.0.0.0/16"]);
    assert!(world.api.get::<ServiceCIDR>("", "a").is_none());
    delete(&mut world, "large");
    pass(&mut world, 60);
    assert!(world.api.get::<ServiceCIDR>("", "large").is_some());
    world.api.delete::<IPAddress>(&Key::new("", "10.0.0.7"), Propagation::Background, Some(0));
    pass(&mut world, 1);
    assert!(world.api.get::<ServiceCIDR>("", "large").is_none());
}
