//! What a CronJob says of itself. A decision; time is handed in.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::plan::{known, start};
use crate::job::conditions::{self, COMPLETE};
use crate::kind::{Kind, Object as _};
use crate::plan::{Action, Done, Outcome, Planned};

/// The status that follows from what was seen and how acting went; nothing when it stands there already.
pub(super) fn update(view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let mut status = view.cron_job.status.clone().unwrap_or_default();
    let mut active = status.active.take().unwrap_or_default();
    active.retain(|reference| match known(view, reference) {
        Some(job) => !conditions::is_finished(job) && !is_deleted(job, outcome),
        None => !is_missing(reference, outcome),
    });
    if let Some((time, job)) = start(view, now).due {
        let name = job.as_ref().map(|job| job.key().name);
        let reference = match name {
            Some(name) => created(outcome, &name).map(|done| Some(of_new(view, done))),
            // It is there already, and perhaps has ended.
            None => {
                let minutes = time.as_second().div_euclid(60);
                let name = format!("{}-{minutes}", view.cron_job.key().name);
                let found = view.jobs.iter().find(|job| job.key().name == name);
                found.map(|job| (!conditions::is_finished(job)).then(|| job.reference()))
            }
        };
        if let Some(reference) = reference {
            status.last_schedule_time = Some(Time(time));
            active.extend(reference);
        }
    }
    status.active = (!active.is_empty()).then_some(active);
    let successes = view.jobs.iter().filter(|job| conditions::holding(job, COMPLETE).is_some());
    let latest = successes.filter_map(|job| job.status.as_ref()?.completion_time.as_ref()).map(|time| time.0);
    let before = status.last_successful_time.take().map(|time| time.0);
    status.last_successful_time = latest.chain(before).max().map(Time);
    let mut after = (*view.cron_job).clone();
    after.status = Some(status);
    Some(Action::update_status(&*view.cron_job, &after)?.because("the status has changed"))
}

fn is_deleted(job: &Job, outcome: &Outcome) -> bool {
    outcome.tried.iter().any(|tried| {
        matches!(&tried.planned.action, Action::Delete { object, .. } if object.uid == job.uid())
            && tried.result.is_ok()
    })
}

fn is_missing(reference: &ObjectReference, outcome: &Outcome) -> bool {
    outcome.tried.iter().any(|tried| {
        matches!(&tried.planned.action, Action::Absent { key, .. } if Some(&key.name) == reference.name.as_ref())
            && tried.result.is_ok()
    })
}

fn created<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a Done> {
    outcome.tried.iter().find_map(|tried| match (&tried.planned.action, &tried.result) {
        (Action::Create { .. }, Ok(done)) if done.key.name == name => Some(done),
        _ => None,
    })
}

fn of_new(view: &View, done: &Done) -> ObjectReference {
    let kind = Kind::of::<Job>();
    ObjectReference {
        api_version: Some(kind.api_version()),
        kind: Some(kind.kind.to_owned()),
        name: Some(done.key.name.clone()),
        namespace: Some(view.cron_job.key().namespace),
        uid: Some(done.uid.clone()),
        resource_version: Some(done.version.clone()),
        field_path: None,
    }
}
