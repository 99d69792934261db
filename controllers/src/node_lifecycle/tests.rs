//! Nodes that are lost and found again: tables for what follows from conditions, and whole lives in a simulated cluster.

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::plan::Action;
use crate::simulation::{Trouble, World};

const RENEWAL: Duration = Duration::from_secs(10);

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run_with(|time| NodeLifecycle::new(NodeLifecycleOptions::default(), time.clock()));
    world
}

/// A node that is ready, with a lease.
fn join(world: &mut World, name: &str) {
    world.create::<Node>(json!({"metadata": {"name": name}}));
    say_ready(world, name);
    world.create::<Lease>(json!({"metadata": {"namespace": LEASES, "name": name}, "spec": {}}));
    renew(world, name);
}

/// The node says that it is ready.
fn say_ready(world: &mut World, name: &str) {
    let now = world.api.time_of_day();
    world.edit::<Node>("", name, |node| {
        let of = |type_: &str, status: &str| {
            json!({"type": type_, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now})
        };
        let conditions = json!([of("Ready", "True"), of("MemoryPressure", "False")]);
        node.status.get_or_insert_default().conditions = Some(serde_json::from_value(conditions).unwrap());
    });
}

fn renew(world: &mut World, name: &str) {
    let now = world.time.now();
    world.edit::<Lease>(LEASES, name, |lease| {
        lease.spec.get_or_insert_default().renew_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now));
    });
}

/// These renew their leases every ten seconds.
fn live(world: &mut World, names: &[&str], seconds: u64) {
    for _ in 0..seconds / RENEWAL.as_secs() {
        for name in names {
            renew(world, name);
        }
        world.let_pass(RENEWAL);
    }
}

fn status(world: &World, name: &str, type_: &str) -> (String, String, String) {
    let node: Node = world.api.get("", name).unwrap();
    let condition = taints::condition(&node, type_).unwrap_or_else(|| panic!("{name} has no {type_}"));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (condition.status.clone(), text(&condition.reason), text(&condition.message))
}

fn taints_of(world: &World, name: &str) -> Vec<String> {
    let node: Node = world.api.get("", name).unwrap();
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let mut texts: Vec<_> = taints
        .iter()
        .map(|taint| format!("{}:{}", taint.key.trim_start_matches("node.kubernetes.io/"), taint.effect))
        .collect();
    texts.sort();
    texts
}

fn told(world: &World, about: &str) -> Vec<(&'static str, String)> {
    let told = world.told.lock();
    let mine = told.iter().filter(|told| told.regarding.name.as_deref() == Some(about));
    mine.map(|told| (told.reason, told.text.clone())).collect()
}

#[test]
fn a_node_that_is_silent_becomes_unknown_and_comes_back() {
    let mut world = world(1);
    join(&mut world, "a");
    join(&mut world, "b");
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": "p"}, "spec": {"nodeName": "a", "containers": []},
    }));
    world.edit::<Pod>("ns", "p", |pod| pod.status = Some(serde_json::from_value(ready.clone()).unwrap()));
    live(&mut world, &["a", "b"], 300);
    assert_eq!(taints_of(&world, "a"), Vec::<String>::new());
    live(&mut world, &["b"], 30);
    assert_eq!(status(&world, "a", "Ready").0, "True", "40 s after what it said last");
    live(&mut world, &["b"], 10);
    let unknown = (
        "Unknown".to_owned(),
        "NodeStatusUnknown".to_owned(),
        "Kubelet stopped posting node status.".to_owned(),
    );
    assert_eq!(status(&world, "a", "Ready"), unknown);
    assert_eq!(status(&world, "a", "MemoryPressure"), unknown);
    let never = (
        "Unknown".to_owned(),
        "NodeStatusNeverUpdated".to_owned(),
        "Kubelet never posted node status.".to_owned(),
    );
    assert_eq!(status(&world, "a", "DiskPressure"), never);
    assert_eq!(taints_of(&world, "a"), ["unreachable:NoExecute", "unreachable:NoSchedule"]);
    let pod: Pod = world.api.get("ns", "p").unwrap();
    assert!(!pods::is_ready(&pod));
    assert_eq!(told(&world, "p"), [("NodeNotReady", "Node is not ready".to_owned())]);
    assert_eq!(
        told(&world, "a"),
        [
            ("RegisteredNode", "Node a event: Registered Node a in Controller".to_owned()),
            ("NodeNotReady", "Node a status is now: NodeNotReady".to_owned()),
        ]
    );
    // Somebody says that the pod is ready: that is not touched again.
    world.edit::<Pod>("ns", "p", |pod| pod.status = Some(serde_json::from_value(ready).unwrap()));
    live(&mut world, &["b"], 20);
    assert!(pods::is_ready(&world.api.get("ns", "p").unwrap()));
    renew(&mut world, "a");
    say_ready(&mut world, "a");
    live(&mut world, &["a", "b"], 60);
    assert_eq!(status(&world, "a", "Ready").0, "True");
    assert_eq!(taints_of(&world, "a"), Vec::<String>::new());
    world.api.delete::<Node>(&Key::new("", "a"), crate::plan::Propagation::Background, Some(0));
    live(&mut world, &["b"], 10);
    let last = told(&world, "a").pop();
    assert_eq!(last, Some(("RemovingNode", "Node a event: Removing Node a from Controller".to_owned())));
}

