//! `ResourceQuota`: how much a namespace may use. Must never count what it uses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::amounts::{check_amount, check_quota_name, is_quota_resource};
use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
const OF_PODS: [&str; 7] =
    ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// What is wrong with a `ResourceQuota`.
pub(super) fn check_quota(change: &Change<'_>, findings: &mut Findings) {
    let (spec, status) = (change.new.child("spec"), change.new.child("status"));
    if change.subresource == "status" {
        check_amounts(&status, &["hard", "used"], findings);
        return;
    }
    check_amounts(&spec, &["hard"], findings);
    check_scopes(&spec, findings);
    if let Some(selector) = spec.given("scopeSelector") {
        check_selector(&selector, &spec, findings);
    }
    match &change.old {
        None => check_amounts(&status, &["hard", "used"], findings),
        Some(old) => {
            let scopes = |spec: &Part<'_>| spec.texts("scopes").map(str::to_owned).collect::<BTreeSet<_>>();
            if scopes(&spec) != scopes(&old.child("spec")) {
                findings.invalid(&spec.at("scopes"), spec.get("scopes").clone(), IMMUTABLE);
            }
        }
    }
}

fn check_amounts(part: &Part<'_>, fields: &[&str], findings: &mut Findings) {
    for field in fields {
        for (name, value) in part.entries(field) {
            let at = part.at(field).key(name);
            check_quota_name(name, &at, findings);
            check_amount(name, value, &at, findings);
        }
    }
}

fn fits(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&resource),
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => OF_PODS.contains(&resource),
        _ => true,
    }
}

fn misfits<'a>(spec: &Part<'a>, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let limited = spec.entries("hard").map(|(name, _)| name);
    limited.filter(move |name| is_quota_resource(name) && !fits(scope, name))
}

fn check_opposites(
    scopes: &BTreeSet<&str>,
    at: &barque_api::field::FieldPath,
    value: &Value,
    findings: &mut Findings,
) {
    for pair in OPPOSITES {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            findings.invalid(at, value.clone(), "conflicting scopes");
        }
    }
}

fn check_scopes(spec: &Part<'_>, findings: &mut Findings) {
    let (at, value) = (spec.at("scopes"), spec.get("scopes"));
    for scope in spec.texts("scopes") {
        if !SCOPES.contains(&scope) {
            findings.invalid(&at, value.clone(), "unsupported scope");
        }
        for _ in misfits(spec, scope) {
            findings.invalid(&at, value.clone(), "unsupported scope applied to resource");
        }
    }
    check_opposites(&spec.texts("scopes").collect(), &at, value, findings);
}

fn check_selector(selector: &Part<'_>, spec: &Part<'_>, findings: &mut Findings) {
    let at = selector.at("matchExpressions");
    let mut scopes = BTreeSet::new();
    for expression in selector.items("matchExpressions") {
        let (scope, operator) = (expression.text("scopeName"), expression.text("operator"));
        if !SCOPES.contains(&scope) {
            findings.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in misfits(spec, scope) {
            findings.invalid(&at, selector.value.clone(), "unsupported scope applied to resource");
        }
        let only_exists =
            !["PriorityClass", "VolumeAttributesClass"].contains(&scope) && SCOPES.contains(&scope);
        if only_exists && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                          ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            findings.invalid(&at.child("operator"), operator, detail);
        }
        let values = expression.list("values");
        match operator {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let detail =
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    findings.required(&at.child("values"), detail);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail =
                        "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    findings.invalid(&at.child("values"), expression.get("values").clone(), detail);
                }
            }
            other => findings.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        scopes.insert(scope);
    }
    check_opposites(&scopes, &at, spec.get("scopes"), findings);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;
    use super::*;

    #[test]
    fn quotas_and_what_is_wrong_with_them() {
        let told = |spec: Value| told("", "ResourceQuota", &json!({"spec": spec}), None);
        assert!(
            told(json!({"hard": {"pods": "3", "requests.cpu": "1500m", "count/jobs.batch": "2"}})).is_empty()
        );
        let table = [
            (
                json!({"hard": {"pods": "1500m"}}),
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            ),
            (
                json!({"hard": {"cpu": "-1"}}),
                "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"hard": {"storage": "1"}}),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when \
                 `operator` is 'In' or 'NotIn' for scope selector",
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(told(spec), [expected]);
        }
    }

    #[test]
    fn scopes_stay() {
        let quota = |scope: &str| json!({"spec": {"hard": {"pods": "1"}, "scopes": [scope]}});
        assert_eq!(
            told("", "ResourceQuota", &quota("Terminating"), Some(&quota("BestEffort"))),
            ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]
        );
    }
}
