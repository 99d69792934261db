//! What users are told about an object that is right, but not as they may think. Must never refuse anything.

use barque_api::metadata::Metadata;
use serde_json::Value;

const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// Warnings about a new object, or, with what it was, about a changed one.
#[must_use]
pub fn warnings(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let metadata = Metadata::of(object);
    let newly = |key: &str| {
        metadata.annotation(key).is_some()
            && old.is_none_or(|old| Metadata::of(old).annotation(key).is_none())
    };
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let mut told = Vec::new();
    match (group, kind) {
        ("", "Endpoints") => {
            told.push(
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned(),
            );
        }
        ("", "Service") => {
            if metadata.annotation(TOPOLOGY_HINTS).is_some() {
                told.push(format!(
                    "annotation {TOPOLOGY_HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
                ));
            }
            let external = text("/spec/type") == "ExternalName";
            if external
                && object
                    .pointer("/spec/externalIPs")
                    .and_then(Value::as_array)
                    .is_some_and(|ips| !ips.is_empty())
            {
                told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
            }
            if !external && !text("/spec/externalName").is_empty() {
                told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
            }
        }
        ("", "PersistentVolume") => {
            tell_storage_class(metadata, &mut told);
            if text("/spec/persistentVolumeReclaimPolicy") == "Recycle" {
                told.push(
                    "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the \
                     recommended approach is to use dynamic provisioning."
                        .to_owned(),
                );
            }
        }
        ("", "PersistentVolumeClaim") => tell_storage_class(metadata, &mut told),
        ("networking.k8s.io", "Ingress") if newly(INGRESS_CLASS) => {
            told.push(format!(
                "annotation {INGRESS_CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        _ => {}
    }
    told
}

fn tell_storage_class(metadata: Metadata<'_>, told: &mut Vec<String>) {
    if metadata.annotation(STORAGE_CLASS).is_some() {
        told.push(format!(
            "metadata.annotations[{STORAGE_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_told_what_is_deprecated_or_ignored() {
        let ingress = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}});
        assert_eq!(
            warnings("networking.k8s.io", "Ingress", &ingress, None),
            [
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
            ]
        );
        assert!(warnings("networking.k8s.io", "Ingress", &ingress, Some(&ingress)).is_empty());
        let service = json!({"spec": {"type": "ClusterIP", "externalName": "a"}});
        assert_eq!(
            warnings("", "Service", &service, None),
            ["spec.externalName is ignored when spec.type is not \"ExternalName\""]
        );
        assert!(warnings("", "ConfigMap", &json!({}), None).is_empty());
    }
}
