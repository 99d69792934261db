//! Which nodes and which other pods a pod likes or keeps away from.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::names;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// All likings of a pod.
pub(super) fn check_affinity(spec: &Part<'_>, findings: &mut Findings) {
    let Some(affinity) = spec.given("affinity") else { return };
    if let Some(nodes) = affinity.given("nodeAffinity") {
        if let Some(required) = nodes.given(REQUIRED) {
            check_node_selector(&required, findings);
        }
        for term in nodes.items(PREFERRED) {
            check_weight(&term, findings);
            // Their values may be anything: they choose nothing then.
            check_node_term(&term.child("preference"), true, findings);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.given(kind) else { continue };
        for term in pods.items(REQUIRED) {
            check_pod_term(&term, findings);
        }
        for term in pods.items(PREFERRED) {
            check_weight(&term, findings);
            check_pod_term(&term.child("podAffinityTerm"), findings);
        }
    }
}

fn check_weight(term: &Part<'_>, findings: &mut Findings) {
    let weight = term.count("weight");
    if !(1..=100).contains(&weight) {
        findings.invalid(&term.at("weight"), weight, "must be in the range 1-100");
    }
}

/// A selector of nodes (`core/v1` NodeSelector).
pub(super) fn check_node_selector(selector: &Part<'_>, findings: &mut Findings) {
    if selector.list("nodeSelectorTerms").is_empty() {
        let detail = "must have at least one node selector term";
        findings.required(&selector.at("nodeSelectorTerms"), detail);
    }
    for term in selector.items("nodeSelectorTerms") {
        check_node_term(&term, false, findings);
    }
}

fn check_node_term(term: &Part<'_>, any_value: bool, findings: &mut Findings) {
    for rule in term.items("matchExpressions") {
        let values = rule.list("values").len();
        let at = rule.at("values");
        match rule.text("operator") {
            "In" | "NotIn" => {
                if values == 0 {
                    findings.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if values > 0 {
                    let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    findings.forbidden(&at, detail);
                }
            }
            "Gt" | "Lt" => {
                if values != 1 {
                    findings.required(&at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
                }
            }
            other => findings.invalid(&rule.at("operator"), other, "not a valid selector operator"),
        }
        findings.label_key(&rule.at("key"), rule.text("key"));
        if !any_value {
            for value in rule.items("values") {
                let text = value.value.as_str().unwrap_or_default();
                findings.each(&value.path, text, names::label_value(text));
            }
        }
    }
    for rule in term.items("matchFields") {
        if !["In", "NotIn"].contains(&rule.text("operator")) {
            findings.invalid(&rule.at("operator"), rule.text("operator"), "not a valid selector operator");
        } else if rule.list("values").len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            findings.required(&rule.at("values"), detail);
        }
        if rule.text("key") == "metadata.name" {
            for value in rule.items("values") {
                findings.dns_subdomain(&value.path, value.value.as_str().unwrap_or_default());
            }
        } else {
            findings.invalid(&rule.at("key"), rule.text("key"), "not a valid field selector key");
        }
    }
}

fn check_pod_term(term: &Part<'_>, findings: &mut Findings) {
    findings.selector(term, "labelSelector");
    findings.selector(term, "namespaceSelector");
    for namespace in term.texts("namespaces") {
        findings.dns_label(&term.at("namespace"), namespace);
    }
    check_match_keys(term, findings);
    let key = term.text("topologyKey");
    if key.is_empty() {
        findings.required(&term.at("topologyKey"), "can not be empty");
    }
    findings.label_key(&term.at("topologyKey"), key);
}

fn check_match_keys(term: &Part<'_>, findings: &mut Findings) {
    let selector = term.child("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.list(field).is_empty() {
            continue;
        }
        if selector.value.is_null() {
            findings.forbidden(&term.at(field), "must not be specified when labelSelector is not set");
            continue;
        }
        for item in term.items(field) {
            findings.label_key(&item.path, item.value.as_str().unwrap_or_default());
        }
    }
    let keys: BTreeMap<_, _> =
        term.texts("matchLabelKeys").enumerate().map(|(index, key)| (key, index)).collect();
    let mut chosen: BTreeSet<_> = selector.entries("matchLabels").map(|(key, _)| key).collect();
    for expression in selector.items("matchExpressions") {
        let key = expression.text("key");
        // One expression for a key was made of the key itself.
        if let Some(index) = keys.get(key)
            && chosen.contains(key)
        {
            let detail = "exists in both matchLabelKeys and labelSelector";
            findings.invalid(&term.path.index(*index), key, detail);
        }
        chosen.insert(key);
    }
    let unlike: BTreeSet<_> = term.texts("mismatchLabelKeys").collect();
    for item in term.items("matchLabelKeys") {
        let key = item.value.as_str().unwrap_or_default();
        if unlike.contains(key) {
            findings.invalid(&item.path, key, "exists in both matchLabelKeys and mismatchLabelKeys");
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
    fn likings_and_what_is_wrong_with_them() {
        let table: &[(Value, &[&str])] = &[
            (
                json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "zone", "operator": "In", "values": ["a"]}]}]}}}),
                &[],
            ),
            (
                json!({"nodeAffinity": {REQUIRED: {}}}),
                &[
                    "a.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: \
                   must have at least one node selector term",
                ],
            ),
            (
                json!({"nodeAffinity": {PREFERRED: [{"weight": 0, "preference": {
                    "matchExpressions": [{"key": "zone", "operator": "Gt"}],
                    "matchFields": [{"key": "x", "operator": "Exists"}]}}]}}),
                &[
                    "a.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must \
                     be in the range 1-100",
                    "a.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0]\
                     .values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'",
                    "a.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0]\
                     .operator: Invalid value: \"Exists\": not a valid selector operator",
                    "a.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchFields[0].key: \
                     Invalid value: \"x\": not a valid field selector key",
                ],
            ),
            (
                json!({"podAntiAffinity": {REQUIRED: [{"topologyKey": "zone", "matchLabelKeys": ["a"],
                    "mismatchLabelKeys": ["a"], "labelSelector": {}}]}}),
                &[
                    "a.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid \
                   value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys",
                ],
            ),
            (
                json!({"podAffinity": {REQUIRED: [{"topologyKey": "zone", "matchLabelKeys": ["a"]}]}}),
                &[
                    "a.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys: Forbidden: must not \
                   be specified when labelSelector is not set",
                ],
            ),
        ];
        for (affinity, expected) in table {
            let spec = json!({"affinity": affinity});
            let told = told(|findings| check_affinity(&Part::new(&spec, FieldPath::root()), findings));
            let expected: Vec<_> = expected.iter().map(|one| one.replacen("a.", "affinity.", 1)).collect();
            assert_eq!(told, expected, "{affinity}");
        }
    }
}
