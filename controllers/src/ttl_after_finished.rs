//! Jobs that say for how long they stay after they have finished (`ttlSecondsAfterFinished`). Must never delete one whose time
//! was changed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, ObjectId, Plan, Propagation};

/// The controller of finished jobs.
pub(crate) struct FinishedJobs;

impl Controller for FinishedJobs {
    type View = Arc<Job>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Job>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Arc<Job>> {
        caches.of::<Job>().get(key)
    }

    fn plan(&self, job: &Arc<Job>, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(left) = time_left(job, now).filter(|_| !job.is_deleting()) else { return plan };
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => plan.look_again_after(left),
            _ => {
                let delete = Action::Delete {
                    object: ObjectId::of(&**job),
                    propagation: Propagation::Foreground,
                    grace_seconds: None,
                    unchanged: true,
                };
                plan.then(delete.because("it has stayed long enough"));
            }
        }
        plan
    }
}

/// How long a job stays still; nothing when it has not finished, or stays for ever.
fn time_left(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let mut conditions = job.status.as_ref()?.conditions.iter().flatten();
    let finished = conditions.find(|condition| {
        ["Complete", "Failed"].contains(&&*condition.type_) && condition.status == "True"
    })?;
    let finished = finished.last_transition_time.as_ref()?.0;
    Some(SignedDuration::from_secs(ttl.into()) - now.duration_since(finished))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn planned(ttl: Value, conditions: Value, deleting: bool) -> (Option<u64>, bool) {
        let gone = deleting.then_some("2026-01-01T00:00:00Z");
        let job = json!({
            "metadata": {"name": "j", "namespace": "ns", "uid": "u", "resourceVersion": "7", "deletionTimestamp": gone},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": conditions},
        });
        let job = Arc::new(serde_json::from_value(job).unwrap());
        let plan = FinishedJobs.plan(&job, "2026-01-01T00:01:00Z".parse().unwrap());
        let deletes = plan.actions().any(|planned| {
            matches!(
                &planned.action,
                Action::Delete { propagation: Propagation::Foreground, unchanged: true, object, .. }
                    if object.version == "7"
            )
        });
        (plan.requeue_after.map(|wait| wait.as_secs()), deletes)
    }

    #[test]
    fn jobs_go_when_they_have_stayed_for_as_long_as_they_say() {
        let ended = |type_: &str, status: &str, time: &str| json!([{"type": type_, "status": status, "lastTransitionTime": time}]);
        let complete = || ended("Complete", "True", "2026-01-01T00:00:00Z");
        let (stays, goes) = ((None, false), (None, true));
        let table = [
            (json!(null), complete(), false, stays),
            (json!(60), complete(), false, goes),
            (json!(0), ended("Failed", "True", "2026-01-01T00:01:00Z"), false, goes),
            (json!(90), complete(), false, (Some(30), false)),
            (json!(10), ended("Complete", "True", "2026-01-01T00:02:00Z"), false, (Some(70), false)),
            (json!(0), ended("Complete", "False", "2026-01-01T00:00:00Z"), false, stays),
            (json!(0), ended("Suspended", "True", "2026-01-01T00:00:00Z"), false, stays),
            (json!(0), json!([]), false, stays),
            (json!(60), complete(), true, stays),
        ];
        for (ttl, conditions, deleting, expected) in table {
            assert_eq!(planned(ttl.clone(), conditions.clone(), deleting), expected, "{ttl} {conditions}");
        }
    }
}
