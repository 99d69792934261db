//! Budgets: tables for each decision, and evictions against a controller whose news is old.

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::plan::{Action, Failure, Verdict};
use crate::replica_set::ReplicaSets;
use crate::simulation::{SimulatedApi, World};

const NOW: &str = "2026-01-02T00:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn pod(name: &str, ready: bool, change: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "labels": {"app": "a"},
            "ownerReferences": [{
                "apiVersion": "example.com/v1", "kind": "Ring", "name": "r", "uid": "ru", "controller": true,
            }],
        },
        "spec": {"containers": []},
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
        },
    });
    barque_api::patch::merge::merge(&mut pod, change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn view(spec: Value, pods: Vec<Arc<Pod>>, controllers: Vec<expected::Control>) -> View {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "a"}});
    let budget =
        json!({"metadata": {"namespace": "ns", "name": "b", "uid": "bu", "generation": 2}, "spec": spec});
    let budget = Arc::new(serde_json::from_value(budget).unwrap());
    View { budget, pods: Ok(pods), contested: Vec::new(), controllers, answers: Answers::default() }
}

fn written(plan: &Plan) -> Value {
    let actions: Vec<_> = plan.actions().collect();
    assert_eq!(actions.len(), 1, "{plan:?}");
    let Action::Update { patch, subresource: Some("status"), .. } = &actions[0].action else {
        panic!("{plan:?}")
    };
    patch["status"].clone()
}

#[test]
fn what_may_be_evicted_follows_from_what_is_healthy() {
    let check = |spec: Value, ready: usize, unready: usize, wanted: i32, expected: (i64, i64, i64, i64)| {
        let pods = (0..ready + unready).map(|number| pod(&number.to_string(), number < ready, json!({})));
        let known = vec![expected::Control::Known("ru".into(), wanted)];
        let view = view(spec.clone(), pods.collect(), known);
        let status = written(&budget::plan(&view, now()));
        let number = |name: &str| status[name].as_i64().unwrap();
        let got = (
            number("expectedPods"),
            number("desiredHealthy"),
            number("currentHealthy"),
            number("disruptionsAllowed"),
        );
        assert_eq!(got, expected, "{spec}");
        let condition = &status["conditions"][0];
        let (word, reason) =
            if expected.3 > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        assert_eq!((&condition["status"], &condition["reason"]), (&json!(word), &json!(reason)));
        assert_eq!((&status["observedGeneration"], &condition["observedGeneration"]), (&json!(2), &json!(2)));
    };
    check(json!({"minAvailable": 2}), 3, 0, 9, (3, 2, 3, 1));
    check(json!({"minAvailable": 3}), 3, 0, 9, (3, 3, 3, 0));
    check(json!({"minAvailable": 2}), 2, 5, 9, (7, 2, 2, 0));
    check(json!({"minAvailable": 0}), 0, 0, 0, (0, 0, 0, 0));
    check(json!({"minAvailable": "50%"}), 3, 0, 3, (3, 2, 3, 1));
    check(json!({"minAvailable": "100%"}), 3, 0, 3, (3, 3, 3, 0));
    check(json!({"maxUnavailable": 1}), 3, 0, 3, (3, 2, 3, 1));
    check(json!({"maxUnavailable": 1}), 2, 0, 3, (3, 2, 2, 0));
    check(json!({"maxUnavailable": "30%"}), 10, 0, 10, (10, 7, 10, 3));
    check(json!({"maxUnavailable": "1%"}), 10, 0, 10, (10, 9, 10, 1));
    check(json!({"maxUnavailable": 5}), 2, 0, 3, (3, 0, 2, 2));
}

