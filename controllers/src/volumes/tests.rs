//! Claims and volumes: tables for each decision, and many of both in a simulated cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::controller::Controller as _;
use crate::plan::{Action, Failure, Plan, Propagation, Verdict};
use crate::question::Answers;
use crate::simulation::{SimulatedApi, Trouble, World};

fn merged(mut base: Value, change: Value) -> Value {
    barque_api::patch::merge::merge(&mut base, change);
    base
}

fn claim_value(name: &str, size: &str, change: Value) -> Value {
    let base = json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
            "storageClassName": ""},
        "status": {"phase": "Pending"},
    });
    merged(base, change)
}

fn volume_value(name: &str, size: &str, change: Value) -> Value {
    let base = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/x"},
            "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    merged(base, change)
}

fn seen(value: Value, uid: &str) -> Value {
    merged(value, json!({"metadata": {"uid": uid, "resourceVersion": "1"}}))
}

fn claim_of(change: Value) -> Arc<PersistentVolumeClaim> {
    Arc::new(serde_json::from_value(seen(claim_value("c", "5Gi", change), "cu")).unwrap())
}

fn volume_of(name: &str, size: &str, change: Value) -> Arc<PersistentVolume> {
    Arc::new(serde_json::from_value(seen(volume_value(name, size, change), &format!("{name}-u"))).unwrap())
}

fn class_of(change: Value) -> Arc<StorageClass> {
    let base = json!({"metadata": {"name": "k", "uid": "k"}, "provisioner": "example.com/p", "volumeBindingMode": "Immediate"});
    Arc::new(serde_json::from_value(merged(base, change)).unwrap())
}

fn view(claim: Arc<PersistentVolumeClaim>, volumes: Vec<Arc<PersistentVolume>>) -> claim::View {
    let volume = volumes.iter().find(|volume| volume.key().name == volume_name(&claim)).cloned();
    claim::View { claim, volumes, volume, class: None, default_class: None, waiting_pods: Vec::new() }
}

