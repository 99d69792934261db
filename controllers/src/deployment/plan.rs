//! What is done about a Deployment. A decision; time is handed in.

use std::time::Duration;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::annotations::{self, REVISION};
use super::edits::Edits;
use super::limits::{Limits, Strategy, strategy};
use super::rollout::{self, Next};
use super::scale;
use super::sets::{Counts as _, Sets};
use super::status;
use super::template::{self, HASH_LABEL};
use crate::kind::Object as _;
use crate::owners::{self, Claim};
use crate::plan::{Action, Order, Plan, Planned, Told};

/// No limit, as the API says it.
const UNLIMITED: i32 = i32::MAX;

/// What is to be done with the ReplicaSets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only the status is told.
    Nothing,
    /// Another number of pods, or it is paused.
    Scale,
    /// On to the current template.
    Rollout,
}

/// Which ReplicaSets are the Deployment's; nothing when it has no selector that could say so.
pub(super) fn claim(view: &View) -> Option<Claim<ReplicaSet>> {
    let selector = view.selector.as_ref()?;
    Some(owners::claim(&*view.deployment, selector, &view.replica_sets, |_| true))
}

/// What is to be done.
pub(super) fn mode(deployment: &Deployment, sets: &Sets) -> Mode {
    if deployment.is_deleting() {
        Mode::Nothing
    } else if is_paused(deployment) || scale::is_asked_for(sets, Limits::of(deployment)) {
        Mode::Scale
    } else {
        Mode::Rollout
    }
}

/// Whether nothing rolls until somebody says so.
pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.paused == Some(true)
}

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let deployment = &*view.deployment;
    let Some(claim) = claim(view) else {
        plan.notes.push(Told {
            regarding: deployment.reference(),
            gravity: Gravity::Warning,
            reason: "SelectingAll",
            text: "This deployment is selecting all pods. A non-empty selector is required.".to_owned(),
        });
        return plan;
    };
    claim.plan(deployment, &mut plan);
    if !plan.is_empty() {
        // What was adopted or let go is looked at when it has come back.
        return plan;
    }
    let (sets, limits) = (Sets::of(deployment, &claim.owned), Limits::of(deployment));
    let mode = mode(deployment, &sets);
    if mode == Mode::Nothing {
        return plan;
    }
    let mut edits = Edits::of(&sets, limits);
    if let Some(new) = sets.new {
        edits.set_current(new, deployment, sets.newest_revision());
    }
    let mut next = Next::Edited;
    match (mode, strategy(deployment)) {
        (Mode::Scale, _) => scale::scale(deployment, &sets, limits, &mut edits),
        (_, Strategy::Rolling) => next = rollout::rolling(&sets, limits, &mut edits),
        (_, Strategy::Recreate) => next = rollout::recreate(view, &sets, limits, &mut edits),
    }
    edits.write(deployment, &mut plan);
    match next {
        // Another one has the name: with the next collision count there will be another name.
        Next::Create(_) if view.name_is_taken => {}
        Next::Create(replicas) => plan.then(create(deployment, &sets, limits, replicas)),
        Next::Edited => {}
    }
    if is_paused(deployment) || status::is_complete_as_told(deployment) {
        clean_up(deployment, &sets, &mut plan);
    }
    if let Some(action) = sets.current().and_then(|new| follow_revision(deployment, new)) {
        plan.then(action);
    }
    if let Some(delay) = status::deadline_in(deployment, now).filter(|_| mode == Mode::Rollout) {
        plan.look_again_after(delay + Duration::from_secs(1));
    }
    plan
}

/// The ReplicaSet of the current template is made.
fn create(deployment: &Deployment, sets: &Sets, limits: Limits, replicas: i32) -> Planned {
    let hash = template::hash(deployment);
    let mut template = deployment.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash);
    let name = template::replica_set_name(deployment);
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![deployment.as_controller()]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: deployment.spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    };
    annotations::set_current(&mut set, deployment, sets.newest_revision());
    annotations::set_sizes(&mut set, limits);
    let about = deployment.reference();
    let failed = "Failed to create new replica set \"{name}\": {error}";
    let planned =
        Action::create(&set).because("the template is new").warn(&about, "ReplicaSetCreateError", failed);
    if replicas == 0 {
        return planned;
    }
    planned.tell(&about, "ScalingReplicaSet", format!("Scaled up replica set {name} from 0 to {replicas}"))
}

/// The Deployment says which revision it has.
fn follow_revision(deployment: &Deployment, new: &ReplicaSet) -> Option<Planned> {
    let revision = new.annotation(REVISION)?;
    let mut after = deployment.clone();
    after.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
    Some(Action::update(deployment, &after)?.because("the revision is another"))
}

/// Old ReplicaSets without pods go, but for the youngest revisions.
fn clean_up(deployment: &Deployment, sets: &Sets, plan: &mut Plan) {
    let limit = deployment.spec.revision_history_limit.filter(|limit| *limit != UNLIMITED);
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return };
    let mut old: Vec<_> = sets.old().map(|at| &sets.all[at]).filter(|set| !set.is_deleting()).collect();
    old.sort_by_key(|set| annotations::revision(set));
    let surplus = old.len().saturating_sub(limit);
    let goes = old.into_iter().take(surplus).filter(|set| set.at_most() == 0 && set.is_observed());
    let delete = goes.map(|set| Action::delete(&**set).because("too many old revisions"));
    plan.step(Order::Parallel, delete);
}
