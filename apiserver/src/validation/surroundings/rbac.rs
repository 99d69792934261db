//! Roles and who has them. Must never decide who may grant one.

use barque_api::names;

use super::{Change, Findings, Part};
use crate::validation::same::same;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What is wrong with a Role.
pub(super) fn check_role(change: &Change<'_>, findings: &mut Findings) {
    check_rules(&change.new, true, findings);
}

/// What is wrong with a `ClusterRole`.
pub(super) fn check_cluster_role(change: &Change<'_>, findings: &mut Findings) {
    check_rules(&change.new, false, findings);
    let aggregation = change.new.child("aggregationRule");
    if change.new.has("aggregationRule") {
        if aggregation.list("clusterRoleSelectors").is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            findings.required(&aggregation.at("clusterRoleSelectors"), detail);
        }
        for selector in aggregation.items("clusterRoleSelectors") {
            let rules = barque_api::labels::SelectorRules::default();
            let errors =
                barque_api::labels::validate_label_selector(Some(selector.value), rules, &selector.path);
            findings.extend(errors);
        }
    }
}

fn check_rules(role: &Part<'_>, namespaced: bool, findings: &mut Findings) {
    for rule in role.items("rules") {
        let given = |field: &str| !rule.list(field).is_empty();
        if !given("verbs") {
            findings.required(&rule.at("verbs"), "verbs must contain at least one value");
        }
        if given("nonResourceURLs") {
            let at = rule.at("nonResourceURLs");
            let value = rule.get("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                findings.invalid(&at, value.clone(), detail);
            }
            if given("apiGroups") || given("resources") || given("resourceNames") {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                findings.invalid(&at, value.clone(), detail);
            }
            continue;
        }
        if !given("apiGroups") {
            findings.required(&rule.at("apiGroups"), "resource rules must supply at least one api group");
        }
        if !given("resources") {
            findings.required(&rule.at("resources"), "resource rules must supply at least one resource");
        }
    }
}

/// What is wrong with a `RoleBinding`.
pub(super) fn check_binding(change: &Change<'_>, findings: &mut Findings) {
    check_bound(change, true, findings);
}

/// What is wrong with a `ClusterRoleBinding`.
pub(super) fn check_cluster_binding(change: &Change<'_>, findings: &mut Findings) {
    check_bound(change, false, findings);
}

fn check_bound(change: &Change<'_>, namespaced: bool, findings: &mut Findings) {
    let role = change.new.child("roleRef");
    let group = role.text("apiGroup");
    if group != GROUP {
        findings.not_supported(&role.at("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.text("kind")) {
        findings.not_supported(&role.at("kind"), role.text("kind"), kinds);
    }
    let name = role.text("name");
    findings.needs(&role, "name");
    findings.each(&role.at("name"), name, names::path_segment_name(name));
    for subject in change.new.items("subjects") {
        check_subject(&subject, namespaced, findings);
    }
    if let Some(old) = &change.old
        && !same(change.new.get("roleRef"), old.get("roleRef"))
    {
        findings.invalid(&role.path, role.value.clone(), "cannot change roleRef");
    }
}

fn check_subject(subject: &Part<'_>, namespaced: bool, findings: &mut Findings) {
    let (name, group) = (subject.text("name"), subject.text("apiGroup"));
    findings.needs(subject, "name");
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                findings.dns_subdomain(&subject.at("name"), name);
            }
            if !group.is_empty() {
                findings.not_supported(&subject.at("apiGroup"), group, &[""]);
            }
            if !namespaced {
                findings.needs(subject, "namespace");
            }
        }
        kind @ ("User" | "Group") => {
            if name.is_empty() {
                let detail = format!("{} name cannot be empty", kind.to_lowercase());
                findings.invalid(&subject.at("name"), name, detail);
            }
            if group != GROUP {
                findings.not_supported(&subject.at("apiGroup"), group, &[GROUP]);
            }
        }
        other => {
            findings.not_supported(&subject.at("kind"), other, &["ServiceAccount", "User", "Group"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;
    use super::GROUP;

    #[test]
    fn rules_say_what_may_be_done() {
        let told = |kind: &str, rule: Value| told(GROUP, kind, &json!({"rules": [rule]}), None);
        assert!(told("Role", json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})).is_empty());
        assert!(told("ClusterRole", json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]})).is_empty());
        assert_eq!(
            told("Role", json!({"verbs": ["get"], "nonResourceURLs": ["/a"]})),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/a\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
        assert_eq!(told("Role", json!({"verbs": []})).len(), 3);
    }

    #[test]
    fn a_binding_keeps_its_role() {
        let binding = |name: &str| {
            json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
                   "subjects": [{"kind": "User", "apiGroup": GROUP, "name": "u"}]})
        };
        for kind in ["RoleBinding", "ClusterRoleBinding"] {
            assert!(told(GROUP, kind, &binding("a"), Some(&binding("a"))).is_empty());
            assert_eq!(
                told(GROUP, kind, &binding("b"), Some(&binding("a"))),
                [
                    "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\
                 \"name\":\"b\"}: cannot change roleRef"
                ]
            );
        }
        let mut other = binding("a");
        other["roleRef"]["kind"] = json!("Role");
        assert_eq!(
            told(GROUP, "ClusterRoleBinding", &other, None),
            ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
        );
        other["subjects"] = json!([{"kind": "ServiceAccount", "name": "s"}]);
        assert!(told(GROUP, "RoleBinding", &other, None).is_empty());
    }
}