/// An object, a part of it, and the patch.
type Patched = (String, Option<&'static str>, Value);

/// What is written, and what is told.
fn steps(plan: &Plan) -> (Vec<Patched>, Vec<(&'static str, String)>) {
    let writes = plan.actions().map(|planned| match &planned.action {
        Action::Update { object, subresource, patch } => {
            (object.key.to_string(), *subresource, patch.clone())
        }
        other => panic!("{other:?}"),
    });
    (writes.collect(), plan.notes.iter().map(|told| (told.reason, told.text.clone())).collect())
}

#[test]
fn the_smallest_volume_that_fits_is_taken() {
    let check = |claim: Value, volumes: Vec<Arc<PersistentVolume>>, waits: bool, expected: Option<&str>| {
        let best = matching::best(&claim_of(claim.clone()), &volumes, waits).unwrap();
        assert_eq!(best.map(|volume| volume.key().name).as_deref(), expected, "{claim}");
    };
    let plain = |name: &str, size: &str| volume_of(name, size, json!({}));
    check(json!({}), vec![plain("a", "4Gi")], false, None);
    check(json!({}), vec![plain("a", "9Gi"), plain("b", "5Gi"), plain("c", "6Gi")], false, Some("b"));
    check(json!({}), vec![plain("a", "5000Mi"), plain("b", "5120Mi")], false, Some("b"));
    let other = |change: Value| volume_of("o", "5Gi", change);
    check(json!({}), vec![other(json!({"spec": {"storageClassName": "k"}}))], false, None);
    check(json!({}), vec![other(json!({"spec": {"volumeMode": "Block"}}))], false, None);
    check(
        json!({"spec": {"volumeMode": "Block"}}),
        vec![other(json!({"spec": {"volumeMode": "Block"}}))],
        false,
        Some("o"),
    );
    check(json!({}), vec![other(json!({"spec": {"accessModes": ["ReadOnlyMany"]}}))], false, None);
    check(json!({}), vec![other(json!({"status": {"phase": "Released"}}))], false, None);
    check(
        json!({}),
        vec![other(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
        false,
        None,
    );
    // More access modes than needed are for those that need them.
    let many = other(json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}));
    check(json!({}), vec![many.clone(), plain("a", "90Gi")], false, Some("a"));
    check(
        json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
        vec![many, plain("a", "90Gi")],
        false,
        Some("o"),
    );
    let labelled = other(json!({"metadata": {"labels": {"disk": "ssd"}}}));
    let selector = json!({"spec": {"selector": {"matchLabels": {"disk": "ssd"}}}});
    check(selector.clone(), vec![plain("a", "5Gi"), labelled], false, Some("o"));
    check(selector, vec![plain("a", "5Gi")], false, None);
    // What was reserved for it comes first, and whatever the class; what was for another is not taken.
    let reserved = |uid: &str| {
        other(
            json!({"spec": {"storageClassName": "k", "claimRef": {"namespace": "ns", "name": "c", "uid": uid}}}),
        )
    };
    check(json!({}), vec![plain("a", "5Gi"), reserved("")], false, Some("o"));
    check(json!({}), vec![plain("a", "5Gi"), reserved("cu")], true, Some("o"));
    check(json!({}), vec![reserved("older")], false, None);
    check(json!({}), vec![plain("a", "5Gi")], true, None);
}

#[test]
fn a_bind_is_the_volume_then_both_and_then_the_phase() {
    let free = volume_of("v", "8Gi", json!({}));
    let plan = claim::plan(&view(claim_of(json!({})), vec![free]));
    let (writes, _) = steps(&plan);
    assert_eq!(writes.len(), 1);
    assert_eq!((writes[0].0.as_str(), writes[0].1), ("v", None));
    assert_eq!(writes[0].2["spec"]["claimRef"]["uid"], "cu");
    assert_eq!(writes[0].2["metadata"]["annotations"], json!({BOUND_BY_CONTROLLER: "yes"}));

    let reference = json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "namespace": "ns", "name": "c", "uid": "cu"}}});
    let taken = volume_of("v", "8Gi", reference.clone());
    let (writes, _) = steps(&claim::plan(&view(claim_of(json!({})), vec![taken])));
    assert_eq!(writes[0], ("v".into(), Some("status"), json!({"status": {"phase": "Bound"}})));
    let annotations = json!({BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"});
    let expected = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": "v"}});
    assert_eq!(writes[1], ("ns/c".into(), None, expected));

    let bound = volume_of("v", "8Gi", merged(reference, json!({"status": {"phase": "Bound"}})));
    let claim = claim_of(json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": "v"}}));
    let (writes, _) = steps(&claim::plan(&view(claim, vec![bound.clone()])));
    let status = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "8Gi"}}});
    assert_eq!(writes, [("ns/c".into(), Some("status"), status.clone())]);
    let done = merged(json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": "v"}}), status);
    assert!(claim::plan(&view(claim_of(done), vec![bound])).is_empty());
}

