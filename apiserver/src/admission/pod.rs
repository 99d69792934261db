//! Reading pods, and whatever else plugins look at: texts, lists, containers, what a pod refers to. Must never decide.

use barque_api::metadata::Metadata;
use serde_json::Value;

/// The annotation of pods that a node made by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The fields of a pod's spec with containers, in the order in which containers are looked at, and what one is called.
pub(super) const CONTAINERS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// The text at a JSON pointer; empty when there is none.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty when there is none.
pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What stands at a JSON pointer, if it is not null.
pub(super) fn given<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

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
    let named = |object: &Value, pointer: &str| !text(object, pointer).is_empty();
    let of_container = |container: &Value| {
        list(container, "/envFrom").iter().any(|from| named(from, "/secretRef/name"))
            || list(container, "/env").iter().any(|one| named(one, "/valueFrom/secretKeyRef/name"))
    };
    let of_volume = |volume: &Value| {
        [
            "/secret/secretName",
            "/azureFile/secretName",
            "/cephfs/secretRef/name",
            "/cinder/secretRef/name",
            "/flexVolume/secretRef/name",
            "/rbd/secretRef/name",
            "/scaleIO/secretRef/name",
            "/iscsi/secretRef/name",
            "/storageos/secretRef/name",
            "/csi/nodePublishSecretRef/name",
        ]
        .into_iter()
        .any(|pointer| named(volume, pointer))
            || list(volume, "/projected/sources").iter().any(|source| named(source, "/secret/name"))
    };
    list(pod, "/spec/imagePullSecrets").iter().any(|secret| named(secret, "/name"))
        || all_containers(pod).any(of_container)
        || list(pod, "/spec/volumes").iter().any(of_volume)
}

/// Whether it names a config map anywhere.
pub(super) fn refers_to_config_maps(pod: &Value) -> bool {
    let named = |object: &Value, pointer: &str| !text(object, pointer).is_empty();
    let of_container = |container: &Value| {
        list(container, "/envFrom").iter().any(|from| named(from, "/configMapRef/name"))
            || list(container, "/env").iter().any(|one| named(one, "/valueFrom/configMapKeyRef/name"))
    };
    let of_volume = |volume: &Value| {
        named(volume, "/configMap/name") || projects(volume, |source| named(source, "/configMap/name"))
    };
    all_containers(pod).any(of_container) || list(pod, "/spec/volumes").iter().any(of_volume)
}

/// Whether a volume projects a source like that.
pub(super) fn projects(volume: &Value, source: impl Fn(&Value) -> bool) -> bool {
    list(volume, "/projected/sources").iter().any(source)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_refers_to_secrets_and_config_maps_in_many_ways() {
        let table = [
            (json!({"imagePullSecrets": [{"name": "s"}]}), true, false),
            (json!({"volumes": [{"secret": {"secretName": "s"}}]}), true, false),
            (json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}), true, false),
            (json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}), true, false),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}), true, false),
            (json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}), true, false),
            (json!({"volumes": [{"configMap": {"name": "c"}}]}), false, true),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "c"}}]}}]}), false, true),
            (json!({"ephemeralContainers": [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}), false, true),
            (json!({"volumes": [{"emptyDir": {}}], "containers": [{"env": [{"value": "v"}]}]}), false, false),
        ];
        for (spec, secrets, maps) in table {
            let pod = json!({"spec": spec});
            assert_eq!((refers_to_secrets(&pod), refers_to_config_maps(&pod)), (secrets, maps), "{pod}");
        }
    }
}
