//! CronJobs: a Job at each time of a schedule. Must never wake up to look whether it is time: each has a timer for its next one.

mod due;
mod fields;
mod plan;
mod schedule;
mod status;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Outcome, Plan, Planned};

/// The controller of CronJobs.
#[derive(Default)]
pub(crate) struct CronJobs;

/// One CronJob and its Jobs.
pub(crate) struct View {
    cron_job: Arc<CronJob>,
    /// Those that it controls.
    jobs: Vec<Arc<Job>>,
    /// Names of Jobs of others.
    taken: HashSet<String>,
}

impl Controller for CronJobs {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<CronJob>();
        watches.controlled::<Job, CronJob>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let cron_job = caches.of::<CronJob>().get(key)?;
        let jobs = caches.of::<Job>().controlled_by(cron_job.uid());
        let others = caches.of::<Job>().in_namespace(&key.namespace);
        let others = others.iter().filter(|job| !job.is_controlled_by(cron_job.uid()));
        let taken = others.map(|job| job.key().name).filter(|name| name.starts_with(&key.name)).collect();
        Some(View { cron_job, jobs, taken })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        status::update(view, outcome, now)
    }
}
