//! StatefulSets: whole lives of sets in a simulated cluster, and tables for what they do not reach.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plan::Propagation;
use crate::pods;
use crate::simulation::{SimulatedApi, Trouble, World};

fn set(replicas: i32, image: &str, more: Value) -> Value {
    let mut made = json!({
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "replicas": replicas,
            "serviceName": "svc",
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "a"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {
                "metadata": {"labels": {"app": "a"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
        },
    });
    barque_api::patch::merge::merge(&mut made, more);
    made
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run(StatefulSets::default);
    world
}

fn ordinals(api: &SimulatedApi) -> BTreeSet<i32> {
    let number = |pod: Pod| pod.key().name.rsplit_once('-').unwrap().1.parse().unwrap();
    api.all::<Pod>().into_iter().map(number).collect()
}

fn images(api: &SimulatedApi) -> Vec<String> {
    let image = |pod: Pod| pod.spec.unwrap().containers[0].image.clone().unwrap();
    api.all::<Pod>().into_iter().map(image).collect()
}

fn set_image(world: &mut World, image: &str) {
    world.edit::<StatefulSet>("ns", "web", |set| {
        set.spec.template.spec.as_mut().unwrap().containers[0].image = Some(image.to_owned());
    });
}

/// All pods are there, of one template, and the status says so.
fn is_rolled_out(world: &World, image: &str) {
    let set = world.api.get::<StatefulSet>("ns", "web").unwrap();
    let wanted = set.spec.replicas.unwrap();
    assert_eq!(ordinals(&world.api), (0..wanted).collect());
    assert!(images(&world.api).iter().all(|found| found == image), "{:?}", images(&world.api));
    let status = set.status.clone().unwrap();
    let told = (wanted != 0).then_some(wanted);
    assert_eq!((status.replicas, status.ready_replicas, status.updated_replicas), (wanted, told, told));
    assert_eq!((status.available_replicas, status.current_replicas), (told, told));
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(status.observed_generation, set.metadata.generation);
}

#[test]
fn a_pod_has_its_name_its_labels_and_its_volumes() {
    let mut world = world(1);
    world.create::<StatefulSet>(set(1, "i0", json!({})));
    world.settle();
    let pod = world.api.get::<Pod>("ns", "web-0").unwrap();
    let spec = pod.spec.clone().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-0"), Some("svc")));
    assert_eq!(pod.label("statefulset.kubernetes.io/pod-name"), Some("web-0"));
    assert_eq!(pod.label("apps.kubernetes.io/pod-index"), Some("0"));
    let set = world.api.get::<StatefulSet>("ns", "web").unwrap();
    assert_eq!(pod.label("controller-revision-hash"), set.status.unwrap().current_revision.as_deref());
    let volume = &spec.volumes.unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-web-0");
    let claim = world.api.get::<PersistentVolumeClaim>("ns", "data-web-0").unwrap();
    assert_eq!(claim.label("app"), Some("a"));
    assert_eq!(claim.metadata.owner_references, None);
    let told: Vec<_> = world.told.lock().iter().map(|told| told.text.clone()).collect();
    assert_eq!(
        told,
        [
            "create Claim data-web-0 Pod web-0 in StatefulSet web success",
            "create Pod web-0 in StatefulSet web successful"
        ]
    );
}

#[test]
fn volumes_go_as_the_policy_says() {
    let policy = |deleted: &str, scaled: &str| json!({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}});
    let check = |policy: Value, after_scaling: &[&str], after_deletion: &[&str]| {
        let mut world = world(3);
        world.create::<StatefulSet>(set(2, "i0", policy));
        world.settle();
        let names = |world: &World| -> Vec<String> {
            world.api.all::<PersistentVolumeClaim>().iter().map(|claim| claim.key().name).collect()
        };
        assert_eq!(names(&world), ["data-web-0", "data-web-1"]);
        world.edit::<StatefulSet>("ns", "web", |set| set.spec.replicas = Some(1));
        world.settle();
        assert_eq!(names(&world), after_scaling);
        world.api.delete::<StatefulSet>(&Key::new("ns", "web"), Propagation::Background, None);
        world.settle();
        assert_eq!(world.api.all::<Pod>().len(), 0);
        assert_eq!(names(&world), after_deletion);
    };
    check(policy("Retain", "Retain"), &["data-web-0", "data-web-1"], &["data-web-0", "data-web-1"]);
    check(policy("Retain", "Delete"), &["data-web-0"], &["data-web-0"]);
    check(policy("Delete", "Retain"), &["data-web-0", "data-web-1"], &[]);
    check(policy("Delete", "Delete"), &["data-web-0"], &[]);
}

#[test]
fn a_partition_keeps_the_lower_ordinals_as_they_are() {
    let mut world = world(5);
    world.create::<StatefulSet>(set(3, "i0", json!({})));
    world.settle();
    world.edit::<StatefulSet>("ns", "web", |set| {
        let strategy = set.spec.update_strategy.as_mut().unwrap();
        strategy.rolling_update.as_mut().unwrap().partition = Some(2);
    });
    set_image(&mut world, "i1");
    world.settle();
    assert_eq!(images(&world.api), ["i0", "i0", "i1"]);
    let status = world.api.get::<StatefulSet>("ns", "web").unwrap().status.unwrap();
    assert_ne!(status.current_revision, status.update_revision);
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(1)));
    // A pod below it that is lost comes back as it was.
    world.api.delete::<Pod>(&Key::new("ns", "web-0"), Propagation::Background, Some(0));
    world.settle();
    assert_eq!(images(&world.api), ["i0", "i0", "i1"]);
}

