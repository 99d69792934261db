//! Secrets, namespaces and nodes; roles and bindings, admission, priorities, flow control; definitions of further kinds.

use serde_json::{Value, json};

use super::fill::{each, given, inside, made, put, within, word};

pub(super) fn fill_kind(group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Secret") => put(object, "type", "Opaque"),
        ("", "Namespace") => namespace(object),
        ("", "Node") => node(object),
        ("", "LimitRange") => {
            if let Some(spec) = inside(object, "spec") {
                each(spec, "limits").for_each(limit);
            }
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => binding(object),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => {
            let mutating = kind == "MutatingWebhookConfiguration";
            for webhook in each(object, "webhooks") {
                if mutating {
                    put(webhook, "reinvocationPolicy", "Never");
                }
                put(webhook, "timeoutSeconds", 10);
                put(webhook, "failurePolicy", "Fail");
                matching(webhook);
                each(webhook, "rules").for_each(|rule| put(rule, "scope", "*"));
                if let Some(service) = within(webhook, &["clientConfig", "service"]) {
                    put(service, "port", 443);
                }
            }
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy") => {
            if let Some(spec) = inside(object, "spec") {
                put(spec, "failurePolicy", "Fail");
                constraints(spec, "matchConstraints");
            }
        }
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => {
            if let Some(spec) = inside(object, "spec") {
                constraints(spec, "matchResources");
            }
        }
        ("scheduling.k8s.io", "PriorityClass") => put(object, "preemptionPolicy", "PreemptLowerPriority"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            if let Some(spec) = inside(object, "spec") {
                put(spec, "matchingPrecedence", 1000);
            }
        }
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => level(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("apiregistration.k8s.io", "APIService") => {
            if let Some(service) = within(object, &["spec", "service"]) {
                put(service, "port", 443);
            }
        }
        ("resource.k8s.io", "ResourceClaim") => {
            if let Some(spec) = inside(object, "spec") {
                devices(spec);
            }
        }
        ("resource.k8s.io", "ResourceClaimTemplate") => {
            if let Some(spec) = within(object, &["spec", "spec"]) {
                devices(spec);
            }
        }
        _ => {}
    }
}

/// Selectors find a namespace by a label that is its name.
fn namespace(object: &mut Value) {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        return;
    }
    if let Some(labels) = within(object, &["metadata"]).and_then(|metadata| made(metadata, "labels")) {
        labels["kubernetes.io/metadata.name"] = name.into();
    }
}

/// What a node does not keep for itself it gives.
fn node(object: &mut Value) {
    let Some(status) = inside(object, "status") else { return };
    if !given(status, "allocatable")
        && let Some(capacity) = status.get("capacity").filter(|capacity| capacity.is_object()).cloned()
    {
        status["allocatable"] = capacity;
    }
}

/// Limits without a default limit as much as they allow; requests default to what is limited, or the least.
fn limit(item: &mut Value) {
    if word(item, "type") != "Container" {
        return;
    }
    let fields =
        |item: &Value, field: &str| item.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let found = fields(item, from);
        if found.is_empty() {
            continue;
        }
        if let Some(target) = made(item, to) {
            for (resource, amount) in found {
                put(target, &resource, amount);
            }
        }
    }
}

fn binding(object: &mut Value) {
    const RBAC: &str = "rbac.authorization.k8s.io";
    if let Some(role) = inside(object, "roleRef") {
        put(role, "apiGroup", RBAC);
        if word(role, "apiGroup").is_empty() {
            role["apiGroup"] = RBAC.into();
        }
    }
    for subject in each(object, "subjects") {
        if ["User", "Group"].contains(&word(subject, "kind")) && word(subject, "apiGroup").is_empty() {
            subject["apiGroup"] = RBAC.into();
        }
    }
}

fn matching(rules: &mut Value) {
    put(rules, "matchPolicy", "Equivalent");
    put(rules, "namespaceSelector", json!({}));
    put(rules, "objectSelector", json!({}));
}

fn constraints(spec: &mut Value, field: &str) {
    let Some(constraints) = inside(spec, field) else { return };
    matching(constraints);
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(constraints, rules).for_each(|rule| put(rule, "scope", "*"));
    }
}

