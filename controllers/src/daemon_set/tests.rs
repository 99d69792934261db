//! DaemonSets: whole lives of sets in a simulated cluster.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plan::Propagation;
use crate::pods;
use crate::simulation::{SimulatedApi, Trouble, World};

fn set(image: &str, more: Value) -> Value {
    let mut made = json!({
        "metadata": {"namespace": "ns", "name": "d"},
        "spec": {
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "a"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": image}], "nodeSelector": {"kind": "good"}},
            },
        },
    });
    barque_api::patch::merge::merge(&mut made, more);
    made
}

fn world(seed: u64, nodes: u8) -> World {
    let mut world = World::new(seed);
    world.run(DaemonSets::default);
    for number in 0..nodes {
        node(&mut world, number);
    }
    world
}

fn node(world: &mut World, number: u8) {
    let name = format!("n{number}");
    if world.api.get::<Node>("", &name).is_none() {
        world.create::<Node>(json!({"metadata": {"name": name, "labels": {"kind": "good"}}, "spec": {}}));
    }
}

/// Pods that are not on their way out, by node.
fn by_node(api: &SimulatedApi) -> BTreeMap<String, Vec<Pod>> {
    let mut found: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
    for pod in api.all::<Pod>().into_iter().filter(pods::is_active) {
        found.entry(nodes::target(&pod).unwrap().to_owned()).or_default().push(pod);
    }
    found
}

fn set_image(world: &mut World, image: &str) {
    world.edit::<DaemonSet>("ns", "d", |set| {
        set.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    });
}

fn is_rolled_out(world: &World, image: &str) {
    let fits = |node: &Node| node.label("kind") == Some("good");
    let wanted: Vec<_> =
        world.api.all::<Node>().iter().filter(|node| fits(node)).map(|node| node.key().name).collect();
    let found = by_node(&world.api);
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
    for pods in found.values() {
        let [pod] = &pods[..] else { panic!("{pods:?}") };
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some(image));
    }
    let set = world.api.get::<DaemonSet>("ns", "d").unwrap();
    let status = set.status.clone().unwrap();
    let count = i32::try_from(wanted.len()).unwrap();
    let told = (count != 0).then_some(count);
    assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (count, count));
    assert_eq!((status.number_ready, status.number_available), (count, told));
    assert_eq!((status.updated_number_scheduled, status.number_unavailable), (told, None));
    assert_eq!(status.observed_generation, set.metadata.generation);
}

#[test]
fn a_pod_asks_for_its_node_and_tolerates_its_troubles() {
    let mut world = world(1, 1);
    world.create::<DaemonSet>(set("i0", json!({})));
    world.settle();
    let pod = world.api.all::<Pod>().remove(0);
    let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    let affinity = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        *affinity,
        json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n0"]}]}]})
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 6);
    let revision = world.api.all::<ControllerRevision>().remove(0);
    assert_eq!(pod.label("controller-revision-hash"), revision.label("controller-revision-hash"));
    assert!(pod.label("controller-revision-hash").is_some());
}

#[test]
fn nodes_come_go_and_change() {
    let mut world = world(2, 2);
    world.create::<DaemonSet>(set("i0", json!({})));
    world.settle();
    is_rolled_out(&world, "i0");
    node(&mut world, 2);
    world.edit::<Node>("", "n0", |node| node.metadata.labels = None);
    world.settle();
    is_rolled_out(&world, "i0");
    assert!(!by_node(&world.api).contains_key("n0"));
    // A taint keeps new pods away, and keeps the ones that are there.
    world.edit::<Node>("", "n1", |node| {
        let taint = json!([{"key": "a", "effect": "NoSchedule"}]);
        node.spec.get_or_insert_default().taints = Some(serde_json::from_value(taint).unwrap());
    });
    world.settle();
    assert!(by_node(&world.api).contains_key("n1"));
    let status = world.api.get::<DaemonSet>("ns", "d").unwrap().status.unwrap();
    assert_eq!((status.desired_number_scheduled, status.number_misscheduled), (1, 1));
}

#[test]
fn a_pod_that_fails_at_once_is_replaced_after_a_pause() {
    let mut world = world(3, 1);
    world.create::<DaemonSet>(set("i0", json!({})));
    world.settle();
    let before = world.time.elapsed();
    let pod = world.api.all::<Pod>().remove(0);
    world.edit::<Pod>("ns", &pod.key().name, |pod| {
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
    });
    world.settle();
    is_rolled_out(&world, "i0");
    assert_ne!(world.api.all::<Pod>()[0].uid(), pod.uid());
    assert!(world.time.elapsed() - before >= std::time::Duration::from_secs(9));
    assert!(world.told.lock().iter().any(|told| told.reason == "FailedDaemonPod"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]
    #[test]
    fn updates_stay_within_their_limits(
        seed in any::<u64>(),
        nodes in 1u8..6,
        surge in 0usize..3,
        unavailable in 1usize..3,
        changes in prop::collection::vec((1usize..150, 0u8..3), 1..4),
    ) {
        let mut world = world(seed, nodes);
        world.healthy_nodes();
        let rolling = if surge > 0 {
            json!({"maxSurge": surge, "maxUnavailable": 0})
        } else {
            json!({"maxUnavailable": unavailable})
        };
        world.create::<DaemonSet>(set("i0", json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}})));
        let began = Rc::new(Cell::new(false));
        let begins = began.clone();
        world.always(move |api| {
            let found = by_node(api);
            let double = found.values().filter(|pods| pods.len() > 1).count();
            assert!(double <= surge, "{double} nodes have two");
            let up = found.values().filter(|pods| pods.iter().any(pods::is_ready)).count();
            let down = usize::from(nodes) - up;
            let most = if surge > 0 { 0 } else { unavailable };
            assert!(!began.get() || down <= most, "{down} nodes are down");
        });
        world.settle();
        begins.set(true);
        let mut image = "i0".to_owned();
        for (steps, next) in changes {
            image = format!("i{next}");
            set_image(&mut world, &image);
            (0..steps).for_each(|_| world.step());
        }
        world.settle();
        is_rolled_out(&world, &image);
    }

    #[test]
    fn every_node_gets_its_pod_whatever_happens(
        seed in any::<u64>(),
        deeds in prop::collection::vec((0u8..8, 0u8..5, 1usize..60), 1..20),
        surges in any::<bool>(),
    ) {
        let mut world = world(seed, 3);
        let rolling = if surges { json!({"maxSurge": 1, "maxUnavailable": 0}) } else { json!({}) };
        world.create::<DaemonSet>(set("i0", json!({"spec": {"updateStrategy": {"rollingUpdate": rolling}}})));
        let mut image = "i0".to_owned();
        for (deed, number, steps) in deeds {
            let name = format!("n{number}");
            match deed {
                0 => {
                    image = format!("i{}", number % 3);
                    set_image(&mut world, &image);
                }
                1 => node(&mut world, number),
                2 => world.api.delete::<Node>(&Key::new("", &name), Propagation::Background, None),
                3 => world.edit::<Node>("", &name, |node| node.metadata.labels = None),
                4 => world.restart(),
                5 => world.api.trouble(Trouble::Percent(30)),
                6 => world.edit::<Node>("", &name, |node| {
                    node.metadata.labels = Some([("kind".to_owned(), "good".to_owned())].into());
                }),
                _ => world.api.trouble(Trouble::None),
            }
            (0..steps).for_each(|_| world.step());
        }
        world.settle();
        is_rolled_out(&world, &image);
    }
}
