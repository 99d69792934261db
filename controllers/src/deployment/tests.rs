//! Deployments: tables for each decision, and whole rollouts in a simulated cluster.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::limits::Limits;
use super::sets::Counts as _;
use super::*;
use crate::plan::{Action, Propagation};
use crate::replica_set::ReplicaSets;
use crate::simulation::{SimulatedApi, Trouble, World};

fn deployment(replicas: i32, image: &str, more: Value) -> Value {
    let mut made = json!({
        "metadata": {"namespace": "ns", "name": "d"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    });
    barque_api::patch::merge::merge(&mut made, more);
    made
}

/// A ReplicaSet of the Deployment `d`, all its pods as told.
fn set(image: &str, (wanted, actual, available): (i32, i32, i32), more: Value) -> Arc<ReplicaSet> {
    let mut made = json!({
        "metadata": {
            "namespace": "ns", "name": image, "uid": image, "resourceVersion": "1", "generation": 2,
            "labels": {"app": "a", "pod-template-hash": image},
            "annotations": {"deployment.kubernetes.io/desired-replicas": "10",
                            "deployment.kubernetes.io/max-replicas": "13"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u", "controller": true},
            ],
        },
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": {"app": "a", "pod-template-hash": image}},
            "template": {
                "metadata": {"labels": {"app": "a", "pod-template-hash": image}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
        "status": {
            "replicas": actual, "readyReplicas": available, "availableReplicas": available,
            "observedGeneration": 2,
        },
    });
    barque_api::patch::merge::merge(&mut made, more);
    Arc::new(serde_json::from_value(made).unwrap())
}

fn view(deployment: Value, replica_sets: Vec<Arc<ReplicaSet>>) -> View {
    let mut deployment = deployment;
    for (field, value) in [("uid", "u".into()), ("resourceVersion", "1".into()), ("generation", 1.into())] {
        deployment["metadata"][field] = value;
    }
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    let selector = owners::selector(&deployment.spec.selector);
    View {
        deployment: Arc::new(deployment),
        selector,
        replica_sets,
        with_pods: Vec::new(),
        name_is_taken: false,
    }
}

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

/// What a plan does with the sizes of ReplicaSets.
fn scales(plan: &Plan) -> Vec<(String, i64)> {
    let size = |value: &Value| value["spec"]["replicas"].as_i64();
    plan.actions()
        .filter_map(|planned| match &planned.action {
            Action::Create { object, .. } => Some(("new".to_owned(), size(object)?)),
            Action::Update { object, patch, .. } => Some((object.key.name.clone(), size(patch)?)),
            _ => None,
        })
        .collect()
}

fn check(view: &View, expected: &[(&str, i64)]) {
    let expected: Vec<_> = expected.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
    assert_eq!(scales(&plan::plan(view, now())), expected);
}

fn status_of(view: &View) -> Value {
    let written = status::update(view, &Outcome::default(), now());
    let Some(Planned { action: Action::Update { patch, subresource, .. }, .. }) = written else {
        return Value::Null;
    };
    assert_eq!(subresource, Some("status"));
    patch["status"].clone()
}

#[test]
fn a_new_deployment_makes_its_replica_set() {
    let view = view(deployment(10, "i1", json!({"metadata": {"annotations": {"note": "x"}}})), Vec::new());
    let plan = plan::plan(&view, now());
    let [planned] = &plan.actions().collect::<Vec<_>>()[..] else { panic!("{plan:?}") };
    let Action::Create { object, .. } = &planned.action else { panic!("{plan:?}") };
    let hash = object["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(object["metadata"]["name"], format!("d-{hash}"));
    assert_eq!(object["spec"]["selector"]["matchLabels"], json!({"app": "a", "pod-template-hash": hash}));
    assert_eq!(
        object["spec"]["template"]["metadata"]["labels"],
        json!({"app": "a", "pod-template-hash": hash})
    );
    assert_eq!(
        object["metadata"]["annotations"],
        json!({
            "note": "x", "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "10",
            "deployment.kubernetes.io/max-replicas": "13",
        })
    );
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "u");
    let told = planned.done.as_ref().unwrap();
    assert_eq!(told.reason, "ScalingReplicaSet");
    assert_eq!(told.text, format!("Scaled up replica set d-{hash} from 0 to 10"));
}

#[test]
fn a_rollout_goes_on_within_its_limits() {
    let roll = |sets| view(deployment(10, "i2", json!({})), sets);
    // At first, the surge.
    check(&roll(vec![set("i1", (10, 10, 10), json!({}))]), &[("new", 3)]);
    // With the surge there, as many old ones go as may be missed.
    let surge = |new| vec![set("i1", (10, 10, 10), json!({})), set("i2", new, json!({}))];
    check(&roll(surge((3, 0, 0))), &[("i1", 8)]);
    check(&roll(surge((3, 3, 3))), &[("i1", 5)]);
    // Pods on their way out still take room.
    check(&roll(vec![set("i1", (8, 10, 10), json!({})), set("i2", (3, 3, 0), json!({}))]), &[]);
    check(&roll(vec![set("i1", (8, 8, 8), json!({})), set("i2", (3, 3, 0), json!({}))]), &[("i2", 5)]);
    check(&roll(vec![set("i1", (8, 8, 8), json!({})), set("i2", (5, 5, 0), json!({}))]), &[]);
    // Old pods that do not work go first, even of younger templates.
    let three = vec![
        set("i0", (4, 4, 4), json!({"metadata": {"creationTimestamp": "2025-12-31T00:00:00Z"}})),
        set("i1", (6, 6, 3), json!({})),
        set("i2", (3, 3, 0), json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:01Z"}})),
    ];
    check(&roll(three), &[("i1", 4)]);
    // The last step.
    check(&roll(vec![set("i1", (2, 2, 2), json!({})), set("i2", (10, 10, 8), json!({}))]), &[("i1", 0)]);
    check(&roll(vec![set("i1", (0, 0, 0), json!({})), set("i2", (10, 10, 10), json!({}))]), &[]);
}

#[test]
fn numbers_of_yesterday_move_nothing() {
    let old = set("i1", (8, 10, 10), json!({"metadata": {"generation": 3}}));
    check(&view(deployment(10, "i2", json!({})), vec![old.clone(), set("i2", (3, 3, 3), json!({}))]), &[]);
    check(&view(deployment(10, "i2", json!({})), vec![old]), &[("new", 0)]);
}

#[test]
fn going_back_uses_the_old_replica_set_with_a_new_revision() {
    let revision =
        |text: &str| json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": text}}});
    let sets = vec![set("i1", (0, 0, 0), revision("1")), set("i2", (10, 10, 10), revision("2"))];
    let plan = plan::plan(&view(deployment(10, "i1", json!({})), sets), now());
    assert_eq!(scales(&plan), [("i1".to_owned(), 3)]);
    let Action::Update { patch, .. } = &plan.steps[0].actions[0].action else { panic!("{plan:?}") };
    assert_eq!(patch["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    assert_eq!(patch["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn recreate_waits_until_all_old_pods_have_ended() {
    let recreate =
        || deployment(4, "i2", json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    let noted = json!({"metadata": {"annotations": {"deployment.kubernetes.io/desired-replicas": "4"}}});
    check(&view(recreate(), vec![set("i1", (4, 4, 4), noted.clone())]), &[("i1", 0)]);
    check(&view(recreate(), vec![set("i1", (0, 2, 2), noted.clone())]), &[]);
    let mut terminating = view(recreate(), vec![set("i1", (0, 0, 0), noted.clone())]);
    terminating.with_pods = vec!["i1".to_owned()];
    check(&terminating, &[]);
    check(&view(recreate(), vec![set("i1", (0, 0, 0), noted.clone())]), &[("new", 4)]);
    check(
        &view(recreate(), vec![set("i1", (0, 0, 0), noted.clone()), set("i2", (0, 0, 0), noted)]),
        &[("i2", 4)],
    );
}

#[test]
fn a_paused_deployment_is_scaled_and_does_not_roll() {
    let paused = |replicas| deployment(replicas, "i2", json!({"spec": {"paused": true}}));
    check(&view(paused(10), vec![set("i1", (10, 10, 10), json!({}))]), &[]);
    check(&view(paused(20), vec![set("i1", (10, 10, 10), json!({}))]), &[("i1", 20)]);
    let status = status_of(&view(paused(10), vec![set("i1", (10, 10, 10), json!({}))]));
    assert_eq!(status["conditions"][0]["reason"], "DeploymentPaused");
    assert_eq!(status["conditions"][0]["message"], "Deployment is paused");
}

#[test]
fn scaling_in_mid_rollout_keeps_proportions() {
    let check_sizes = |replicas: i32, before: [i32; 2], expected: &[(&str, i64)]| {
        let sets = before.iter().zip(["i1", "i2"]).map(|(size, name)| {
            let age = if name == "i1" { "2026-01-01T00:00:00Z" } else { "2026-01-01T00:00:01Z" };
            set(name, (*size, *size, 0), json!({"metadata": {"creationTimestamp": age}}))
        });
        check(&view(deployment(replicas, "i2", json!({})), sets.collect()), expected);
    };
    // 10 with a surge of 3 becomes 20 with 3: 23 pods in the proportion of 8 to 5.
    check_sizes(20, [8, 5], &[("i1", 14), ("i2", 9)]);
    check_sizes(5, [8, 5], &[("i1", 5), ("i2", 3)]);
    check_sizes(0, [8, 5], &[("i1", 0), ("i2", 0)]);
    // Only one has pods: it gets all.
    check_sizes(20, [0, 10], &[("i2", 20)]);
}

#[test]
fn a_size_that_a_set_happens_to_have_stops_no_rollout() {
    const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
    let notes = |view: &View| {
        let plan = plan::plan(view, now());
        let notes = plan.actions().map(|planned| {
            let Action::Update { object, patch, .. } = &planned.action else { panic!("{planned:?}") };
            assert_eq!(patch["spec"], Value::Null, "no pod comes or goes");
            (object.key.name.clone(), patch["metadata"]["annotations"][DESIRED].as_str().map(str::to_owned))
        });
        notes.collect::<Vec<_>>()
    };
    let noted = |name: &str, size: &str| (name.to_owned(), Some(size.to_owned()));
    // A rollout to ten had brought it to four when the Deployment became one of four with another template.
    let old = || set("i1", (4, 4, 4), json!({}));
    assert_eq!(notes(&view(deployment(4, "i3", json!({})), vec![old()])), [noted("i1", "4")]);
    // Several when all old ones are to end first: each only hears of it.
    let recreate = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let both = vec![old(), set("i2", (3, 3, 3), json!({}))];
    assert_eq!(notes(&view(deployment(5, "i3", recreate), both)), [noted("i1", "5"), noted("i2", "5")]);
}

#[test]
fn a_saturated_current_one_ends_the_old_ones() {
    let noted = |desired: &str| json!({"metadata": {"annotations": {"deployment.kubernetes.io/desired-replicas": desired}}});
    let sets = vec![set("i1", (3, 3, 3), noted("7")), set("i2", (10, 10, 10), noted("10"))];
    check(&view(deployment(10, "i2", json!({})), sets), &[("i1", 0)]);
}

#[test]
fn old_revisions_go_when_there_are_too_many() {
    let revision =
        |text: &str| json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": text}}});
    let done = json!({
        "spec": {"revisionHistoryLimit": 1},
        "status": {"observedGeneration": 1, "replicas": 10, "updatedReplicas": 10, "availableReplicas": 10},
    });
    let sets = vec![
        set("i0", (0, 0, 0), revision("1")),
        set("i1", (0, 0, 0), revision("2")),
        set("i2", (10, 10, 10), revision("4")),
        set("i3", (0, 1, 0), revision("3")),
    ];
    let plan = plan::plan(&view(deployment(10, "i2", done), sets), now());
    let gone: Vec<_> = plan
        .actions()
        .filter(|planned| matches!(planned.action, Action::Delete { .. }))
        .map(|planned| planned.action.name())
        .collect();
    assert_eq!(gone, ["i0", "i1"]);
}

#[test]
fn the_status_tells_of_progress_in_upstreams_words() {
    let rolling = vec![set("i1", (8, 8, 8), json!({})), set("i2", (5, 5, 2), json!({}))];
    let status = status_of(&view(deployment(10, "i2", json!({})), rolling.clone()));
    let told = |field: &str| status[field].as_i64().unwrap();
    assert_eq!(
        [told("replicas"), told("updatedReplicas"), told("readyReplicas"), told("availableReplicas")],
        [13, 5, 10, 10]
    );
    assert_eq!((told("unavailableReplicas"), told("observedGeneration")), (3, 1));
    let condition = |status: &Value, kind: &str| {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    };
    let words = |status: &str, reason: &str, message: &str| (status.into(), reason.into(), message.into());
    assert_eq!(
        condition(&status, "Progressing"),
        words("True", "ReplicaSetUpdated", "ReplicaSet \"i2\" is progressing.")
    );
    assert_eq!(
        condition(&status, "Available"),
        words("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    );
    let done = status_of(&view(deployment(10, "i2", json!({})), vec![set("i2", (10, 10, 10), json!({}))]));
    assert_eq!(
        condition(&done, "Progressing"),
        words("True", "NewReplicaSetAvailable", "ReplicaSet \"i2\" has successfully progressed.")
    );
    // Nothing new for ten minutes.
    let stuck = |since: &str| {
        let mut before = status.clone();
        before["conditions"][1]["lastUpdateTime"] = since.into();
        before["conditions"][0]["lastUpdateTime"] = since.into();
        view(deployment(10, "i2", json!({"status": before})), rolling.clone())
    };
    let late = status_of(&stuck("2026-01-01T23:49:59Z"));
    assert_eq!(
        condition(&late, "Progressing"),
        words("False", "ProgressDeadlineExceeded", "ReplicaSet \"i2\" has timed out progressing.")
    );
    let waiting = stuck("2026-01-01T23:50:10Z");
    assert_eq!(status_of(&waiting), Value::Null);
    assert_eq!(plan::plan(&waiting, now()).requeue_after, Some(std::time::Duration::from_secs(11)));
    // What a ReplicaSet cannot do is told by its Deployment too.
    let failing = json!({"status": {"conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"},
    ]}});
    let failed = status_of(&view(deployment(10, "i2", json!({})), vec![set("i2", (10, 0, 0), failing)]));
    assert_eq!(condition(&failed, "ReplicaFailure"), words("True", "FailedCreate", "quota"));
    assert_eq!(
        condition(&failed, "Available"),
        words("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    );
}

#[test]
fn a_name_that_is_taken_leads_to_another_one() {
    let mut taken = view(deployment(10, "i1", json!({})), Vec::new());
    taken.name_is_taken = true;
    check(&taken, &[]);
    assert_eq!(status_of(&taken)["collisionCount"], 1);
}

#[test]
fn who_selects_everything_is_told_so() {
    let view = view(deployment(1, "i", json!({"spec": {"selector": {"matchLabels": null}}})), Vec::new());
    let plan = plan::plan(&view, now());
    assert_eq!((plan.steps.len(), plan.notes[0].reason), (0, "SelectingAll"));
    assert_eq!(status_of(&view), json!({"observedGeneration": 1}));
}

fn active(api: &SimulatedApi) -> Vec<Pod> {
    let mut pods = api.all::<Pod>();
    pods.retain(pods::is_active);
    pods
}

/// Never more pods than allowed; and from when it is told so, never fewer available.
fn within_limits(world: &mut World) -> Rc<Cell<bool>> {
    let began = Rc::new(Cell::new(false));
    let begins = began.clone();
    world.always(move |api| {
        let Some(deployment) = api.get::<Deployment>("ns", "d") else { return };
        let limits = Limits::of(&deployment);
        let pods = active(api);
        assert!(pods.len() <= usize::try_from(limits.most()).unwrap(), "{} pods", pods.len());
        let available = pods.iter().filter(|pod| pods::is_ready(pod)).count();
        let least = usize::try_from(limits.least_available()).unwrap();
        assert!(!began.get() || available >= least, "{available} available of at least {least}");
    });
    begins
}

fn set_image(world: &mut World, image: &str) {
    world.edit::<Deployment>("ns", "d", |deployment| {
        deployment.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    });
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(Deployments::default);
    world.run(ReplicaSets::default);
    world
}

/// All pods are of one ReplicaSet, and the Deployment says so.
fn is_rolled_out(world: &World, image: &str) {
    let deployment = world.api.get::<Deployment>("ns", "d").unwrap();
    let wanted = deployment.spec.replicas.unwrap();
    let pods = active(&world.api);
    assert_eq!(pods.len(), usize::try_from(wanted).unwrap());
    for pod in &pods {
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some(image));
    }
    let status = deployment.status.clone().unwrap();
    let told = (wanted != 0).then_some(wanted);
    assert_eq!((status.replicas, status.updated_replicas, status.available_replicas), (told, told, told));
    assert_eq!(status.observed_generation, deployment.metadata.generation);
    let sets = world.api.all::<ReplicaSet>();
    let newest = sets.iter().map(annotations::revision).max().unwrap();
    assert_eq!(deployment.annotation(annotations::REVISION), Some(&*newest.to_string()));
    assert_eq!(sets.iter().filter(|set| set.wanted() > 0).count(), usize::from(wanted != 0));
    let conditions = status.conditions.unwrap();
    let progress = conditions.iter().find(|one| one.type_.as_deref() == Some("Progressing")).unwrap();
    assert_eq!(progress.reason.as_deref(), Some("NewReplicaSetAvailable"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn rollouts_stay_within_their_limits(
        seed in any::<u64>(),
        replicas in 1i32..7,
        surge in 0i32..4,
        unavailable in 0i32..4,
        changes in prop::collection::vec((1usize..120, 0u8..4), 1..5),
    ) {
        let mut world = world(seed);
        world.healthy_nodes();
        let began = within_limits(&mut world);
        let strategy = json!({"spec": {"strategy": {"rollingUpdate": {
            "maxSurge": surge, "maxUnavailable": unavailable,
        }}}});
        world.create::<Deployment>(deployment(replicas, "i0", strategy));
        world.settle();
        began.set(true);
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
    fn deployments_get_there_whatever_happens(
        seed in any::<u64>(),
        deeds in prop::collection::vec((0u8..9, 0u8..7, 1usize..60), 1..20),
        recreate in any::<bool>(),
    ) {
        let mut world = world(seed);
        let strategy = if recreate {
            json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}})
        } else {
            json!({})
        };
        world.create::<Deployment>(deployment(3, "i0", strategy));
        if recreate {
            // Pods of two templates never run together.
            world.always(|api| {
                let images: std::collections::BTreeSet<_> = active(api)
                    .iter()
                    .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone())
                    .collect();
                assert!(images.len() <= 1, "{images:?}");
            });
        }
        let mut image = "i0".to_owned();
        for (deed, number, steps) in deeds {
            match deed {
                0 | 1 => {
                    image = format!("i{}", number % 3);
                    set_image(&mut world, &image);
                }
                2 | 3 => world.edit::<Deployment>("ns", "d", |deployment| {
                    deployment.spec.replicas = Some(number.into());
                }),
                4 => world.edit::<Deployment>("ns", "d", |deployment| {
                    deployment.spec.paused = Some(number % 2 == 0);
                }),
                5 => world.restart(),
                // A creation whose answer was lost is not waited for: upstream too may then begin with new pods beside it.
                6 if !recreate => world.api.trouble(Trouble::Percent(30)),
                // With the set, its pods would be forgotten before they have ended.
                7 if !recreate => {
                    let sets = world.api.all::<ReplicaSet>();
                    if let Some(set) = sets.get(usize::from(number)) {
                        world.api.delete::<ReplicaSet>(&set.key(), Propagation::Background, None);
                    }
                }
                _ => world.api.trouble(Trouble::None),
            }
            (0..steps).for_each(|_| world.step());
        }
        world.edit::<Deployment>("ns", "d", |deployment| deployment.spec.paused = None);
        world.settle();
        is_rolled_out(&world, &image);
    }
}
