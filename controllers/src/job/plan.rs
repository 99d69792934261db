//! What is done about a Job's pods. A decision; must never take the finalizer from a pod of which the status, as it was seen, has
//! still to tell.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;

use super::account::{Account, Entry};
use super::{Lost, View, ending, pod, population};
use crate::kind::{Kind, Object as _};
use crate::plan::{Action, Order, Plan, Planned};

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let view = match view {
        View::Job(view) => view,
        View::Lost(lost) => return let_go(lost),
    };
    let mut plan = Plan::nothing();
    let why = "its job is not there any more";
    plan.step(Order::Parallel, view.lost.iter().filter_map(|pod| release(pod, why)));
    let account = Account::of(view);
    if !account.claim.is_settled() {
        // The rest follows when their new versions have come back.
        account.claim.plan_marking(&*view.job, &mut plan, |pod, adopted| {
            if adopted {
                pod::track(pod);
            } else {
                *pod = pod::untracked(pod);
            }
        });
        return plan;
    }
    let settled = account.tracked().into_iter().filter(|pod| account.entry(pod) == Entry::Settled);
    plan.step(Order::Parallel, settled.filter_map(|pod| release(pod, "the status tells of it")));
    if let Some(left) = ending::until_deadline(view, now).filter(|left| !left.is_zero()) {
        plan.look_again_after(left);
    }
    let about = view.job.reference();
    if ending::of(&account, now).is_some() {
        // They keep the finalizer until they are counted.
        plan.step(Order::Parallel, account.active.iter().map(|pod| delete(pod, &about, "its job ends")));
        return plan;
    }
    if view.job.is_deleting() {
        return plan;
    }
    let change = population::change(&account, now);
    // Who goes because there are too many has not failed, and is not counted.
    plan.step(Order::Parallel, change.delete.iter().filter_map(|pod| release(pod, "too many pods")));
    plan.step(Order::Parallel, change.delete.iter().map(|pod| delete(pod, &about, "too many pods")));
    plan.step(
        Order::SlowStart,
        change.create.iter().map(|pod| {
            Action::create(pod)
                .because("too few pods")
                .tell(&about, "SuccessfulCreate", "Created pod: {name}")
                .warn(&about, "FailedCreate", "Error creating: {error}")
        }),
    );
    if let Some(wait) = change.again {
        plan.look_again_after(wait);
    }
    plan
}

fn let_go(lost: &Lost) -> Plan {
    let mut plan = Plan::nothing();
    if let Some(key) = &lost.absent {
        let kind = Kind::of::<k8s_openapi::api::batch::v1::Job>();
        let absent = Action::Absent { kind, key: key.clone() };
        plan.then(absent.because("pods of a job that is not known yet stay as they are"));
    }
    let why = "its job counts nobody any more";
    plan.step(Order::Parallel, lost.pods.iter().filter_map(|pod| release(pod, why)));
    plan
}

/// Takes the finalizer from it.
fn release(pod: &Arc<Pod>, why: &'static str) -> Option<Planned> {
    Some(Action::update(&**pod, &pod::untracked(pod))?.because(why))
}

fn delete(pod: &Arc<Pod>, about: &ObjectReference, why: &'static str) -> Planned {
    Action::delete_as_it_says(&**pod)
        .because(why)
        .tell(about, "SuccessfulDelete", "Deleted pod: {name}")
        .warn(about, "FailedDelete", "Error deleting: {error}")
}
