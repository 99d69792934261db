//! Slices of services: tables for single endpoints and hints, properties of packing, and whole lives of services.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::discovery::v1::Endpoint;
use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::desired::Group;
use super::pack::{Slice, endpoints, pack};
use super::*;
use crate::plan::Propagation;
use crate::simulation::{SimulatedApi, Trouble, World};

fn world(seed: u64, max: usize) -> World {
    let mut world = World::new(seed);
    world.run_with(move |_| EndpointSlices::new(max));
    world
}

fn service(world: &mut World, change: Value) {
    let mut service = json!({
        "metadata": {"namespace": "ns", "name": "s", "labels": {"l": "v"}},
        "spec": {
            "selector": {"app": "a"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    barque_api::patch::merge::merge(&mut service, change);
    world.create::<Service>(service);
}

fn node(world: &mut World, name: &str, zone: &str) {
    world
        .create::<Node>(json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}}));
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "2"}});
    world.edit::<Node>("", name, |node| node.status = Some(serde_json::from_value(status).unwrap()));
}

fn pod(world: &mut World, name: &str, node: &str, ip: &str, ready: bool) {
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": node, "containers": [], "hostname": "h", "subdomain": "s"},
    }));
    say(world, name, ip, ready);
}

fn say(world: &mut World, name: &str, ip: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let now = world.api.time_of_day();
    let status = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": "fd00::1"}],
        "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}],
    });
    world.edit::<Pod>("ns", name, |pod| pod.status = Some(serde_json::from_value(status).unwrap()));
}

fn pass(world: &mut World, seconds: u64) {
    world.let_pass(std::time::Duration::from_secs(seconds));
}

fn stored(world: &World) -> Vec<Value> {
    let slices = world.api.all::<EndpointSlice>();
    slices.iter().map(|slice| serde_json::to_value(slice).unwrap()).collect()
}