fn level(object: &mut Value) {
    let Some(spec) = inside(object, "spec") else { return };
    match word(spec, "type") {
        "Limited" => {
            let Some(limited) = made(spec, "limited") else { return };
            put(limited, "nominalConcurrencyShares", 30);
            put(limited, "lendablePercent", 0);
            if let Some(response) = made(limited, "limitResponse") {
                put(response, "type", "Reject");
                if word(response, "type") == "Queue"
                    && let Some(queuing) = made(response, "queuing")
                {
                    put(queuing, "queues", 64);
                    put(queuing, "handSize", 8);
                    put(queuing, "queueLengthLimit", 50);
                }
            }
        }
        "Exempt" => {
            if let Some(exempt) = made(spec, "exempt") {
                put(exempt, "nominalConcurrencyShares", 0);
                put(exempt, "lendablePercent", 0);
            }
        }
        _ => {}
    }
}

fn definition(object: &mut Value) {
    let Some(spec) = inside(object, "spec") else { return };
    if let Some(names) = inside(spec, "names") {
        let kind = word(names, "kind").to_owned();
        if !kind.is_empty() {
            put(names, "singular", kind.to_lowercase());
            put(names, "listKind", format!("{kind}List"));
        }
    }
    if let Some(conversion) = made(spec, "conversion") {
        put(conversion, "strategy", "None");
        if let Some(service) = within(conversion, &["webhook", "clientConfig", "service"]) {
            put(service, "port", 443);
        }
    }
}

fn devices(spec: &mut Value) {
    let Some(devices) = inside(spec, "devices") else { return };
    for request in each(devices, "requests") {
        if let Some(exactly) = inside(request, "exactly") {
            device_request(exactly);
        }
        each(request, "firstAvailable").for_each(device_request);
    }
}

fn device_request(request: &mut Value) {
    put(request, "allocationMode", "ExactCount");
    if word(request, "allocationMode") == "ExactCount" {
        put(request, "count", 1);
    }
    each(request, "tolerations").for_each(|toleration| put(toleration, "operator", "Equal"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::tests::filled;

    #[test]
    fn namespaces_are_found_by_their_name() {
        let object = filled("", "Namespace", json!({"metadata": {"name": "a", "labels": {"b": "c"}}}));
        assert_eq!(object["metadata"]["labels"], json!({"b": "c", "kubernetes.io/metadata.name": "a"}));
    }

    #[test]
    fn containers_are_limited_by_what_is_allowed() {
        let item = json!({"type": "Container", "max": {"cpu": "4"}, "min": {"cpu": "1", "memory": "1Mi"}});
        let object = filled("", "LimitRange", json!({"spec": {"limits": [item]}}));
        let item = &object["spec"]["limits"][0];
        assert_eq!(item["default"], json!({"cpu": "4"}));
        assert_eq!(item["defaultRequest"], json!({"cpu": "4", "memory": "1Mi"}));
    }

    #[test]
    fn bindings_name_the_group_of_what_they_bind() {
        let object = json!({
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}],
        });
        let object = filled("rbac.authorization.k8s.io", "RoleBinding", object);
        assert_eq!(object["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(object["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(object["subjects"][1].get("apiGroup"), None);
    }

    #[test]
    fn webhooks_fail_closed_after_ten_seconds() {
        let object = json!({"webhooks": [{"name": "w", "rules": [{}], "clientConfig": {"service": {}}}]});
        let object = filled("admissionregistration.k8s.io", "MutatingWebhookConfiguration", object);
        let expected = json!({
            "name": "w", "rules": [{"scope": "*"}], "clientConfig": {"service": {"port": 443}},
            "timeoutSeconds": 10, "failurePolicy": "Fail", "matchPolicy": "Equivalent", "reinvocationPolicy": "Never",
            "namespaceSelector": {}, "objectSelector": {},
        });
        assert_eq!(object["webhooks"][0], expected);
    }

    #[test]
    fn definitions_name_their_lists() {
        let object = filled(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            json!({"spec": {"names": {"plural": "things", "kind": "Thing"}}}),
        );
        let names = &object["spec"]["names"];
        assert_eq!((&names["singular"], &names["listKind"]), (&json!("thing"), &json!("ThingList")));
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
    }
}
