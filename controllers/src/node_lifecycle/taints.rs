//! Which taints and labels follow from what a node says. A decision; must never touch a taint that is not the control plane's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The condition, what it says, and the taint that follows.
const OF_CONDITIONS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// The label that counts, and the older one that follows it.
const LABELS: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// A node's condition.
pub(super) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// What a node's `Ready` says; nothing when it never did.
pub(super) fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}

fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

fn has(node: &Node, key: &str, effect: &str) -> bool {
    taints(node).iter().any(|taint| taint.key == key && taint.effect == effect)
}

/// What becomes of the taints that make pods leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    /// None of them.
    Clear,
    /// This one, in place of the other one: pods leave already.
    Swap(&'static str),
    /// This one, once the node may be given up.
    Begin(&'static str),
    /// As it is.
    Keep,
}

/// What becomes of the taints that make pods leave; `stopped` when nobody is given up.
pub(super) fn eviction(node: &Node, stopped: bool) -> Eviction {
    let (mine, other) = match ready(node) {
        _ if stopped => return Eviction::Clear,
        Some("True") => return Eviction::Clear,
        Some("False") => (NOT_READY, UNREACHABLE),
        Some("Unknown") => (UNREACHABLE, NOT_READY),
        _ => return Eviction::Keep,
    };
    match (has(node, mine, "NoExecute"), has(node, other, "NoExecute")) {
        (_, true) => Eviction::Swap(mine),
        (true, false) => Eviction::Keep,
        (false, false) => Eviction::Begin(mine),
    }
}

/// The node with the taints and labels that follow; `may_leave` when the node may be given up now.
pub(super) fn corrected(node: &Node, stopped: bool, may_leave: bool, now: Timestamp) -> Node {
    let mut wanted: Vec<(&str, &str)> = OF_CONDITIONS
        .iter()
        .filter(|(type_, status, _)| condition(node, type_).is_some_and(|it| it.status == *status))
        .map(|(.., key)| (*key, "NoSchedule"))
        .collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let eviction = eviction(node, stopped);
    match eviction {
        Eviction::Swap(key) => wanted.push((key, "NoExecute")),
        Eviction::Begin(key) if may_leave => wanted.push((key, "NoExecute")),
        _ => {}
    }
    let mine = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => taint.key == UNSCHEDULABLE || OF_CONDITIONS.iter().any(|(.., key)| *key == taint.key),
        "NoExecute" => {
            matches!(eviction, Eviction::Clear | Eviction::Swap(_))
                && (taint.key == NOT_READY || taint.key == UNREACHABLE)
        }
        _ => false,
    };
    let mut after: Vec<Taint> = taints(node)
        .iter()
        .filter(|taint| !mine(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !has(node, key, effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    let mut node = node.clone();
    if after != taints(&node) {
        node.spec.get_or_insert_default().taints = (!after.is_empty()).then_some(after);
    }
    if let Some(labels) = &mut node.metadata.labels {
        follow(labels);
    }
    node
}

/// Older labels say what those that count say.
fn follow(labels: &mut BTreeMap<String, String>) {
    for (first, second) in LABELS {
        if let Some(value) = labels.get(first).cloned() {
            labels.insert(second.to_owned(), value);
        }
    }
}
