//! What a pod's status is told: why it waits, where room is being made, that it has to go. A decision; must never write.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::pending::nominated_node;

/// Why a pod was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No node will do.
    Unschedulable,
    /// Something went wrong.
    SchedulerError,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::SchedulerError => "SchedulerError",
        }
    }
}

/// What happens to a pod's `nominatedNodeName`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    /// Nothing.
    Keep,
    /// Room is made there.
    Set(Box<str>),
    /// Room is made no longer.
    Clear,
}

/// The strategic merge patch of a pod's status that tells why it waits; `None` if it says so already. Where what is seen of the
/// pod is not `known` to be what it says, as something else is on its way there, everything is told.
pub(crate) fn waits(
    pod: &core::Pod,
    known: bool,
    reason: Reason,
    message: &str,
    nomination: &Nomination,
    now: Timestamp,
) -> Option<Value> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let old = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
    let same = known
        && old.is_some_and(|old| {
            old.status == "False"
                && old.reason.as_deref() == Some(reason.word())
                && old.message.as_deref() == Some(message)
        });
    let mut status = json!({});
    if !same {
        // The time is that of the last change of the status, not of the message.
        let since = old.filter(|old| old.status == "False").and_then(|old| old.last_transition_time.as_ref());
        let since = since.map_or(now, |time| time.0);
        let mut condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": reason.word(),
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": time(since),
        });
        if let Some(generation) = pod.metadata.generation {
            condition["observedGeneration"] = generation.into();
        }
        status["conditions"] = json!([condition]);
    }
    match nomination {
        Nomination::Set(node) if !known || nominated_node(pod) != Some(node) => {
            status["nominatedNodeName"] = (**node).into();
        }
        Nomination::Clear if !known || nominated_node(pod).is_some() => {
            status["nominatedNodeName"] = Value::Null;
        }
        _ => {}
    }
    let empty = status.as_object().is_none_or(serde_json::Map::is_empty);
    (!empty).then(|| of(pod.metadata.uid.as_deref(), status))
}

/// The patch that takes a nomination back.
pub(crate) fn displaced(uid: &str) -> Value {
    of(Some(uid), json!({"nominatedNodeName": null}))
}

/// The patch that tells a pod that it has to go for another one.
pub(crate) fn disrupted(uid: &str, scheduler_name: &str, now: Timestamp) -> Value {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": format!("{scheduler_name}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": time(now),
    });
    of(Some(uid), json!({"conditions": [condition]}))
}

/// Of this pod and no other of its name.
fn of(uid: Option<&str>, status: Value) -> Value {
    match uid {
        Some(uid) => json!({"metadata": {"uid": uid}, "status": status}),
        None => json!({"status": status}),
    }
}

/// Conditions tell whole seconds.
fn time(time: Timestamp) -> Value {
    let seconds = Timestamp::from_second(time.as_second()).unwrap_or(time);
    seconds.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: Value) -> core::Pod {
        let pod = json!({
            "metadata": {"name": "p", "uid": "u", "generation": 2},
            "spec": {"containers": []},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:09.5Z".parse().unwrap()
    }

    fn waits_at(pod: &core::Pod, message: &str, nomination: &Nomination) -> Option<Value> {
        waits(pod, true, Reason::Unschedulable, message, nomination, now())
    }

    #[test]
    fn a_condition_is_written_only_when_it_changed() {
        let fresh = pod(json!({}));
        let patch = waits_at(&fresh, "why", &Nomination::Keep).unwrap();
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:09Z");
        assert_eq!(condition["observedGeneration"], 2);
        assert_eq!(patch["status"].get("nominatedNodeName"), None);
        let told = pod(json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:01Z",
        }]}));
        assert_eq!(waits_at(&told, "why", &Nomination::Keep), None);
        let other = waits_at(&told, "because", &Nomination::Keep).unwrap();
        let condition = &other["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "2026-01-01T00:00:01Z", "it waits since then");
        let error = waits(&told, true, Reason::SchedulerError, "why", &Nomination::Keep, now()).unwrap();
        assert_eq!(error["status"]["conditions"][0]["reason"], "SchedulerError");
    }

    #[test]
    fn as_long_as_something_is_on_its_way_all_is_written() {
        let told = pod(json!({"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:01Z",
        }]}));
        let (reason, now) = (Reason::Unschedulable, now());
        let patch = waits(&told, false, reason, "why", &Nomination::Clear, now).unwrap();
        assert_eq!(patch["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:01Z");
        assert_eq!(patch["status"].get("nominatedNodeName"), Some(&Value::Null));
    }

    #[test]
    fn a_nomination_is_written_only_when_it_changed() {
        let told = |node: Option<&str>| {
            pod(json!({"nominatedNodeName": node, "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "why",
            }]}))
        };
        let set = |node: &str| Nomination::Set(node.into());
        let patched = |pod: &core::Pod, nomination: &Nomination| {
            waits_at(pod, "why", nomination).map(|patch| patch["status"].clone())
        };
        assert_eq!(patched(&told(None), &set("a")), Some(json!({"nominatedNodeName": "a"})));
        assert_eq!(patched(&told(Some("a")), &set("a")), None);
        assert_eq!(patched(&told(Some("a")), &Nomination::Clear), Some(json!({"nominatedNodeName": null})));
        assert_eq!(patched(&told(None), &Nomination::Clear), None);
        assert_eq!(patched(&told(Some("a")), &Nomination::Keep), None);
    }
}
