//! What changes do to snapshot and queue.

use barque_scheduler::decision::{Decision, Scheduler};
use barque_scheduler::plugins::PluginSet;
use barque_scheduler::queue::Counts;
use barque_scheduler::snapshot::ClaimPlan;
use serde_json::{Value, json};

use super::*;

struct Test {
    cluster: Cluster,
    scheduler: Scheduler,
}

const NOW: Duration = Duration::ZERO;

impl Test {
    fn new() -> Self {
        let profiles = vec![Profile::of_defaults("default-scheduler"), Profile::of_defaults("other")];
        let cluster = Cluster::new(&profiles, queue::Settings::default());
        let mut test = Self { cluster, scheduler: Scheduler::new(profiles, 1) };
        test.node("a", "2");
        test
    }

    fn node(&mut self, name: &str, cpu: &str) {
        let node = json!({
            "metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
        });
        self.cluster.there(Object::Node(serde_json::from_value(node).unwrap()), NOW);
    }

    /// A pod of one core; spec and status have more.
    fn pod(&mut self, name: &str, spec: &Value, status: &Value) {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        self.cluster.there(Object::Pod(serde_json::from_value(pod).unwrap()), NOW);
    }

    fn gone(&mut self, name: &str) {
        let named = Named { namespace: "default".into(), name: name.into() };
        self.cluster.gone(&Gone { kind: Kind::Pod, named, uid: name.into() }, NOW);
    }

    /// Takes the next pod and decides on it, as the driver does.
    fn decide(&mut self) -> (Arc<Pod>, Decision) {
        let next = self.cluster.queue.next(NOW).unwrap();
        let pending = self.cluster.refresh(&next.pod.uid).unwrap();
        let decision = self.scheduler.decide(&self.cluster.snapshot, &pending.pod, pending.profile);
        if let Decision::Placed(placement) = &decision {
            self.cluster.snapshot.assume(&pending.pod, placement.node, &placement.claims);
        }
        (pending.pod, decision)
    }

    fn counts(&self) -> Counts {
        self.cluster.queue.counts()
    }

    fn placed(&self) -> usize {
        self.cluster.snapshot.pods()
    }
}

#[test]
fn pods_of_other_schedulers_take_room_and_are_not_placed() {
    let mut test = Test::new();
    test.pod("foreign", &json!({"schedulerName": "foreign"}), &json!({}));
    assert_eq!(test.counts(), Counts::default());
    test.pod("foreign", &json!({"schedulerName": "foreign", "nodeName": "a"}), &json!({}));
    assert_eq!(test.placed(), 1);
    test.pod("mine", &json!({"schedulerName": "other"}), &json!({}));
    let (pod, decision) = test.decide();
    assert!(decision.placement().is_some());
    assert_eq!(test.cluster.pending(&pod.uid).unwrap().profile, 1);
}

#[test]
fn a_pod_that_was_bound_here_is_not_placed_again_by_old_news() {
    let mut test = Test::new();
    test.pod("p", &json!({}), &json!({}));
    let (pod, _) = test.decide();
    test.cluster.bound(&pod.uid);
    // Somebody wrote its status before it was bound.
    test.pod("p", &json!({}), &json!({"phase": "Pending"}));
    assert_eq!((test.counts(), test.placed()), (Counts::default(), 1));
    test.pod("p", &json!({"nodeName": "a"}), &json!({}));
    assert_eq!(test.cluster.snapshot.placement("p").map(|(_, assumed)| assumed), Some(false));
    test.gone("p");
    assert_eq!(test.placed(), 0);
}

#[test]
fn a_binding_that_failed_gives_the_room_back_and_the_pod_is_tried_again() {
    let mut test = Test::new();
    test.pod("p", &json!({}), &json!({}));
    let (pod, _) = test.decide();
    test.cluster.forget(&pod, &ClaimPlan::default(), NOW);
    test.cluster.queue.failed(&pod.uid, NOW);
    assert_eq!((test.placed(), test.counts().backing_off), (0, 1));
}

#[test]
fn a_binding_that_failed_after_the_pod_was_seen_bound_changes_nothing() {
    let mut test = Test::new();
    test.pod("p", &json!({}), &json!({}));
    let (pod, _) = test.decide();
    test.pod("p", &json!({"nodeName": "a"}), &json!({}));
    test.cluster.forget(&pod, &ClaimPlan::default(), NOW);
    test.cluster.queue.failed(&pod.uid, NOW);
    assert_eq!((test.placed(), test.counts()), (1, Counts::default()));
}

#[test]
fn what_goes_helps_those_that_wait() {
    let mut test = Test::new();
    for name in ["one", "two"] {
        test.pod(name, &json!({"nodeName": "a"}), &json!({}));
    }
    test.pod("p", &json!({}), &json!({}));
    let (pod, decision) = test.decide();
    let plugins = decision.refused().unwrap().plugins();
    assert_ne!(plugins, PluginSet::default());
    test.cluster.queue.refused(&pod.uid, plugins, NOW);
    assert_eq!(test.counts().unschedulable, 1);
    test.node("a", "2");
    assert_eq!(test.counts().unschedulable, 1, "a node that did not change");
    test.pod("one", &json!({"nodeName": "a"}), &json!({"phase": "Succeeded"}));
    assert_eq!(test.counts().unschedulable, 0);
}

#[test]
fn a_pod_that_is_being_deleted_is_left_alone() {
    let mut test = Test::new();
    test.pod("p", &json!({}), &json!({}));
    let deleted = json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": []},
    });
    test.cluster.there(Object::Pod(serde_json::from_value(deleted).unwrap()), NOW);
    assert_eq!(test.counts(), Counts::default());
}

#[test]
fn room_that_is_made_for_a_pod_is_kept_from_others() {
    let mut test = Test::new();
    test.pod("first", &json!({"priority": 9}), &json!({"nominatedNodeName": "a"}));
    let node = test.cluster.snapshot.node("a").unwrap();
    assert_eq!(test.cluster.snapshot.nominated_on(node).len(), 1);
    test.cluster.nominate("first", None);
    assert_eq!(test.cluster.snapshot.nominated_on(node).len(), 0);
    // Old news do not bring it back.
    test.pod("first", &json!({"priority": 9}), &json!({"nominatedNodeName": "a"}));
    assert_eq!(test.cluster.snapshot.nominated_on(node).len(), 0);
}