#[test]
fn on_delete_only_pods_that_somebody_deletes_are_new() {
    let mut world = world(6);
    let strategy = json!({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}});
    world.create::<StatefulSet>(set(2, "i0", strategy));
    world.settle();
    set_image(&mut world, "i1");
    world.settle();
    assert_eq!(images(&world.api), ["i0", "i0"]);
    world.api.delete::<Pod>(&Key::new("ns", "web-0"), Propagation::Background, Some(0));
    world.settle();
    assert_eq!(images(&world.api), ["i1", "i0"]);
}

#[test]
fn ordinals_begin_where_they_are_told_to() {
    let mut world = world(7);
    world.create::<StatefulSet>(set(2, "i0", json!({"spec": {"ordinals": {"start": 5}}})));
    world.settle();
    assert_eq!(ordinals(&world.api), [5, 6].into());
}

#[test]
fn history_keeps_as_many_revisions_as_allowed_and_going_back_makes_none() {
    let mut world = world(8);
    world.create::<StatefulSet>(set(1, "i0", json!({})));
    for image in ["i1", "i2", "i1"] {
        world.settle();
        set_image(&mut world, image);
    }
    world.settle();
    is_rolled_out(&world, "i1");
    let mut numbers: Vec<_> =
        world.api.all::<ControllerRevision>().iter().map(|one| one.revision.unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4]);
}

/// While nodes are well: no ordinal without all below it, but for one that is replaced; and never more than one is down of those
/// that are wanted. (One that was being replaced when fewer became wanted is not made again, and nothing waits for it.)
fn in_order(world: &mut World) {
    world.always(|api| {
        let ordinals = ordinals(api);
        let highest = ordinals.last().copied().unwrap_or(-1);
        let missing: Vec<i32> = (0..=highest).filter(|ordinal| !ordinals.contains(ordinal)).collect();
        assert!(missing.len() <= 1, "{ordinals:?}");
        let wanted = api.all::<StatefulSet>().iter().filter_map(|set| set.spec.replicas).max().unwrap_or(0);
        let missed = missing.iter().filter(|ordinal| **ordinal < wanted).count();
        let down = api.all::<Pod>().iter().filter(|pod| !pods::is_ready(pod) || pod.is_deleting()).count();
        assert!(down + missed <= 1, "{down} down, {missing:?} missing of {ordinals:?}, {wanted} wanted");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn pods_come_and_go_in_order(
        seed in any::<u64>(),
        changes in prop::collection::vec((1usize..150, 0u8..3, 0i32..5), 1..5),
        scales in any::<bool>(),
    ) {
        let mut world = world(seed);
        world.healthy_nodes();
        in_order(&mut world);
        world.create::<StatefulSet>(set(3, "i0", json!({})));
        let mut image = "i0".to_owned();
        for (steps, next, replicas) in changes {
            (0..steps).for_each(|_| world.step());
            // Both at once may take two down, as upstream: one that is replaced, and the highest that is not wanted any more.
            if scales {
                world.edit::<StatefulSet>("ns", "web", |set| set.spec.replicas = Some(replicas));
            } else {
                image = format!("i{next}");
                set_image(&mut world, &image);
            }
        }
        world.settle();
        is_rolled_out(&world, &image);
    }

    #[test]
    fn sets_get_there_whatever_happens(
        seed in any::<u64>(),
        deeds in prop::collection::vec((0u8..8, 0u8..6, 1usize..60), 1..20),
        parallel in any::<bool>(),
    ) {
        let mut world = world(seed);
        let policy = if parallel { "Parallel" } else { "OrderedReady" };
        world.create::<StatefulSet>(set(3, "i0", json!({"spec": {"podManagementPolicy": policy}})));
        let mut image = "i0".to_owned();
        for (deed, number, steps) in deeds {
            match deed {
                0 | 1 => {
                    image = format!("i{}", number % 3);
                    set_image(&mut world, &image);
                }
                2 | 3 => world.edit::<StatefulSet>("ns", "web", |set| {
                    set.spec.replicas = Some(number.into());
                }),
                4 => world.restart(),
                5 => world.api.trouble(Trouble::Percent(30)),
                6 => {
                    let key = Key::new("ns", &format!("data-web-{number}"));
                    world.api.delete::<PersistentVolumeClaim>(&key, Propagation::Background, None);
                }
                _ => world.api.trouble(Trouble::None),
            }
            (0..steps).for_each(|_| world.step());
        }
        world.settle();
        is_rolled_out(&world, &image);
    }
}
