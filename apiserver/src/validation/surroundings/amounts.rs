//! Names and amounts of resources, as quotas, limits, nodes and volumes have them. Must never know a kind.

use barque_api::field::{FieldError, FieldPath};
use barque_api::names;
use barque_api::quantity::Quantity;
use serde_json::Value;

use super::Findings;
use crate::validation::findings::NEGATIVE;

/// The sentence about an amount that must be whole.
pub(super) const NOT_WHOLE: &str = "must be an integer";

/// Resources that are counted, not measured.
const COUNTED: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources of containers, with or without `requests.` and `limits.` before them.
const MEASURED: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Whether the resource is Kubernetes' own.
pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the resource is pages of memory.
pub(super) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_pages(name: &str) -> bool {
    is_huge_pages(name) || name.starts_with("requests.hugepages-")
}

/// Whether the resource is one that nodes offer beyond Kubernetes' own.
pub(super) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::label_key(&format!("requests.{name}")).is_empty()
}

/// Whether more of the resource may be promised than there is.
pub(super) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

fn is_bare_measure(name: &str) -> bool {
    let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    MEASURED.contains(&bare)
}

/// Whether quotas know the resource.
pub(super) fn is_quota_resource(name: &str) -> bool {
    is_bare_measure(name)
        || COUNTED.contains(&name)
        || name == "requests.storage"
        || is_quota_huge_pages(name)
}

fn is_standard(name: &str) -> bool {
    is_quota_resource(name) || name == "storage"
}

/// Whether the amount of the resource is whole.
pub(super) fn is_whole(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A name of a resource; whether it is one.
pub(super) fn check_name(name: &str, path: &FieldPath, findings: &mut Findings) -> bool {
    let wrong = names::label_key(name);
    if !wrong.is_empty() {
        findings.each(path, name, wrong);
        return false;
    }
    if !name.contains('/') && !is_standard(name) {
        findings.invalid(path, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

/// A name of a resource that containers may have.
pub(super) fn check_container_name(name: &str, path: &FieldPath, findings: &mut Findings) {
    check_name(name, path, findings);
    if !name.contains('/') {
        if !MEASURED.contains(&name) && !is_huge_pages(name) {
            findings.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        findings.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// A name of a resource that quotas may limit.
pub(super) fn check_quota_name(name: &str, path: &FieldPath, findings: &mut Findings) {
    check_name(name, path, findings);
    if !name.contains('/') && !is_quota_resource(name) {
        findings.invalid(path, name, "must be a standard resource for quota");
    }
}

/// An amount of a resource: not below 0, and whole where it is counted.
pub(super) fn check_amount(name: &str, value: &Value, path: &FieldPath, findings: &mut Findings) {
    let Some(quantity) = findings.quantity(value, path) else { return };
    if quantity.sign() < 0 {
        findings.invalid(path, quantity.to_string(), NEGATIVE);
    }
    if is_whole(name) && quantity.milli_value() % 1000 != 0 {
        findings.invalid(path, quantity.to_string(), NOT_WHOLE);
    }
}

/// An amount above 0.
pub(super) fn check_positive(value: &Value, path: &FieldPath, findings: &mut Findings) -> Option<Quantity> {
    let quantity = findings.quantity(value, path)?;
    if quantity.sign() <= 0 {
        findings.push(FieldError::invalid(path, quantity.to_string(), "must be greater than zero"));
        return None;
    }
    Some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_known_by_their_names() {
        let table = [
            ("cpu", true, false, true),
            ("requests.cpu", true, false, true),
            ("limits.memory", true, false, true),
            ("pods", true, true, true),
            ("hugepages-2Mi", true, false, false),
            ("requests.hugepages-2Mi", true, false, true),
            ("storage", false, false, true),
            ("example.com/gpu", false, true, false),
            ("requests.example.com/gpu", false, false, false),
            ("count/pods", false, true, false),
        ];
        for (name, quota, whole, overcommit) in table {
            assert_eq!(
                (is_quota_resource(name), is_whole(name), may_overcommit(name)),
                (quota, whole, overcommit),
                "{name}"
            );
        }
    }
}