#[test]
fn claims_that_get_nothing_are_told_why() {
    let check = |view: claim::View, reason: &str, text: &str| {
        let (_, told) = steps(&claim::plan(&view));
        assert_eq!(told, [(told[0].0, text.to_owned())]);
        assert_eq!(told[0].0, reason);
    };
    let nothing = "no persistent volumes available for this claim and no storage class is set";
    check(view(claim_of(json!({})), Vec::new()), "FailedBinding", nothing);
    let classy = || view(claim_of(json!({"spec": {"storageClassName": "k"}})), Vec::new());
    check(classy(), "ProvisioningFailed", "storageclass.storage.k8s.io \"k\" not found");
    let old = class_of(json!({"provisioner": "kubernetes.io/no-provisioner"}));
    let view_with = |class| claim::View { class: Some(class), ..classy() };
    check(
        view_with(old),
        "ProvisioningFailed",
        "no volume plugin matched name: kubernetes.io/no-provisioner",
    );
    let lazy = || class_of(json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    check(
        view_with(lazy()),
        "WaitForFirstConsumer",
        "waiting for first consumer to be created before binding",
    );
    let waiting = claim::View { waiting_pods: vec!["p".into()], ..view_with(lazy()) };
    check(waiting, "WaitForPodScheduled", "waiting for pod p to be scheduled");
    let waiting = claim::View { waiting_pods: vec!["p".into(), "q".into()], ..view_with(lazy()) };
    check(waiting, "WaitForPodScheduled", "waiting for pods p,q to be scheduled");
    let named = |volume| view(claim_of(json!({"spec": {"volumeName": "v"}})), vec![volume]);
    let small = "Cannot bind to requested volume \"v\": requested PV is too small";
    check(named(volume_of("v", "1Gi", json!({}))), "VolumeMismatch", small);
    let other =
        volume_of("v", "9Gi", json!({"spec": {"claimRef": {"namespace": "ns", "name": "x", "uid": "xu"}}}));
    check(named(other), "FailedBinding", "volume \"v\" already bound to a different claim.");
    let completed =
        json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"}});
    let lost = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
    check(view(claim_of(completed), Vec::new()), "ClaimLost", lost);
}

#[test]
fn a_provisioner_is_asked_and_a_default_class_is_given_later_too() {
    let asked = claim::View {
        class: Some(class_of(json!({}))),
        ..view(claim_of(json!({"spec": {"storageClassName": "k"}})), Vec::new())
    };
    let (writes, told) = steps(&claim::plan(&asked));
    let annotations = json!({PROVISIONER[0]: "example.com/p", PROVISIONER[1]: "example.com/p"});
    assert_eq!(writes, [("ns/c".into(), None, json!({"metadata": {"annotations": annotations}}))]);
    assert_eq!(told[0].0, "ExternalProvisioning");
    let open = claim::View {
        default_class: Some(class_of(json!({}))),
        ..view(claim_of(json!({"spec": {"storageClassName": null}})), Vec::new())
    };
    let (writes, _) = steps(&claim::plan(&open));
    assert_eq!(writes, [("ns/c".into(), None, json!({"spec": {"storageClassName": "k"}}))]);
}

#[test]
fn a_volume_follows_its_claim() {
    let reference = |uid: &str| json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": uid}}});
    let check = |volume: Value,
                 claim: Option<Value>,
                 answer: Option<Result<Value, Failure>>,
                 expected: Option<Value>| {
        let volume = volume_of("v", "5Gi", volume);
        let mut view = volume::View { volume, claim: claim.map(claim_of), answers: Answers::default() };
        let questions = volume::questions(&view);
        assert_eq!(questions.len(), usize::from(answer.is_some()));
        for (question, answer) in questions.into_iter().zip(answer) {
            assert_eq!(question.path, "/api/v1/namespaces/ns/persistentvolumeclaims/c");
            volume::learn(&mut view, question, answer);
        }
        let (writes, _) = steps(&volume::plan(&view));
        assert_eq!(writes.into_iter().next().map(|(_, _, patch)| patch), expected);
    };
    let gone = || Err(Failure { verdict: Verdict::Gone, message: String::new() });
    let down = || Err(Failure { verdict: Verdict::Unknown, message: String::new() });
    let phase = |phase: &str| Some(json!({"status": {"phase": phase}}));
    let with = |uid: &str, phase: &str| merged(reference(uid), json!({"status": {"phase": phase}}));
    check(json!({"status": {"phase": null}}), None, None, phase("Available"));
    check(with("", "Pending"), None, None, phase("Available"));
    check(with("cu", "Pending"), Some(json!({"spec": {"volumeName": "v"}})), None, phase("Bound"));
    check(with("cu", "Available"), Some(json!({})), None, None);
    // The cache may be behind: the API says whether the claim is gone.
    check(with("cu", "Bound"), None, Some(gone()), phase("Released"));
    check(with("cu", "Bound"), None, Some(down()), None);
    let there = seen(claim_value("c", "5Gi", json!({"spec": {"volumeName": "v"}})), "cu");
    check(with("cu", "Available"), None, Some(Ok(there)), phase("Bound"));
    let newer = seen(claim_value("c", "5Gi", json!({})), "newer");
    check(with("older", "Bound"), Some(json!({})), Some(Ok(newer)), phase("Released"));
    check(with("cu", "Released"), None, None, None);
    let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
    let unknown = "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched";
    let failed = |message: &str| Some(json!({"status": {"phase": "Failed", "message": message}}));
    check(merged(with("cu", "Released"), policy("Delete")), None, None, failed(unknown));
    check(
        merged(with("cu", "Released"), policy("Recycle")),
        None,
        None,
        failed("No recycler plugin found for the volume!"),
    );
    let made =
        merged(policy("Delete"), json!({"metadata": {"annotations": {PROVISIONED_BY: "example.com/p"}}}));
    check(merged(with("cu", "Released"), made.clone()), None, None, None);
    let elsewhere = || Some(json!({"spec": {"volumeName": "other"}}));
    check(merged(with("cu", "Bound"), made), elsewhere(), None, phase("Released"));
    let ours = json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: "yes"}}});
    let unbound =
        json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}});
    check(merged(with("cu", "Bound"), ours), elsewhere(), None, Some(unbound));
    check(with("cu", "Bound"), elsewhere(), None, Some(json!({"spec": {"claimRef": {"uid": null}}})));
}

