//! Small kinds around scheduling and running: `Lease`, `PriorityClass`, `RuntimeClass`. Must never rank or run anything.

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;

use super::amounts::{check_amount, check_container_name};
use super::node_affinity::check_toleration;
use super::{Change, Findings};

const HIGHEST_OF_USERS: i64 = 1_000_000_000;
/// Classes of the system with their values.
const OF_SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// What is wrong with a Lease.
pub(super) fn check_lease(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    if let Some(seconds) = spec.number("leaseDurationSeconds")
        && seconds <= 0
    {
        findings.invalid(&spec.at("leaseDurationSeconds"), seconds, "must be greater than 0");
    }
    findings.nonnegative(&spec, &["leaseTransitions"]);
    let strategy = spec.text("strategy");
    if spec.has("strategy") {
        let at = spec.at("strategy").child("strategy");
        if strategy.contains('/') {
            findings.label_key(&at, strategy);
        } else if strategy != "OldestEmulationVersion" {
            findings.not_supported(&at, strategy, &["OldestEmulationVersion"]);
        }
    }
    if !spec.text("preferredHolder").is_empty() && strategy.is_empty() {
        let detail = "may only be specified if `strategy` is defined";
        findings.forbidden(&spec.at("preferredHolder"), detail);
    }
}

/// What is wrong with a `PriorityClass`.
pub(super) fn check_priority_class(change: &Change<'_>, findings: &mut Findings) {
    let class = &change.new;
    if let Some(old) = &change.old {
        if class.count("value") != old.count("value") {
            findings.forbidden(&class.at("value"), "may not be changed in an update.");
        }
        findings.immutable(class, old, "preemptionPolicy");
        return;
    }
    let (name, value) = (Metadata::of(class.value).name(), class.count("value"));
    if name.starts_with("system-") {
        let why = match OF_SYSTEM.iter().find(|(known, _)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, needed)) if *needed != value => {
                Some(format!("value of {name} PriorityClass must be {needed}"))
            }
            Some(_) if class.flag("globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            findings.forbidden(&FieldPath::of("metadata.name"), detail);
        }
    } else if value > HIGHEST_OF_USERS {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
        findings.forbidden(&class.at("value"), detail);
    }
    if class.has("preemptionPolicy") {
        findings.word(class, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
}

/// What is wrong with a `RuntimeClass`.
pub(super) fn check_runtime_class(change: &Change<'_>, findings: &mut Findings) {
    let class = &change.new;
    if let Some(old) = &change.old {
        findings.immutable(class, old, "handler");
    }
    findings.dns_label(&class.at("handler"), class.text("handler"));
    let overhead = class.child("overhead");
    for (name, value) in overhead.entries("podFixed") {
        let at = overhead.at("limits").key(name);
        check_container_name(name, &at, findings);
        check_amount(name, value, &at, findings);
    }
    let scheduling = class.child("scheduling");
    findings.labels(&scheduling, "nodeSelector");
    let mut seen = Vec::new();
    for toleration in scheduling.items("tolerations") {
        check_toleration(&toleration, findings);
        if seen.contains(&toleration.value) {
            findings.duplicate(&toleration.path, toleration.value.clone());
        }
        seen.push(toleration.value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn leases_last() {
        let told = |spec: Value| told("coordination.k8s.io", "Lease", &json!({"spec": spec}), None);
        assert!(told(json!({"leaseDurationSeconds": 15, "holderIdentity": "a"})).is_empty());
        assert_eq!(
            told(json!({"leaseDurationSeconds": 0, "preferredHolder": "b"})),
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
            ]
        );
    }

    #[test]
    fn priorities_of_users_are_below_those_of_the_system() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        let told =
            |new: Value, old: Option<Value>| told("scheduling.k8s.io", "PriorityClass", &new, old.as_ref());
        assert!(told(class("a", 1_000_000_000), None).is_empty());
        assert!(told(class("system-node-critical", 2_000_001_000), None).is_empty());
        assert_eq!(
            told(class("a", 1_000_000_001), None),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
        );
        assert_eq!(
            told(class("system-x", 1), None),
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
             error: system-x is not a known system priority class"
            ]
        );
        assert_eq!(
            told(class("a", 2), Some(class("a", 1))),
            ["value: Forbidden: may not be changed in an update."]
        );
    }

    #[test]
    fn the_handler_of_a_runtime_class_stays() {
        let class = |name: &str| json!({"handler": name, "overhead": {"podFixed": {"cpu": "100m"}}});
        let told = |new: &str| told("node.k8s.io", "RuntimeClass", &class(new), Some(&class("runc")));
        assert!(told("runc").is_empty());
        assert_eq!(told("other"), ["handler: Invalid value: \"other\": field is immutable"]);
    }
}
