//! Nodes and the rest of the cluster, as controllers see them: pods are bound, run, fail and end; what nobody owns any more goes.

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::SimulatedApi;
use crate::kind::Object as _;
use crate::plan::Propagation;
use crate::pods;

/// Something happens to one pod, or to what has lost its owner; where nodes are healthy, something good.
pub(super) fn step(api: &SimulatedApi, rng: &mut StdRng, healthy: bool) {
    let pods = api.all::<Pod>();
    if pods.is_empty() || rng.random_ratio(1, 10) {
        let _ = api.collect_garbage() || forget_nodes(api);
        return;
    }
    let pod = &pods[rng.random_range(0..pods.len())];
    match rng.random_range(if healthy { 3 } else { 0 }..20) {
        0 => fail(api, pod),
        1 => set_ready(api, pod, false),
        // Its node is gone, and somebody removes it by force.
        2 => api.delete::<Pod>(&pod.key(), Propagation::Background, Some(0)),
        _ => {
            advance(api, pod);
        }
    }
}

/// Everything that waits for a node is done; whether there was anything.
pub(super) fn work(api: &SimulatedApi) -> bool {
    let mut any = api.collect_garbage() || forget_nodes(api);
    for pod in api.all::<Pod>() {
        any |= advance(api, &pod);
    }
    any
}

/// Pods go that are bound to nodes which are not there any more; whether there were some. Where no pod asks for its node, there
/// need not be any.
fn forget_nodes(api: &SimulatedApi) -> bool {
    let mut any = false;
    for pod in api.all::<Pod>() {
        let asks = pods::asked_node(&pod).is_some();
        if asks && !pods::node(&pod).is_empty() && api.get::<Node>("", pods::node(&pod)).is_none() {
            api.delete::<Pod>(&pod.key(), Propagation::Background, Some(0));
            any = true;
        }
    }
    any
}

/// The next good thing happens to a pod; whether there was one.
fn advance(api: &SimulatedApi, pod: &Pod) -> bool {
    if pod.is_deleting() {
        let finalizers = pod.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
        if pod.metadata.deletion_grace_period_seconds == Some(0) && finalizers {
            return false;
        }
        api.delete::<Pod>(&pod.key(), Propagation::Background, Some(0));
        if finalizers {
            // The node is done with it; others are not.
            api.edit::<Pod>(&pod.key(), |pod| pod.metadata.deletion_grace_period_seconds = Some(0));
        }
    } else if pods::is_terminal(pod) {
        return false;
    } else if pods::node(pod).is_empty() {
        let asked = pods::asked_node(pod).map(str::to_owned);
        if asked.as_ref().is_some_and(|node| api.get::<Node>("", node).is_none()) {
            return false;
        }
        let any =
            || format!("node-{}", pod.uid().len() + pod.uid().bytes().map(usize::from).sum::<usize>() % 3);
        let node = asked.unwrap_or_else(any);
        api.edit::<Pod>(&pod.key(), |pod| pod.spec.get_or_insert_default().node_name = Some(node));
    } else if pods::phase(pod) != "Running" {
        api.edit::<Pod>(&pod.key(), |pod| status(pod).phase = Some("Running".into()));
    } else if !pods::is_ready(pod) {
        set_ready(api, pod, true);
    } else {
        return false;
    }
    true
}

fn status(pod: &mut Pod) -> &mut PodStatus {
    pod.status.get_or_insert_default()
}

fn fail(api: &SimulatedApi, pod: &Pod) {
    // How it ended, it stays.
    if pods::is_terminal(pod) {
        return;
    }
    api.edit::<Pod>(&pod.key(), |pod| {
        status(pod).phase = Some("Failed".into());
        status(pod).conditions = None;
    });
}

fn set_ready(api: &SimulatedApi, pod: &Pod, ready: bool) {
    if pods::phase(pod) != "Running" || pods::is_ready(pod) == ready {
        return;
    }
    let now = api.time_of_day();
    api.edit::<Pod>(&pod.key(), |pod| {
        status(pod).conditions = Some(vec![PodCondition {
            type_: "Ready".into(),
            status: if ready { "True" } else { "False" }.into(),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        }]);
    });
}
