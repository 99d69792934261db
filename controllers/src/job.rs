//! Jobs: pods until enough of them have succeeded. Every end of a pod is counted once: a pod keeps a finalizer until the Job's
//! status, as the caches have it, tells of it. Must never let a pod go that is not accounted for, and never touch the pods of a
//! Job that another controller manages.

mod account;
mod back_off;
pub(crate) mod conditions;
mod ending;
mod failure_policy;
mod indexes;
mod plan;
mod pod;
mod population;
mod status;
mod success_policy;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::{Outcome, Plan, Planned};

/// What `managedBy` says of Jobs that are ours.
const MANAGER: &str = "kubernetes.io/job-controller";
/// The index of tracked pods by the key of their Job.
const TRACKED: &str = "tracked by job";

/// The controller of Jobs.
#[derive(Default)]
pub(crate) struct Jobs;

/// What is decided about.
pub(crate) enum View {
    /// A Job that goes on.
    Job(JobView),
    /// Pods that are tracked for a Job which is over, or is not there any more.
    Lost(Lost),
}

/// One Job and its pods.
pub(crate) struct JobView {
    job: Arc<Job>,
    selector: Selector,
    /// Pods that it controls, and those of its namespace that nobody does.
    pods: Vec<Arc<Pod>>,
    /// Pods that are tracked for another Job of the same name.
    lost: Vec<Arc<Pod>>,
}

/// Pods whose Job counts nobody any more.
pub(crate) struct Lost {
    pods: Vec<Arc<Pod>>,
    /// Where there must be no Job before they are let go; nothing when that is known.
    absent: Option<Key>,
}

/// The key of the Job that a pod is tracked for; without a name when nothing tells it.
fn tracked_for(pod: &Pod) -> Option<Key> {
    if !pod::is_tracked(pod) {
        return None;
    }
    let name = match pod.controller() {
        Some(owner) => {
            (owner.kind == "Job" && owner.api_version == "batch/v1").then_some(owner.name.as_str())?
        }
        None => pod.label(template::JOB_NAME).unwrap_or_default(),
    };
    Some(Key::new(&pod.key().namespace, name))
}

impl Controller for Jobs {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Job>();
        watches.controlled_or_selected::<Pod, Job>(|job| {
            owners::selector(job.spec.as_ref()?.selector.as_ref()?)
        });
        watches.mapped::<Pod>(|change, _| change.both().filter_map(|pod| tracked_for(pod)).collect());
        watches
            .index::<Pod>(TRACKED, |pod| tracked_for(pod).map(|key| key.to_string()).into_iter().collect());
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let mut tracked = caches.of::<Pod>().with(TRACKED, &key.to_string());
        let lost =
            |pods: Vec<Arc<Pod>>, absent| (!pods.is_empty()).then_some(View::Lost(Lost { pods, absent }));
        let Some(job) = caches.of::<Job>().get(key) else {
            return lost(tracked, (!key.name.is_empty()).then(|| key.clone()));
        };
        let spec = job.spec.as_ref()?;
        let is_own = |pod: &Pod| pod.controller().is_none_or(|owner| owner.uid == job.uid());
        if spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            tracked.retain(|pod| !is_own(pod));
            return lost(tracked, None);
        }
        if conditions::is_finished(&job) {
            return lost(tracked, None);
        }
        let selector = owners::selector(spec.selector.as_ref()?)?;
        let mut pods = caches.of::<Pod>().controlled_by(job.uid());
        pods.extend(caches.of::<Pod>().orphans(&key.namespace));
        tracked.retain(|pod| {
            !is_own(pod) || (pod.controller().is_none() && !owners::matches(&selector, &**pod))
        });
        Some(View::Job(JobView { job, selector, pods, lost: tracked }))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        let View::Job(view) = view else { return None };
        status::update(view, outcome, now)
    }
}

impl JobView {
    fn indexed(&self) -> bool {
        self.spec(|spec| spec.completion_mode.as_deref() == Some("Indexed"))
    }

    fn suspended(&self) -> bool {
        self.spec(|spec| spec.suspend == Some(true))
    }

    /// Whether pods are replaced only when they have failed, not already when they are deleted.
    fn replaces_failed_only(&self) -> bool {
        self.spec(|spec| spec.pod_replacement_policy.as_deref() == Some("Failed"))
    }

    fn completions(&self) -> Option<i32> {
        self.spec(|spec| spec.completions)
    }

    fn backoff_limit_per_index(&self) -> Option<i32> {
        self.spec(|spec| spec.backoff_limit_per_index)
    }

    fn spec<T: Default>(&self, read: impl FnOnce(&k8s_openapi::api::batch::v1::JobSpec) -> T) -> T {
        self.job.spec.as_ref().map(read).unwrap_or_default()
    }

    fn status<T: Default>(&self, read: impl FnOnce(&k8s_openapi::api::batch::v1::JobStatus) -> T) -> T {
        self.job.status.as_ref().map(read).unwrap_or_default()
    }
}
