//! What is written about a node and its pods. A decision; time is handed in.

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::taints;
use super::zones::Leave;
use super::{Here, View};
use crate::kind::Object as _;
use crate::plan::{Action, Order, Plan, Planned, Told};
use barque_client::events::Kind as Gravity;

/// The conditions that nobody knows when nothing is heard of a node. Not `NetworkUnavailable`: the node does not say that one.
const OF_THE_NODE: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    match view {
        View::Gone { name, uid } => {
            let text = format!("Node {name} event: Removing Node {name} from Controller");
            plan.notes.push(told(&about(name, uid), "RemovingNode", text));
        }
        View::Here(here) => of_node(here, now, &mut plan),
    }
    plan
}

fn of_node(here: &Here, now: Timestamp, plan: &mut Plan) {
    let node = &*here.node;
    let name = node.key().name;
    let about = about(&name, node.uid());
    if here.is_new {
        let text = format!("Node {name} event: Registered Node {name} in Controller");
        plan.notes.push(told(&about, "RegisteredNode", text));
    }
    if here.silence < here.patience {
        plan.look_again_after(here.patience.saturating_sub(here.silence));
    } else if let Some(mut unknown) =
        Action::update_status(node, &unknown(node, now)).map(|it| it.because("nothing is heard of it"))
    {
        if taints::ready(node) == Some("True") {
            let text = format!("Node {name} status is now: NodeNotReady");
            unknown.done = Some(told(&about, "NodeNotReady", text));
        }
        if let Some(lease) = &here.lease {
            // A watch that lags must not make a node that is well a dead one.
            plan.then(Action::unchanged(&**lease).because("the watch of leases may lag"));
        }
        plan.then(unknown);
        // What follows from it follows when it has come back.
        return;
    }
    let may_leave = here.leave == Some(Leave::Now);
    if let Some(Leave::After(wait)) = here.leave {
        plan.look_again_after(wait);
    }
    let corrected = taints::corrected(node, here.stopped, may_leave, now);
    if let Some(update) = Action::update(node, &corrected) {
        plan.then(update.because("taints and labels follow from its conditions"));
    }
    plan.step(Order::Parallel, here.pods.iter().filter_map(|pod| not_ready(pod, now)));
}

/// The node with conditions that nobody knows.
fn unknown(node: &Node, now: Timestamp) -> Node {
    let mut node = node.clone();
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for type_ in OF_THE_NODE {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    node
}

/// A pod of a node of which nothing is heard is not ready.
fn not_ready(pod: &Pod, now: Timestamp) -> Option<Planned> {
    let mut after = pod.clone();
    let conditions = after.status.as_mut()?.conditions.as_mut()?;
    let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready")?;
    if ready.status != "False" {
        ready.status = "False".to_owned();
        ready.last_transition_time = Some(Time(now));
    }
    let mut planned = Action::update_status(pod, &after)?.because("nothing is heard of its node");
    planned.done = Some(Told {
        regarding: pod.reference(),
        gravity: Gravity::Warning,
        reason: "NodeNotReady",
        text: "Node is not ready".to_owned(),
    });
    Some(planned)
}

fn about(name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn told(about: &ObjectReference, reason: &'static str, text: String) -> Told {
    Told { regarding: about.clone(), gravity: Gravity::Normal, reason, text }
}
