//! Where a pod may run: tolerations, and how pods are spread.

use std::collections::BTreeSet;

use barque_api::names;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// The sentence about a number that must be above 0.
const NOT_POSITIVE: &str = "must be greater than zero";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Which taints of nodes a pod bears.
pub(super) fn check_tolerations(spec: &Part<'_>, findings: &mut Findings) {
    for toleration in spec.items("tolerations") {
        let text = |field| toleration.text(field);
        let (key, operator, value, effect) = (text("key"), text("operator"), text("value"), text("effect"));
        let at = toleration.at("operator");
        if !key.is_empty() {
            findings.label_key(&toleration.at("key"), key);
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            findings.invalid(&at, operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            findings.invalid(&toleration.at("effect"), effect, detail);
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    findings.invalid(&at, value, wrong.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    findings.invalid(&at, value, "value must be empty when `operator` is 'Exists'");
                }
            }
            other => findings.not_supported(&at, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            findings.not_supported(&toleration.at("effect"), effect, &EFFECTS);
        }
    }
}

/// How pods are spread over parts of the cluster.
pub(super) fn check_spread(spec: &Part<'_>, findings: &mut Findings) {
    let constraints: Vec<_> = spec.items("topologySpreadConstraints").collect();
    for (index, constraint) in constraints.iter().enumerate() {
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if constraint.count("maxSkew") <= 0 {
            findings.invalid(&constraint.at("maxSkew"), constraint.count("maxSkew"), NOT_POSITIVE);
        }
        if key.is_empty() {
            findings.required(&constraint.at("topologyKey"), "can not be empty");
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action) {
            let at = constraint.at("whenUnsatisfiable");
            findings.not_supported(&at, action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        let is_repeated = constraints[index + 1..]
            .iter()
            .any(|later| later.text("topologyKey") == key && later.text("whenUnsatisfiable") == action);
        if is_repeated {
            let at = constraint.at("{topologyKey, whenUnsatisfiable}");
            findings.duplicate(&at, format!("{{{key}, {action}}}"));
        }
        if let Some(least) = constraint.number("minDomains") {
            let at = constraint.at("minDomains");
            if least <= 0 {
                findings.invalid(&at, least, NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                findings.invalid(&at, least, detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            findings.word_if_given(constraint, policy, &["Honor", "Ignore"]);
        }
        check_match_keys(constraint, findings);
        findings.selector(constraint, "labelSelector");
    }
}

fn check_match_keys(constraint: &Part<'_>, findings: &mut Findings) {
    if constraint.list("matchLabelKeys").is_empty() {
        return;
    }
    let selector = constraint.child("labelSelector");
    if selector.value.is_null() {
        let detail = "must not be specified when labelSelector is not set";
        findings.forbidden(&constraint.at("matchLabelKeys"), detail);
    }
    let mut chosen: BTreeSet<_> = selector.entries("matchLabels").map(|(key, _)| key).collect();
    chosen.extend(selector.items("matchExpressions").map(|one| one.text("key")));
    for item in constraint.items("matchLabelKeys") {
        let key = item.value.as_str().unwrap_or_default();
        findings.label_key(&item.path, key);
        if chosen.contains(key) {
            findings.invalid(&item.path, key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn tolerations_and_what_is_wrong_with_them() {
        let table: &[(Value, &[&str])] = &[
            (json!([{"key": "a", "value": "b", "effect": "NoSchedule"}, {"operator": "Exists"}]), &[]),
            (
                json!([{"value": "b"}]),
                &[
                    "s.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which \
                   means \"match all values and all keys\"",
                ],
            ),
            (
                json!([{"key": "a", "operator": "Exists", "value": "b", "tolerationSeconds": 3}]),
                &[
                    "s.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` \
                     is set",
                    "s.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
                ],
            ),
            (
                json!([{"key": "a", "operator": "Gt", "effect": "Never"}]),
                &[
                    "s.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\"",
                    "s.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \
                     \"PreferNoSchedule\", \"NoExecute\"",
                ],
            ),
        ];
        for (tolerations, expected) in table {
            let spec = json!({"tolerations": tolerations});
            let part = Part::new(&spec, FieldPath::of("s"));
            assert_eq!(told(|findings| check_tolerations(&part, findings)), *expected, "{spec}");
        }
    }

    #[test]
    fn how_pods_are_spread_and_what_is_wrong_with_it() {
        let spec = json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"],
             "labelSelector": {"matchLabels": {"a": "b"}}},
            {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 0},
            {"maxSkew": 1, "whenUnsatisfiable": "Never", "nodeTaintsPolicy": "x"},
        ]});
        let part = Part::new(&spec, FieldPath::of("s"));
        let at = |index: usize, rest: &str| format!("s.topologySpreadConstraints[{index}].{rest}");
        assert_eq!(
            told(|findings| check_spread(&part, findings)),
            [
                at(0, "{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\""),
                at(
                    0,
                    "matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector"
                ),
                at(1, "maxSkew: Invalid value: 0: must be greater than zero"),
                at(1, "minDomains: Invalid value: 0: must be greater than zero"),
                at(2, "topologyKey: Required value: can not be empty"),
                at(
                    2,
                    "whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \
                       \"ScheduleAnyway\""
                ),
                at(2, "nodeTaintsPolicy: Unsupported value: \"x\": supported values: \"Honor\", \"Ignore\""),
            ]
        );
    }
}