#[test]
fn a_node_that_says_it_is_not_ready_is_tainted_so() {
    let mut world = world(2);
    join(&mut world, "a");
    join(&mut world, "b");
    live(&mut world, &["a", "b"], 10);
    let say = |world: &mut World, status: &str| {
        world.edit::<Node>("", "a", |node| {
            let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
            conditions[0].status = status.to_owned();
        });
    };
    say(&mut world, "False");
    live(&mut world, &["a", "b"], 10);
    assert_eq!(taints_of(&world, "a"), ["not-ready:NoExecute", "not-ready:NoSchedule"]);
    live(&mut world, &["b"], 60);
    assert_eq!(
        taints_of(&world, "a"),
        ["unreachable:NoExecute", "unreachable:NoSchedule"],
        "now it is silent"
    );
    say(&mut world, "True");
    live(&mut world, &["a", "b"], 10);
    assert_eq!(taints_of(&world, "a"), Vec::<String>::new());
}

#[test]
fn when_all_nodes_are_silent_no_pod_has_to_leave() {
    let mut world = world(3);
    join(&mut world, "a");
    join(&mut world, "b");
    world.let_pass(Duration::from_secs(600));
    for name in ["a", "b"] {
        assert_eq!(status(&world, name, "Ready").0, "Unknown");
        assert_eq!(taints_of(&world, name), ["unreachable:NoSchedule"]);
    }
    renew(&mut world, "a");
    say_ready(&mut world, "a");
    live(&mut world, &["a"], 10);
    assert_eq!(taints_of(&world, "a"), Vec::<String>::new());
    live(&mut world, &["a"], 60);
    assert_eq!(taints_of(&world, "b"), ["unreachable:NoExecute", "unreachable:NoSchedule"]);
}

#[test]
fn a_node_that_never_said_anything_has_more_time() {
    let mut world = world(4);
    world.create::<Node>(json!({"metadata": {"name": "a"}}));
    world.let_pass(Duration::from_secs(59));
    let node: Node = world.api.get("", "a").unwrap();
    assert_eq!(taints::ready(&node), None);
    world.let_pass(Duration::from_secs(1));
    assert_eq!(status(&world, "a", "Ready").1, "NodeStatusNeverUpdated");
}

#[test]
fn who_is_silent_is_asked_for_past_the_caches() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "a", "uid": "u"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap();
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"namespace": LEASES, "name": "a", "uid": "l", "resourceVersion": "7"},
    }))
    .unwrap();
    let here = Here {
        node: Arc::new(node),
        lease: Some(Arc::new(lease)),
        is_new: false,
        silence: Duration::from_secs(50),
        patience: Duration::from_secs(50),
        stopped: false,
        leave: None,
        pods: Vec::new(),
    };
    let plan = plan::plan(&View::Here(Box::new(here)), Timestamp::UNIX_EPOCH);
    let actions: Vec<_> = plan.actions().map(|planned| planned.action.clone()).collect();
    assert!(matches!(&actions[0], Action::Unchanged { object } if object.version == "7"), "{actions:?}");
    assert!(matches!(&actions[1], Action::Update { subresource: Some("status"), .. }));
}

