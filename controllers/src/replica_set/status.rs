//! What a set says of itself. A decision; time is handed in.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::plan::{active, claim};
use super::set::{Condition, Replicated, Set, Status};
use crate::plan::{Action, Failure, Outcome, Planned, Verdict};
use crate::pods;

/// Told when pods could not be made or deleted.
const FAILURE: &str = "ReplicaFailure";

/// The status that follows from what was seen and how acting went; nothing when it stands there already.
pub(super) fn update<K: Replicated>(view: &View<K>, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let claim = claim(view);
    let active = active(&claim);
    let set = &view.set;
    let labels = set.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let is_labelled = |pod: &&Arc<Pod>| {
        let own = pod.metadata.labels.as_ref();
        labels.into_iter().flatten().all(|(key, value)| own.and_then(|own| own.get(key)) == Some(value))
    };
    let available = |pod: &&Arc<Pod>| pods::is_available(pod, set.min_ready_seconds, now);
    let terminating = || view.pods.iter().filter(|pod| pods::is_terminating(pod) && claims(view, pod));
    let status = Status {
        replicas: count(active.iter()),
        fully_labeled: count(active.iter().filter(is_labelled)),
        ready: count(active.iter().filter(|pod| pods::is_ready(pod))),
        available: count(active.iter().filter(available)),
        terminating: K::COUNTS_TERMINATING.then(|| count(terminating())),
        observed_generation: view.object.meta().generation.unwrap_or_default(),
        conditions: conditions(set, active.len(), outcome, now),
    };
    if status == set.status {
        return None;
    }
    let after = view.object.with_status(&status);
    Some(Action::update_status(&*view.object, &after)?.because("the status has changed"))
}

fn claims<K: Replicated>(view: &View<K>, pod: &Pod) -> bool {
    use crate::kind::Object as _;
    pod.is_controlled_by(view.object.uid()) && crate::owners::matches(&view.set.selector, pod)
}

fn count<'a>(pods: impl Iterator<Item = &'a Arc<Pod>>) -> i32 {
    i32::try_from(pods.count()).unwrap_or(i32::MAX)
}

fn conditions(set: &Set, active: usize, outcome: &Outcome, now: Timestamp) -> Vec<Condition> {
    let failure = outcome.failure().filter(|(_, failure)| failure.verdict != Verdict::Terminating);
    let there = set.status.conditions.iter().any(|condition| condition.type_ == FAILURE);
    let mut conditions = set.status.conditions.clone();
    match failure {
        Some((_, Failure { message, .. })) if !there => {
            let wanted = usize::try_from(set.replicas).unwrap_or_default();
            let reason = match active.cmp(&wanted) {
                std::cmp::Ordering::Less => "FailedCreate",
                std::cmp::Ordering::Greater => "FailedDelete",
                // What failed was to adopt or to let go.
                std::cmp::Ordering::Equal => return conditions,
            };
            conditions.push(Condition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.clone()),
                last_transition: Some(Time(now)),
            });
        }
        None => conditions.retain(|condition| condition.type_ != FAILURE),
        Some(_) => {}
    }
    conditions
}
