//! What a StatefulSet says of itself. A decision; time is handed in.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::identity;
use super::plan::{claim, current, is_available, is_rolling, newest, revisions, runs};
use crate::history::Newest;
use crate::kind::Object as _;
use crate::plan::{Action, Outcome, Planned};
use crate::pods;

/// The status that follows from what was seen; nothing when it stands there already.
pub(super) fn update(view: &View, _outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let before = &*view.set;
    let old = before.status.clone().unwrap_or_default();
    let owned = revisions(view).owned;
    let status = match newest(view, &owned) {
        Newest::Known(update) => {
            let current = current(view, &owned).unwrap_or_else(|| update.clone());
            status(view, now, &current.key().name, &update.key().name)
        }
        Newest::NameIsTaken => {
            StatefulSetStatus { collision_count: Some(old.collision_count.unwrap_or_default() + 1), ..old }
        }
        // It is told when the revision is there.
        Newest::Missing(_) => return None,
    };
    let mut after = before.clone();
    after.status = Some(status);
    Some(Action::update_status(before, &after)?.because("the status has changed"))
}

fn told(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn status(view: &View, now: Timestamp, current: &str, update: &str) -> StatefulSetStatus {
    let set = &*view.set;
    let mut owned = claim(view).owned;
    owned.retain(|pod| identity::ordinal(set, pod).is_some());
    let count = |fits: &dyn Fn(&Pod) -> bool| {
        i32::try_from(owned.iter().filter(|pod: &&Arc<Pod>| fits(pod)).count()).unwrap_or(i32::MAX)
    };
    let of = |revision: &str| count(&|pod| !pod.is_deleting() && identity::revision(pod) == revision);
    let replicas = count(&|pod| !pods::phase(pod).is_empty());
    let (ready, updated) = (count(&runs), of(update));
    // When all pods are of the update's revision, that is the current one.
    let wanted = set.spec.replicas.unwrap_or(1);
    let is_done = is_rolling(set) && [replicas, ready, updated].iter().all(|count| *count == wanted);
    let current = if is_done { update } else { current };
    StatefulSetStatus {
        available_replicas: told(count(&|pod| is_available(view, pod, now))),
        collision_count: Some(set.status.as_ref().and_then(|old| old.collision_count).unwrap_or_default()),
        conditions: set.status.as_ref().and_then(|old| old.conditions.clone()),
        current_replicas: told(of(current)),
        current_revision: Some(current.to_owned()),
        observed_generation: set.metadata.generation,
        ready_replicas: told(ready),
        replicas,
        update_revision: Some(update.to_owned()),
        updated_replicas: told(updated),
    }
}
