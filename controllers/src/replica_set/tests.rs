//! ReplicaSets: tables for each decision, and whole lives of sets in a simulated cluster.

use std::collections::HashSet;

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::act::perform;
use crate::kind::Object as _;
use crate::plan::{Action, Failure, Order, Propagation, Verdict};
use crate::pods;
use crate::simulation::{SimulatedApi, Trouble, World};

fn set(name: &str, replicas: i32, app: &str) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

/// A pod of the set `r`, with what is different.
fn pod(name: &str, change: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "labels": {"app": "a"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true,
            }],
        },
        "spec": {"containers": [], "nodeName": "n1"},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ],
        },
    });
    barque_api::patch::merge::merge(&mut pod, change);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn view(replicas: i32, pods: Vec<Arc<Pod>>) -> View<ReplicaSet> {
    let mut object = set("r", replicas, "a");
    object["metadata"]["uid"] = "u".into();
    object["metadata"]["generation"] = 3.into();
    let object: Arc<ReplicaSet> = Arc::new(serde_json::from_value(object).unwrap());
    View { set: object.set().unwrap(), object, pods, related: Vec::new() }
}

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn deleted(plan: &Plan) -> Vec<&str> {
    plan.actions()
        .filter(|planned| matches!(planned.action, Action::Delete { .. }))
        .map(|planned| planned.action.name())
        .collect()
}

fn created(plan: &Plan) -> usize {
    plan.actions().filter(|planned| matches!(planned.action, Action::Create { .. })).count()
}

#[test]
fn missing_pods_are_made_and_surplus_ones_deleted() {
    let pods = |count| (0..count).map(|number| pod(&number.to_string(), json!({}))).collect::<Vec<_>>();
    let check = |replicas, there, (makes, deletes)| {
        let plan = plan::plan(&view(replicas, pods(there)), now());
        assert_eq!((created(&plan), deleted(&plan).len()), (makes, deletes), "{replicas} of {there}");
    };
    check(3, 3, (0, 0));
    check(3, 1, (2, 0));
    check(3, 5, (0, 2));
    check(0, 2, (0, 2));
    check(2000, 0, (500, 0));
    check(0, 600, (0, 500));
}

#[test]
fn pods_that_ended_or_go_are_replaced() {
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let pods = vec![
        pod("a", json!({"status": {"phase": "Failed"}})),
        pod("b", json!({"status": {"phase": "Succeeded"}})),
        pod("c", gone),
        pod("d", json!({})),
    ];
    let view = view(3, pods);
    assert_eq!(created(&plan::plan(&view, now())), 2);
    let Some(Planned { action: Action::Update { patch, .. }, .. }) =
        status::update(&view, &Outcome::default(), now())
    else {
        panic!("the status is written")
    };
    let expected = json!({"status": {
        "replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "terminatingReplicas": 1, "observedGeneration": 3,
    }});
    assert_eq!(patch, expected);
}

#[test]
fn a_new_pod_is_of_the_template_and_controlled() {
    let plan = plan::plan(&view(1, Vec::new()), now());
    assert_eq!(plan.steps[0].order, Order::SlowStart);
    let Action::Create { object, .. } = &plan.steps[0].actions[0].action else { panic!("{plan:?}") };
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "ns", "generateName": "r-", "labels": {"app": "a"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(*object, expected);
}

#[test]
fn a_set_that_is_being_deleted_makes_nothing() {
    let mut view = view(3, vec![pod("a", json!({}))]);
    let mut object = (*view.object).clone();
    object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    view.object = Arc::new(object);
    assert!(plan::plan(&view, now()).is_empty());
}

/// Of these two, the first goes first.
fn goes_first(first: Value, second: Value) {
    goes_first_among(first, second, &[]);
}

fn goes_first_among(first: Value, second: Value, related: &[Arc<Pod>]) {
    for names in [("a", "b"), ("b", "a")] {
        let (first, second) = (pod(names.0, first.clone()), pod(names.1, second.clone()));
        for order in [vec![first.clone(), second.clone()], vec![second.clone(), first.clone()]] {
            let mut view = view(1, order);
            view.related = related.to_vec();
            assert_eq!(deleted(&plan::plan(&view, now())), [first.key().name], "{first:?} {second:?}");
        }
    }
}

#[test]
fn the_pod_goes_that_is_missed_least() {
    let ready_at = |time: &str| {
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": time},
        ]}})
    };
    let cost = |cost: &str| {
        json!({"metadata": {"annotations": {
            "controller.kubernetes.io/pod-deletion-cost": cost,
        }}})
    };
    let restarts = |count: i32| {
        json!({"status": {"containerStatuses": [
            {"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": count},
        ]}})
    };
    goes_first(json!({"spec": {"nodeName": null}}), json!({}));
    goes_first(json!({"status": {"phase": "Pending"}}), json!({"status": {"phase": "Unknown"}}));
    goes_first(json!({"status": {"phase": "Unknown"}}), json!({}));
    goes_first(json!({"status": {"conditions": null}}), json!({}));
    goes_first(cost("-1"), json!({}));
    goes_first(json!({}), cost("10"));
    goes_first(ready_at("2026-01-01T23:59:00Z"), json!({}));
    goes_first(restarts(3), restarts(2));
    goes_first(json!({"metadata": {"creationTimestamp": "2026-01-01T23:59:00Z"}}), json!({}));
    // Before all that follows in the list, what comes earlier decides.
    goes_first(json!({"spec": {"nodeName": null}}), cost("-100"));
    // About equally old: neither by its age.
    let younger = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:10Z", "uid": "y"}});
    let older = json!({"metadata": {"uid": "x"}});
    let both = view(1, vec![pod("a", younger), pod("b", older)]);
    assert_eq!(deleted(&plan::plan(&both, now())), ["b"], "by its uid");
}

