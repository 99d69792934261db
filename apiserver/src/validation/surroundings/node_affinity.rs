//! Which nodes a volume or a claim can be used on, and what tolerates their taints. Must never look at a node.

use barque_api::field::FieldPath;
use barque_api::names;

use super::{Findings, Part};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A selector of nodes: terms of which one must hold.
pub(super) fn check_node_selector(selector: &Part<'_>, findings: &mut Findings) {
    if selector.list("nodeSelectorTerms").is_empty() {
        findings.required(&selector.at("nodeSelectorTerms"), "must have at least one node selector term");
    }
    for term in selector.items("nodeSelectorTerms") {
        for requirement in term.items("matchExpressions") {
            check_requirement(&requirement, findings);
        }
        for requirement in term.items("matchFields") {
            check_field_requirement(&requirement, findings);
        }
    }
}

fn check_requirement(requirement: &Part<'_>, findings: &mut Findings) {
    let (values, at) = (requirement.list("values").len(), requirement.at("values"));
    match requirement.text("operator") {
        "In" | "NotIn" if values == 0 => {
            findings.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            findings.forbidden(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values != 1 => {
            findings.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => findings.invalid(&requirement.at("operator"), other, "not a valid selector operator"),
    }
    findings.label_key(&requirement.at("key"), requirement.text("key"));
    for (index, value) in requirement.texts("values").enumerate() {
        findings.each(&at.index(index), value, names::label_value(value));
    }
}

fn check_field_requirement(requirement: &Part<'_>, findings: &mut Findings) {
    let at = requirement.at("values");
    match requirement.text("operator") {
        "In" | "NotIn" => {
            if requirement.list("values").len() != 1 {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                findings.required(&at, detail);
            }
        }
        other => findings.invalid(&requirement.at("operator"), other, "not a valid selector operator"),
    }
    if requirement.text("key") == "metadata.name" {
        for (index, name) in requirement.texts("values").enumerate() {
            findings.dns_subdomain(&at.index(index), name);
        }
    } else {
        let key = requirement.text("key");
        findings.invalid(&requirement.at("key"), key, "not a valid field selector key");
    }
}

/// What a taint does to pods.
pub(super) fn check_effect(effect: &str, may_be_empty: bool, at: &FieldPath, findings: &mut Findings) {
    if effect.is_empty() {
        if !may_be_empty {
            findings.required(at, "");
        }
    } else if !EFFECTS.contains(&effect) {
        findings.not_supported(at, effect, &EFFECTS);
    }
}

/// What tolerates a taint.
pub(super) fn check_toleration(toleration: &Part<'_>, findings: &mut Findings) {
    let (key, operator) = (toleration.text("key"), toleration.text("operator"));
    let at = toleration.at("operator");
    if !key.is_empty() {
        findings.label_key(&toleration.at("key"), key);
    } else if operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        findings.invalid(&at, operator, detail);
    }
    if toleration.has("tolerationSeconds") && toleration.text("effect") != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        findings.invalid(&toleration.at("effect"), toleration.text("effect"), detail);
    }
    let value = toleration.text("value");
    match operator {
        "Equal" | "" => {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                findings.invalid(&at, value, wrong.join(";"));
            }
        }
        "Exists" if !value.is_empty() => {
            findings.invalid(
                &at,
                toleration.value.clone(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        other => findings.not_supported(&at, other, &["Equal", "Exists"]),
    }
    check_effect(toleration.text("effect"), true, &toleration.at("effect"), findings);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn details(check: impl Fn(&mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        check(&mut findings);
        findings.into_errors().into_iter().map(|error| error.detail).collect()
    }

    #[test]
    fn requirements_of_nodes() {
        let table = [
            (json!({"key": "a", "operator": "In"}), "must be specified when `operator` is 'In' or 'NotIn'"),
            (
                json!({"key": "a", "operator": "Gt", "values": ["1", "2"]}),
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            ),
            (json!({"key": "a", "operator": "Like"}), "not a valid selector operator"),
        ];
        for (requirement, expected) in table {
            let selector = json!({"nodeSelectorTerms": [{"matchExpressions": [requirement]}]});
            assert_eq!(details(|all| check_node_selector(&Part::root(&selector), all)), [expected]);
        }
    }

    #[test]
    fn tolerations() {
        let told = |value: Value| details(|all| check_toleration(&Part::root(&value), all));
        assert!(told(json!({"operator": "Exists"})).is_empty());
        assert_eq!(told(json!({})).len(), 1);
        assert_eq!(
            told(json!({"key": "a", "tolerationSeconds": 1})),
            ["effect must be 'NoExecute' when `tolerationSeconds` is set"]
        );
    }
}
