//! Pods that were to be disrupted and were not: after a while nobody believes that any more. A decision; time is handed in.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};
use crate::pods;

/// So long a pod may be about to be disrupted.
const STALE_AFTER: Duration = Duration::from_secs(2 * 60);

/// The condition of pods that are about to be disrupted.
const TARGET: &str = "DisruptionTarget";

/// The controller of such pods.
pub(crate) struct StaleDisruptions;

/// Since when a pod is about to be disrupted; nothing when it is not, or by its node, which takes as long as it takes.
fn since(pod: &Pod) -> Option<Timestamp> {
    if pod.is_deleting() || pods::is_terminal(pod) {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let target = conditions.iter().find(|condition| condition.type_ == TARGET)?;
    if target.status != "True" || target.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    Some(target.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

impl Controller for StaleDisruptions {
    type View = Arc<Pod>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped::<Pod>(|change, _| {
            change.new.iter().filter(|pod| since(pod).is_some()).map(|pod| pod.key()).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Arc<Pod>> {
        caches.of::<Pod>().get(key).filter(|pod| since(pod).is_some())
    }

    fn plan(&self, pod: &Arc<Pod>, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(since) = since(pod) else { return plan };
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if passed < STALE_AFTER {
            plan.look_again_after(STALE_AFTER - passed);
            return plan;
        }
        let mut after = (**pod).clone();
        let conditions = after.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        for target in conditions.filter(|condition| condition.type_ == TARGET) {
            target.status = "False".to_owned();
            target.reason = None;
            target.message = None;
            target.last_transition_time = Some(Time(now));
            if target.observed_generation.is_some() {
                target.observed_generation = pod.metadata.generation;
            }
        }
        if let Some(update) = Action::update_status(&**pod, &after) {
            plan.then(update.because("it was to be disrupted and was not"));
        }
        plan
    }
}