fn pod_of(change: Value) -> Arc<Pod> {
    let base = json!({
        "metadata": {"namespace": "ns", "name": "p", "uid": "pu", "resourceVersion": "1"},
        "spec": {"containers": [], "nodeName": "n1",
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]},
    });
    Arc::new(serde_json::from_value(merged(base, change)).unwrap())
}

#[test]
fn a_claim_goes_when_no_pod_uses_it() {
    let deleted = json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubernetes.io/pvc-protection", "other"],
    }});
    let check =
        |claim: Value, cached: Vec<Arc<Pod>>, listed: Option<Vec<Arc<Pod>>>, expected: Option<Value>| {
            let mut view =
                claim_protection::View { claim: claim_of(claim), pods: cached, answers: Answers::default() };
            let questions = ClaimProtection.questions(&view);
            assert_eq!(questions.len(), usize::from(listed.is_some()));
            for (question, pods) in questions.into_iter().zip(listed) {
                let items: Vec<_> = pods.iter().map(|pod| serde_json::to_value(&**pod).unwrap()).collect();
                ClaimProtection.learn(&mut view, question, Ok(json!({"items": items})));
            }
            let (writes, _) = steps(&ClaimProtection.plan(&view, k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(writes.into_iter().next().map(|(_, _, patch)| patch), expected);
        };
    let freed = || Some(json!({"metadata": {"finalizers": ["other"]}}));
    let added = Some(json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection"]}}));
    check(json!({}), Vec::new(), None, added);
    check(deleted.clone(), vec![pod_of(json!({}))], None, None);
    check(deleted.clone(), Vec::new(), Some(vec![pod_of(json!({}))]), None);
    check(deleted.clone(), Vec::new(), Some(Vec::new()), freed());
    // Without a node it cannot start any more.
    check(deleted.clone(), vec![pod_of(json!({"spec": {"nodeName": null}}))], Some(Vec::new()), freed());
    let own = json!({"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0},
        "spec": {"volumes": [{"name": "d", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}});
    check(deleted, vec![pod_of(own)], Some(Vec::new()), freed());
}

#[test]
fn a_volume_that_is_bound_stays() {
    let plan = |change: Value| {
        let plan =
            VolumeProtection.plan(&volume_of("v", "5Gi", change), k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        steps(&plan).0.into_iter().next().map(|(_, _, patch)| patch)
    };
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["kubernetes.io/pv-protection"]}});
    assert_eq!(plan(json!({})), Some(json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection"]}})));
    assert_eq!(plan(merged(deleted.clone(), json!({"status": {"phase": "Bound"}}))), None);
    assert_eq!(plan(deleted), Some(json!({"metadata": {"finalizers": null}})));
}

#[test]
fn a_pod_gets_the_claims_of_its_own_volumes() {
    let volumes = json!([{"name": "d", "ephemeral": {"volumeClaimTemplate": {
        "metadata": {"labels": {"a": "b"}}, "spec": {"storageClassName": "k"},
    }}}]);
    let pod = pod_of(json!({"spec": {"volumes": volumes}}));
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    let plan = EphemeralVolumes.plan(&ephemeral::View { pod: pod.clone(), claims: Vec::new() }, now);
    let Action::Create { object, .. } = &plan.actions().next().unwrap().action else { panic!() };
    assert_eq!(
        (&object["metadata"]["name"], &object["metadata"]["labels"]),
        (&json!("p-d"), &json!({"a": "b"}))
    );
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "pu");
    let others = claim_of(json!({"metadata": {"name": "p-d"}}));
    let plan = EphemeralVolumes.plan(&ephemeral::View { pod: pod.clone(), claims: vec![others] }, now);
    assert_eq!(
        plan.notes[0].text,
        "ephemeral volume d: PVC ns/p-d was not created for pod ns/p (pod is not owner)"
    );
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu", "controller": true}]);
    let own = claim_of(json!({"metadata": {"name": "p-d", "ownerReferences": owner}}));
    assert!(EphemeralVolumes.plan(&ephemeral::View { pod, claims: vec![own] }, now).is_empty());
}

#[test]
fn a_directory_is_on_the_node_that_was_selected() {
    let class = |change: Value| {
        class_of(merged(
            json!({"provisioner": local_path::NAME, "volumeBindingMode": "WaitForFirstConsumer"}),
            change,
        ))
    };
    let node: Node = serde_json::from_value(
        json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "h1"}}}),
    )
    .unwrap();
    let claim = || {
        claim_of(json!({"spec": {"storageClassName": "k"}, "metadata": {"annotations": {
            PROVISIONER[0]: local_path::NAME, SELECTED_NODE: "n1",
        }}}))
    };
    let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
    let plan = |class: Arc<StorageClass>, node: Option<Node>| {
        LocalPathClaims
            .plan(&local_path::View { claim: claim(), class, node: node.map(Arc::new), is_made: false }, now)
    };
    let made = plan(class(json!({})), Some(node.clone()));
    let Action::Create { object, .. } = &made.actions().next().unwrap().action else { panic!("{made:?}") };
    let expected = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "ns", "name": "c", "uid": "cu", "resourceVersion": "1"},
        "hostPath": {"path": "/var/lib/barque/volumes/pvc-cu_ns_c", "type": "DirectoryOrCreate"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["h1"]},
        ]}]}},
        "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "k", "volumeMode": "Filesystem",
    });
    assert_eq!(object["spec"], expected);
    assert_eq!(object["metadata"]["annotations"], json!({PROVISIONED_BY: local_path::NAME}));
    let local =
        plan(class(json!({"parameters": {"volumeType": "local", "path": "/data"}})), Some(node.clone()));
    let Action::Create { object, .. } = &local.actions().next().unwrap().action else { panic!() };
    assert_eq!(object["spec"]["local"], json!({"path": "/data/pvc-cu_ns_c"}));
    for wrong in [
        json!({"parameters": {"path": "data"}}),
        json!({"parameters": {"path": "/a/../b"}}),
        json!({"volumeBindingMode": "Immediate"}),
    ] {
        let plan = plan(class(wrong), Some(node.clone()));
        assert!(plan.steps.is_empty() && plan.notes[0].reason == "ProvisioningFailed", "{plan:?}");
    }
    // Its node is gone: the scheduler looks for another.
    let (writes, _) = steps(&plan(class(json!({})), None));
    assert_eq!(writes[0].2, json!({"metadata": {"annotations": {SELECTED_NODE: null}}}));
}

