//! Cells of what a cluster is made of: nodes, namespaces, events, configuration, accounts, limits, leases.

use barque_api::quantity::Quantity;
use serde_json::Value;

use super::age::human_duration;
use super::text::{
    Now, at, condition, count, has_condition, is_true, items, joined, map, number_or_text, text, text_or,
    words,
};

pub(super) fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Option<Vec<Value>> {
    let name = || text(object, "/metadata/name");
    let age = || now.since(object, "/metadata/creationTimestamp");
    let entries = |pointer: &str| map(object, pointer).map_or(0, serde_json::Map::len);
    Some(match (group, kind) {
        ("", "Node") => node(object, now),
        ("", "Event") | ("events.k8s.io", "Event") => event(object, now),
        ("", "Namespace") => vec![name(), text(object, "/status/phase"), age()],
        ("", "Secret") => vec![name(), text(object, "/type"), entries("/data").into(), age()],
        ("", "ConfigMap") => vec![name(), (entries("/data") + entries("/binaryData")).into(), age()],
        ("", "ServiceAccount") => vec![name(), items(object, "/secrets").len().into(), age()],
        ("", "ResourceQuota") => {
            let [requests, limits] = quota(object);
            vec![name(), requests.into(), limits.into(), age()]
        }
        ("", "LimitRange") => vec![name(), created(object)],
        ("", "ComponentStatus") => component(object),
        ("metrics.k8s.io", "NodeMetrics") => {
            vec![name(), text(object, "/usage/cpu"), text(object, "/usage/memory"), text(object, "/window")]
        }
        ("metrics.k8s.io", "PodMetrics") => {
            vec![name(), used(object, "cpu"), used(object, "memory"), text(object, "/window")]
        }
        ("coordination.k8s.io", "Lease") => vec![name(), text(object, "/spec/holderIdentity"), age()],
        ("scheduling.k8s.io", "PriorityClass") => vec![
            name(),
            count(object, "/value").into(),
            is_true(object, "/globalDefault").into(),
            age(),
            text(object, "/preemptionPolicy"),
        ],
        ("node.k8s.io", "RuntimeClass") => vec![name(), text(object, "/handler"), age()],
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            let lasting = match at(object, "/spec/expirationSeconds").as_i64() {
                Some(seconds) => human_duration(seconds),
                None => "<none>".to_owned(),
            };
            vec![
                name(),
                age(),
                text_or(object, "/spec/signerName", "<none>"),
                text(object, "/spec/username"),
                lasting.into(),
                signing(object).into(),
            ]
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => vec![name(), created(object)],
        ("apiregistration.k8s.io", "APIService") => {
            let part = |field: &str| words(object, &format!("/spec/service/{field}"));
            let service = match at(object, "/spec/service") {
                Value::Null => "Local".to_owned(),
                _ => format!("{}/{}", part("namespace"), part("name")),
            };
            let available = match condition(object, "Available") {
                Some(one) if words(one, "/status") == "True" => "True".to_owned(),
                Some(one) => format!("{} ({})", words(one, "/status"), words(one, "/reason")),
                None => "Unknown".to_owned(),
            };
            vec![name(), service.into(), available.into(), age()]
        }
        _ => return None,
    })
}

/// When it was created, as it stands in the object.
pub(super) fn created(object: &Value) -> Value {
    text(object, "/metadata/creationTimestamp")
}

