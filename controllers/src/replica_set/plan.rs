//! How many pods are made or deleted, and which. A decision; must never touch a pod of another controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::deletion_order;
use super::set::{Replicated, Set};
use crate::owners::{self, Claim};
use crate::plan::{Action, Order, Plan};
use crate::pods;

/// How many pods are made or deleted in one go.
const BURST: usize = 500;

/// The pods of a set: those that it controls, or may.
pub(super) fn claim<K: Replicated>(view: &View<K>) -> Claim<Pod> {
    owners::claim(&*view.object, &view.set.selector, &view.pods, pods::is_active)
}

/// Those that count.
pub(super) fn active(claim: &Claim<Pod>) -> Vec<Arc<Pod>> {
    claim.owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect()
}

pub(super) fn plan<K: Replicated>(view: &View<K>, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let claim = claim(view);
    claim.plan(&*view.object, &mut plan);
    let active = active(&claim);
    if !view.object.is_deleting() {
        manage(view, &active, now, &mut plan);
    }
    if let Some(delay) = next_available(&view.set, &active, now) {
        plan.look_again_after(delay);
    }
    plan
}

fn manage<K: Replicated>(view: &View<K>, active: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let (set, about) = (&view.set, view.object.reference());
    let wanted = usize::try_from(set.replicas).unwrap_or_default();
    if active.len() < wanted {
        let namespace = view.object.key().namespace;
        let pod = pods::from_template(&set.template, &namespace, &view.object.as_controller());
        let create = Action::create(&pod)
            .because("too few replicas")
            .tell(&about, "SuccessfulCreate", "Created pod: {name}")
            .warn(&about, "FailedCreate", "Error creating: {error}");
        let count = (wanted - active.len()).min(BURST);
        plan.step(Order::SlowStart, std::iter::repeat_n(create, count));
    } else if active.len() > wanted {
        let count = (active.len() - wanted).min(BURST);
        let delete = deletion_order::first(active, &view.related, count, now).into_iter().map(|pod| {
            let action = Action::Delete {
                object: crate::plan::ObjectId::of(&*pod),
                propagation: crate::plan::Propagation::Default,
                grace_seconds: None,
                unchanged: false,
            };
            action.because("too many replicas").tell(&about, "SuccessfulDelete", "Deleted pod: {name}").warn(
                &about,
                "FailedDelete",
                "Error deleting: {error}",
            )
        });
        plan.step(Order::Parallel, delete);
    }
}

/// How long until the next pod that is ready has been for long enough.
fn next_available(set: &Set, active: &[Arc<Pod>], now: Timestamp) -> Option<std::time::Duration> {
    if set.min_ready_seconds <= 0 {
        return None;
    }
    let waits = active.iter().filter_map(|pod| pods::available_in(pod, set.min_ready_seconds, now));
    waits.filter(|wait| !wait.is_zero()).min()
}
