//! What a Deployment says of itself, in upstream's words. A decision; time is handed in.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::limits::Limits;
use super::plan::{Mode, claim, is_paused, mode};
use super::sets::{Counts as _, Sets};
use crate::kind::{Kind, Object as _};
use crate::plan::{Action, Outcome, Planned, Tried, Verdict};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
/// Why a Deployment makes no progress any more.
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// Why it need not make any.
const DONE: &str = "NewReplicaSetAvailable";
const PAUSED: &str = "DeploymentPaused";

/// The status that follows; nothing when it stands there already, or the Deployment itself was just written.
pub(super) fn update(view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let before = &*view.deployment;
    let is_itself = |tried: &Tried| *tried.planned.action.kind() == Kind::of::<Deployment>();
    if outcome.tried.iter().any(is_itself) {
        return None;
    }
    let mut after = before.clone();
    after.status = Some(match claim(view) {
        Some(claim) => {
            let sets = Sets::of(before, &claim.owned);
            status(view, &sets, outcome, now)
        }
        None => DeploymentStatus {
            observed_generation: before.metadata.generation,
            ..before.status.clone().unwrap_or_default()
        },
    });
    Some(Action::update_status(before, &after)?.because("the status has changed"))
}

fn told(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn status(view: &View, sets: &Sets, outcome: &Outcome, now: Timestamp) -> DeploymentStatus {
    let deployment = &*view.deployment;
    let old = deployment.status.clone().unwrap_or_default();
    let limits = Limits::of(deployment);
    let mode = mode(deployment, sets);
    let updated = sets.current().map_or(0, |new| new.actual());
    let available = sets.sum(|set| set.available());
    let terminating = sets.all.iter().map(|set| set.status.as_ref()?.terminating_replicas);
    let mut conditions = Conditions { all: old.conditions.clone().unwrap_or_default(), now };
    let made = outcome.tried.iter().find(|tried| matches!(tried.planned.action, Action::Create { .. }));
    if mode != Mode::Nothing {
        conditions.pause(deployment);
        conditions.found(deployment, sets);
    }
    conditions.available(available >= limits.least_available());
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: told(sets.sum(|set| set.actual())),
        updated_replicas: told(updated),
        ready_replicas: told(sets.sum(|set| set.ready())),
        available_replicas: told(available),
        unavailable_replicas: told((sets.sum(|set| set.wanted()) - available).max(0)),
        // Who does not tell of them makes the sum unknown.
        terminating_replicas: terminating.sum::<Option<i32>>(),
        collision_count: old.collision_count,
        conditions: None,
    };
    if mode == Mode::Rollout {
        if sets.new.is_none() && view.name_is_taken {
            status.collision_count = Some(old.collision_count.unwrap_or_default() + 1);
        }
        if !has_deadline(deployment) {
            conditions.remove(PROGRESSING);
        } else if let Some(made) = made {
            conditions.made(made);
        } else {
            conditions.progress(deployment, sets, &status);
        }
        conditions.failure(sets);
    }
    status.conditions = (!conditions.all.is_empty()).then_some(conditions.all);
    status
}

