//! Tables for pods that ask for other resources while they run: what is granted, what is done for it, what is told of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::allocation::Allocation;
use super::failures::Failures;
use super::observed::Observed;
use super::plan::{Action, Known, PodPlan, StopReason, plan};
use super::plan_tests::{at, observed};
use super::probes::Probes;
use super::resize::{Change, Grant, Pending, Resizing, change, in_force, judge, order};
use super::status::status;
use crate::containers::bounds;
use crate::node::admission::{Amounts, asks};

fn resources(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn pod(resources: &Value, restarting: &[&str]) -> Pod {
    let policies: Vec<_> = restarting
        .iter()
        .map(|name| json!({"resourceName": name, "restartPolicy": "RestartContainer"}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 2},
        "spec": {"restartPolicy": "OnFailure", "containers": [
            {"name": "a", "image": "image", "resources": resources, "resizePolicy": policies}]},
    }))
    .unwrap()
}

/// What is there, with the bounds of a pod that asks for this.
fn bounded(words: &str, resources: &Value) -> Observed {
    let before = pod(resources, &[]);
    let mut there = observed(words);
    let container = &before.spec.as_ref().unwrap().containers[0];
    there.containers.get_mut("a").unwrap().newest.bounds = Some(bounds::of_container(container));
    there.sandbox.as_mut().unwrap().bounds = Some(bounds::of_whole(&before));
    there
}

fn planned(pod: &Pod, observed: &Observed, resizing: &Resizing) -> (PodPlan, Value) {
    let mut probes = Probes::default();
    probes.follow(pod, observed);
    let failures = Failures::default();
    let known = Known {
        pod,
        observed,
        probes: &probes,
        failures: &failures,
        refusal: None,
        resizing,
        gone: false,
        now: at(100),
    };
    let plan = plan(&known);
    let told = json!(status(&known, &plan, &["192.168.0.1".parse().unwrap()]));
    (plan, told)
}

