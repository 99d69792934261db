//! What a pod and a volume name: secrets, config maps, claims, accounts. Must never know on which node they are.

use serde_json::Value;

use super::graph::{Kind, Thing};
use crate::pod_references::{self, Named};

/// All that the node of a pod needs for it. A mirror pod, which a node makes itself, needs nothing: else a node could give
/// itself anything.
pub(super) fn of_pod(pod: &Value) -> Vec<Thing> {
    if pod
        .pointer("/metadata/annotations")
        .is_some_and(|all| all.get("kubernetes.io/config.mirror").is_some())
    {
        return Vec::new();
    }
    let metadata = &pod["metadata"];
    let spec = &pod["spec"];
    let mut found = Found { namespace: text(metadata, "namespace"), things: Vec::new() };
    found.add(Kind::ServiceAccount, spec.get("serviceAccountName"));
    pod_references::each(spec, |named, name| {
        let kind = match named {
            Named::Secret => Kind::Secret,
            Named::ConfigMap => Kind::ConfigMap,
        };
        found.things.push(Thing::new(kind, found.namespace, name));
    });
    for volume in list(spec, "volumes") {
        found.add_volume(volume, text(metadata, "name"));
    }
    let statuses = list(&pod["status"], "resourceClaimStatuses");
    for claim in list(spec, "resourceClaims") {
        found.add(Kind::ResourceClaim, claim.get("resourceClaimName"));
        // One that is made from a template has its name in the status.
        let made = statuses.iter().find(|status| status.get("name") == claim.get("name"));
        found.add(Kind::ResourceClaim, made.and_then(|status| status.get("resourceClaimName")));
    }
    found.add(Kind::ResourceClaim, pod.pointer("/status/extendedResourceClaimStatus/resourceClaimName"));
    found.things.sort_unstable();
    found.things.dedup();
    found.things
}

struct Found<'a> {
    namespace: &'a str,
    things: Vec<Thing>,
}

impl Found<'_> {
    fn add(&mut self, kind: Kind, name: Option<&Value>) {
        if let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            self.things.push(Thing::new(kind, self.namespace, name));
        }
    }

    fn add_volume(&mut self, volume: &Value, pod: &str) {
        self.add(Kind::Claim, volume.pointer("/persistentVolumeClaim/claimName"));
        if volume.get("ephemeral").is_some_and(Value::is_object) {
            let claim = Value::from(format!("{pod}-{}", text(volume, "name")));
            self.add(Kind::Claim, Some(&claim));
        }
    }
}

/// The secrets that a node needs to mount a volume. Those without a namespace lie in that of the claim.
pub(super) fn secrets_of_volume(volume: &Value) -> Vec<Thing> {
    let spec = &volume["spec"];
    let claims = spec.get("claimRef").map_or("", |claim| text(claim, "namespace"));
    let mut secrets = Vec::new();
    let mut add = |namespace: &str, name: &str| {
        if !name.is_empty() {
            let namespace = if namespace.is_empty() { claims } else { namespace };
            secrets.push(Thing::new(Kind::Secret, namespace, name));
        }
    };
    if let Some(azure) = spec.get("azureFile") {
        add(text(azure, "secretNamespace"), text(azure, "secretName"));
    }
    for path in [
        "/cephfs/secretRef",
        "/cinder/secretRef",
        "/flexVolume/secretRef",
        "/rbd/secretRef",
        "/scaleIO/secretRef",
        "/iscsi/secretRef",
        "/storageos/secretRef",
        "/csi/nodePublishSecretRef",
        "/csi/nodeStageSecretRef",
        "/csi/nodeExpandSecretRef",
    ] {
        if let Some(reference) = spec.pointer(path) {
            add(text(reference, "namespace"), text(reference, "name"));
        }
    }
    secrets.sort_unstable();
    secrets.dedup();
    secrets
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_where_a_pod_names_something_is_found() {
        let secret = |name: &str| Thing::new(Kind::Secret, "x", name);
        let map = |name: &str| Thing::new(Kind::ConfigMap, "x", name);
        let table = [
            (json!({"imagePullSecrets": [{"name": "s"}]}), secret("s")),
            (json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "s"}}]}]}), secret("s")),
            (json!({"containers": [{"envFrom": [{"configMapRef": {"name": "m"}}]}]}), map("m")),
            (
                json!({"ephemeralContainers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "m"}}}]}]}),
                map("m"),
            ),
            (json!({"volumes": [{"secret": {"secretName": "s"}}]}), secret("s")),
            (json!({"volumes": [{"projected": {"sources": [{"secret": {"name": "s"}}]}}]}), secret("s")),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "m"}}]}}]}), map("m")),
            (json!({"volumes": [{"csi": {"nodePublishSecretRef": {"name": "s"}}}]}), secret("s")),
            (json!({"volumes": [{"name": "v", "ephemeral": {}}]}), Thing::new(Kind::Claim, "x", "web-v")),
            (
                json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}),
                Thing::new(Kind::ResourceClaim, "x", "c"),
            ),
            (
                json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]}),
                Thing::new(Kind::ResourceClaim, "x", "web-gpu-1"),
            ),
            (json!({"serviceAccountName": "r"}), Thing::new(Kind::ServiceAccount, "x", "r")),
        ];
        for (spec, thing) in table {
            let status =
                json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "web-gpu-1"}]});
            let direct = spec.pointer("/resourceClaims/0/resourceClaimName").is_some();
            let status = if direct { Value::Null } else { status };
            let mut pod =
                json!({"metadata": {"namespace": "x", "name": "web"}, "spec": spec, "status": status});
            assert_eq!(of_pod(&pod), [thing], "{spec}");
            pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
            assert_eq!(of_pod(&pod), [], "{spec}");
        }
    }

    #[test]
    fn secrets_of_volumes_lie_where_they_say_or_with_the_claim() {
        let volume = json!({"spec": {
            "claimRef": {"namespace": "x", "name": "disk"},
            "azureFile": {"secretName": "azure"},
            "csi": {
                "nodeStageSecretRef": {"namespace": "y", "name": "stage"},
                "controllerPublishSecretRef": {"namespace": "y", "name": "controller"},
            },
        }});
        let expected = [Thing::new(Kind::Secret, "x", "azure"), Thing::new(Kind::Secret, "y", "stage")];
        assert_eq!(secrets_of_volume(&volume), expected);
    }
}
