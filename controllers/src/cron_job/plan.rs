//! What is done for a CronJob: which Job is started, and which go. A decision; time is handed in.

use std::sync::Arc;
use std::time::Duration;

use barque_client::events::Kind as Gravity;
use chrono_tz::Tz;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::schedule::{self, Schedule};
use super::{View, due};
use crate::job::conditions::{self, COMPLETE, FAILED};
use crate::kind::{Key, Kind, Object as _};
use crate::plan::{Action, Order, Plan, Planned, Told};

/// The annotation with the time for which a Job was started.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let start = start(view, now);
    watch_jobs(view, start.name.as_deref(), &mut plan);
    let spec = &view.cron_job.spec;
    if view.cron_job.is_deleting() {
        return plan;
    }
    plan.notes.extend(start.notes);
    if let Some(wait) = start.again {
        plan.look_again_after(wait);
    }
    if let Some((_, Some(job))) = start.due {
        let about = view.cron_job.reference();
        if spec.concurrency_policy.as_deref() == Some("Replace") {
            let active: Vec<_> = running(view).map(|reference| reference.uid.clone()).collect();
            let replaced = view.jobs.iter().filter(|job| active.contains(&job.metadata.uid));
            plan.step(Order::Serial, replaced.map(|job| delete(job, &about, "it is replaced")));
        }
        let create = Action::create(&job).because("it is time");
        let create = create.tell(&about, "SuccessfulCreate", "Created job {name}");
        plan.then(create.warn(&about, "FailedCreate", "Error creating job: {error}"));
    }
    plan.step(Order::Serial, history(view, spec));
    plan
}

/// What is started, or why nothing is.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// The time that is acted on, and the Job for it; without one when that is there already.
    pub(super) due: Option<(Timestamp, Option<Job>)>,
    /// The name of the Job for that time.
    name: Option<String>,
    notes: Vec<Told>,
    again: Option<Duration>,
}

fn note(view: &View, gravity: Gravity, reason: &'static str, text: String) -> Told {
    Told { regarding: view.cron_job.reference(), gravity, reason, text }
}

pub(super) fn start(view: &View, now: Timestamp) -> Start {
    let mut start = Start::default();
    let spec = &view.cron_job.spec;
    if view.cron_job.is_deleting() {
        return start;
    }
    let mut warn = |reason, text| start.notes.push(note(view, Gravity::Warning, reason, text));
    let name = spec.time_zone.as_deref().unwrap_or_default();
    let Some(zone) = schedule::zone_of(name) else {
        warn("UnknownTimeZone", format!("invalid timeZone: {name:?}: unknown time zone {name}"));
        return start;
    };
    if spec.suspend == Some(true) {
        return start;
    }
    if spec.schedule.contains("TZ") {
        let more = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";
        let text = format!(
            "CRON_TZ or TZ used in schedule {:?} is not officially supported, see {more} for more details",
            spec.schedule
        );
        warn("UnsupportedSchedule", text);
    }
    let schedule = match Schedule::parse(&spec.schedule, zone) {
        Ok(schedule) => schedule,
        Err(why) => {
            warn("UnparseableSchedule", format!("unparseable schedule: {:?} : {why}", spec.schedule));
            return start;
        }
    };
    let due = match due::due(&view.cron_job, &schedule, true, now) {
        Ok(due) => due,
        Err(why) => {
            warn("InvalidSchedule", format!("invalid schedule: {} : {why}", spec.schedule));
            return start;
        }
    };
    start.again = due::until_next(&view.cron_job, &schedule, now);
    if let Some(time) = due.newest {
        if due.are_many() {
            let advice = "Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            warn("TooManyMissedTimes", format!("too many missed start times. {advice}"));
        }
        at(view, spec, (time, zone), now, &mut start);
    }
    start
}

/// What is done about one time of the schedule.
fn at(view: &View, spec: &CronJobSpec, (time, zone): (Timestamp, Tz), now: Timestamp, start: &mut Start) {
    let deadline = spec.starting_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    if deadline.is_some_and(|seconds| now.duration_since(time) > signed(seconds)) {
        let told = schedule::told_with_weekday(time).unwrap_or_default();
        let text = format!("Missed scheduled time to start a job: {told}");
        start.notes.push(note(view, Gravity::Warning, "MissSchedule", text));
        return;
    }
    let status = view.cron_job.status.as_ref();
    let last = status.and_then(|status| status.last_schedule_time.as_ref());
    let name = format!("{}-{}", view.cron_job.key().name, time.as_second().div_euclid(60));
    let mut active = status.and_then(|status| status.active.as_ref()).into_iter().flatten();
    let is_active = active.any(|job| job.name.as_ref() == Some(&name));
    if is_active || last.is_some_and(|last| last.0 == time) || view.taken.contains(&name) {
        return;
    }
    start.name = Some(name.clone());
    if view.jobs.iter().any(|job| job.key().name == name) {
        // It was made, and that could not be written down.
        start.due = Some((time, None));
        return;
    }
    if spec.concurrency_policy.as_deref() == Some("Forbid") && running(view).next().is_some() {
        let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
        start.notes.push(note(view, Gravity::Normal, "JobAlreadyActive", text.to_owned()));
        return;
    }
    start.due = Some((time, Some(job(&view.cron_job, spec, name, (time, zone)))));
}

