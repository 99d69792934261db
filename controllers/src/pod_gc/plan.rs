//! Which pods are cleared away, and how. A decision; time is handed in.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use super::{Place, QUARANTINE, View};
use crate::kind::{Key, Kind, Object as _};
use crate::plan::{Action, Order, Plan, Planned};
use crate::pods;

/// What is said of a pod whose node is gone.
const GONE: (&str, &str) = ("DeletionByPodGC", "PodGC: node no longer exists");

/// Who goes first: those that their node evicted, then the oldest.
pub(super) fn order(pod: &Pod) -> (bool, Option<Timestamp>, String) {
    let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
    let evicted = pods::phase(pod) == "Failed" && reason == Some("Evicted");
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (!evicted, created, pod.key().name)
}

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    match view {
        View::Ended(surplus) => {
            let actions =
                surplus.iter().map(|pod| Action::delete_at_once(&**pod).because("too many have ended"));
            plan.step(Order::Parallel, actions);
        }
        View::Pod(pod, Place::Unbound) if pod.is_deleting() => {
            take(pod, &end(pod), "it was deleted before it had a node", &mut plan);
        }
        View::Pod(pod, Place::OutOfService) if pod.is_deleting() => {
            take(pod, &end(pod), "its node is out of service", &mut plan);
        }
        View::Pod(_, Place::Missing(time)) if *time < QUARANTINE => {
            plan.look_again_after(QUARANTINE.saturating_sub(*time));
        }
        View::Pod(pod, Place::Missing(_)) => {
            let node = Action::Absent { kind: Kind::of::<Node>(), key: Key::new("", pods::node(pod)) };
            plan.then(node.because("the watch of nodes may lag"));
            let ended =
                if pods::is_terminal(pod) { (**pod).clone() } else { pods::disrupted(&end(pod), GONE, now) };
            take(pod, &ended, "its node is gone", &mut plan);
        }
        View::Pod(..) => {}
    }
    plan
}

/// It has failed, unless it has ended before: nobody else would say so.
fn end(pod: &Pod) -> Pod {
    let mut ended = pod.clone();
    if !pods::is_terminal(pod) {
        let status = ended.status.get_or_insert_default();
        status.phase = Some("Failed".to_owned());
        status.observed_generation = pod.metadata.generation;
    }
    ended
}

fn take(pod: &Pod, ended: &Pod, why: &'static str, plan: &mut Plan) {
    let mark: Option<Planned> = Action::update_status(pod, ended).map(|mark| mark.because(why));
    plan.step(Order::Serial, mark);
    plan.then(Action::delete_at_once(pod).because(why));
}
