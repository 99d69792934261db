//! Where a pod names secrets and config maps: the one list of places, for whoever restricts what pods may name and whoever lets
//! nodes read what their pods name. Pure; must never judge.

use serde_json::Value;

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A secret.
    Secret,
    /// A config map.
    ConfigMap,
}

/// The fields of a pod's spec with containers.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Where containers name things: lists, and places in their items.
const IN_CONTAINERS: [(&str, &str, Named); 4] = [
    ("envFrom", "/secretRef/name", Named::Secret),
    ("envFrom", "/configMapRef/name", Named::ConfigMap),
    ("env", "/valueFrom/secretKeyRef/name", Named::Secret),
    ("env", "/valueFrom/configMapKeyRef/name", Named::ConfigMap),
];

/// Where volumes do.
const IN_VOLUMES: [(&str, Named); 11] = [
    ("/secret/secretName", Named::Secret),
    ("/azureFile/secretName", Named::Secret),
    ("/cephfs/secretRef/name", Named::Secret),
    ("/cinder/secretRef/name", Named::Secret),
    ("/flexVolume/secretRef/name", Named::Secret),
    ("/rbd/secretRef/name", Named::Secret),
    ("/scaleIO/secretRef/name", Named::Secret),
    ("/iscsi/secretRef/name", Named::Secret),
    ("/storageos/secretRef/name", Named::Secret),
    ("/csi/nodePublishSecretRef/name", Named::Secret),
    ("/configMap/name", Named::ConfigMap),
];

/// Where sources of projected volumes do.
const IN_SOURCES: [(&str, Named); 2] =
    [("/secret/name", Named::Secret), ("/configMap/name", Named::ConfigMap)];

/// Shows each name that a pod with this spec has for something of its namespace.
pub(crate) fn each<'a>(spec: &'a Value, mut show: impl FnMut(Named, &'a str)) {
    let mut look = |within: &'a Value, pointer: &str, named: Named| {
        if let Some(name) = within.pointer(pointer).and_then(Value::as_str).filter(|name| !name.is_empty()) {
            show(named, name);
        }
    };
    for secret in list(spec, "imagePullSecrets") {
        look(secret, "/name", Named::Secret);
    }
    for container in CONTAINERS.into_iter().flat_map(|field| list(spec, field)) {
        for (field, pointer, named) in IN_CONTAINERS {
            list(container, field).iter().for_each(|item| look(item, pointer, named));
        }
    }
    for volume in list(spec, "volumes") {
        IN_VOLUMES.into_iter().for_each(|(pointer, named)| look(volume, pointer, named));
        for source in volume.get("projected").map_or(&[][..], |projected| list(projected, "sources")) {
            IN_SOURCES.into_iter().for_each(|(pointer, named)| look(source, pointer, named));
        }
    }
}

/// Whether a pod with this spec names something of a kind.
pub(crate) fn has(spec: &Value, kind: Named) -> bool {
    let mut found = false;
    each(spec, |named, _| found |= named == kind);
    found
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_names_secrets_and_config_maps_in_many_places() {
        let (secret, map) = ((Named::Secret, "s"), (Named::ConfigMap, "c"));
        let mut table = vec![
            (json!({"imagePullSecrets": [{"name": "s"}]}), Some(secret)),
            (json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}), Some(secret)),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "c"}}]}}]}), Some(map)),
            (json!({"volumes": [{"configMap": {"name": "c"}}]}), Some(map)),
            (json!({"volumes": [{"secret": {"secretName": ""}}]}), None),
            (json!({"volumes": [{"emptyDir": {}}], "containers": [{"env": [{"value": "v"}]}]}), None),
        ];
        for field in CONTAINERS {
            table.push((json!({field: [{"envFrom": [{"secretRef": {"name": "s"}}]}]}), Some(secret)));
            table.push((json!({field: [{"envFrom": [{"configMapRef": {"name": "c"}}]}]}), Some(map)));
            let env = |reference: &str, name: &str| json!({field: [{"env": [{"valueFrom": {reference: {"name": name}}}]}]});
            table.push((env("secretKeyRef", "s"), Some(secret)));
            table.push((env("configMapKeyRef", "c"), Some(map)));
        }
        for source in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            table.push((json!({"volumes": [{source: {"secretRef": {"name": "s"}}}]}), Some(secret)));
        }
        for (spec, expected) in table {
            let mut found = Vec::new();
            each(&spec, |named, name| found.push((named, name)));
            assert_eq!(found, Vec::from_iter(expected), "{spec}");
            let kind = expected.map(|(named, _)| named);
            assert_eq!(has(&spec, Named::Secret), kind == Some(Named::Secret), "{spec}");
        }
    }
}