#[test]
fn of_equals_the_one_goes_whose_node_has_more_siblings() {
    let related: Vec<_> = [("x", "n1"), ("y", "n2"), ("z", "n2")]
        .iter()
        .map(|(name, node)| pod(name, json!({"spec": {"nodeName": node}})))
        .collect();
    goes_first_among(json!({"spec": {"nodeName": "n2"}}), json!({}), &related);
}

#[test]
fn a_pod_is_available_when_it_has_been_ready_for_long_enough() {
    let mut view = view(2, Vec::new());
    view.set.min_ready_seconds = 30;
    let since = |time: &str| {
        json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": time},
        ]}})
    };
    view.pods = vec![pod("a", since("2026-01-01T23:59:30Z")), pod("b", since("2026-01-01T23:59:50Z"))];
    let plan = plan::plan(&view, now());
    assert_eq!(plan.requeue_after, Some(std::time::Duration::from_secs(20)));
    let Some(Planned { action: Action::Update { patch, .. }, .. }) =
        status::update(&view, &Outcome::default(), now())
    else {
        panic!("the status is written")
    };
    assert_eq!(patch["status"]["availableReplicas"], 1);
    assert_eq!(patch["status"]["readyReplicas"], 2);
}

#[test]
fn a_failure_stands_in_the_status_until_it_is_over() {
    struct Refuses;
    impl crate::act::Api for Refuses {
        async fn ask(&self, question: &crate::question::Question) -> crate::question::Answer {
            Err(Failure { verdict: Verdict::Gone, message: question.path.clone() })
        }

        async fn perform(&self, _: &Action) -> Result<crate::plan::Done, Failure> {
            Err(Failure { verdict: Verdict::Refused, message: "exceeded quota".into() })
        }
    }
    use futures::FutureExt as _;
    let mut view = view(2, Vec::new());
    let outcome = perform(plan::plan(&view, now()), &Refuses).now_or_never().unwrap();
    assert_eq!(outcome.tried.len(), 1, "the first tells enough");
    let Some(Planned { action: Action::Update { patch, .. }, .. }) = status::update(&view, &outcome, now())
    else {
        panic!("the status is written")
    };
    let expected = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota",
        "lastTransitionTime": "2026-01-02T00:00:00Z",
    }]);
    assert_eq!(patch["status"]["conditions"], expected);
    let mut object = serde_json::to_value(&*view.object).unwrap();
    barque_api::patch::merge::merge(&mut object, patch);
    view.object = Arc::new(serde_json::from_value(object).unwrap());
    view.set = view.object.set().unwrap();
    let again = perform(plan::plan(&view, now()), &Refuses).now_or_never().unwrap();
    assert_eq!(status::update(&view, &again, now()), None);
    let Some(Planned { action: Action::Update { patch, .. }, .. }) =
        status::update(&view, &Outcome::default(), now())
    else {
        panic!("the status is written")
    };
    assert_eq!(patch, json!({"status": {"conditions": null}}));
}

/// Nobody is owned twice, and every owner is or was there.
fn owned_once(api: &SimulatedApi) {
    for pod in api.all::<Pod>() {
        let owners = pod.metadata.owner_references.iter().flatten();
        assert!(owners.filter(|owner| owner.controller == Some(true)).count() <= 1, "{pod:?}");
    }
}

fn active_of(api: &SimulatedApi, uid: &str) -> Vec<Pod> {
    let mut pods = api.all::<Pod>();
    pods.retain(|pod| pods::is_active(pod) && pod.is_controlled_by(uid));
    pods
}

#[derive(Debug, Clone)]
enum Deed {
    Steps(u8),
    Scale(u8, i32),
    Relabel,
    Orphan,
    Restart,
    Trouble,
    Quota,
    Calm,
    Remove(u8),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (1u8..60).prop_map(Deed::Steps),
        3 => (0u8..2, 0i32..9).prop_map(|(which, replicas)| Deed::Scale(which, replicas)),
        1 => Just(Deed::Relabel),
        1 => Just(Deed::Orphan),
        1 => Just(Deed::Restart),
        1 => Just(Deed::Trouble),
        1 => Just(Deed::Quota),
        1 => Just(Deed::Calm),
        1 => (0u8..2).prop_map(Deed::Remove),
    ];
    prop::collection::vec(deed, 1..25)
}

