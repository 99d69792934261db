//! What the workloads are made of, as objects: nodes, pods, their affinity and spread, volumes and claims. Only JSON; the same for
//! decisions alone and from end to end.

#![allow(dead_code, reason = "each benchmark uses a part")]

use serde_json::{Value, json};

pub(crate) const HOST: &str = "kubernetes.io/hostname";
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";

/// Puts fields beside those that are there.
pub(crate) fn extend(object: &mut Value, more: &Value) {
    object.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
}

/// A node with 4 cores, 32 GiB and 110 pods, or what is said.
pub(crate) fn node(at: usize, labels: &Value, more: &Value) -> Value {
    let mut all = json!({HOST: format!("node-{at}")});
    extend(&mut all, labels);
    let mut amounts = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    extend(&mut amounts, more);
    json!({
        "metadata": {"name": format!("node-{at}"), "labels": all},
        "status": {"capacity": amounts, "allocatable": amounts},
    })
}

/// A node in one of so many zones.
pub(crate) fn node_of(at: usize, zones: usize) -> Value {
    node(at, &json!({ZONE: format!("zone{}", at % zones)}), &json!({}))
}

/// A pod that asks for 100m and 500Mi.
pub(crate) fn template(namespace: &str, labels: Value, spec: &Value) -> Value {
    asking("100m", "500Mi", namespace, labels, spec)
}

pub(crate) fn asking(cpu: &str, memory: &str, namespace: &str, labels: Value, spec: &Value) -> Value {
    let mut all = json!({"containers": [{
        "name": "pause", "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": {"cpu": cpu, "memory": memory}},
    }]});
    extend(&mut all, spec);
    json!({"metadata": {"namespace": namespace, "labels": labels}, "spec": all})
}

/// A spec that names its node, as that of a daemon's pod.
pub(crate) fn on_node(name: &str) -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [name]});
    let required = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
}

/// A spec that wants one of these zones.
pub(crate) fn in_zones(zones: &[&str]) -> Value {
    let asked = json!({"key": ZONE, "operator": "In", "values": zones});
    let required = json!({"nodeSelectorTerms": [{"matchExpressions": [asked]}]});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
}

/// What makes a term see the pods of all namespaces that are measured in.
pub(crate) fn anywhere() -> Value {
    json!({"namespaceSelector": {"matchLabels": {"team": "devops"}}})
}

/// Pods of a color, within a topology.
pub(crate) fn term(color: &str, key: &str, more: &Value) -> Value {
    let mut term = json!({"topologyKey": key, "labelSelector": {"matchLabels": {"color": color}}});
    extend(&mut term, more);
    term
}

/// A spec with one term of `podAffinity` or `podAntiAffinity`.
pub(crate) fn affinity(kind: &str, term: &Value, required: bool) -> Value {
    let terms = if required {
        json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]})
    } else {
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]})
    };
    json!({"affinity": {kind: terms}})
}

/// A spec that spreads blue pods over zones, or what is said.
pub(crate) fn constraints(skew: i32, when: &str, more: &Value) -> Value {
    let mut one = json!({"maxSkew": skew, "topologyKey": ZONE, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"color": "blue"}}});
    extend(&mut one, more);
    json!({"topologySpreadConstraints": [one]})
}

/// A spec with a volume of this source.
pub(crate) fn with_volume(source: &Value) -> Value {
    let mut volume = json!({"name": "data"});
    extend(&mut volume, source);
    json!({"volumes": [volume]})
}

/// A spec with the claim of this number.
pub(crate) fn with_claim(at: usize) -> Value {
    with_volume(&json!({"persistentVolumeClaim": {"claimName": format!("claim-{at}")}}))
}

pub(crate) fn in_tree(at: usize) -> Value {
    json!({"awsElasticBlockStore": {"volumeID": format!("vol-{at}")}})
}

pub(crate) fn csi(at: usize) -> Value {
    json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": format!("vol-{at}")}})
}

/// What a node says of the driver of volumes.
pub(crate) fn csi_node(at: usize) -> Value {
    let drivers = json!([{"name": "ebs.csi.aws.com", "nodeID": "n", "allocatable": {"count": 39}}]);
    json!({"metadata": {"name": format!("node-{at}")}, "spec": {"drivers": drivers}})
}

/// A volume that is bound to the claim of its number.
pub(crate) fn volume(at: usize, source: &Value) -> Value {
    let mut spec = source.clone();
    let more = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"],
        "claimRef": {"namespace": "ns-1", "name": format!("claim-{at}")}});
    extend(&mut spec, &more);
    json!({"metadata": {"name": format!("pv-{at}")}, "spec": spec, "status": {"phase": "Bound"}})
}

/// The claim of a number, bound to its volume.
pub(crate) fn claim(at: usize) -> Value {
    json!({
        "metadata": {"namespace": "ns-1", "name": format!("claim-{at}"),
            "annotations": {"pv.kubernetes.io/bind-completed": "true"}},
        "spec": {"volumeName": format!("pv-{at}"), "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}}},
    })
}
