//! Which objects a quota is about: its scopes. Pure.

use serde_json::Value;

use super::amounts::{self, Side};
use super::usage::Meter;
use crate::pointer::{given, list, text};

/// Whether an object is in all scopes of a quota.
#[must_use]
pub fn cover(quota: &Value, meter: &Meter, object: &Value) -> bool {
    let plain = list(quota, "/spec/scopes").iter().filter_map(Value::as_str);
    let selected = list(quota, "/spec/scopeSelector/matchExpressions");
    plain.into_iter().all(|scope| is_in(scope, "Exists", &[], meter, object))
        && selected.iter().all(|one| {
            is_in(text(one, "/scopeName"), text(one, "/operator"), list(one, "/values"), meter, object)
        })
}

fn is_in(scope: &str, operator: &str, values: &[Value], meter: &Meter, object: &Value) -> bool {
    let named = |names: &[&str]| {
        let one_of = || names.iter().any(|name| values.iter().any(|value| value == name));
        match operator {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => one_of(),
            "NotIn" => names.is_empty() || names.iter().any(|name| !values.iter().any(|value| value == name)),
            _ => false,
        }
    };
    match (meter, scope) {
        (Meter::Pods, "Terminating") => ends(object),
        (Meter::Pods, "NotTerminating") => !ends(object),
        (Meter::Pods, "BestEffort") => is_best_effort(object),
        (Meter::Pods, "NotBestEffort") => !is_best_effort(object),
        (Meter::Pods, "PriorityClass") => {
            let class = text(object, "/spec/priorityClassName");
            named(if class.is_empty() { &[] } else { std::slice::from_ref(&class) })
        }
        (Meter::Pods, "CrossNamespacePodAffinity") => looks_across(object),
        (Meter::Claims, "VolumeAttributesClass") => {
            let mut names = [
                "/spec/volumeAttributesClassName",
                "/status/currentVolumeAttributesClassName",
                "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
            ]
            .map(|pointer| text(object, pointer))
            .to_vec();
            names.retain(|name| !name.is_empty());
            named(&names)
        }
        _ => false,
    }
}

fn ends(pod: &Value) -> bool {
    pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

/// Whether it asks for no processor and no memory at all.
fn is_best_effort(pod: &Value) -> bool {
    let class = text(pod, "/status/qosClass");
    if !class.is_empty() {
        return class == "BestEffort";
    }
    let asks = |object: &Value| {
        [Side::Requests, Side::Limits].into_iter().any(|side| {
            let own = amounts::of_container(object, side);
            ["cpu", "memory"].into_iter().any(|name| own.get(name).is_some_and(|amount| amount.sign() > 0))
        })
    };
    let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
    !pod.get("spec").into_iter().chain(containers).any(asks)
}

/// Whether its affinity is about pods of other namespaces.
fn looks_across(pod: &Value) -> bool {
    let across =
        |term: &Value| !list(term, "/namespaces").is_empty() || given(term, "/namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when: &str| {
            list(pod, &format!("/spec/affinity/{kind}/{when}DuringSchedulingIgnoredDuringExecution"))
        };
        terms("required").iter().any(across)
            || terms("preferred").iter().any(|term| term.get("podAffinityTerm").is_some_and(across))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quotas_are_about_what_is_in_their_scopes() {
        let scope = |name: &str| json!({"spec": {"scopes": [name]}});
        let class = |operator: &str| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}}})
        };
        let plain = json!({"spec": {"containers": [{}]}});
        let ending = json!({"spec": {"activeDeadlineSeconds": 5, "containers": [
            {"resources": {"requests": {"cpu": "1"}}}]}});
        let high = json!({"spec": {"priorityClassName": "high"}});
        let affine = json!({"spec": {"affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaces": ["x"]}}]}}}});
        let table = [
            (scope("Terminating"), &plain, false),
            (scope("Terminating"), &ending, true),
            (scope("NotTerminating"), &plain, true),
            (scope("BestEffort"), &plain, true),
            (scope("BestEffort"), &ending, false),
            (scope("NotBestEffort"), &ending, true),
            (scope("PriorityClass"), &high, true),
            (scope("PriorityClass"), &plain, false),
            (class("In"), &high, true),
            (class("In"), &plain, false),
            (class("NotIn"), &high, false),
            (class("NotIn"), &plain, true),
            (class("DoesNotExist"), &plain, true),
            (scope("CrossNamespacePodAffinity"), &affine, true),
            (scope("CrossNamespacePodAffinity"), &plain, false),
            (json!({"spec": {}}), &plain, true),
        ];
        for (quota, pod, expected) in table {
            assert_eq!(cover(&quota, &Meter::Pods, pod), expected, "{quota} {pod}");
        }
        assert!(!cover(&scope("BestEffort"), &Meter::Services, &plain));
        let claim = json!({"spec": {"volumeAttributesClassName": "v"}});
        assert!(cover(&scope("VolumeAttributesClass"), &Meter::Claims, &claim));
    }
}
