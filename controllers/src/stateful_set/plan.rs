//! Which pod of a StatefulSet is made, deleted or waited for. A decision; time is handed in.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use barque_api::int_or_string::{IntOrString, Round};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString as Said;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::claims;
use super::identity::{self, identified, ordinal};
use crate::history::{self, HASH_LABEL, Newest};
use crate::kind::Object as _;
use crate::owners::{self, Claim};
use crate::plan::{Action, ObjectId, Order, Plan, Planned, Propagation};
use crate::pods;

/// The ordinals that there are to be.
pub(super) fn range(set: &StatefulSet) -> Range<i32> {
    let start = set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    start..start.saturating_add(set.spec.replicas.unwrap_or(1))
}

/// Which pods are the StatefulSet's.
pub(super) fn claim(view: &View) -> Claim<Pod> {
    let named = |pod: &Pod| ordinal(&view.set, pod).is_some();
    owners::claim(&*view.set, &view.selector, &view.pods, named)
}

/// Which revisions are the StatefulSet's.
pub(super) fn revisions(view: &View) -> Claim<ControllerRevision> {
    owners::claim(&*view.set, &view.selector, &view.revisions, |_| true)
}

/// The revision of the current template.
pub(super) fn newest(view: &View, owned: &[Arc<ControllerRevision>]) -> Newest {
    let collisions = view.set.status.as_ref().and_then(|status| status.collision_count);
    let template = &view.set.spec.template;
    history::newest(&*view.set, template, collisions, owned, view.name_is_taken, HASH_LABEL)
}

/// The revision that pods have which are not to be updated yet.
pub(super) fn current(view: &View, owned: &[Arc<ControllerRevision>]) -> Option<Arc<ControllerRevision>> {
    let name = view.set.status.as_ref()?.current_revision.as_ref()?;
    owned.iter().find(|revision| revision.key().name == *name).cloned()
}

pub(super) fn is_rolling(set: &StatefulSet) -> bool {
    let said = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    said != Some("OnDelete")
}

/// Ordinals below this distance from the first are not updated.
fn partition(set: &StatefulSet) -> i32 {
    let rolling = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    rolling.and_then(|rolling| rolling.partition).unwrap_or_default()
}

/// How many pods may be down for an update.
fn most_unavailable(set: &StatefulSet) -> i32 {
    let rolling = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let said = match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
        Some(Said::Int(count)) => IntOrString::Int(*count),
        Some(Said::String(text)) => IntOrString::Text(text.clone()),
        None => IntOrString::Int(1),
    };
    let count = said.scaled(set.spec.replicas.unwrap_or(1).into(), Round::Down).unwrap_or(1);
    i32::try_from(count).unwrap_or(1).max(1)
}

/// Whether it runs and is ready.
pub(super) fn runs(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

pub(super) fn is_available(view: &View, pod: &Pod, now: Timestamp) -> bool {
    let seconds = view.set.spec.min_ready_seconds.unwrap_or_default();
    runs(pod) && !pod.is_deleting() && pods::is_available(pod, seconds, now)
}

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let (pods, revisions) = (claim(view), revisions(view));
    pods.plan(&*view.set, &mut plan);
    revisions.plan(&*view.set, &mut plan);
    if !plan.is_empty() || view.set.is_deleting() {
        return plan;
    }
    let update = match newest(view, &revisions.owned) {
        Newest::Known(update) => update,
        Newest::Missing(planned) => {
            plan.then(*planned);
            return plan;
        }
        Newest::NameIsTaken => return plan,
    };
    let current = current(view, &revisions.owned).unwrap_or_else(|| update.clone());
    let mut live: BTreeSet<String> =
        pods.owned.iter().map(|pod| identity::revision(pod).to_owned()).collect();
    live.extend([update.key().name, current.key().name]);
    let one_by_one = view.set.spec.pod_management_policy.as_deref() != Some("Parallel");
    let mut pass = Pass { view, now, one_by_one, update, current, plan };
    pass.all(&pods.owned);
    let mut plan = pass.plan;
    history::truncate(&revisions.owned, &live, view.set.spec.revision_history_limit, &mut plan);
    if let Some(delay) = next_available(view, &pods.owned, now) {
        plan.look_again_after(delay);
    }
    plan
}

/// Whether the next pod may be looked at.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Wait,
}

/// A decision in the making.
struct Pass<'a> {
    view: &'a View,
    now: Timestamp,
    one_by_one: bool,
    update: Arc<ControllerRevision>,
    current: Arc<ControllerRevision>,
    plan: Plan,
}

