//! The status of objects: what it is when they are new, and who may change it. Must never work one out.

use barque_api::time::Time;
use serde_json::{Value, json};

use super::{keep_inside, keep_metadata};

/// Kinds whose status only their subresource `status` changes, as `(group, kind)`.
const WITH_STATUS: [(&str, &str); 27] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "Pod"),
    ("", "ReplicationController"),
    ("", "ResourceQuota"),
    ("", "Service"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("apps", "DaemonSet"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("policy", "PodDisruptionBudget"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourceClaim"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Kinds of which a change of the status leaves labels, annotations and the like as they are. Definitions of custom kinds are
/// none of them: whoever emptied one removes its finalizer together with the last change of its status.
const KEEPING_METADATA: [(&str, &str); 8] = [
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("apiregistration.k8s.io", "APIService"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourceClaim"),
    ("storage.k8s.io", "VolumeAttachment"),
];

fn has_status(group: &str, kind: &str) -> bool {
    WITH_STATUS.contains(&(group, kind))
}

/// The status of a new object is what the server says. Nodes tell their own, as they make themselves.
pub(super) fn begin(now: Time, group: &str, kind: &str, object: &mut Value) {
    if !has_status(group, kind) || kind == "Node" {
        return;
    }
    let status = first(now, group, kind, object);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".to_owned(), status);
    }
}

fn first(now: Time, group: &str, kind: &str, object: &Value) -> Value {
    match (group, kind) {
        ("", "Namespace") => json!({"phase": "Active"}),
        ("", "PersistentVolume") => json!({"phase": "Pending", "lastPhaseTransitionTime": now.to_string()}),
        ("", "PersistentVolumeClaim") => json!({"phase": "Pending"}),
        ("", "Pod") => super::pods::first_status(object),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => json!({"replicas": 0}),
        ("", "Service") | ("networking.k8s.io", "Ingress") => json!({"loadBalancer": {}}),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => json!({
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored_versions(object),
        }),
        ("apiregistration.k8s.io", "APIService") => {
            let local = object.pointer("/spec/service").is_none_or(Value::is_null);
            if !local {
                return json!({});
            }
            json!({"conditions": [{
                "type": "Available",
                "status": "True",
                "lastTransitionTime": now.to_string(),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }]})
        }
        ("apps", "DaemonSet") => json!({
            "currentNumberScheduled": 0,
            "desiredNumberScheduled": 0,
            "numberMisscheduled": 0,
            "numberReady": 0,
        }),
        ("apps", "StatefulSet") => json!({"availableReplicas": 0, "replicas": 0}),
        ("autoscaling", "HorizontalPodAutoscaler") => json!({"currentMetrics": null, "desiredReplicas": 0}),
        ("policy", "PodDisruptionBudget") => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        ("storage.k8s.io", "VolumeAttachment") => json!({"attached": false}),
        _ => json!({}),
    }
}

/// The versions in which objects of a custom kind are stored from now on.
fn stored_versions(object: &Value) -> Vec<Value> {
    let versions = object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    versions.filter(|one| one["storage"] == true).map(|one| one["name"].clone()).collect()
}

/// A change of the object leaves the status as it is, but for the versions that a custom kind is stored in from now on.
pub(super) fn keep(group: &str, kind: &str, object: &mut Value, old: &Value) {
    if !has_status(group, kind) {
        return;
    }
    super::keep(object, old, &["status"]);
    if kind == "CustomResourceDefinition" {
        let stored = stored_versions(object);
        let known = object.pointer_mut("/status/storedVersions").and_then(Value::as_array_mut);
        if let Some(known) = known {
            for version in stored {
                if !known.contains(&version) {
                    known.push(version);
                }
            }
        }
    }
}

/// A change of the status leaves everything else as it is; labels and the like depend on the kind.
pub(super) fn keep_all_but(group: &str, kind: &str, object: &mut Value, old: &Value) {
    super::keep(object, old, &["spec"]);
    if KEEPING_METADATA.contains(&(group, kind)) {
        keep_metadata(object, old);
    } else if (group, kind) == ("apps", "Deployment") {
        keep_inside(object, old, "metadata", &["labels"]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{created, updated};
    use super::*;

    #[test]
    fn nobody_makes_an_object_with_a_status() {
        let table = [
            ("", "Service", json!({"loadBalancer": {}})),
            ("apps", "Deployment", json!({})),
            ("apps", "ReplicaSet", json!({"replicas": 0})),
            ("", "PersistentVolumeClaim", json!({"phase": "Pending"})),
            ("storage.k8s.io", "VolumeAttachment", json!({"attached": false})),
            ("", "Node", json!({"x": 1})),
            ("", "ConfigMap", json!({"x": 1})),
        ];
        for (group, kind, expected) in table {
            let made = created(group, kind, json!({"metadata": {}, "status": {"x": 1}}));
            assert_eq!(made["status"], expected, "{kind}");
        }
    }

    #[test]
    fn an_object_and_its_status_change_apart() {
        let old = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"x": 1}, "status": {"y": 1}});
        let new = json!({"metadata": {"labels": {"a": "2"}}, "spec": {"x": 2}, "status": {"y": 2}});
        let main = updated("apps", "ReplicaSet", "", new.clone(), &old);
        assert_eq!((&main["spec"]["x"], &main["status"]["y"]), (&json!(2), &json!(1)));
        let below = updated("apps", "ReplicaSet", "status", new.clone(), &old);
        assert_eq!((&below["spec"]["x"], &below["status"]["y"]), (&json!(1), &json!(2)));
        assert_eq!(below["metadata"]["labels"]["a"], "2");
        for (group, kind) in [("apps", "Deployment"), ("storage.k8s.io", "VolumeAttachment")] {
            let below = updated(group, kind, "status", new.clone(), &old);
            assert_eq!(below["metadata"]["labels"]["a"], "1", "{kind}");
        }
    }

    #[test]
    fn custom_kinds_remember_how_they_were_stored() {
        let versions = |name: &str| json!({"versions": [{"name": name, "storage": true}, {"name": "x"}]});
        let kind = ("apiextensions.k8s.io", "CustomResourceDefinition");
        let old = created(kind.0, kind.1, json!({"metadata": {}, "spec": versions("v1")}));
        assert_eq!(old["status"]["storedVersions"], json!(["v1"]));
        let new = updated(kind.0, kind.1, "", json!({"metadata": {}, "spec": versions("v2")}), &old);
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
    }
}