/// Conditions while they are changed.
struct Conditions {
    all: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.all.iter().find(|condition| condition.type_.as_deref() == Some(kind))
    }

    fn reason(&self, kind: &str) -> Option<&str> {
        self.get(kind)?.reason.as_deref()
    }

    fn remove(&mut self, kind: &str) {
        self.all.retain(|condition| condition.type_.as_deref() != Some(kind));
    }

    /// With the same status and reason nothing changes; with the same status, the time of the transition does not.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let before = self.get(kind).filter(|before| before.status.as_deref() == Some(status));
        if before.is_some_and(|before| before.reason.as_deref() == Some(reason)) {
            return;
        }
        self.replace(kind, status, reason, message);
    }

    fn replace(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let before = self.get(kind).filter(|before| before.status.as_deref() == Some(status));
        let since = before.and_then(|before| before.last_transition_time.clone());
        let made = DeploymentCondition {
            type_: Some(kind.to_owned()),
            status: Some(status.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        self.remove(kind);
        self.all.push(made);
    }

    /// A deadline does not run while the Deployment is paused.
    fn pause(&mut self, deployment: &Deployment) {
        let reason = self.reason(PROGRESSING);
        if !has_deadline(deployment) || reason == Some(TIMED_OUT) {
            return;
        }
        let was_paused = reason == Some(PAUSED);
        if is_paused(deployment) && !was_paused {
            self.set(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".to_owned());
        } else if !is_paused(deployment) && was_paused {
            self.set(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".to_owned());
        }
    }

    /// Progress is counted from the time at which the current ReplicaSet was first seen.
    fn found(&mut self, deployment: &Deployment, sets: &Sets) {
        if let Some(new) = sets.current()
            && has_deadline(deployment)
            && self.get(PROGRESSING).is_none()
        {
            let text = format!("Found new replica set \"{}\"", new.key().name);
            self.set(PROGRESSING, "True", "FoundNewReplicaSet", text);
        }
    }

    fn available(&mut self, enough: bool) {
        let (status, reason, text) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        self.set(AVAILABLE, status, reason, text.to_owned());
    }

    /// A ReplicaSet was to be made.
    fn made(&mut self, made: &Tried) {
        let name = made.planned.action.name();
        match &made.result {
            Ok(_) => {
                let text = format!("Created new replica set \"{name}\"");
                self.set(PROGRESSING, "True", "NewReplicaSetCreated", text);
            }
            // It is there, though it was not seen yet; or there is nothing to be told any more.
            Err(failure) if matches!(failure.verdict, Verdict::Outdated | Verdict::Terminating) => {}
            Err(failure) => {
                let text = format!("Failed to create new replica set \"{name}\": {}", failure.message);
                self.set(PROGRESSING, "False", "ReplicaSetCreateError", text);
            }
        }
    }

    fn progress(&mut self, deployment: &Deployment, sets: &Sets, status: &DeploymentStatus) {
        let old = deployment.status.clone().unwrap_or_default();
        if status.replicas == status.updated_replicas && self.reason(PROGRESSING) == Some(DONE) {
            return;
        }
        let who = match sets.current() {
            Some(new) => format!("ReplicaSet \"{}\"", new.key().name),
            None => format!("Deployment \"{}\"", deployment.key().name),
        };
        if is_complete(deployment, status) {
            self.set(PROGRESSING, "True", DONE, format!("{who} has successfully progressed."));
        } else if is_progress(&old, status) {
            // The same again, but for the time: from it the deadline counts.
            self.replace(PROGRESSING, "True", "ReplicaSetUpdated", format!("{who} is progressing."));
        } else if self.is_late(deployment) {
            self.set(PROGRESSING, "False", TIMED_OUT, format!("{who} has timed out progressing."));
        }
    }

    fn is_late(&self, deployment: &Deployment) -> bool {
        let Some(condition) = self.get(PROGRESSING) else { return false };
        match condition.reason.as_deref() {
            Some(DONE) => false,
            Some(TIMED_OUT) => true,
            _ => deadline(deployment, condition).is_some_and(|deadline| deadline < self.now),
        }
    }

    /// What keeps ReplicaSets from making pods is told here too, of the current one first.
    fn failure(&mut self, sets: &Sets) {
        let current = sets.current().map(|set| &**set);
        let others = sets.all.iter().map(|set| &**set);
        let failure = current.into_iter().chain(others).find_map(replica_failure);
        match failure {
            Some(failure) => {
                let text = failure.message.unwrap_or_default();
                self.set(
                    FAILURE,
                    &failure.status.unwrap_or_default(),
                    &failure.reason.unwrap_or_default(),
                    text,
                );
            }
            None => self.remove(FAILURE),
        }
    }
}

fn replica_failure(set: &ReplicaSet) -> Option<k8s_openapi::api::apps::v1::ReplicaSetCondition> {
    let conditions = set.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_.as_deref() == Some(FAILURE)).cloned()
}

fn has_deadline(deployment: &Deployment) -> bool {
    deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
}

fn deadline(deployment: &Deployment, condition: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = u64::try_from(deployment.spec.progress_deadline_seconds?).ok()?;
    condition.last_update_time.as_ref()?.0.checked_add(Duration::from_secs(seconds)).ok()
}

/// Whether all pods are of the current template and available.
fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = told(deployment.spec.replicas.unwrap_or(1));
    status.updated_replicas.filter(|count| *count != 0) == wanted
        && status.replicas.filter(|count| *count != 0) == wanted
        && status.available_replicas.filter(|count| *count != 0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

/// As the status that stands there tells.
pub(super) fn is_complete_as_told(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| is_complete(deployment, status))
}

/// Whether more pods are new, ready or available, or fewer old.
fn is_progress(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default()
    };
    after.updated_replicas.unwrap_or_default() > before.updated_replicas.unwrap_or_default()
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or_default() > before.ready_replicas.unwrap_or_default()
        || after.available_replicas.unwrap_or_default() > before.available_replicas.unwrap_or_default()
}

/// How long until the Deployment must have made progress; nothing when it need not.
pub(super) fn deadline_in(deployment: &Deployment, now: Timestamp) -> Option<Duration> {
    if !has_deadline(deployment) || is_complete_as_told(deployment) {
        return None;
    }
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|one| one.type_.as_deref() == Some(PROGRESSING))?;
    if condition.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let left = deadline(deployment, condition)?.duration_since(now);
    Some(Duration::try_from(left).unwrap_or_default())
}
