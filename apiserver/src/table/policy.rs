//! Cells of rules: roles and their bindings, webhooks and admission policies, flow control.

use serde_json::Value;

use super::cluster::created;
use super::text::{Now, at, condition, items, number_or_text, text, text_or, words};

pub(super) fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Option<Vec<Value>> {
    let name = || text(object, "/metadata/name");
    let age = || now.since(object, "/metadata/creationTimestamp");
    Some(match (group, kind) {
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => vec![name(), created(object)],
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let role = format!("{}/{}", words(object, "/roleRef/kind"), words(object, "/roleRef/name"));
            let of_kind = |kind: &str| subjects(object, kind).into();
            vec![name(), role.into(), age(), of_kind("User"), of_kind("Group"), of_kind("ServiceAccount")]
        }
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => {
            vec![name(), items(object, "/webhooks").len().into(), age()]
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            vec![
                name(),
                items(object, "/spec/validations").len().into(),
                parameter_kind(object).into(),
                age(),
            ]
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            vec![name(), items(object, "/spec/mutations").len().into(), parameter_kind(object).into(), age()]
        }
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => {
            vec![name(), text(object, "/spec/policyName"), parameters(object).into(), age()]
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => vec![
            name(),
            text_or(object, "/spec/priorityLevelConfiguration/name", "<none>"),
            number_or(object, "/spec/matchingPrecedence", "0"),
            text_or(object, "/spec/distinguisherMethod/type", "<none>"),
            age(),
            condition(object, "Dangling").map_or_else(|| "?".into(), |one| text(one, "/status")),
        ],
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
            let kind = words(object, "/spec/type");
            let shares = if kind == "Exempt" { "/spec/exempt" } else { "/spec/limited" };
            let queuing = |field: &str| {
                number_or(object, &format!("/spec/limited/limitResponse/queuing/{field}"), "<none>")
            };
            vec![
                name(),
                kind.into(),
                number_or(object, &format!("{shares}/nominalConcurrencyShares"), "<none>"),
                queuing("queues"),
                queuing("handSize"),
                queuing("queueLengthLimit"),
                age(),
            ]
        }
        _ => return None,
    })
}

fn number_or(object: &Value, pointer: &str, none: &str) -> Value {
    match at(object, pointer) {
        Value::Null => none.into(),
        found => number_or_text(found).into(),
    }
}

/// Subjects of one kind; service accounts with their namespace.
fn subjects(binding: &Value, kind: &str) -> String {
    let named = items(binding, "/subjects").iter().filter(|one| words(one, "/kind") == kind);
    let told = named.map(|one| match (kind, words(one, "/namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => {
            format!("{namespace}/{}", words(one, "/name"))
        }
        _ => words(one, "/name").to_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}

fn parameter_kind(policy: &Value) -> String {
    match at(policy, "/spec/paramKind") {
        Value::Null => "<unset>".into(),
        kind => format!("{}/{}", words(kind, "/apiVersion"), words(kind, "/kind")),
    }
}

fn parameters(binding: &Value) -> String {
    match at(binding, "/spec/paramRef") {
        Value::Null => "<unset>".into(),
        found => match (words(found, "/namespace"), words(found, "/name")) {
            (_, "") => "*".into(),
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::tests::noon;

    #[test]
    fn bindings_tell_whom_they_bind() {
        let object = json!({
            "metadata": {"name": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [
                {"kind": "User", "name": "eva"}, {"kind": "User", "name": "adam"},
                {"kind": "ServiceAccount", "name": "robot", "namespace": "b"},
            ],
        });
        let cells = cells("rbac.authorization.k8s.io", "RoleBinding", &object, noon()).unwrap();
        assert_eq!(cells[1], "ClusterRole/admin");
        assert_eq!(cells[3..], ["eva, adam", "", "b/robot"].map(Value::from));
    }

    #[test]
    fn levels_tell_their_shares_and_queues() {
        let queuing = json!({"queues": 64, "handSize": 6, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": 30, "limitResponse": {"queuing": queuing}});
        let object = json!({"metadata": {"name": "a"}, "spec": {"type": "Limited", "limited": limited}});
        let cells =
            cells("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", &object, noon()).unwrap();
        assert_eq!(cells[1..6], ["Limited", "30", "64", "6", "50"].map(Value::from));
    }
}