impl Pass<'_> {
    fn all(&mut self, owned: &[Arc<Pod>]) {
        let set = &*self.view.set;
        let find = |wanted: i32| owned.iter().find(|pod| ordinal(set, pod) == Some(wanted));
        let replicas: Vec<(i32, Option<&Arc<Pod>>)> =
            range(set).map(|ordinal| (ordinal, find(ordinal))).collect();
        let mut surplus: Vec<(i32, &Arc<Pod>)> =
            owned.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
        surplus.retain(|(ordinal, _)| !range(set).contains(ordinal));
        surplus.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let mut creations = Vec::new();
        for (ordinal, pod) in &replicas {
            let then = match pod {
                Some(pod) => self.keep(*ordinal, pod),
                None => self.make(*ordinal, &mut creations),
            };
            if then == Then::Wait && self.one_by_one {
                self.plan.step(Order::SlowStart, creations);
                return;
            }
        }
        self.plan.step(Order::SlowStart, creations);
        for (ordinal, pod) in &surplus {
            self.plan.step(Order::Parallel, claims::retained(self.view, pod, *ordinal));
        }
        if self.shrink(&replicas, &surplus) == Then::Wait && self.one_by_one {
            return;
        }
        if is_rolling(set) {
            self.roll(&replicas);
        }
    }

    /// A pod that is not there is made, with its volumes.
    fn make(&mut self, ordinal: i32, creations: &mut Vec<Planned>) -> Then {
        let set = &*self.view.set;
        if claims::are_going(self.view, ordinal) {
            return Then::Wait;
        }
        let keeps = is_rolling(set) && ordinal - range(set).start < partition(set);
        let revision = if keeps { &self.current } else { &self.update };
        let template: Option<PodTemplateSpec> = history::template(revision);
        let template = template.as_ref().unwrap_or(&set.spec.template);
        let pod = identity::pod(set, template, &revision.key().name, ordinal);
        let (about, name) = (set.reference(), set.key().name);
        self.plan.step(Order::Parallel, claims::missing(self.view, ordinal));
        creations.push(
            Action::create(&pod)
                .because("an ordinal has no pod")
                .tell(
                    &about,
                    "SuccessfulCreate",
                    format!("create Pod {{name}} in StatefulSet {name} successful"),
                )
                .warn(
                    &about,
                    "FailedCreate",
                    format!("create Pod {{name}} in StatefulSet {name} failed error: {{error}}"),
                ),
        );
        Then::Wait
    }

    /// A pod that is there: it is replaced when it has ended, and waited for until it is available.
    fn keep(&mut self, ordinal: i32, pod: &Arc<Pod>) -> Then {
        if pods::is_terminal(pod) {
            if !pod.is_deleting() {
                let delete = self.delete(pod, "it has ended");
                self.plan.then(delete);
            }
            return Then::Wait;
        }
        if pods::phase(pod) == "Pending" {
            self.plan.step(Order::Parallel, claims::missing(self.view, ordinal));
        }
        if self.one_by_one && !is_available(self.view, pod, self.now) {
            return Then::Wait;
        }
        let named = identified((**pod).clone(), ordinal);
        if let Some(action) = Action::update(&**pod, &named) {
            self.plan.then(action.because("its labels do not say who it is"));
        }
        self.plan.step(Order::Parallel, claims::retained(self.view, pod, ordinal));
        Then::GoOn
    }

    /// Pods of ordinals that are not to be any more go, the highest first.
    fn shrink(&mut self, replicas: &[(i32, Option<&Arc<Pod>>)], surplus: &[(i32, &Arc<Pod>)]) -> Then {
        let (view, now) = (self.view, self.now);
        let unavailable = |pod: &Arc<Pod>| !is_available(view, pod, now);
        // One pod that does not work may go though others are waited for: otherwise nothing would ever go on. Upstream lets the
        // lowest go, and stands still for ever when the highest does not work either.
        let kept = replicas.iter().filter_map(|(_, pod)| *pod).find(|pod| unavailable(pod));
        let highest = surplus.iter().map(|(_, pod)| *pod).find(|pod| unavailable(pod));
        let first_broken = kept.or(highest).map(|pod| pod.uid().to_owned());
        let mut deletions = Vec::new();
        for (_, pod) in surplus {
            let blocks =
                pod.is_deleting() || (unavailable(pod) && first_broken.as_deref() != Some(pod.uid()));
            if blocks && self.one_by_one {
                break;
            }
            if !pod.is_deleting() {
                deletions.push(self.delete(pod, "there are too many ordinals"));
                if self.one_by_one {
                    break;
                }
            }
        }
        self.plan.step(Order::Parallel, deletions);
        if surplus.is_empty() { Then::GoOn } else { Then::Wait }
    }

    /// Pods of another revision go, the highest first, as many as may be down. Those that are down already count for nothing.
    fn roll(&mut self, replicas: &[(i32, Option<&Arc<Pod>>)]) {
        let (set, update) = (&*self.view.set, self.update.key().name);
        let is_up = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| is_available(self.view, pod, self.now));
        let down = replicas.iter().filter(|(_, pod)| !is_up(*pod)).count();
        let mut left = most_unavailable(set) - i32::try_from(down).unwrap_or(i32::MAX);
        let mut deletions = Vec::new();
        for (ordinal, pod) in replicas.iter().rev() {
            let Some(pod) = pod else { continue };
            if ordinal - range(set).start < partition(set) {
                break;
            }
            if identity::revision(pod) == update || pod.is_deleting() {
                continue;
            }
            if is_up(Some(pod)) {
                if left <= 0 {
                    break;
                }
                left -= 1;
            }
            deletions.push(self.delete(pod, "its template is an old one"));
        }
        self.plan.step(Order::Parallel, deletions);
    }

    fn delete(&self, pod: &Arc<Pod>, why: &'static str) -> Planned {
        let (about, name) = (self.view.set.reference(), self.view.set.key().name);
        let action = Action::Delete {
            object: ObjectId::of(&**pod),
            propagation: Propagation::Default,
            grace_seconds: None,
            unchanged: false,
        };
        action
            .because(why)
            .tell(&about, "SuccessfulDelete", format!("delete Pod {{name}} in StatefulSet {name} successful"))
            .warn(
                &about,
                "FailedDelete",
                format!("delete Pod {{name}} in StatefulSet {name} failed error: {{error}}"),
            )
    }
}

/// How long until the next pod that is ready has been for long enough.
fn next_available(view: &View, owned: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let seconds = view.set.spec.min_ready_seconds.filter(|seconds| *seconds > 0)?;
    let waits = owned.iter().filter_map(|pod| pods::available_in(pod, seconds, now));
    waits.filter(|wait| !wait.is_zero()).min()
}