#[test]
fn taints_and_labels_follow_from_what_a_node_says() {
    let now = Timestamp::UNIX_EPOCH;
    let check = |spec: Value, conditions: &[(&str, &str)], expected: &[&str]| {
        let conditions: Vec<_> =
            conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "x"}},
            "spec": spec, "status": {"conditions": conditions},
        }))
        .unwrap();
        let after = taints::corrected(&node, false, false, now);
        assert_eq!(after.label("beta.kubernetes.io/os"), Some("linux"));
        assert_eq!(after.label("beta.kubernetes.io/arch"), None);
        let taints = after.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let texts: Vec<_> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        assert_eq!(texts, expected);
    };
    let k = "node.kubernetes.io";
    check(json!({}), &[("Ready", "True"), ("MemoryPressure", "False")], &[]);
    check(
        json!({"unschedulable": true}),
        &[("Ready", "True"), ("MemoryPressure", "True"), ("DiskPressure", "True")],
        &[
            &format!("{k}/memory-pressure:NoSchedule"),
            &format!("{k}/disk-pressure:NoSchedule"),
            &format!("{k}/unschedulable:NoSchedule"),
        ],
    );
    check(
        json!({}),
        &[("PIDPressure", "True"), ("NetworkUnavailable", "True"), ("Ready", "False")],
        &[
            &format!("{k}/not-ready:NoSchedule"),
            &format!("{k}/pid-pressure:NoSchedule"),
            &format!("{k}/network-unavailable:NoSchedule"),
        ],
    );
    let mine = json!({"taints": [
        {"key": "mine", "effect": "NoSchedule"}, {"key": "mine", "effect": "NoExecute"},
        {"key": format!("{k}/memory-pressure"), "effect": "NoSchedule"},
        {"key": format!("{k}/unreachable"), "effect": "NoExecute"},
        {"key": format!("{k}/memory-pressure"), "effect": "NoExecute"},
    ]});
    check(
        mine,
        &[("Ready", "True")],
        &["mine:NoSchedule", "mine:NoExecute", &format!("{k}/memory-pressure:NoExecute")],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn who_is_heard_of_is_never_given_up_and_who_is_not_always_is(seed in any::<u64>(), percent in 0u32..30) {
        let mut world = world(seed);
        let names = ["a", "b", "c", "d"];
        let mut heard = [0; 4];
        for name in names {
            join(&mut world, name);
        }
        world.let_pass(Duration::ZERO);
        let elapsed = |world: &World| world.time.elapsed().as_secs();
        world.api.trouble(Trouble::Percent(percent));
        for _ in 0..80 {
            let one = world.rng.random_range(0..names.len());
            match world.rng.random_range(0..4) {
                0 | 1 => {
                    // Time is told in the same microseconds by all: what is renewed at once is not heard.
                    let now = elapsed(&world);
                    if now > heard[one] {
                        renew(&mut world, names[one]);
                        say_ready(&mut world, names[one]);
                        heard[one] = now;
                    }
                    world.let_pass(Duration::ZERO);
                }
                _ => {
                    let seconds = world.rng.random_range(1..20);
                    world.let_pass(Duration::from_secs(seconds));
                }
            }
            for (name, heard) in names.iter().zip(heard) {
                if elapsed(&world) - heard < 50 {
                    prop_assert_eq!(status(&world, name, "Ready").0, "True", "{} was heard of", name);
                }
            }
        }
        world.settle();
        for name in names {
            prop_assert_eq!(status(&world, name, "Ready").0, "Unknown");
            prop_assert_eq!(taints_of(&world, name), vec!["unreachable:NoSchedule"], "all are lost");
        }
    }
}