#[test]
fn a_slice_tells_of_pods_what_proxies_must_know() {
    let mut world = world(1, 100);
    node(&mut world, "n", "z");
    pod(&mut world, "a", "n", "10.1.0.1", true);
    service(&mut world, json!({}));
    pass(&mut world, 1);
    let slices = stored(&world);
    assert_eq!(slices.len(), 1);
    let uid = world.api.get::<Pod>("ns", "a").unwrap().uid().to_owned();
    let expected = json!([{
        "addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
        "hostname": "h", "nodeName": "n", "zone": "z",
        "targetRef": {"kind": "Pod", "namespace": "ns", "name": "a", "uid": uid},
    }]);
    assert_eq!(slices[0]["endpoints"], expected);
    assert_eq!(slices[0]["addressType"], "IPv4");
    assert_eq!(slices[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    let meta = &slices[0]["metadata"];
    assert!(meta["name"].as_str().unwrap().starts_with("s-"));
    let labels = json!({
        "l": "v", "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    assert_eq!(meta["labels"], labels);
    assert_eq!(
        (&meta["ownerReferences"][0]["kind"], &meta["ownerReferences"][0]["controller"]),
        (&json!("Service"), &json!(true))
    );
    let created =
        world.api.get::<Service>("ns", "s").unwrap().metadata.creation_timestamp.unwrap().0.to_string();
    assert_eq!(meta["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"], created);
    // It goes: not ready any more, but still serving.
    world.api.delete::<Pod>(&Key::new("ns", "a"), Propagation::Background, Some(30));
    pass(&mut world, 1);
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(stored(&world)[0]["endpoints"][0]["conditions"], conditions);
    assert_eq!(stored(&world)[0]["metadata"]["annotations"], json!({}), "no pod says when");
    world.api.delete::<Pod>(&Key::new("ns", "a"), Propagation::Background, Some(0));
    pass(&mut world, 1);
    let empty = stored(&world);
    assert_eq!(empty.len(), 1, "one slice says that there is nobody");
    assert_eq!((&empty[0]["endpoints"], &empty[0]["ports"]), (&json!([]), &json!([])));
    assert_eq!(empty[0]["metadata"]["name"], meta["name"]);
}

#[test]
fn services_have_slices_for_each_family_and_set_of_ports() {
    let mut world = world(2, 100);
    node(&mut world, "n", "z");
    pod(&mut world, "a", "n", "10.1.0.1", false);
    let named = json!([{"name": "w", "containerPort": 9090, "protocol": "TCP"}]);
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": "b", "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": named}]},
    }));
    say(&mut world, "b", "10.1.0.2", true);
    let ports =
        json!([{"name": "w", "port": 80, "targetPort": "w"}, {"name": "x", "port": 81, "targetPort": 82}]);
    let spec = json!({"ipFamilies": ["IPv4", "IPv6"], "ports": ports, "publishNotReadyAddresses": true, "clusterIP": "None"});
    service(&mut world, json!({"spec": spec}));
    pass(&mut world, 1);
    let slices = stored(&world);
    let told: Vec<_> = slices
        .iter()
        .map(|it| {
            (it["addressType"].as_str().unwrap(), it["ports"].as_array().unwrap().len(), &it["endpoints"][0])
        })
        .collect();
    assert_eq!(told.len(), 4);
    for (family, count, endpoint) in told {
        let (ip, ready) = match (family, count) {
            ("IPv4", 1) => ("10.1.0.1", false),
            ("IPv4", 2) => ("10.1.0.2", true),
            (_, count) => ("fd00::1", count == 2),
        };
        assert_eq!(endpoint["addresses"], json!([ip]));
        assert_eq!(endpoint["conditions"], json!({"ready": true, "serving": ready, "terminating": false}));
    }
    assert_eq!(slices[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    world.edit::<Service>("ns", "s", |it| {
        it.spec.as_mut().unwrap().ip_families = Some(vec!["IPv4".to_owned()]);
    });
    pass(&mut world, 1);
    assert!(stored(&world).iter().all(|slice| slice["addressType"] == "IPv4"));
}

#[test]
fn pods_whose_node_nobody_knows_are_left_out_until_it_is_known() {
    let mut world = world(3, 100);
    pod(&mut world, "a", "n", "10.1.0.1", true);
    service(&mut world, json!({}));
    pass(&mut world, 1);
    assert_eq!(stored(&world)[0]["endpoints"], json!([]));
    let told = world.told.lock()[0].clone();
    assert_eq!(told.reason, "FailedToUpdateEndpointSlices");
    assert_eq!(
        told.text,
        "Error updating Endpoint Slices for Service ns/s: skipping Pod a for Service ns/s: Node n Not Found"
    );
    node(&mut world, "n", "z");
    pass(&mut world, 1);
    assert_eq!(stored(&world)[0]["endpoints"][0]["zone"], "z");
    world.edit::<Node>("", "n", |node| {
        node.metadata.labels = Some([("topology.kubernetes.io/zone".to_owned(), "y".to_owned())].into());
    });
    pass(&mut world, 1);
    assert_eq!(stored(&world)[0]["endpoints"][0]["zone"], "y", "its node is told to be elsewhere");
}

#[test]
fn what_does_not_select_has_no_slices_from_here() {
    let mut world = world(4, 100);
    service(&mut world, json!({"spec": {"selector": null}}));
    service(
        &mut world,
        json!({"metadata": {"name": "t"}, "spec": {"type": "ExternalName", "externalName": "e"}}),
    );
    pass(&mut world, 1);
    assert!(stored(&world).is_empty());
}

#[test]
fn endpoints_are_for_their_own_zone_or_node_when_the_service_says_so() {
    let mut world = world(5, 100);
    node(&mut world, "n", "z");
    pod(&mut world, "a", "n", "10.1.0.1", true);
    service(&mut world, json!({"spec": {"trafficDistribution": "PreferClose"}}));
    let hints = |world: &World| stored(world)[0]["endpoints"][0]["hints"].clone();
    pass(&mut world, 1);
    assert_eq!(hints(&world), json!({"forZones": [{"name": "z"}]}));
    let set = |world: &mut World, text: Option<&str>| {
        let said = text.map(str::to_owned);
        world.edit::<Service>("ns", "s", |it| it.spec.as_mut().unwrap().traffic_distribution = said);
        pass(world, 1);
    };
    set(&mut world, Some("PreferSameNode"));
    assert_eq!(hints(&world), json!({"forNodes": [{"name": "n"}], "forZones": [{"name": "z"}]}));
    set(&mut world, Some("PreferSameZone"));
    assert_eq!(hints(&world), json!({"forZones": [{"name": "z"}]}));
    set(&mut world, None);
    assert_eq!(hints(&world), Value::Null);
}

#[test]
fn zones_get_endpoints_as_they_have_processors() {
    let mut world = world(6, 100);
    let auto = json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}});
    service(&mut world, auto);
    for (name, zone) in [("n1", "x"), ("n2", "y")] {
        node(&mut world, name, zone);
    }
    pod(&mut world, "a", "n1", "10.1.0.1", true);
    pass(&mut world, 1);
    assert_eq!(stored(&world)[0]["endpoints"][0]["hints"], Value::Null);
    // Three in one zone and one in the other, which are the same size: one is for the other zone.
    for (name, node, ip) in [("b", "n1", "10.1.0.2"), ("c", "n1", "10.1.0.3"), ("d", "n2", "10.1.0.4")] {
        pod(&mut world, name, node, ip, true);
    }
    pass(&mut world, 1);
    let counts = |world: &World| -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for endpoint in stored(world)[0]["endpoints"].as_array().unwrap() {
            let zone = endpoint["hints"]["forZones"][0]["name"].as_str().unwrap_or_default();
            *counts.entry(zone.to_owned()).or_default() += 1;
        }
        counts
    };
    assert_eq!(counts(&world), [("x".to_owned(), 2), ("y".to_owned(), 2)].into());
    let told =
        || world.told.lock().iter().map(|told| format!("{} {}", told.reason, told.text)).collect::<Vec<_>>();
    let enabled = "TopologyAwareHintsEnabled Topology Aware Hints has been enabled, addressType: IPv4";
    let lacking = "TopologyAwareHintsDisabled Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4";
    assert!(told().contains(&enabled.to_owned()) && told().contains(&lacking.to_owned()), "{:?}", told());
    // A node is not ready: there is one zone left.
    world.edit::<Node>("", "n2", |node| node.status.as_mut().unwrap().conditions = None);
    pass(&mut world, 1);
    assert_eq!(counts(&world), [(String::new(), 4)].into());
    let why = "TopologyAwareHintsDisabled Insufficient Node information: allocatable CPU or zone not specified on one or \
               more nodes, addressType: IPv4";
    let told: Vec<_> =
        world.told.lock().iter().map(|told| format!("{} {}", told.reason, told.text)).collect();
    assert!(told.contains(&why.to_owned()), "{told:?}");
}

