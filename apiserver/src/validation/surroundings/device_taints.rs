//! Taints of devices, and `DeviceTaintRule`: which devices of any driver get one. Must never look at a device.

use barque_api::field::FieldError;
use barque_api::names;

use super::devices::check_pool_name;
use super::storage::check_driver_name;
use super::{Change, Findings, Part};
use crate::validation::workload::conditions::check_conditions;

const MOST_CONDITIONS: usize = 8;

/// What is wrong with a `DeviceTaintRule`.
pub(super) fn check_rule(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        let status = change.new.child("status");
        check_conditions(&status, findings);
        let many = status.list("conditions").len();
        if many > MOST_CONDITIONS {
            findings.push(FieldError::too_many(&status.at("conditions"), many, MOST_CONDITIONS));
        }
        return;
    }
    let spec = change.new.child("spec");
    let selector = spec.child("deviceSelector");
    if selector.has("driver") {
        check_driver_name(selector.text("driver"), &selector.at("driver"), findings);
    }
    if selector.has("pool") {
        check_pool_name(&selector, "pool", findings);
    }
    if selector.has("device") {
        let device = selector.text("device");
        findings.each(&selector.at("device"), device, names::dns_label(device));
    }
    check_taint(&spec.child("taint"), findings);
}

/// What is wrong with a taint.
pub(super) fn check_taint(taint: &Part<'_>, findings: &mut Findings) {
    let value = taint.text("value");
    findings.label_key(&taint.at("key"), taint.text("key"));
    findings.each(&taint.at("value"), value, names::label_value(value));
    findings.word(taint, "effect", &["NoExecute", "NoSchedule", "None"]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told_below;

    fn told(subresource: &str, rule: &Value) -> Vec<String> {
        told_below(
            "resource.k8s.io",
            "DeviceTaintRule",
            subresource,
            rule,
            (!subresource.is_empty()).then_some(rule),
        )
    }

    #[test]
    fn a_rule_selects_by_names_and_taints() {
        let rule =
            |selector: Value, taint: Value| json!({"spec": {"deviceSelector": selector, "taint": taint}});
        let taint = json!({"key": "example.com/broken", "effect": "NoExecute"});
        assert!(
            told("", &rule(json!({"driver": "d.example.com", "pool": "a/b", "device": "gpu-0"}), taint))
                .is_empty()
        );
        let wrong = told(
            "",
            &rule(
                json!({"driver": "", "pool": "A", "device": "gpu_0"}),
                json!({"key": "", "value": "a b", "effect": "Always"}),
            ),
        );
        let fields: Vec<&str> = wrong.iter().filter_map(|text| Some(text.split_once(": ")?.0)).collect();
        assert_eq!(
            fields,
            [
                "spec.deviceSelector.driver",
                "spec.deviceSelector.pool",
                "spec.deviceSelector.device",
                "spec.taint.key",
                "spec.taint.key",
                "spec.taint.value",
                "spec.taint.effect",
            ]
        );
    }

    #[test]
    fn its_status_has_few_conditions_that_are_whole() {
        let condition = |number: usize| {
            json!({"type": format!("T{number}"), "status": "True", "reason": "R", "message": "m",
                   "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let rule =
            |many: usize| json!({"status": {"conditions": (0..many).map(condition).collect::<Vec<_>>()}});
        assert!(told("status", &rule(8)).is_empty());
        assert_eq!(told("status", &rule(9)), ["status.conditions: Too many: 9: must have at most 8 items"]);
        let bare = json!({"status": {"conditions": [{"type": "T", "status": "True"}]}});
        assert!(!told("status", &bare).is_empty());
    }
}