fn name(which: u8) -> &'static str {
    ["a", "b"][usize::from(which % 2)]
}

fn live(seed: u64, deeds: &[Deed]) {
    let mut world = World::new(seed);
    world.run(ReplicaSets::default);
    world.always(owned_once);
    for which in 0..2 {
        world.create::<ReplicaSet>(set(name(which), 3, name(which)));
    }
    for deed in deeds {
        match deed {
            Deed::Steps(count) => (0..*count).for_each(|_| world.step()),
            Deed::Scale(which, replicas) => {
                world.edit::<ReplicaSet>("ns", name(*which), |set| set.spec.replicas = Some(*replicas));
            }
            Deed::Relabel => {
                let pods = world.api.all::<Pod>();
                if !pods.is_empty() {
                    let (from, to) = (world.rng.random_range(0..pods.len()), world.rng.random_range(0..3));
                    let label = ["a", "b", "c"][to].to_owned();
                    world.edit::<Pod>("ns", &pods[from].key().name, |pod| {
                        pod.metadata.labels = Some([("app".to_owned(), label)].into());
                    });
                }
            }
            Deed::Orphan => {
                let label = name(world.rng.random_range(0..2));
                world.create::<Pod>(json!({
                    "metadata": {"namespace": "ns", "generateName": "lost-", "labels": {"app": label}},
                    "spec": {"containers": []},
                }));
            }
            Deed::Restart => world.restart(),
            Deed::Trouble => world.api.trouble(Trouble::Percent(30)),
            Deed::Quota => world.api.trouble(Trouble::Quota),
            Deed::Calm => world.api.trouble(Trouble::None),
            Deed::Remove(which) => {
                world.api.delete::<ReplicaSet>(&Key::new("ns", name(*which)), Propagation::Background, None);
            }
        }
    }
    world.settle();
    let mut seen = HashSet::new();
    for set in world.api.all::<ReplicaSet>() {
        let pods = active_of(&world.api, set.uid());
        let wanted = set.spec.replicas.unwrap();
        assert_eq!(pods.len(), usize::try_from(wanted).unwrap(), "{set:?}");
        let status = set.status.clone().unwrap();
        assert_eq!(status.replicas, wanted);
        assert_eq!(status.ready_replicas.unwrap_or_default(), wanted);
        assert_eq!(status.observed_generation, set.metadata.generation);
        assert_eq!(status.conditions, None);
        assert!(pods.iter().all(|pod| seen.insert(pod.uid().to_owned())));
        let app = set.spec.selector.match_labels.as_ref().unwrap()["app"].clone();
        assert!(pods.iter().all(|pod| pod.label("app") == Some(&app)));
        let orphans = world.api.all::<Pod>().into_iter().filter(|pod| {
            pods::is_active(pod) && pod.controller().is_none() && pod.label("app") == Some(&app)
        });
        assert_eq!(orphans.count(), 0, "somebody was not adopted");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn sets_get_their_pods_whatever_happens(seed in any::<u64>(), deeds in deeds()) {
        live(seed, &deeds);
    }
}

#[test]
fn with_lagging_watches_no_pod_is_made_too_many() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.run(ReplicaSets::default);
        let made = world.create::<ReplicaSet>(set("a", 5, "a"));
        let uid = made.uid().to_owned();
        world.always(move |api| assert!(active_of(api, &uid).len() <= 5));
        (0..300).for_each(|_| world.step());
        world.settle();
    }
}

#[test]
fn people_are_told_what_was_done() {
    let mut world = World::new(1);
    world.run(ReplicaSets::default);
    world.create::<ReplicaSet>(set("a", 1, "a"));
    world.settle();
    let told = world.told.lock().clone();
    let pod = world.api.all::<Pod>().remove(0).key().name;
    assert_eq!((told[0].reason, &*told[0].text), ("SuccessfulCreate", &*format!("Created pod: {pod}")));
    assert_eq!(told[0].regarding.kind.as_deref(), Some("ReplicaSet"));
}

#[test]
fn replication_controllers_work_the_same() {
    let mut world = World::new(7);
    world.run(ReplicationControllers::default);
    world.create::<ReplicationController>(json!({
        "metadata": {"namespace": "ns", "name": "rc"},
        "spec": {"replicas": 2, "selector": {"app": "a"}, "template": {
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": []},
        }},
    }));
    world.settle();
    let status = world.api.get::<ReplicationController>("ns", "rc").unwrap().status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (2, Some(2)));
    world.edit::<ReplicationController>("ns", "rc", |rc| rc.spec.as_mut().unwrap().replicas = Some(0));
    world.settle();
    assert_eq!(world.api.all::<Pod>().len(), 0);
}
