//! What a DaemonSet says of itself. A decision; time is handed in.

use k8s_openapi::api::apps::v1::DaemonSetStatus;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::nodes::{Fit, fit};
use super::plan::{by_node, claim, newest, revisions};
use crate::history::{Newest, REVISION_LABEL};
use crate::kind::Object as _;
use crate::plan::{Action, Outcome, Planned};
use crate::pods;

/// The status that follows from what was seen; nothing when it stands there already.
pub(super) fn update(view: &View, _outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let before = &*view.set;
    let old = before.status.clone().unwrap_or_default();
    let status = match newest(view, &revisions(view).owned) {
        Newest::Known(current) => status(view, now, current.label(REVISION_LABEL).unwrap_or_default(), old),
        Newest::NameIsTaken => {
            DaemonSetStatus { collision_count: Some(old.collision_count.unwrap_or_default() + 1), ..old }
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

fn status(view: &View, now: Timestamp, hash: &str, old: DaemonSetStatus) -> DaemonSetStatus {
    let owned = claim(view).owned;
    let by_node = by_node(&owned);
    let spec = view.set.spec.template.spec.clone().unwrap_or_default();
    let seconds = view.set.spec.min_ready_seconds.unwrap_or_default();
    let mut counts = DaemonSetStatus::default();
    let (mut updated, mut available) = (0, 0);
    for node in &view.nodes {
        let pods = by_node.get(node.key().name.as_str());
        if fit(node, &spec) != Fit::Run {
            counts.number_misscheduled += i32::from(pods.is_some());
            continue;
        }
        counts.desired_number_scheduled += 1;
        let Some(pods) = pods else { continue };
        counts.current_number_scheduled += 1;
        let ready = pods.iter().any(|pod| pods::is_ready(pod));
        counts.number_ready += i32::from(ready);
        available += i32::from(pods.iter().any(|pod| pods::is_available(pod, seconds, now)));
        updated += i32::from(pods.iter().any(|pod| pod.label(REVISION_LABEL) == Some(hash)));
    }
    DaemonSetStatus {
        number_available: told(available),
        number_unavailable: told(counts.desired_number_scheduled - available),
        updated_number_scheduled: told(updated),
        observed_generation: view.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..counts
    }
}
