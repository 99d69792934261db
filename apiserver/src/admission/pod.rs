//! Reading pods, and whatever else plugins look at: containers, what a pod refers to. Must never decide.

use barque_api::metadata::Metadata;
pub(super) use barque_api::pointer::{given, list, text};
use serde_json::Value;

use crate::pod_references::{self, Named};

/// The annotation of pods that a node made by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The fields of a pod's spec with containers, in the order in which containers are looked at, and what one is called.
pub(super) const CONTAINERS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// The containers of a pod: those that come first, the others, those that were added.
pub(super) fn all_containers(pod: &Value) -> impl Iterator<Item = &Value> {
    CONTAINERS.into_iter().filter_map(|(field, _)| pod.get("spec")?.get(field)?.as_array()).flatten()
}

/// Whether a node made it by itself.
pub(super) fn is_mirror(pod: &Value) -> bool {
    Metadata::of(pod).annotation(MIRROR).is_some()
}

/// Whether it names a secret anywhere.
pub(super) fn refers_to_secrets(pod: &Value) -> bool {
    pod_references::has(&pod["spec"], Named::Secret)
}

/// Whether it names a config map anywhere.
pub(super) fn refers_to_config_maps(pod: &Value) -> bool {
    pod_references::has(&pod["spec"], Named::ConfigMap)
}

/// Whether a volume projects a source like that.
pub(super) fn projects(volume: &Value, source: impl Fn(&Value) -> bool) -> bool {
    list(volume, "/projected/sources").iter().any(source)
}
