//! Zones and what the nodes in them can do. Decisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::Node;

use crate::kind::Object as _;

/// The part of all processors that each zone has; nothing when that is not known of every node, or there are less than two zones.
pub(super) type Capacity = Option<BTreeMap<String, f64>>;

/// A node's zone.
pub(super) fn zone(node: &Node) -> Option<&str> {
    node.label("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty())
}

/// A node that serves: its zone, and its processors in thousandths; nothing when it does not.
pub(super) fn counted(node: &Node) -> Option<(Option<String>, i64)> {
    let apart = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if !ready || apart.iter().any(|label| node.label(label).is_some()) {
        return None;
    }
    let cpu = status.allocatable.as_ref().and_then(|all| all.get("cpu"));
    let milli = cpu.and_then(|cpu| Quantity::parse(&cpu.0).ok()).map_or(0, |cpu| cpu.milli_value());
    Some((zone(node).map(str::to_owned), milli))
}

/// What zones have.
pub(super) fn capacity(nodes: &[Arc<Node>]) -> Capacity {
    let mut zones: BTreeMap<String, i64> = BTreeMap::new();
    for (zone, milli) in nodes.iter().filter_map(|node| counted(node)) {
        if milli <= 0 {
            return None;
        }
        *zones.entry(zone?).or_default() += milli;
    }
    let all: i64 = zones.values().sum();
    #[allow(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = |milli: i64| milli as f64 / all as f64;
    (zones.len() >= 2).then(|| zones.into_iter().map(|(zone, milli)| (zone, ratio(milli))).collect())
}