fn node(node: &Value, now: Now) -> Vec<Value> {
    let mut status = match condition(node, "Ready") {
        Some(_) if has_condition(node, "Ready") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if is_true(node, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = items(node, "/status/addresses").iter().find(|one| words(one, "/type") == kind);
        found.map_or_else(|| "<none>".into(), |one| text(one, "/address"))
    };
    let info = |field: &str| text_or(node, &format!("/status/nodeInfo/{field}"), "<unknown>");
    vec![
        text(node, "/metadata/name"),
        status.into(),
        roles(node).into(),
        now.since(node, "/metadata/creationTimestamp"),
        text(node, "/status/nodeInfo/kubeletVersion"),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (label, value) in map(node, "/metadata/labels").into_iter().flatten() {
        match label.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => roles.push(role),
            None if label == "kubernetes.io/role" => roles.push(value.as_str().unwrap_or_default()),
            None => {}
        }
    }
    roles.retain(|role| !role.is_empty());
    roles.sort_unstable();
    roles.dedup();
    joined(roles).unwrap_or_else(|| "<none>".into())
}

/// An event of either group: the newer one names its fields differently.
fn event(event: &Value, now: Now) -> Vec<Value> {
    let first_of = |pointers: &'static [&'static str]| {
        pointers.iter().copied().find(|pointer| !at(event, pointer).is_null()).unwrap_or(pointers[0])
    };
    let first = first_of(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let last = first_of(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/firstTimestamp",
        "/deprecatedFirstTimestamp",
        "/eventTime",
    ]);
    let times = count(event, first_of(&["/series/count", "/count", "/deprecatedCount"])).max(1);
    let about = first_of(&["/involvedObject", "/regarding"]);
    let part = |field: &str| words(event, &format!("{about}/{field}")).to_owned();
    let kind = part("kind").to_lowercase();
    let object = if part("name").is_empty() { kind } else { format!("{kind}/{}", part("name")) };
    let component = first_of(&[
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
        "/reportingController",
    ]);
    let host = first_of(&["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = [words(event, component), words(event, host)];
    let source: Vec<&str> = source.into_iter().filter(|one| !one.is_empty()).collect();
    vec![
        now.since(event, last),
        text(event, "/type"),
        text(event, "/reason"),
        object.into(),
        part("fieldPath").into(),
        source.join(", ").into(),
        words(event, first_of(&["/message", "/note"])).trim().into(),
        now.since(event, first),
        times.into(),
        text(event, "/metadata/name"),
    ]
}

/// Used and allowed amounts: of requests and objects, and of limits.
fn quota(quota: &Value) -> [String; 2] {
    let mut told = [Vec::new(), Vec::new()];
    for (resource, hard) in map(quota, "/status/hard").into_iter().flatten() {
        let used = at(quota, "/status/used").get(resource).map_or_else(|| "0".to_owned(), number_or_text);
        let text = format!("{resource}: {used}/{}", number_or_text(hard));
        told[usize::from(resource.starts_with("limits"))].push(text);
    }
    told.map(|texts| texts.join(", "))
}

/// What all containers of a pod use together.
fn used(object: &Value, resource: &str) -> Value {
    let parts = items(object, "/containers")
        .iter()
        .filter_map(|one| Quantity::of_value(&one["usage"][resource]).ok());
    parts.reduce(|sum, part| sum.plus(&part)).map_or_else(String::new, |sum| sum.to_string()).into()
}

fn component(component: &Value) -> Vec<Value> {
    let healthy = items(component, "/conditions").iter().find(|one| words(one, "/type") == "Healthy");
    let (status, message, error) = match healthy {
        Some(one) => {
            let status = if words(one, "/status") == "True" { "Healthy" } else { "Unhealthy" };
            (status, words(one, "/message"), words(one, "/error"))
        }
        None => ("Unknown", "", ""),
    };
    vec![text(component, "/metadata/name"), status.into(), message.into(), error.into()]
}

fn signing(request: &Value) -> String {
    let has = |kind: &str| condition(request, kind).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !words(request, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::tests::noon;

    #[test]
    fn nodes_tell_their_state_and_roles() {
        let object = json!({
            "metadata": {"name": "a", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0"},
            },
        });
        let cells = cells("", "Node", &object, noon()).unwrap();
        assert_eq!(cells[1..3], ["Ready,SchedulingDisabled", "control-plane,worker"].map(Value::from));
        assert_eq!(cells[4..8], ["v1.37.0", "10.0.0.1", "<none>", "<unknown>"].map(Value::from));
    }

    #[test]
    fn events_of_both_groups_read_alike() {
        let old = json!({
            "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": "ok\n", "count": 3,
            "firstTimestamp": "2026-01-02T11:00:00Z", "lastTimestamp": "2026-01-02T11:59:00Z",
            "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec"},
            "source": {"component": "kubelet", "host": "n1"},
        });
        let new = json!({
            "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "note": "ok\n",
            "eventTime": "2026-01-02T11:00:00.000000Z", "series": {"count": 3, "lastObservedTime": "2026-01-02T11:59:00.5Z"},
            "regarding": {"kind": "Pod", "name": "a", "fieldPath": "spec"},
            "reportingController": "kubelet", "reportingInstance": "n1",
        });
        let expected =
            json!(["60s", "Normal", "Pulled", "pod/a", "spec", "kubelet, n1", "ok", "60m", 3, "e"]);
        for event in [old, new] {
            assert_eq!(Value::from(cells("", "Event", &event, noon()).unwrap()), expected);
        }
    }

    #[test]
    fn quotas_and_requests_for_certificates_tell_how_far_they_are() {
        let object = json!({"status": {"hard": {"pods": "10", "limits.cpu": "2"}, "used": {"pods": "3"}}});
        assert_eq!(quota(&object), ["pods: 3/10".to_owned(), "limits.cpu: 0/2".to_owned()]);
        let request = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}], "certificate": "YQ=="}});
        assert_eq!(signing(&request), "Approved,Issued");
        assert_eq!(signing(&json!({})), "Pending");
    }
}