fn endpoint(number: u16, state: u8) -> Endpoint {
    serde_json::from_value(json!({
        "addresses": [format!("10.0.{}.{}", number / 200, number % 200)],
        "conditions": {"ready": state == 0, "serving": true, "terminating": state == 2},
        "targetRef": {"kind": "Pod", "namespace": "ns", "name": format!("p{number}"), "uid": format!("u{number}")},
    }))
    .unwrap()
}

fn ports(number: u8) -> Ports {
    let port = json!([{"name": "p", "port": 80 + i32::from(number), "protocol": "TCP"}]);
    serde_json::from_value(port).unwrap()
}

/// A slice with these endpoints, each with what it says of itself.
fn slice(name: usize, of_ports: u8, of: &[(u16, u8)]) -> Arc<EndpointSlice> {
    Arc::new(EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: Some(of.iter().map(|(number, state)| endpoint(*number, *state)).collect()),
        ports: Some(ports(of_ports)),
        metadata: serde_json::from_value(
            json!({"namespace": "ns", "name": format!("s{name}"), "uid": format!("u{name}")}),
        )
        .unwrap(),
    })
}

/// Which endpoints are wanted with which ports.
fn groups(wanted: &HashMap<u16, (u8, u8)>) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (number, (of_ports, state)) in wanted {
        let ports = ports(*of_ports);
        let group = groups.entry(ports_key(&ports)).or_default();
        group.ports = ports;
        let endpoint = endpoint(*number, *state);
        group.endpoints.insert(identity(&endpoint), endpoint);
    }
    groups
}