#[test]
fn evictions_that_were_allowed_count_until_the_pod_goes_or_for_two_minutes() {
    let mut view = view(
        json!({"minAvailable": 1}),
        vec![
            pod("fresh", true, json!({})),
            pod("old", true, json!({})),
            pod("going", true, json!({"metadata": {"deletionTimestamp": NOW}})),
            pod("other", true, json!({})),
            // Another one has its name again.
            pod("new", true, json!({"metadata": {"creationTimestamp": "2026-01-01T23:59:30Z"}})),
        ],
        Vec::new(),
    );
    let mut budget = (*view.budget).clone();
    let status = json!({"disruptedPods": {
        "fresh": "2026-01-01T23:59:00Z", "old": "2026-01-01T23:57:59Z", "going": NOW, "new": "2026-01-01T23:59:29Z",
        "unknown": "2026-01-01T23:59:10Z", "gone": "2026-01-01T23:57:59Z",
    }});
    budget.status = Some(serde_json::from_value(status).unwrap());
    view.budget = Arc::new(budget);
    let plan = budget::plan(&view, now());
    let status = written(&plan);
    // Of the map, what is not needed any more is taken out.
    assert_eq!(status["disruptedPods"], json!({"old": null, "going": null, "gone": null, "new": null}));
    assert_eq!((&status["currentHealthy"], &status["disruptionsAllowed"]), (&json!(3), &json!(2)));
    assert_eq!(plan.requeue_after, Some(std::time::Duration::from_millis(60_001)));
    assert_eq!(plan.notes.len(), 1);
    assert_eq!((plan.notes[0].reason, plan.notes[0].regarding.name.as_deref()), ("NotDeleted", Some("old")));
}

#[test]
fn controllers_of_other_kinds_are_asked_for_their_scale() {
    let asked = |view: &View| -> Vec<String> {
        Budgets.questions(view).into_iter().map(|question| question.path).collect()
    };
    let reference = pod("a", true, json!({})).controller().unwrap().clone();
    let control = expected::Control::Asked(reference, "a".into());
    let mut view = view(json!({"maxUnavailable": 1}), vec![pod("a", true, json!({}))], vec![control]);
    assert_eq!(asked(&view), ["/apis/example.com/v1"]);
    let list =
        json!({"resources": [{"name": "rings", "kind": "Ring"}, {"name": "rings/scale", "kind": "Scale"}]});
    let question = Budgets.questions(&view).remove(0);
    Budgets.learn(&mut view, question, Ok(list));
    assert_eq!(asked(&view), ["/apis/example.com/v1/namespaces/ns/rings/r/scale"]);
    let question = Budgets.questions(&view).remove(0);
    let scale = json!({"metadata": {"uid": "ru"}, "spec": {"replicas": 5}, "status": {"replicas": 1}});
    Budgets.learn(&mut view, question.clone(), Ok(scale));
    assert_eq!(asked(&view), [""; 0]);
    assert_eq!(written(&budget::plan(&view, now()))["expectedPods"], 5);
    // It is another one of the same name.
    let other = json!({"metadata": {"uid": "x"}, "spec": {"replicas": 5}});
    Budgets.learn(&mut view, question.clone(), Ok(other));
    let plan = budget::plan(&view, now());
    let status = written(&plan);
    assert_eq!(status["disruptionsAllowed"], 0);
    let condition = &status["conditions"][0];
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("SyncFailed"), &json!("found no controllers for pod \"a\""),)
    );
    assert_eq!(plan.notes[0].reason, "CalculateExpectedPodCountFailed");
    let down = Failure { verdict: Verdict::Unknown, message: "it is down".into() };
    Budgets.learn(&mut view, question, Err(down));
    assert_eq!(written(&budget::plan(&view, now()))["conditions"][0]["message"], "it is down");
}

#[test]
fn a_budget_without_pods_and_pods_without_controllers_are_told() {
    let empty = budget::plan(&view(json!({"minAvailable": 1}), Vec::new(), Vec::new()), now());
    assert_eq!((empty.notes[0].reason, empty.notes[0].text.as_str()), ("NoPods", "No matching pods found"));
    let bare = pod("a", true, json!({"metadata": {"ownerReferences": null}}));
    let unmanaged = budget::plan(&view(json!({"maxUnavailable": 1}), vec![bare], Vec::new()), now());
    assert_eq!(unmanaged.notes[0].reason, "UnmanagedPods");
}

