//! Which pods leave a node with it, and what an answer to an eviction means. Decisions.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

/// Until it is asked again whether a pod may go, when the answer does not say.
const AGAIN: Duration = Duration::from_secs(5);
/// By which the agent marks pods that files describe.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What happens with a pod of a node that is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is evicted, and runs elsewhere then.
    Leaves,
    /// It is nobody's: it would be gone for good.
    Lost,
    /// It belongs to the node, and ends with it.
    Stays,
}

/// By who owns it.
#[must_use]
pub fn fate(pod: &Pod) -> Fate {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match owner {
        _ if pod.annotations().contains_key(MIRROR) => Fate::Stays,
        // They come again on every node, also on one that takes no pods.
        Some(owner) if owner.kind == "DaemonSet" => Fate::Stays,
        Some(_) => Fate::Leaves,
        // What has ended is not lost.
        None if matches!(phase, Some("Succeeded" | "Failed")) => Fate::Leaves,
        None => Fate::Lost,
    }
}

/// What to do after an eviction was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It ends, or has ended.
    Wait,
    /// A PodDisruptionBudget holds it: ask again later.
    Ask(Duration),
    /// It will not go.
    GiveUp(String),
}

/// By the answer's code; `retry_after_s` is 0 when it does not say.
#[must_use]
pub fn next(code: u16, retry_after_s: u32, message: &str) -> Next {
    match code {
        200..=299 | 404 | 409 => Next::Wait,
        429 if retry_after_s > 0 => Next::Ask(Duration::from_secs(retry_after_s.into())),
        429 => Next::Ask(AGAIN),
        // A server that cannot just now.
        500..=599 => Next::Ask(AGAIN),
        _ => Next::GiveUp(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pods_leave_by_whose_they_are() {
        let owned = |kind: &str| json!({"ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": "o", "uid": "u", "controller": true}]});
        let cases: [(Value, &str, Fate); 6] = [
            (owned("ReplicaSet"), "Running", Fate::Leaves),
            (owned("DaemonSet"), "Running", Fate::Stays),
            (json!({"annotations": {MIRROR: "x"}}), "Running", Fate::Stays),
            (json!({}), "Running", Fate::Lost),
            (json!({}), "Pending", Fate::Lost),
            (json!({}), "Succeeded", Fate::Leaves),
        ];
        for (metadata, phase, expected) in cases {
            let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}});
            assert_eq!(fate(&serde_json::from_value(pod).unwrap()), expected, "{metadata} {phase}");
        }
    }

    #[test]
    fn a_budget_is_asked_again_and_a_refusal_is_not() {
        assert_eq!(next(201, 0, ""), Next::Wait);
        assert_eq!(next(404, 0, ""), Next::Wait);
        assert_eq!(next(429, 10, "budget"), Next::Ask(Duration::from_secs(10)));
        assert_eq!(next(429, 0, "budget"), Next::Ask(AGAIN));
        assert_eq!(next(503, 0, ""), Next::Ask(AGAIN));
        assert_eq!(next(403, 0, "no"), Next::GiveUp("no".to_owned()));
    }
}
