//! Tests: pictures of small clusters, made of objects as JSON, and what is found in them.

use std::sync::Arc;

use barque_api::patch::merge::merge;
use barque_client::discovery::{Collection, Discovered};
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::rules::lint;
use crate::snapshot::{Kept, Meta, Snapshot, Visitor, visit};

/// When pictures of tests were taken.
pub(crate) const NOW: &str = "2026-01-01T12:00:00Z";

/// What servers of tests serve: version, kind, resource, whether it is in namespaces.
const SERVED: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", false),
    ("v1", "Node", "nodes", false),
    ("v1", "Pod", "pods", true),
    ("v1", "Service", "services", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "PersistentVolume", "persistentvolumes", false),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("v1", "ResourceQuota", "resourcequotas", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("batch/v1", "Job", "jobs", true),
    ("coordination.k8s.io/v1", "Lease", "leases", true),
    ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", true),
    ("networking.k8s.io/v1", "IPAddress", "ipaddresses", false),
];

fn served() -> Discovered {
    let groups = SERVED.iter().map(|(api_version, kind, resource, namespaced)| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let scope = if *namespaced { "Namespaced" } else { "Cluster" };
        json!({"metadata": {"name": group}, "versions": [{"version": version, "resources": [{
            "resource": resource, "responseKind": {"kind": kind}, "scope": scope,
            "verbs": ["create", "delete", "get", "list", "update", "watch"],
        }]}]})
    });
    let list = json!({"items": groups.collect::<Vec<_>>()});
    Discovered::of([serde_json::from_value(list).unwrap()])
}

/// Puts an object into a picture.
struct Put<'a> {
    object: Value,
    collection: Arc<Collection>,
    snapshot: &'a mut Snapshot,
}

impl Visitor for Put<'_> {
    type Output = ();

    fn visit<K: Kept>(self) {
        let object: K = serde_json::from_value(self.object).unwrap();
        self.snapshot.keep(&self.collection, vec![object]);
    }
}

/// A picture of these objects and nothing else.
pub(crate) fn snapshot(objects: &[Value]) -> Snapshot {
    let at: Timestamp = NOW.parse().unwrap();
    let mut snapshot = Snapshot { at, served: served(), ..Snapshot::default() };
    for object in objects {
        let text = |field: &str| object[field].as_str().unwrap();
        let collection = snapshot.served.of_kind(text("apiVersion"), text("kind")).unwrap().clone();
        let put = Put { object: object.clone(), collection: collection.clone(), snapshot: &mut snapshot };
        if visit(&collection, put).is_none() {
            let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
            snapshot.objects.push(Meta::of(&collection, &meta));
        }
    }
    snapshot
}

/// The namespace `n` and the node `a`, which are right.
pub(crate) fn ground() -> [Value; 2] {
    [object("v1", "Namespace", "", "n", json!({})), node("a", json!({}))]
}

/// Asserts what is found in these objects beside the namespace `n` and the node `a`, each as one line.
#[track_caller]
pub(crate) fn check(objects: &[Value], expected: &[&str]) {
    let all: Vec<Value> = ground().iter().chain(objects).cloned().collect();
    let found: Vec<String> = lint(&snapshot(&all)).iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{objects:#?}");
    // The order of objects makes no difference.
    let reversed: Vec<Value> = all.iter().rev().cloned().collect();
    let again: Vec<String> = lint(&snapshot(&reversed)).iter().map(ToString::to_string).collect();
    assert_eq!(again, expected, "{objects:#?}");
}

/// An object whose uid is its kind's first letter and its name, with more merged into it.
pub(crate) fn object(api_version: &str, kind: &str, namespace: &str, name: &str, more: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "uid": format!("{}-{name}", kind.to_lowercase())},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    merge(&mut object, more);
    object
}

/// The same with more merged into it.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    merge(&mut object, more);
    object
}

/// A node with room for two cores and three pods, and the addresses of 10.0.0.0/24.
pub(crate) fn node(name: &str, more: Value) -> Value {
    let node = json!({
        "metadata": {"labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
    });
    with(object("v1", "Node", "", name, node), more)
}

/// A pod of `n` that runs on `a` and is ready.
pub(crate) fn pod(name: &str, ip: &str, more: Value) -> Value {
    let pod = json!({
        "metadata": {"creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {"nodeName": "a", "containers": []},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    with(object("v1", "Pod", "n", name, pod), more)
}

/// What is merged into an object whose controller this is.
pub(crate) fn controlled_by(owner: &Value) -> Value {
    let reference = json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    });
    json!({"metadata": {"ownerReferences": [reference]}})
}

/// What is merged into a pod that has ended.
pub(crate) fn ended() -> Value {
    json!({"status": {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}]}})
}

/// What is merged into an object that somebody has deleted.
pub(crate) fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T11:00:00Z", "deletionGracePeriodSeconds": 30}})
}