#[test]
fn a_node_grants_what_it_has_and_others_leave() {
    let node: Node = serde_json::from_value(
        json!({"status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}}),
    )
    .unwrap();
    let used: Amounts = asks(&pod(&resources("500m", "256Mi"), &[]));
    let table = [
        ("1500m", "768Mi", None),
        (
            "1501m",
            "1Mi",
            Some(
                "Deferred: Node didn't have enough resource: cpu, requested: 1501, used: 500, capacity: 2000",
            ),
        ),
        (
            "1",
            "769Mi",
            Some(
                "Deferred: Node didn't have enough resource: memory, requested: 806354944, used: 268435456, capacity: 1073741824",
            ),
        ),
        (
            "2001m",
            "1Mi",
            Some("Infeasible: Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000"),
        ),
        (
            "3",
            "2Gi",
            Some(
                "Infeasible: Node didn't have enough capacity: memory, requested: 2147483648, capacity: 1073741824",
            ),
        ),
    ];
    for (cpu, memory, expected) in table {
        let found = judge(&pod(&resources(cpu, memory), &[]), &node, &used);
        assert!(found.iter().all(|pending| pending.generation == Some(2)));
        let found = found.map(|pending| format!("{}: {}", pending.reason, pending.message));
        assert_eq!(found.as_deref(), expected, "{cpu} {memory}");
    }
}

#[test]
fn who_asks_for_less_is_looked_at_first_and_then_who_matters_more() {
    let granted = pod(&resources("1", "1Gi"), &[]);
    let with = |cpu: &str, priority: i32| {
        let mut pod = pod(&resources(cpu, "1Gi"), &[]);
        pod.spec.as_mut().unwrap().priority = Some(priority);
        order(&pod, &granted)
    };
    assert!(with("500m", 0) < with("2", 1000));
    assert!(with("2", 1000) < with("2", 0));
}

#[test]
fn policies_say_who_is_started_anew() {
    let before = resources("100m", "64Mi");
    let now = bounds::of_container(&pod(&before, &[]).spec.unwrap().containers[0]);
    let table = [
        (before.clone(), &["cpu", "memory"][..], Change::Nothing),
        (resources("200m", "64Mi"), &[], Change::InPlace),
        (resources("200m", "64Mi"), &["memory"], Change::InPlace),
        (resources("200m", "64Mi"), &["cpu"], Change::Restart),
        (resources("200m", "65Mi"), &["memory"], Change::Restart),
        // What is asked for of memory is in no control group.
        (
            json!({"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}),
            &["memory"],
            Change::Nothing,
        ),
    ];
    for (wanted, policies, expected) in table {
        let pod = pod(&wanted, policies);
        assert_eq!(change(&pod.spec.unwrap().containers[0], Some(&now)), expected, "{wanted} {policies:?}");
    }
    assert_eq!(change(&pod(&before, &[]).spec.unwrap().containers[0], None), Change::Nothing, "nobody knows");
}

#[test]
fn what_runs_gets_what_was_granted_where_it_runs() {
    let (small, large) = (resources("100m", "64Mi"), resources("200m", "128Mi"));
    let resizing = Resizing { generation: Some(2), ..Resizing::default() };
    let (plan, told) = planned(&pod(&large, &[]), &bounded("a=r", &small), &resizing);
    assert_eq!(plan.actions, [Action::Resize { containers: vec!["a".into()], shrinks: true }]);
    let status = &told["containerStatuses"][0];
    assert_eq!(status["allocatedResources"], large["requests"]);
    let expected = json!({"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "100m", "memory": "67108864"}});
    assert_eq!(status["resources"], expected, "what it has");
    let conditions = told["conditions"].as_array().unwrap();
    let progress = conditions.iter().find(|it| it["type"] == "PodResizeInProgress").unwrap();
    assert_eq!((&progress["status"], &progress["observedGeneration"]), (&json!("True"), &json!(2)));

    let (plan, told) = planned(&pod(&large, &[]), &bounded("a=r", &large), &resizing);
    assert_eq!((plan.actions.len(), plan.resizing), (0, false));
    assert_eq!(told["containerStatuses"][0]["resources"], large);
    assert!(!told["conditions"].to_string().contains("PodResize"), "{told}");
}

#[test]
fn what_wants_to_be_started_anew_is_stopped_and_the_pod_shrinks_only_then() {
    let (small, large) = (resources("100m", "64Mi"), resources("200m", "128Mi"));
    let policies = ["memory"];
    let no = Resizing::default();
    let (growing, _) = planned(&pod(&large, &policies), &bounded("a=r", &small), &no);
    assert_eq!(growing.actions[0], Action::Resize { containers: vec![], shrinks: false });
    let stop = |action: &Action| matches!(action, Action::Stop { reason: StopReason::Resized, .. });
    assert!(stop(&growing.actions[1]) && growing.resizing, "{growing:?}");
    let (shrinking, _) = planned(&pod(&small, &policies), &bounded("a=r", &large), &no);
    assert!(shrinking.actions.len() == 1 && stop(&shrinking.actions[0]), "{shrinking:?}");
    let (stopping, _) = planned(&pod(&small, &policies), &bounded("a=r!", &large), &no);
    assert_eq!((stopping.actions.len(), stopping.resizing), (0, true));
    // It is started again, though it ended well after it was asked to.
    let (ended, _) = planned(&pod(&small, &policies), &bounded("a=0!", &large), &no);
    let [Action::Resize { shrinks: true, .. }, Action::Start { attempt: 1, .. }] = &ended.actions[..] else {
        panic!("{ended:?}")
    };
}

#[test]
fn what_is_not_granted_or_not_done_is_told() {
    let small = resources("100m", "64Mi");
    let pending = Pending { reason: "Deferred".into(), message: "M".into(), generation: Some(3) };
    let resizing = Resizing { pending: Some(pending), error: Some("E".into()), generation: Some(2) };
    let (_, told) = planned(&pod(&resources("200m", "64Mi"), &[]), &bounded("a=r", &small), &resizing);
    let of = |kind: &str| {
        let found = told["conditions"].as_array().unwrap().iter().find(|it| it["type"] == kind).unwrap();
        ["status", "reason", "message", "observedGeneration"].map(|name| found[name].clone())
    };
    assert_eq!(of("PodResizePending"), [json!("True"), json!("Deferred"), json!("M"), json!(3)]);
    assert_eq!(of("PodResizeInProgress"), [json!("True"), json!("Error"), json!("E"), json!(2)]);
}

#[test]
fn amounts_are_told_as_they_were_granted_where_they_hold() {
    // 100m are 102 shares, which would be 99.6m.
    let small = pod(&resources("100m", "64Mi"), &[]).spec.unwrap().containers.remove(0);
    let now = bounds::of_container(&small);
    assert_eq!(json!(in_force(&small, Some(&now))), resources("100m", "64Mi"));
    let large = pod(&resources("1500m", "1Gi"), &[]).spec.unwrap().containers.remove(0);
    let told = json!(in_force(&small, Some(&bounds::of_container(&large))));
    assert_eq!((&told["requests"]["cpu"], &told["limits"]["cpu"]), (&json!("1500m"), &json!("1500m")));
}

#[test]
fn what_nobody_has_looked_at_is_not_granted() {
    let (small, large) = (pod(&resources("1", "1Gi"), &[]), pod(&resources("2", "1Gi"), &[]));
    let newer = Arc::new(large.clone());
    assert_eq!(Grant::default().applied(&newer, &large), newer);
    assert_eq!(Grant::default().applied(&newer, &small).spec, small.spec);
    let granted = Grant { allocated: Some(Arc::new(Allocation::of(&small))), pending: None };
    assert_eq!(granted.applied(&newer, &large).spec, small.spec);
    // An agent that comes back knows it by the file, or by what was told.
    assert_eq!(Grant::known(&large, Some(Allocation::of(&small))).applied(&newer, &large).spec, small.spec);
    assert_eq!(Grant::known(&large, None), Grant::default());
}
