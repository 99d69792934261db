//! What a replacement may do, kind by kind: make what is not there, and say nothing of the version it replaces.

/// Kinds that a PUT makes when they are not there (`AllowCreateOnUpdate`).
const MADE_BY_PUT: [(&str, &str); 12] = [
    ("", "Endpoints"),
    ("", "Event"),
    ("", "LimitRange"),
    ("", "PodTemplate"),
    ("", "Service"),
    ("coordination.k8s.io", "Lease"),
    ("events.k8s.io", "Event"),
    ("node.k8s.io", "RuntimeClass"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// Kinds of which a replacement must say what version it replaces (not `AllowUnconditionalUpdate`).
const WITH_VERSION: [(&str, &str); 17] = [
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("coordination.k8s.io", "Lease"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodDisruptionBudget"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("storage.k8s.io", "VolumeAttachment"),
];

/// Whether a replacement of an object that is not there makes it.
#[must_use]
pub fn may_create_on_update(group: &str, kind: &str) -> bool {
    MADE_BY_PUT.contains(&(group, kind))
}

/// Whether a replacement without a resource version replaces whatever is there.
#[must_use]
pub fn may_update_without_version(group: &str, kind: &str) -> bool {
    !WITH_VERSION.contains(&(group, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_made_by_put_and_replaced_by_version() {
        assert!(may_create_on_update("coordination.k8s.io", "Lease"));
        assert!(!may_update_without_version("coordination.k8s.io", "Lease"));
        assert!(!may_create_on_update("", "Pod"));
        assert!(may_update_without_version("", "Pod"));
    }
}
