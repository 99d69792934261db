//! Events for people about pods and nodes. Must never make the caller wait.

use barque_client::events::{Kind, Note, Recorder};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};

use crate::pods::spec::{self, Kind as ContainerKind};

/// Who takes events.
pub trait Teller: Send + Sync {
    /// Tells of an object.
    fn tell(&self, about: ObjectReference, note: Note);
}

impl Teller for Recorder {
    fn tell(&self, about: ObjectReference, note: Note) {
        self.publish(about, note);
    }
}

/// As it should be.
#[must_use]
pub fn normal(reason: &str, text: impl Into<String>) -> Note {
    note(Kind::Normal, reason, text.into())
}

/// Somebody should look.
#[must_use]
pub fn warning(reason: &str, text: impl Into<String>) -> Note {
    note(Kind::Warning, reason, text.into())
}

fn note(kind: Kind, reason: &str, text: String) -> Note {
    // The kubelet's events come from an older API, which has no action; it is required here.
    Note { kind, reason: reason.to_owned(), action: reason.to_owned(), text }
}

/// The pod.
#[must_use]
pub fn about_pod(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// A container of the pod.
#[must_use]
pub fn about_container(pod: &Pod, container: &str) -> ObjectReference {
    let list = match spec::find(pod, container).map(|container| container.kind) {
        Some(ContainerKind::Init | ContainerKind::Sidecar) => "initContainers",
        Some(ContainerKind::Ephemeral) => "ephemeralContainers",
        Some(ContainerKind::Main) | None => "containers",
    };
    ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..about_pod(pod) }
}

/// The node.
#[must_use]
pub fn about_node(node: &Node) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: node.metadata.name.clone(),
        uid: node.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
