//! The difference between the status that is told and the one that holds, as a strategic merge patch: what others wrote
//! survives, and a pod of the same name is never meant. Shapes only.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use serde_json::{Map, Value, json};

use super::resize::{IN_PROGRESS, PENDING};

/// What must be sent so that the API server knows this status; nothing when it does.
#[must_use]
pub fn status_patch(pod: &Pod, wanted: &PodStatus) -> Option<Value> {
    let nothing = PodStatus::default();
    let before = pod.status.as_ref().unwrap_or(&nothing);
    let mut status = Map::new();
    let mut differs = |name: &str, old: Value, new: Value| {
        if old != new && !new.is_null() {
            status.insert(name.to_owned(), new);
        }
    };
    differs("phase", json!(before.phase), json!(wanted.phase));
    differs("reason", json!(before.reason), json!(wanted.reason));
    differs("message", json!(before.message), json!(wanted.message));
    differs("hostIP", json!(before.host_ip), json!(wanted.host_ip));
    differs("podIP", json!(before.pod_ip), json!(wanted.pod_ip));
    differs("startTime", json!(before.start_time), json!(wanted.start_time));
    differs("containerStatuses", json!(before.container_statuses), json!(wanted.container_statuses));
    differs(
        "initContainerStatuses",
        json!(before.init_container_statuses),
        json!(wanted.init_container_statuses),
    );
    differs(
        "ephemeralContainerStatuses",
        json!(before.ephemeral_container_statuses),
        json!(wanted.ephemeral_container_statuses),
    );
    differs("observedGeneration", json!(before.observed_generation), json!(wanted.observed_generation));
    // Lists of addresses are merged by address: the old ones must be told to go.
    let mut addresses = |name: &str, old: Value, new: Value| {
        if let Value::Array(list) = &new
            && old != new
        {
            let mut all = vec![json!({"$patch": "replace"})];
            all.extend(list.iter().cloned());
            status.insert(name.to_owned(), Value::Array(all));
        }
    };
    addresses("hostIPs", json!(before.host_ips), json!(wanted.host_ips));
    addresses("podIPs", json!(before.pod_ips), json!(wanted.pod_ips));
    // These are there only while they hold.
    let has = |status: &PodStatus, kind: &str| status.conditions.iter().flatten().any(|it| it.type_ == kind);
    let over = [PENDING, IN_PROGRESS].into_iter().filter(|kind| has(before, kind) && !has(wanted, kind));
    let over = over.map(|kind| json!({"$patch": "delete", "type": kind}));
    let conditions: Vec<_> = wanted
        .conditions
        .iter()
        .flatten()
        .filter(|condition| !before.conditions.iter().flatten().any(|old| old == *condition))
        .map(of_condition)
        .chain(over)
        .collect();
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": pod.metadata.uid}, "status": status}))
}

/// With its reason and message also where it has none: they would otherwise stay.
fn of_condition(condition: &PodCondition) -> Value {
    let mut value = json!(condition);
    for (name, text) in [("reason", &condition.reason), ("message", &condition.message)] {
        if text.is_none() {
            value[name] = Value::Null;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent_and_conditions_of_others_survive() {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R"});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "status": {"phase": "Pending", "hostIP": "1.1.1.1", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
                condition("Ready", "False"), condition("Initialized", "True"), condition("mine.example/gate", "True"),
                condition("PodResizePending", "True"),
            ]},
        }))
        .unwrap();
        let wanted: PodStatus = serde_json::from_value(json!({
            "phase": "Running", "hostIP": "1.1.1.1", "podIPs": [{"ip": "10.0.0.2"}], "conditions": [
                {"type": "Ready", "status": "True"}, condition("Initialized", "True"),
            ],
        }))
        .unwrap();
        let expected = json!({
            "metadata": {"uid": "u"},
            "status": {
                "phase": "Running",
                "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null},
                    {"$patch": "delete", "type": "PodResizePending"}],
            },
        });
        assert_eq!(status_patch(&pod, &wanted), Some(expected));
        let same = Pod { status: Some(wanted.clone()), ..pod };
        assert_eq!(status_patch(&same, &wanted), None);
    }
}
