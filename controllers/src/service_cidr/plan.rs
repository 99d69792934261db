//! What becomes of a range of services' addresses. A decision; time is handed in.

use std::time::Duration;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{View, ranges};
use crate::kind::Object as _;
use crate::node_ipam::Range;
use crate::plan::{Action, Plan, Told};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// So long after it was deleted a range stays, so that allocators hear of it before.
const GRACE: Duration = Duration::from_secs(10);

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let object = &*view.object;
    let Some(deleted) = &object.metadata.deletion_timestamp else {
        protect(object, now, &mut plan);
        return plan;
    };
    if !may_go(view) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        let after = with_ready(object, ("False", "Terminating", message), now);
        let update = Action::update_status(object, &after);
        plan.step(crate::plan::Order::Serial, update.map(|it| it.because("services have addresses of it")));
        return plan;
    }
    let passed = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    if passed < GRACE {
        plan.look_again_after(GRACE.saturating_sub(passed));
        return plan;
    }
    let mut after = object.clone();
    if let Some(finalizers) = &mut after.metadata.finalizers {
        finalizers.retain(|name| name != FINALIZER);
    }
    if let Some(update) = Action::update(object, &after) {
        plan.then(update.because("no service needs it"));
    }
    plan
}

fn protect(object: &ServiceCIDR, now: Timestamp, plan: &mut Plan) {
    let mut after = object.clone();
    let finalizers = after.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        if let Some(update) = Action::update(object, &after) {
            plan.then(update.because("services may get addresses of it"));
        }
        // It is ready once it is protected.
        return;
    }
    let ready = with_ready(object, ("True", "", "Kubernetes Service CIDR is ready"), now);
    if let Some(update) = Action::update_status(object, &ready) {
        let mut update = update.because("it is protected");
        update.failed = Some(Told {
            regarding: object.reference(),
            gravity: Gravity::Warning,
            reason: "KubernetesServiceCIDRError",
            text: "The ServiceCIDR Status can not be set to Ready=True".to_owned(),
        });
        plan.then(update);
    }
}

/// Whether every address is in another range too.
fn may_go(view: &View) -> bool {
    let within = |inner: Range, outer: Range| outer.overlaps(inner) && outer.mask() <= inner.mask();
    let elsewhere =
        |inner: Range| view.others.iter().any(|other| ranges(other).any(|outer| within(inner, outer)));
    if ranges(&view.object).all(elsewhere) {
        return true;
    }
    let mine = |address: &Range| ranges(&view.object).any(|range| range.overlaps(*address));
    view.addresses.iter().filter(|address| mine(address)).all(|address| elsewhere(*address))
}

fn with_ready(
    object: &ServiceCIDR,
    (status, reason, message): (&str, &str, &str),
    now: Timestamp,
) -> ServiceCIDR {
    let mut after = object.clone();
    let conditions = after.status.get_or_insert_default().conditions.get_or_insert_default();
    let before = conditions.iter().position(|condition| condition.type_ == "Ready");
    let same = before.is_some_and(|at| {
        let it = &conditions[at];
        it.status == status && it.reason == reason && it.message == message
    });
    if !same {
        let condition = Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(now),
            observed_generation: None,
        };
        match before {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    after
}
