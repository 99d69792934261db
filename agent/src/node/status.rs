//! What a node tells of itself: its conditions in the kubelet's words, its resources and addresses. A decision; conditions
//! of others are none of its business.

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::identity::Identity;
use crate::clock::told;
use crate::eviction::signals::{Pressure, Pressures};
use crate::node_shutdown::plan::SHUTTING_DOWN;

/// What the kubelet says of a node whose pods can have no network.
#[must_use]
pub fn network_text(problem: &str) -> String {
    format!(
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{problem}"
    )
}

/// The status of a node, as far as its agent says it.
#[must_use]
pub fn status(
    identity: &Identity,
    seen: &Node,
    network_problem: Option<&str>,
    shutting_down: bool,
    pressures: &Pressures,
    now: Timestamp,
) -> NodeStatus {
    let of_pressure = |pressure: Pressure| {
        let holds = pressures.contains(&pressure);
        let (reason, message) = pressure.story(holds);
        condition(seen, pressure.word(), holds, reason, message, now)
    };
    let shutdown = shutting_down.then(|| SHUTTING_DOWN.to_owned());
    let problems: Vec<_> = network_problem.map(network_text).into_iter().chain(shutdown).collect();
    let ready = match &problems[..] {
        [] => condition(seen, "Ready", true, "KubeletReady", "kubelet is posting ready status", now),
        [one] => condition(seen, "Ready", false, "KubeletNotReady", one, now),
        // As Go tells several errors.
        all => condition(seen, "Ready", false, "KubeletNotReady", &format!("[{}]", all.join(", ")), now),
    };
    NodeStatus {
        conditions: Some(Pressure::ALL.into_iter().map(of_pressure).chain([ready]).collect()),
        ..identity.node().status.unwrap_or_default()
    }
}

fn condition(
    seen: &Node,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let conditions = seen.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let before = conditions.iter().find(|before| before.type_ == kind && before.status == status);
    NodeCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(told(now)),
        last_transition_time: before
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| Some(told(now))),
    }
}

/// Whether the node says something else than it should, but for how fresh it is.
#[must_use]
pub fn differs(seen: &Node, wanted: &NodeStatus) -> bool {
    let nothing = NodeStatus::default();
    let seen = seen.status.as_ref().unwrap_or(&nothing);
    let said = |condition: &NodeCondition| {
        let known = seen.conditions.iter().flatten().find(|known| known.type_ == condition.type_);
        known.is_some_and(|known| {
            (&known.status, &known.reason, &known.message)
                == (&condition.status, &condition.reason, &condition.message)
        })
    };
    seen.capacity != wanted.capacity
        || seen.allocatable != wanted.allocatable
        || seen.addresses != wanted.addresses
        || seen.node_info != wanted.node_info
        || seen.daemon_endpoints != wanted.daemon_endpoints
        || !wanted.conditions.iter().flatten().all(said)
}

/// The strategic merge patch that makes the node say this.
#[must_use]
pub fn status_patch(seen: &Node, wanted: &NodeStatus) -> Value {
    let mut status = Map::new();
    let mut say = |name: &str, value: Value| status.insert(name.to_owned(), value);
    say("conditions", json!(wanted.conditions));
    say("capacity", json!(wanted.capacity));
    say("allocatable", json!(wanted.allocatable));
    say("nodeInfo", json!(wanted.node_info));
    if let Some(endpoints) = &wanted.daemon_endpoints {
        say("daemonEndpoints", json!(endpoints));
    }
    let known = seen.status.as_ref().and_then(|status| status.addresses.as_ref());
    if known != wanted.addresses.as_ref() {
        // They would be merged by their types, of which one may have several.
        let mut all = vec![json!({"$patch": "replace"})];
        all.extend(wanted.addresses.iter().flatten().map(|address| json!(address)));
        say("addresses", Value::Array(all));
    }
    json!({"metadata": {"uid": seen.metadata.uid}, "status": status})
}