fn signed(seconds: u64) -> k8s_openapi::jiff::SignedDuration {
    k8s_openapi::jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn job(cron_job: &CronJob, spec: &CronJobSpec, name: String, (time, zone): (Timestamp, Tz)) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.extend(schedule::told(time, zone).map(|told| (SCHEDULED.to_owned(), told)));
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(cron_job.key().namespace),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![cron_job.as_controller()]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// Those that its status tells of and that have not ended.
pub(super) fn running(view: &View) -> impl Iterator<Item = &ObjectReference> {
    let active = view.cron_job.status.iter().flat_map(|status| status.active.iter().flatten());
    active.filter(|reference| known(view, reference).is_some_and(|job| !conditions::is_finished(job)))
}

/// The Job of a reference.
pub(super) fn known<'a>(view: &'a View, reference: &ObjectReference) -> Option<&'a Arc<Job>> {
    view.jobs.iter().find(|job| job.metadata.uid == reference.uid)
}

/// Tells of Jobs that have ended, and of those that are not as the status has them.
fn watch_jobs(view: &View, started: Option<&str>, plan: &mut Plan) {
    let active = || view.cron_job.status.iter().flat_map(|status| status.active.iter().flatten());
    for job in &view.jobs {
        let name = job.key().name;
        let is_active = active().any(|reference| reference.uid == job.metadata.uid);
        let ended = [COMPLETE, FAILED].into_iter().find(|type_| conditions::holding(job, type_).is_some());
        let told = match ended {
            Some(condition) if is_active => {
                let text = format!("Saw completed job: {name}, condition: {condition}");
                note(view, Gravity::Normal, "SawCompletedJob", text)
            }
            None if !is_active && started != Some(&name) && !job.is_deleting() => {
                let text = format!("Saw a job that the controller did not create or forgot: {name}");
                note(view, Gravity::Warning, "UnexpectedJob", text)
            }
            _ => continue,
        };
        plan.notes.push(told);
    }
    let about = view.cron_job.reference();
    let missing = active().filter(|reference| known(view, reference).is_none()).map(|reference| {
        let name = reference.name.clone().unwrap_or_default();
        let key = Key::new(&view.cron_job.key().namespace, &name);
        let absent = Action::Absent { kind: Kind::of::<Job>(), key };
        let text = format!("Active job went missing: {name}");
        absent.because("what is only not known yet is not missing").tell(&about, "MissingJob", text)
    });
    plan.step(Order::Parallel, missing);
}

fn delete(job: &Arc<Job>, about: &ObjectReference, why: &'static str) -> Planned {
    let delete = Action::delete(&**job).because(why);
    let delete = delete.tell(about, "SuccessfulDelete", "Deleted job {name}");
    delete.warn(about, "FailedDelete", "Deleted job: {error}")
}

/// The oldest of those that have ended go, beyond the numbers that are kept.
fn history(view: &View, spec: &CronJobSpec) -> Vec<Planned> {
    let about = view.cron_job.reference();
    let surplus = |type_: &str, keep: Option<i32>| {
        let mut ended: Vec<_> =
            view.jobs.iter().filter(|job| conditions::holding(job, type_).is_some()).collect();
        ended.sort_by_key(|job| {
            let start = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
            (start.is_none(), start, job.key().name)
        });
        let keep = keep.map_or(usize::MAX, |keep| usize::try_from(keep).unwrap_or_default());
        let count = ended.len().saturating_sub(keep);
        ended.truncate(count);
        ended.retain(|job| !job.is_deleting());
        ended
    };
    let mut all = surplus(COMPLETE, spec.successful_jobs_history_limit);
    all.extend(surplus(FAILED, spec.failed_jobs_history_limit));
    all.into_iter().map(|job| delete(job, &about, "enough later ones have ended")).collect()
}
