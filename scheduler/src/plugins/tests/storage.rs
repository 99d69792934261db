//! Volumes and claims.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{labels, merged, refused, zone};
use crate::decision::Decision;
use crate::plugins::{Progress, progress};
use crate::pod::{HOSTNAME, ZONE};
use crate::test_cluster::{TestCluster, merge};
use crate::volume::{ClaimSpec, ClassSpec, SELECTED_NODE, VolumeSpec, limits_of};

fn claim(name: &str, more: Value) -> ClaimSpec {
    let mut claim = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    merge(&mut claim, more);
    ClaimSpec::of(&serde_json::from_value(claim).unwrap()).unwrap()
}

fn bound_to(volume: &str) -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": volume}})
}

fn volume(name: &str, more: Value) -> VolumeSpec {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
            "csi": {"driver": "d", "volumeHandle": name}},
        "status": {"phase": "Available"},
    });
    merge(&mut volume, more);
    VolumeSpec::of(&serde_json::from_value(volume).unwrap()).unwrap()
}

fn class(mode: &str, provisioner: &str, more: Value) -> ClassSpec {
    let mut class =
        json!({"metadata": {"name": "slow"}, "provisioner": provisioner, "volumeBindingMode": mode});
    merge(&mut class, more);
    ClassSpec::of(&serde_json::from_value(class).unwrap()).unwrap()
}

fn using(claim: &str) -> Value {
    json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
}

fn on_node(name: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [name]}]});
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}})
}

#[test]
fn claims_are_looked_at_before_nodes() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    let words = |words: &str| format!("0/1 nodes are available: {words}.");
    assert_eq!(cluster.answer("p", using("data")), words("persistentvolumeclaim \"data\" not found"));
    let ephemeral =
        json!({"spec": {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}});
    assert_eq!(
        cluster.answer("p", ephemeral.clone()),
        words("waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"")
    );
    cluster.snapshot.put_claim(claim("p-v", json!({})));
    assert_eq!(
        cluster.answer("p", ephemeral),
        words("PVC default/p-v was not created for pod default/p (pod is not owner)")
    );
    cluster.snapshot.put_claim(claim("data", json!({})));
    let unbound = words("pod has unbound immediate PersistentVolumeClaims");
    assert_eq!(cluster.answer("p", using("data")), unbound);
    cluster.snapshot.put_class(class("Immediate", "d", json!({})));
    assert_eq!(cluster.answer("p", using("data")), unbound);
    cluster
        .snapshot
        .put_claim(claim("data", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    assert_eq!(cluster.answer("p", using("data")), words("persistentvolumeclaim \"data\" is being deleted"));
    cluster
        .snapshot
        .put_claim(claim("data", json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}})));
    assert_eq!(
        cluster.answer("p", using("data")),
        words("persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"v\"")
    );
}

#[test]
fn bound_volumes_want_nodes_that_reach_them() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    cluster.node("b", json!({}));
    cluster.snapshot.put_claim(claim("data", bound_to("v")));
    assert_eq!(
        cluster.answer("p", using("data")),
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)."
    );
    cluster.snapshot.put_volume(volume("v", on_node("b")));
    assert_eq!(cluster.answer("p", using("data")), "b");
    cluster.snapshot.remove_node("b");
    assert_eq!(
        cluster.answer("p", using("data")),
        refused("1 node(s) didn't match PersistentVolume's node affinity")
    );
}

#[test]
fn waiting_claims_get_the_smallest_volume_or_one_that_is_made() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    let b = cluster.node("b", json!({}));
    cluster.snapshot.put_class(class("WaitForFirstConsumer", "kubernetes.io/no-provisioner", json!({})));
    cluster.snapshot.put_claim(claim("data", json!({})));
    let nothing = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.";
    assert_eq!(cluster.answer("p", using("data")), nothing);
    let size = |size: &str| json!({"spec": {"capacity": {"storage": size}}});
    cluster.snapshot.put_volume(volume("small", merged(size("500Mi"), on_node("b"))));
    assert_eq!(cluster.answer("p", using("data")), nothing);
    cluster.snapshot.put_volume(volume("large", merged(size("5Gi"), on_node("b"))));
    cluster.snapshot.put_volume(volume("right", merged(size("2Gi"), on_node("b"))));
    let pod = cluster.pending("p", using("data"));
    let Decision::Placed(placement) = cluster.decide(&pod) else { panic!() };
    let names: Vec<_> = placement.claims.bind.iter().map(|(_, volume)| &**volume).collect();
    assert_eq!((placement.node, names), (b, vec!["right"]));
    // What was promised is not promised again, and is free once it is forgotten.
    cluster.snapshot.assume(&pod, placement.node, &placement.claims);
    cluster.snapshot.put_claim(claim("more", json!({})));
    let other = cluster.pending("q", using("more"));
    let decision = cluster.decide(&other);
    assert_eq!(&*decision.placement().unwrap().claims.bind[0].1, "large");
    cluster.snapshot.forget("p", &placement.claims);
    let decision = cluster.decide(&other);
    assert_eq!(&*decision.placement().unwrap().claims.bind[0].1, "right");
    // A provisioner makes what is not there, where it can.
    let allowed =
        json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": HOSTNAME, "values": ["a"]}]}]});
    cluster.snapshot.put_class(class("WaitForFirstConsumer", "d", allowed));
    cluster.snapshot.remove_node("b");
    let decision = cluster.decide(&pod);
    assert_eq!(decision.placement().unwrap().claims.provision.len(), 1);
    cluster.snapshot.remove_node("a");
    cluster.node("c", json!({}));
    assert_eq!(
        cluster.answer("p", using("data")),
        refused("1 node(s) didn't find available persistent volumes to bind")
    );
}