fn each_volume_has_one_claim(api: &SimulatedApi) {
    let claims = api.all::<PersistentVolumeClaim>();
    for volume in api.all::<PersistentVolume>() {
        let holders: Vec<_> = claims
            .iter()
            .filter(|claim| {
                volume_name(claim) == volume.key().name && claim.annotation(BIND_COMPLETED).is_some()
            })
            .collect();
        assert!(holders.len() <= 1, "{} is bound to several claims", volume.key().name);
        for claim in holders.iter().filter(|claim| claim_phase(claim) == "Bound") {
            assert!(is_for(&volume, claim), "{} says that it is for another", volume.key().name);
            assert!(capacity(&volume) >= requested(claim), "{} is too small", volume.key().name);
        }
    }
}

/// Questions are answered from what there is.
fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(|| Binder);
    world.run(|| VolumeProtection);
    world.run(|| LocalPathClaims);
    world.run(|| LocalPathVolumes);
    world.answer_from_objects::<PersistentVolumeClaim>("persistentvolumeclaims");
    world.always(each_volume_has_one_claim);
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_volume_is_bound_twice(seed: u64, trouble in 0u32..30) {
        let mut world = world(seed);
        world.api.trouble(if trouble == 0 { Trouble::None } else { Trouble::Percent(trouble) });
        let mut made = 0;
        for _ in 0..400 {
            match world.rng.random_range(0..20) {
                0 if made < 12 => {
                    made += 1;
                    let size = format!("{}Gi", world.rng.random_range(1..6));
                    world.create::<PersistentVolumeClaim>(claim_value(&format!("c{made}"), &size, json!({})));
                }
                1 if made < 12 => {
                    made += 1;
                    let size = format!("{}Gi", world.rng.random_range(1..6));
                    let reserved = world.rng.random_range(0..8);
                    let reference = json!({"spec": {"claimRef": {"namespace": "ns", "name": format!("c{}", made + 1)}}});
                    let change = if reserved == 0 { reference } else { json!({}) };
                    world.create::<PersistentVolume>(volume_value(&format!("v{made}"), &size, change));
                }
                2 => {
                    let claims = world.api.all::<PersistentVolumeClaim>();
                    if !claims.is_empty() {
                        let key = claims[world.rng.random_range(0..claims.len())].key();
                        world.api.delete::<PersistentVolumeClaim>(&key, Propagation::Background, Some(0));
                    }
                }
                3 if world.rng.random_ratio(1, 10) => world.restart(),
                _ => world.step(),
            }
        }
        world.settle();
        // Nobody waits for a volume that is free and fits.
        let volumes: Vec<_> = world.api.all::<PersistentVolume>().into_iter().map(Arc::new).collect();
        for claim in world.api.all::<PersistentVolumeClaim>() {
            match claim_phase(&claim) {
                "Bound" => {}
                "Pending" => prop_assert_eq!(matching::best(&claim, &volumes, false).unwrap(), None),
                other => prop_assert!(false, "{} is {}", claim.key(), other),
            }
        }
    }
}

#[test]
fn a_claim_of_the_class_gets_a_directory_and_gives_it_back() {
    let mut world = world(1);
    world.create::<Node>(json!({"metadata": {"name": "n1"}}));
    world.create::<StorageClass>(json!({
        "metadata": {"name": "k"}, "provisioner": local_path::NAME, "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }));
    world.create::<PersistentVolumeClaim>(claim_value(
        "c",
        "5Gi",
        json!({"spec": {"storageClassName": "k"}}),
    ));
    world.settle();
    assert_eq!(world.api.all::<PersistentVolume>().len(), 0, "no pod needs it");
    world.edit::<PersistentVolumeClaim>("ns", "c", |claim| {
        claim.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.into(), "n1".into());
    });
    world.settle();
    let claim = world.api.get::<PersistentVolumeClaim>("ns", "c").unwrap();
    assert_eq!(claim_phase(&claim), "Bound");
    let volume = world.api.get::<PersistentVolume>("", volume_name(&claim)).unwrap();
    assert_eq!(volume_phase(&volume), "Bound");
    world.api.delete::<PersistentVolumeClaim>(&claim.key(), Propagation::Background, Some(0));
    world.settle();
    assert_eq!(world.api.all::<PersistentVolume>().len(), 0);
}
