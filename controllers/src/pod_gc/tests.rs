//! What is garbage and what is not.

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::plan::Propagation;
use crate::simulation::{Trouble, World};

const S: fn(u64) -> Duration = Duration::from_secs;

fn world(seed: u64, threshold: usize) -> World {
    let mut world = World::new(seed);
    world.run_with(move |time| PodGarbage::new(threshold, time.clock()));
    world
}

fn pod(world: &mut World, name: &str, node: Option<&str>, status: Value) {
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": name}, "spec": {"nodeName": node, "containers": []},
    }));
    world.edit::<Pod>("ns", name, |pod| pod.status = Some(serde_json::from_value(status).unwrap()));
}

fn names(world: &World) -> Vec<String> {
    world.api.all::<Pod>().iter().map(|pod| pod.key().name).collect()
}

/// Who ended how before it went, as the history of the API has it.
fn last_status(world: &World, name: &str) -> Value {
    let changes = world.api.changes_since(0);
    let mut mine = changes.iter().filter(|object| object["metadata"]["name"] == name);
    mine.next_back().unwrap()["status"].clone()
}

#[test]
fn pods_of_a_node_that_is_gone_go_after_a_while() {
    let mut world = world(1, 0);
    world.create::<Node>(json!({"metadata": {"name": "n"}}));
    pod(&mut world, "runs", Some("n"), json!({"phase": "Running"}));
    pod(&mut world, "done", Some("n"), json!({"phase": "Succeeded"}));
    pod(&mut world, "waits", None, json!({"phase": "Pending"}));
    world.let_pass(S(100));
    assert_eq!(names(&world).len(), 3);
    world.api.delete::<Node>(&Key::new("", "n"), Propagation::Background, Some(0));
    world.let_pass(S(39));
    assert_eq!(names(&world).len(), 3);
    world.let_pass(S(1));
    assert_eq!(names(&world), ["waits"]);
    let status = last_status(&world, "runs");
    assert_eq!(status["phase"], "Failed");
    let condition = &status["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("DisruptionTarget"), &json!("True")));
    assert_eq!(condition["reason"], "DeletionByPodGC");
    assert_eq!(condition["message"], "PodGC: node no longer exists");
    assert_eq!(last_status(&world, "done"), json!({"phase": "Succeeded"}));
}

#[test]
fn a_node_that_comes_back_in_time_keeps_its_pods() {
    let mut world = world(2, 0);
    pod(&mut world, "p", Some("n"), json!({"phase": "Running"}));
    world.let_pass(S(39));
    world.create::<Node>(json!({"metadata": {"name": "n"}}));
    world.let_pass(S(100));
    assert_eq!(names(&world), ["p"]);
    world.api.delete::<Node>(&Key::new("", "n"), Propagation::Background, Some(0));
    world.let_pass(S(39));
    assert_eq!(names(&world), ["p"], "the time begins anew");
    world.let_pass(S(1));
    assert_eq!(names(&world), Vec::<String>::new());
}

#[test]
fn pods_that_were_deleted_and_never_had_a_node_go() {
    let mut world = world(3, 0);
    pod(&mut world, "p", None, json!({"phase": "Pending"}));
    world.edit::<Pod>("ns", "p", |pod| {
        pod.metadata.finalizers = Some(vec!["somebody/else".to_owned()]);
        pod.metadata.deletion_grace_period_seconds = Some(30);
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    });
    world.let_pass(S(1));
    assert_eq!(last_status(&world, "p")["phase"], "Failed");
    world.edit::<Pod>("ns", "p", |pod| {
        pod.metadata.finalizers = None;
        pod.metadata.deletion_grace_period_seconds = Some(0);
    });
    assert_eq!(names(&world), Vec::<String>::new());
}

#[test]
fn pods_leave_a_node_that_is_out_of_service_by_force() {
    let mut world = world(4, 0);
    world.create::<Node>(json!({"metadata": {"name": "n"}}));
    for name in ["p", "q"] {
        pod(&mut world, name, Some("n"), json!({"phase": "Running"}));
    }
    world.api.delete::<Pod>(&Key::new("ns", "p"), Propagation::Background, Some(30));
    world.let_pass(S(60));
    assert_eq!(names(&world).len(), 2, "its node has the last word");
    let taints =
        json!([{"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}]);
    let ready = json!([{"type": "Ready", "status": "True"}]);
    world.edit::<Node>("", "n", |node| {
        node.spec.get_or_insert_default().taints = Some(serde_json::from_value(taints).unwrap());
        node.status.get_or_insert_default().conditions = Some(serde_json::from_value(ready).unwrap());
    });
    world.let_pass(S(60));
    assert_eq!(names(&world).len(), 2, "it is still ready");
    world.edit::<Node>("", "n", |node| {
        node.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "Unknown".to_owned();
    });
    world.let_pass(S(1));
    assert_eq!(names(&world), ["q"], "which nobody deleted");
    assert_eq!(last_status(&world, "p")["phase"], "Failed");
}

#[test]
fn of_too_many_that_ended_the_evicted_and_then_the_oldest_go() {
    let mut world = world(5, 2);
    for (name, status) in [
        ("a", json!({"phase": "Succeeded"})),
        ("b", json!({"phase": "Failed"})),
        ("c", json!({"phase": "Running"})),
        ("d", json!({"phase": "Failed"})),
        ("e", json!({"phase": "Failed", "reason": "Evicted"})),
    ] {
        pod(&mut world, name, None, status);
        world.let_pass(S(1));
    }
    assert_eq!(names(&world), ["b", "c", "d"], "the oldest, then the one that was evicted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn what_runs_on_a_node_that_is_there_stays(seed in any::<u64>(), percent in 0u32..40) {
        let mut world = world(seed, 3);
        world.api.trouble(Trouble::Percent(percent));
        let nodes = ["m", "n"];
        let mut made = 0;
        for _ in 0..60 {
            let node = nodes[world.rng.random_range(0..2)];
            match world.rng.random_range(0..6) {
                0 if world.api.get::<Node>("", node).is_none() => {
                    world.create::<Node>(json!({"metadata": {"name": node}}));
                }
                1 => world.api.delete::<Node>(&Key::new("", node), Propagation::Background, Some(0)),
                2 | 3 => {
                    made += 1;
                    let phase = ["Running", "Failed", "Succeeded"][world.rng.random_range(0..3)];
                    pod(&mut world, &format!("p{made}"), Some(node), json!({"phase": phase}));
                }
                _ => {
                    let before: Vec<_> = world.api.all::<Pod>();
                    let there = nodes.map(|node| world.api.get::<Node>("", node).is_some());
                    let seconds = world.rng.random_range(0..60);
                    world.let_pass(S(seconds));
                    let after = names(&world);
                    for pod in before.iter().filter(|pod| !pods::is_terminal(pod)) {
                        let on = nodes.iter().position(|node| *node == pods::node(pod)).unwrap();
                        prop_assert!(!there[on] || after.contains(&pod.key().name), "{} is gone", pod.key());
                    }
                }
            }
        }
        world.api.trouble(Trouble::None);
        world.let_pass(S(2000));
        let left: Vec<Pod> = world.api.all();
        prop_assert!(left.iter().filter(|pod| pods::is_terminal(pod)).count() <= 3);
        for pod in &left {
            prop_assert!(world.api.get::<Node>("", pods::node(pod)).is_some(), "{} has no node", pod.key());
        }
    }
}