#[test]
fn volumes_in_zones_want_nodes_in_zones() {
    let mut cluster = TestCluster::new();
    cluster.node("a", zone("x"));
    cluster.snapshot.put_claim(claim("data", bound_to("v")));
    cluster.snapshot.put_volume(volume("v", labels(json!({ZONE: "y__z"}))));
    assert_eq!(cluster.answer("p", using("data")), refused("1 node(s) had no available volume zone"));
    cluster.node("b", zone("z"));
    assert_eq!(cluster.answer("p", using("data")), "b");
    // The old label means the same.
    cluster.snapshot.put_volume(volume("v", labels(json!({"failure-domain.beta.kubernetes.io/zone": "x"}))));
    assert_eq!(cluster.answer("p", using("data")), "a");
    // Nodes that say nothing of zones will do.
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    cluster.snapshot.put_claim(claim("data", bound_to("v")));
    cluster.snapshot.put_volume(volume("v", labels(json!({ZONE: "y"}))));
    assert_eq!(cluster.answer("p", using("data")), "a");
}

#[test]
fn a_claim_for_one_pod_is_used_by_one() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    let mode = json!({"spec": {"accessModes": ["ReadWriteOncePod"]}});
    cluster.snapshot.put_claim(claim("data", merged(bound_to("v"), mode)));
    cluster.snapshot.put_volume(volume("v", json!({})));
    assert_eq!(cluster.answer("p", using("data")), "a");
    cluster.running("p", "a", using("data"));
    assert_eq!(
        cluster.answer("q", using("data")),
        refused(
            "1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use \
             by another pod"
        )
    );
}

#[test]
fn disks_are_attached_once() {
    let disk = || json!({"spec": {"volumes": [{"name": "v", "awsElasticBlockStore": {"volumeID": "d"}}]}});
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    cluster.running("p", "a", disk());
    assert_eq!(cluster.answer("q", disk()), refused("1 node(s) had no available disk"));
}

#[test]
fn drivers_attach_so_many_volumes_each_once() {
    let mut cluster = TestCluster::new();
    cluster.node("a", json!({}));
    let drivers = json!([{"name": "d", "nodeID": "n", "allocatable": {"count": 1}}]);
    let limits = json!({"metadata": {"name": "a"}, "spec": {"drivers": drivers}});
    let (name, limits) = limits_of(&serde_json::from_value(limits).unwrap()).unwrap();
    cluster.snapshot.put_limits(name, limits);
    for name in ["one", "two"] {
        cluster.snapshot.put_claim(claim(name, bound_to(name)));
        cluster
            .snapshot
            .put_volume(volume(name, json!({"spec": {"claimRef": {"namespace": "default", "name": name}}})));
    }
    cluster.running("p", "a", using("one"));
    assert_eq!(cluster.answer("q", using("one")), "a");
    let full = refused("1 node(s) exceed max volume count");
    assert_eq!(cluster.answer("r", using("two")), full);
    // What a claim is bound to may change while its pod is there.
    cluster.snapshot.remove_volume("one");
    cluster.snapshot.remove_claim(&claim("one", json!({})).key);
    assert_eq!(cluster.answer("r", using("two")), "a");
    cluster.snapshot.remove_limits("a");
    cluster.snapshot.put_claim(claim("one", bound_to("one")));
    assert_eq!(cluster.answer("r", using("two")), "a");
}

#[test]
fn claims_that_were_written_are_followed_to_their_volumes() {
    let mut cluster = TestCluster::new();
    let node = cluster.node("a", json!({}));
    cluster.snapshot.put_class(class("WaitForFirstConsumer", "d", json!({})));
    cluster.snapshot.put_claim(claim("data", json!({})));
    let pod = cluster.pending("p", using("data"));
    let Decision::Placed(placement) = cluster.decide(&pod) else { panic!("a volume can be made") };
    cluster.snapshot.assume(&pod, placement.node, &placement.claims);
    let plan = placement.claims;
    let mut selected = BTreeSet::new();
    let mut look = |cluster: &TestCluster| progress(&cluster.snapshot, &plan, node, &mut selected);
    assert_eq!(look(&cluster), Progress::Waiting, "what was written has not come back yet");
    let note = |node: &str| json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
    cluster.snapshot.put_claim(claim("data", note("a")));
    assert_eq!(look(&cluster), Progress::Waiting);
    let mut bound = note("a");
    merge(&mut bound, bound_to("v"));
    cluster.snapshot.put_claim(claim("data", bound));
    assert_eq!(look(&cluster), Progress::Waiting, "the volume was not seen yet");
    cluster.snapshot.put_volume(volume("v", on_node("a")));
    assert_eq!(look(&cluster), Progress::Bound);
    cluster.snapshot.put_volume(volume("v", on_node("b")));
    let broken = |words: &str| Progress::Broken(words.to_owned());
    assert_eq!(look(&cluster), broken("pv \"v\" node affinity doesn't match node \"a\""));
    cluster.snapshot.put_claim(claim("data", json!({})));
    assert_eq!(look(&cluster), broken("provisioning failed for PVC \"data\""));
    cluster.snapshot.remove_claim(&claim("data", json!({})).key);
    assert_eq!(look(&cluster), broken("persistentvolumeclaim \"data\" not found"));
    cluster.snapshot.remove_node("a");
    assert_eq!(look(&cluster), broken("failed to get node \"a\""));
}