/// A slice as the API has it after it was written.
fn as_written(slice: &Slice, name: usize) -> Arc<EndpointSlice> {
    let mut stored = slice.existing.as_deref().cloned().unwrap_or_default();
    stored.address_type = "IPv4".to_owned();
    stored.endpoints = Some(slice.endpoints.clone());
    stored.ports = Some(slice.ports.clone());
    stored.metadata.name.get_or_insert_with(|| format!("n{name}"));
    Arc::new(stored)
}

#[test]
fn what_comes_fills_as_few_slices_as_possible() {
    let written = |existing: &[(u8, usize)], wanted: u16, max| {
        let mut next = 0;
        let slices: Vec<_> = existing
            .iter()
            .enumerate()
            .map(|(name, (of_ports, count))| {
                let of: Vec<_> = (0..*count).map(|at| (next + u16::try_from(at).unwrap(), 0)).collect();
                next += u16::try_from(*count).unwrap();
                slice(name, *of_ports, &of)
            })
            .collect();
        let wanted: HashMap<_, _> = (0..wanted).map(|number| (number, (0, 0))).collect();
        let packed = pack(groups(&wanted), &slices, max);
        let sizes: Vec<_> = packed.slices.iter().map(|slice| slice.endpoints.len()).collect();
        let changed = packed.slices.iter().filter(|slice| slice.changed).count();
        (sizes, changed, packed.surplus.len())
    };
    assert_eq!(written(&[], 250, 100), (vec![100, 100, 50], 3, 0));
    assert_eq!(
        written(&[(0, 60), (0, 80)], 150, 100),
        (vec![60, 90], 1, 0),
        "the fullest that has room for all"
    );
    assert_eq!(
        written(&[(0, 60), (0, 80)], 190, 100),
        (vec![60, 80, 50], 1, 0),
        "one new one rather than two changed"
    );
    assert_eq!(written(&[(0, 10), (0, 10)], 10, 100), (vec![10], 0, 1), "one is empty");
    assert_eq!(written(&[(1, 50)], 50, 100), (vec![50], 1, 0), "other ports: the same slice");
}

