//! `metadata.generation`: which kinds count how often what is wanted of them changed, and what that is.

use barque_api::metadata::Metadata;
use serde_json::Value;

use super::set_generation;

/// `(group, kind, the fields whose changes count)`. A field is a name, or a path with a slash before it.
const COUNTED: [(&str, &str, &[&str]); 28] = [
    ("", "Pod", &["spec"]),
    ("", "PodTemplate", &["template"]),
    ("", "ReplicationController", &["spec"]),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", &["spec"]),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", &["spec"]),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", &["webhooks"]),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", &["spec"]),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", &["spec"]),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", &["webhooks"]),
    ("apiextensions.k8s.io", "CustomResourceDefinition", &["spec"]),
    ("apps", "DaemonSet", &["spec"]),
    ("apps", "Deployment", &["spec", "/metadata/annotations"]),
    ("apps", "ReplicaSet", &["spec"]),
    ("apps", "StatefulSet", &["spec"]),
    ("batch", "CronJob", &["spec"]),
    ("batch", "Job", &["spec"]),
    ("discovery.k8s.io", "EndpointSlice", &["addressType", "endpoints", "ports", "/metadata/labels"]),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", &["spec"]),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", &["spec"]),
    ("networking.k8s.io", "Ingress", &["spec"]),
    ("networking.k8s.io", "IngressClass", &["spec"]),
    ("networking.k8s.io", "NetworkPolicy", &["spec"]),
    ("policy", "PodDisruptionBudget", &["spec"]),
    ("resource.k8s.io", "DeviceClass", &["spec"]),
    ("resource.k8s.io", "DeviceTaintRule", &["spec"]),
    ("resource.k8s.io", "ResourceSlice", &["spec"]),
    // Nothing of it changes that counts.
    ("scheduling.k8s.io", "PriorityClass", &[]),
    ("storage.k8s.io", "CSIDriver", &["spec"]),
];

fn counted(group: &str, kind: &str) -> Option<&'static [&'static str]> {
    COUNTED.iter().find(|one| (one.0, one.1) == (group, kind)).map(|one| one.2)
}

/// Whether objects of the kind have a generation that the server counts.
#[must_use]
pub fn counts_generations(group: &str, kind: &str) -> bool {
    counted(group, kind).is_some()
}

/// New objects begin with 1.
pub(super) fn begin(group: &str, kind: &str, object: &mut Value) {
    if counts_generations(group, kind) {
        set_generation(object, 1);
    }
}

/// One more than before, if what counts has changed; else what it was.
pub(super) fn count(group: &str, kind: &str, object: &mut Value, old: &Value) {
    let Some(fields) = counted(group, kind) else { return };
    let changed = fields.iter().any(|field| {
        let of = |object: &Value| -> Option<Value> {
            let found = if field.starts_with('/') { object.pointer(field) } else { object.get(field) };
            found.filter(|found| !says_nothing(found)).cloned()
        };
        of(object) != of(old)
    });
    let before = Metadata::of(old).generation();
    if changed || before > 0 {
        set_generation(object, before + i64::from(changed));
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{created, updated};
    use super::*;

    #[test]
    fn generations_count_what_is_wanted() {
        let old =
            created("apps", "Deployment", json!({"metadata": {"generation": 7}, "spec": {"replicas": 1}}));
        assert_eq!(old["metadata"]["generation"], 1);
        let generation = |group: &str, kind: &str, below: &str, field: &str, value: Value| {
            let mut new = old.clone();
            *new.pointer_mut(field).unwrap() = value;
            updated(group, kind, below, new, &old)["metadata"]["generation"].clone()
        };
        assert_eq!(generation("apps", "Deployment", "", "/spec/replicas", json!(2)), 2);
        assert_eq!(generation("apps", "Deployment", "status", "/spec/replicas", json!(2)), 1);
        let annotated = json!({"generation": 1, "annotations": {"a": "1"}});
        assert_eq!(generation("apps", "Deployment", "", "/metadata", annotated.clone()), 2);
        assert_eq!(generation("apps", "ReplicaSet", "", "/metadata", annotated), 1);
        assert_eq!(generation("apps", "ReplicaSet", "", "/status", json!({"replicas": 2})), 1);
    }

    #[test]
    fn most_configuration_is_not_counted() {
        for (group, kind) in [("", "ConfigMap"), ("", "Service"), ("storage.k8s.io", "StorageClass")] {
            assert!(!counts_generations(group, kind));
            assert!(created(group, kind, json!({"metadata": {}}))["metadata"].get("generation").is_none());
        }
    }
}
