//! What a node may do to pods: make the mirrors of those that it runs by itself, tell how its own are, and end them. Pure.

use barque_api::metadata::Metadata;
use serde_json::Value;

use crate::admission::pod::{
    MIRROR, given, is_mirror, list, projects, refers_to_config_maps, refers_to_secrets, text,
};
use crate::admission::{Attributes, Operation};

/// Whether a node may do this to a pod, as far as the pod itself tells.
pub(super) fn check(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    let operation = attributes.operation.name();
    let old = attributes.old.unwrap_or(&Value::Null);
    let is_own = text(old, "/spec/nodeName") == node;
    match (attributes.subresource, attributes.operation) {
        ("", Operation::Create) => mirror(node, object),
        ("", Operation::Delete) if is_own => Ok(()),
        ("", Operation::Delete) => {
            Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        ("", _) => Err(format!(
            "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
        )),
        ("status", Operation::Update) if !is_own => {
            Err(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("status", Operation::Update) => status(node, object, old),
        ("eviction", Operation::Create) => {
            if is_own {
                Ok(())
            } else {
                Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
            }
        }
        ("status" | "eviction", _) => Err(format!("unexpected operation {operation:?}")),
        (other, _) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
    }
}

fn mirror(node: &str, pod: &Value) -> Result<(), String> {
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners: Vec<_> = Metadata::of(pod).owner_references().collect();
    let owner = match owners.as_slice() {
        [owner] => owner,
        [] => {
            return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
        }
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if owner.api_version() != "v1" || owner.kind() != "Node" || owner.name() != node {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !owner.is_controller() {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner.blocks_deletion() {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let volumes = list(pod, "/spec/volumes");
    let bundle = |source: &Value| source.get("clusterTrustBundle").is_some_and(Value::is_object);
    let what = if !text(pod, "/spec/serviceAccountName").is_empty() {
        "a service account"
    } else if refers_to_secrets(pod) {
        "secrets"
    } else if refers_to_config_maps(pod) {
        "configmaps"
    } else if volumes.iter().any(|volume| projects(volume, bundle)) {
        "clustertrustbundles"
    } else if volumes.iter().any(|volume| given(volume, "/persistentVolumeClaim").is_some()) {
        "persistentvolumeclaims"
    } else {
        return Ok(());
    };
    Err(format!("node {node:?} can not create pods that reference {what}"))
}

fn status(node: &str, pod: &Value, old: &Value) -> Result<(), String> {
    let labels = |pod| Metadata::of(pod).labels().cloned().unwrap_or_default();
    if labels(pod) != labels(old) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    let claims = |pod| list(pod, "/status/resourceClaimStatuses");
    if claims(pod) != claims(old) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}
