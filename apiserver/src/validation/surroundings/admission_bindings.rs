//! Bindings of policies over objects: where one is in force, with which parameters, and what becomes of what it says. Must never
//! look at the policy.

use std::collections::BTreeSet;

use barque_api::names;

use super::admission_policies::check_resources;
use super::{Change, Findings, Part};

/// What is wrong with a `ValidatingAdmissionPolicyBinding`.
pub(super) fn check_validating_binding(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    check_binding(&spec, findings);
    check_actions(&spec, findings);
}

/// What is wrong with a `MutatingAdmissionPolicyBinding`.
pub(super) fn check_mutating_binding(change: &Change<'_>, findings: &mut Findings) {
    check_binding(&change.new.child("spec"), findings);
}

fn check_binding(spec: &Part<'_>, findings: &mut Findings) {
    findings.needs(spec, "policyName");
    if !spec.text("policyName").is_empty() {
        findings.dns_subdomain(&spec.at("policyName"), spec.text("policyName"));
    }
    if let Some(reference) = spec.given("paramRef") {
        check_reference(&reference, findings);
    }
    if let Some(resources) = spec.given("matchResources") {
        // The place is misspelt in Kubernetes.
        check_resources(&Part::new(resources.value, spec.at("matchResouces")), findings);
    }
}

fn check_reference(reference: &Part<'_>, findings: &mut Findings) {
    let name = reference.text("name");
    let both = !name.is_empty() && reference.has("selector");
    let exclusive = "name and selector are mutually exclusive";
    if !name.is_empty() {
        findings.each(&reference.at("name"), name, names::path_segment_name(name));
    }
    if both {
        findings.forbidden(&reference.at("name"), exclusive);
    }
    if reference.has("selector") {
        findings.selector(reference, "selector");
    }
    if both {
        findings.forbidden(&reference.at("selector"), exclusive);
    }
    if name.is_empty() && !reference.has("selector") {
        findings.required(&reference.path, "one of name or selector must be specified");
    }
    findings.word(reference, "parameterNotFoundAction", &["Deny", "Allow"]);
}

fn check_actions(spec: &Part<'_>, findings: &mut Findings) {
    let at = spec.at("validationActions");
    let mut seen = BTreeSet::new();
    for (index, action) in spec.texts("validationActions").enumerate() {
        if !["Audit", "Deny", "Warn"].contains(&action) {
            findings.not_supported(&at.index(index), action, &["Audit", "Deny", "Warn"]);
        }
        if !seen.insert(action) {
            findings.duplicate(&at.index(index), action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let value = spec.get("validationActions").clone();
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        findings.invalid(&at, value, detail);
    }
    if seen.is_empty() {
        findings.required(&at, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    const GROUP: &str = "admissionregistration.k8s.io";

    #[test]
    fn bindings_and_what_is_wrong_with_them() {
        let told =
            |spec: Value| told(GROUP, "ValidatingAdmissionPolicyBinding", &json!({"spec": spec}), None);
        let deny = json!(["Deny"]);
        let table: Vec<(Value, &[&str])> = vec![
            (json!({"policyName": "p", "validationActions": deny}), &[]),
            (
                json!({}),
                &[
                    "spec.policyName: Required value",
                    "spec.validationActions: Required value: at least one validation action is required",
                ],
            ),
            (
                json!({"policyName": "p", "validationActions": ["Deny", "Warn"]}),
                &[
                    "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn \
                     (repeating the same validation failure information in the API response and headers serves no purpose)",
                ],
            ),
            (
                json!({"policyName": "p", "validationActions": ["Audit", "Audit", "Log"]}),
                &[
                    "spec.validationActions[1]: Duplicate value: \"Audit\"",
                    "spec.validationActions[2]: Unsupported value: \"Log\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                ],
            ),
            (
                json!({"policyName": "p", "validationActions": deny, "paramRef": {"name": "n", "selector": {},
                    "parameterNotFoundAction": "x"}}),
                &[
                    "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                    "spec.paramRef.parameterNotFoundAction: Unsupported value: \"x\": supported values: \"Deny\", \"Allow\"",
                ],
            ),
            (
                json!({"policyName": "p", "validationActions": deny, "paramRef": {}, "matchResources": {
                    "matchPolicy": "Exact", "namespaceSelector": {}}}),
                &[
                    "spec.paramRef: Required value: one of name or selector must be specified",
                    "spec.paramRef.parameterNotFoundAction: Required value",
                    "spec.matchResouces.objectSelector: Required value",
                ],
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(told(spec.clone()), expected, "{spec}");
        }
    }
}