proptest! {
    #[test]
    fn every_endpoint_is_in_one_slice_and_no_slice_has_too_many(
        existing in prop::collection::vec((0u8..3, prop::collection::vec((0u16..40, 0u8..3), 0..12)), 0..8),
        wanted in prop::collection::hash_map(0u16..40, (0u8..3, 0u8..3), 0..40),
        max in 1usize..9,
    ) {
        let slices: Vec<_> =
            existing.iter().enumerate().map(|(name, (of_ports, of))| slice(name, *of_ports, of)).collect();
        let packed = pack(groups(&wanted), &slices, max);
        let mut told: Vec<_> = packed.slices.iter().flat_map(|slice| {
            slice.endpoints.iter().map(|endpoint| (ports_key(&slice.ports), format!("{endpoint:?}")))
        }).collect();
        told.sort();
        let mut expected: Vec<_> = wanted.iter().map(|(number, (of_ports, state))| {
            (ports_key(&ports(*of_ports)), format!("{:?}", endpoint(*number, *state)))
        }).collect();
        expected.sort();
        prop_assert_eq!(told, expected, "each once, as it is now, with its ports");
        let before = slices.iter().map(|slice| slice.key().name).collect::<Vec<_>>();
        let mut after: Vec<_> = packed.slices.iter().filter_map(|slice| slice.existing.as_ref())
            .chain(&packed.surplus).map(|slice| slice.key().name).collect();
        after.sort();
        prop_assert_eq!(after, before, "each slice stays, changes or goes");
        for slice in &packed.slices {
            prop_assert!(slice.endpoints.len() <= max);
            prop_assert!(slice.changed || slice.existing.as_ref().is_some_and(|it| endpoints(it) == slice.endpoints));
        }
        let written: Vec<_> =
            packed.slices.iter().enumerate().map(|(name, slice)| as_written(slice, name)).collect();
        let again = pack(groups(&wanted), &written, max);
        prop_assert!(again.surplus.is_empty());
        prop_assert!(again.slices.iter().all(|slice| !slice.changed), "nothing is left to do");
    }
}

/// Who is told to be ready where nobody is, or twice.
fn no_slice_is_too_large(max: usize) -> impl Fn(&SimulatedApi) {
    move |api| {
        for slice in api.all::<EndpointSlice>() {
            assert!(endpoints(&slice).len() <= max, "{} has too many", slice.key());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn slices_follow_pods(seed in any::<u64>(), percent in 0u32..30) {
        let mut world = world(seed, 3);
        world.always(no_slice_is_too_large(3));
        node(&mut world, "n1", "x");
        node(&mut world, "n2", "y");
        let mode = [json!({}), json!({"spec": {"trafficDistribution": "PreferClose"}}),
            json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto"}}})];
        let which = world.rng.random_range(0..3);
        service(&mut world, mode[which].clone());
        world.api.trouble(Trouble::Percent(percent));
        for number in 0..60 {
            let known: Vec<_> = world.api.all::<Pod>().iter().map(|pod| pod.key().name).collect();
            let one = (!known.is_empty()).then(|| known[world.rng.random_range(0..known.len())].clone());
            match (world.rng.random_range(0..8), one) {
                (0..=2, _) => {
                    let node = ["n1", "n2"][world.rng.random_range(0..2)];
                    let ready = world.rng.random_bool(0.7);
                    pod(&mut world, &format!("p{number}"), node, &format!("10.1.0.{number}"), ready);
                }
                (3, Some(name)) => {
                    world.api.delete::<Pod>(&Key::new("ns", &name), Propagation::Background, Some(0));
                }
                (4, Some(name)) => {
                    let ready = world.rng.random_bool(0.5);
                    say(&mut world, &name, &format!("10.1.0.{}", &name[1..]), ready);
                }
                (5, _) if number % 20 == 7 => world.restart(),
                _ => pass(&mut world, 1),
            }
        }
        world.api.trouble(Trouble::None);
        pass(&mut world, 3000);
        let mut told: Vec<_> = stored(&world).iter().flat_map(|slice| {
            slice["endpoints"].as_array().unwrap().iter().map(|endpoint| {
                let name = endpoint["targetRef"]["name"].as_str().unwrap().to_owned();
                (name, endpoint["conditions"]["ready"].as_bool().unwrap())
            }).collect::<Vec<_>>()
        }).collect();
        told.sort();
        let mut expected: Vec<_> =
            world.api.all::<Pod>().iter().map(|pod| (pod.key().name, pods::is_ready(pod))).collect();
        expected.sort();
        prop_assert_eq!(told, expected);
        let before = world.api.history_len();
        world.restart();
        pass(&mut world, 10);
        prop_assert_eq!(world.api.history_len(), before, "another leader writes nothing");
    }
}
