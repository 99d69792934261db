//! Whether a pod is still on a node whose taints should have made it leave, as far as a picture can tell.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::jiff::Timestamp;

use crate::pods;

/// What is wrong with a pod's stay on a node; `now` is when both were read.
pub(super) fn outstayed(pod: &Pod, node: &Node, now: Timestamp) -> Option<String> {
    if !pods::is_active(pod) {
        return None;
    }
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut taints = taints.filter(|taint| taint.effect == "NoExecute");
    let node = node.metadata.name.as_deref().unwrap_or_default();
    taints.find_map(|taint| {
        let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
        let mut tolerations = tolerations.filter(|toleration| tolerates(toleration, taint));
        let Some(toleration) = tolerations.next() else {
            return Some(format!("does not tolerate the taint {} of node {node}", shown(taint)));
        };
        let seconds = toleration.toleration_seconds?;
        // Nobody evicts it before both were there; a taint that does not say since when it is there tells nothing.
        let since = taint.time_added.as_ref()?.0.max(pods::placed_since(pod)?);
        let stays = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        (now.duration_since(since) > stays.try_into().ok()?).then(|| {
            format!(
                "tolerates the taint {} of node {node} for {seconds} seconds, and they are over",
                shown(taint)
            )
        })
    })
}

fn shown(taint: &Taint) -> String {
    let value = taint.value.as_deref().filter(|value| !value.is_empty());
    let value = value.map(|value| format!("={value}")).unwrap_or_default();
    format!("{}{value}:{}", taint.key, taint.effect)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !key.is_empty() && key != taint.key || !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let (mine, its) = (text(&toleration.value), text(&taint.value));
    let numbers = || Some((its.parse::<i64>().ok()?, mine.parse::<i64>().ok()?));
    match text(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => mine == its,
        "Lt" => numbers().is_some_and(|(its, mine)| its < mine),
        "Gt" => numbers().is_some_and(|(its, mine)| its > mine),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, deleted, ended, node, pod, with};

    /// A node with a taint since 11:00, an hour ago.
    fn tainted(effect: &str) -> Value {
        let taint = json!({"key": "k", "value": "v", "effect": effect, "timeAdded": "2026-01-01T11:00:00Z"});
        node("b", json!({"spec": {"podCIDR": null, "podCIDRs": null, "taints": [taint]}}))
    }

    fn tolerant(toleration: Value) -> Value {
        pod("p", "10.0.0.1", json!({"spec": {"nodeName": "b", "tolerations": [toleration]}}))
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let none = "taint-not-tolerated: Pod n/p does not tolerate the taint k=v:NoExecute of node b";
        let over = "taint-not-tolerated: Pod n/p tolerates the taint k=v:NoExecute of node b for 60 seconds, and they are \
                    over";
        let table = [
            (json!({"key": "other", "operator": "Exists"}), none),
            (json!({"key": "k", "value": "w"}), none),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), none),
            (json!({"key": "k", "value": "v"}), ""),
            (json!({"operator": "Exists"}), ""),
            (json!({"operator": "Exists", "tolerationSeconds": 60}), over),
            (json!({"operator": "Exists", "tolerationSeconds": 3600}), ""),
        ];
        for (toleration, expected) in table {
            let expected: Vec<&str> = [expected].into_iter().filter(|line| !line.is_empty()).collect();
            check(&[tainted("NoExecute"), tolerant(toleration.clone())], &expected);
            check(&[tainted("NoSchedule"), tolerant(toleration.clone())], &[]);
            check(&[tainted("NoExecute"), with(tolerant(toleration.clone()), ended())], &[]);
            check(&[tainted("NoExecute"), with(tolerant(toleration), deleted())], &[]);
        }
    }

    #[test]
    fn time_counts_from_when_both_were_there() {
        let for_a_while = tolerant(json!({"operator": "Exists", "tolerationSeconds": 600}));
        let placed = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T11:55:00Z"},
        ]}});
        check(&[tainted("NoExecute"), with(for_a_while.clone(), placed)], &[]);
        let taint = json!({"key": "k", "effect": "NoExecute"});
        check(&[with(tainted(""), json!({"spec": {"taints": [taint]}})), for_a_while], &[]);
    }

    #[test]
    fn tolerations_compare_numbers() {
        let tolerates = |operator: &str, mine: &str, its: &str| {
            let toleration = serde_json::from_value(json!({"key": "k", "operator": operator, "value": mine}));
            let taint = serde_json::from_value(json!({"key": "k", "value": its, "effect": "NoExecute"}));
            super::tolerates(&toleration.unwrap(), &taint.unwrap())
        };
        assert!(tolerates("Lt", "10", "9") && !tolerates("Lt", "9", "10") && !tolerates("Lt", "x", "1"));
        assert!(tolerates("Gt", "9", "10") && !tolerates("Gt", "10", "9") && !tolerates("Near", "9", "9"));
    }
}