#[test]
fn a_disruption_that_did_not_come_is_not_believed_for_ever() {
    let target = |since: &str, reason: &str| {
        json!({"status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": since},
        ]}})
    };
    let plan = |pod: Arc<Pod>| StaleDisruptions.plan(&pod, now());
    let stale = plan(pod("a", true, target("2026-01-01T23:58:00Z", "EvictionByEvictionAPI")));
    assert_eq!(written(&stale)["conditions"][0]["status"], "False");
    let fresh = plan(pod("a", true, target("2026-01-01T23:59:00Z", "EvictionByEvictionAPI")));
    assert!(fresh.is_empty());
    assert_eq!(fresh.requeue_after, Some(std::time::Duration::from_secs(60)));
    assert_eq!(plan(pod("a", true, target("2026-01-01T00:00:00Z", "TerminationByKubelet"))), Plan::nothing());
}

/// What the API server does with an eviction; whether it was allowed.
fn evict(api: &SimulatedApi, pod: &Pod, now: Timestamp) -> bool {
    let budget = api.get::<PodDisruptionBudget>("ns", "b").unwrap();
    let status = budget.status.clone().unwrap_or_default();
    let seen = status.observed_generation.unwrap_or_default() >= budget.metadata.generation.unwrap();
    if !seen || status.disruptions_allowed.unwrap_or_default() <= 0 || pod.is_deleting() {
        return false;
    }
    api.edit::<PodDisruptionBudget>(&budget.key(), |budget| {
        let status = budget.status.as_mut().unwrap();
        status.disruptions_allowed = status.disruptions_allowed.map(|allowed| allowed - 1);
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        status.disrupted_pods.get_or_insert_default().insert(pod.key().name, time);
    });
    true
}

fn is_never_overdrawn(seed: u64, replicas: i32, spec: usize, amount: i32) -> Result<(), TestCaseError> {
    let (spec, least) = match spec {
        0 => (json!({"minAvailable": amount}), amount),
        1 => (json!({"maxUnavailable": amount}), (replicas - amount).max(0)),
        _ => (json!({"minAvailable": "50%"}), (replicas + 1) / 2),
    };
    let mut world = World::new(seed);
    // Nothing breaks by itself: what is unavailable then is so by evictions alone.
    world.healthy_nodes();
    world.run(ReplicaSets::default);
    world.run(|| Budgets);
    world.create::<ReplicaSet>(json!({
        "metadata": {"namespace": "ns", "name": "r"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}, "template": {
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": []},
        }},
    }));
    let mut budget = json!({"metadata": {"namespace": "ns", "name": "b"}, "spec": spec});
    budget["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
    world.create::<PodDisruptionBudget>(budget);
    world.settle();
    let mut allowed = Vec::new();
    let until = world.time.elapsed() + std::time::Duration::from_secs(100);
    for _ in 0..300 {
        // Caches may lag by less than an eviction is remembered.
        if world.time.elapsed() > until {
            break;
        }
        let pods = world.api.all::<Pod>();
        match world.rng.random_range(0..6) {
            0 if !pods.is_empty() => {
                let pod = &pods[world.rng.random_range(0..pods.len())];
                if crate::pods::is_ready(pod)
                    && !allowed.contains(&pod.uid().to_owned())
                    && evict(&world.api, pod, world.time.now())
                {
                    allowed.push(pod.uid().to_owned());
                    let healthy = |pod: &&Pod| {
                        !pod.is_deleting()
                            && crate::pods::is_ready(pod)
                            && !allowed.contains(&pod.uid().to_owned())
                    };
                    let left = i32::try_from(pods.iter().filter(healthy).count()).unwrap();
                    prop_assert!(left >= least, "{left} of {replicas} are left, {least} must be");
                }
            }
            // The API server comes to delete what it has allowed to.
            1 => {
                let going =
                    pods.iter().find(|pod| !pod.is_deleting() && allowed.contains(&pod.uid().to_owned()));
                if let Some(pod) = going {
                    world.api.delete::<Pod>(&pod.key(), crate::plan::Propagation::Background, None);
                }
            }
            _ => world.step(),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_is_never_overdrawn(seed: u64, replicas in 1i32..6, spec in 0..3usize, amount in 0i32..4) {
        is_never_overdrawn(seed, replicas, spec, amount)?;
    }
}

/// A pod was evicted before the controller had heard of it.
#[test]
fn a_pod_that_is_not_known_yet_is_not_forgotten() {
    is_never_overdrawn(11_001_168_908_847_864_625, 4, 2, 0).unwrap();
}
