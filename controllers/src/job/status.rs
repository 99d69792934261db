//! What a Job says of itself: the ends of pods move from those that are to be counted to the counters when their pods are not
//! tracked any more, and the Job has ended when none is left. A decision; time is handed in.

use std::collections::HashSet;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::JobView;
use super::account::{Account, Entry};
use super::conditions::{self, COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED};
use super::ending::{self, Ending};
use crate::kind::{Kind, Object as _};
use crate::plan::{Action, Outcome, Planned, Told, Verdict};
use crate::pods;

/// So many pods may stand in the status uncounted, so that it does not grow too big.
const UNCOUNTED_MAX: usize = 500;

/// The status that follows from what was seen and how acting went; nothing when it stands there already.
pub(super) fn update(view: &JobView, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
    let account = Account::of(view);
    if !account.claim.is_settled() {
        return None;
    }
    let done = Performed::of(outcome);
    let mut status = view.job.status.clone().unwrap_or_default();
    let left: Vec<_> =
        account.tracked().into_iter().filter(|pod| !done.freed.contains(pod.uid())).cloned().collect();
    let tracked: HashSet<&str> = left.iter().map(|pod| pod.uid()).collect();
    book(&account, &tracked, &mut status);
    population(&account, &done, &mut status);
    if status.start_time.is_none() && !view.suspended() {
        status.start_time = Some(Time(now));
    }
    let mut told = None;
    match ending::of(&account, now) {
        Some(ending) if ending.told => {
            let uncounted = status.uncounted_terminated_pods.as_ref();
            let counted = uncounted.is_none_or(|uncounted| *uncounted == UncountedTerminatedPods::default());
            let over = tracked.is_empty() && counted && status.terminating == Some(0);
            if over && account.active.is_empty() {
                told = Some(finish(view, &ending, &mut status, now));
            }
        }
        Some(ending) if outcome.failure().is_none() => {
            let type_ = if ending.success { SUCCESS_CRITERIA_MET } else { FAILURE_TARGET };
            let conditions = status.conditions.get_or_insert_default();
            conditions::set(conditions, (type_, true), (&ending.reason, &ending.message), now);
        }
        Some(_) => {}
        None if !view.job.is_deleting() => told = suspension(view, &mut status, now),
        None => {}
    }
    let mut after = (*view.job).clone();
    after.status = Some(status);
    let mut planned = Action::update_status(&*view.job, &after)?.because("the status has changed");
    planned.done = told;
    Some(planned)
}

/// What became of pods in this pass.
#[derive(Default)]
struct Performed<'a> {
    freed: HashSet<&'a str>,
    deleted: HashSet<&'a str>,
    created: i32,
}

impl<'a> Performed<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let mut done = Self::default();
        for tried in &outcome.tried {
            let good = match &tried.result {
                Ok(_) => true,
                Err(failure) => failure.verdict == Verdict::Gone,
            };
            match &tried.planned.action {
                Action::Update { object, .. } if good && object.kind == Kind::of::<Pod>() => {
                    done.freed.insert(object.uid.as_str());
                }
                Action::Delete { object, .. } if good => {
                    done.deleted.insert(object.uid.as_str());
                }
                Action::Create { .. } if tried.result.is_ok() => done.created += 1,
                _ => {}
            }
        }
        done
    }
}

/// Counts pods that are not tracked any more, and writes down those that will be.
fn book(account: &Account<'_>, tracked: &HashSet<&str>, status: &mut JobStatus) {
    let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let mut succeeded = uncounted.succeeded.unwrap_or_default();
    let mut failed = uncounted.failed.unwrap_or_default();
    status.failed = counted(status.failed, &mut failed, tracked);
    if account.indexes.is_none() {
        status.succeeded = counted(status.succeeded, &mut succeeded, tracked);
    }
    let mut indexes = Vec::new();
    for pod in account.tracked().into_iter().filter(|pod| tracked.contains(pod.uid())) {
        if succeeded.len() + failed.len() + indexes.len() >= UNCOUNTED_MAX {
            break;
        }
        match account.entry(pod) {
            Entry::Succeeded => succeeded.push(pod.uid().to_owned()),
            Entry::Failed => failed.push(pod.uid().to_owned()),
            Entry::Index(index) => indexes.push(index),
            Entry::Open | Entry::Settled => {}
        }
    }
    if let Some(known) = &account.indexes {
        let mut told = known.told.clone();
        indexes.into_iter().for_each(|index| told.insert(index));
        status.succeeded = Some(told.len()).filter(|count| *count > 0);
        status.completed_indexes = Some(told.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = known.failed.as_ref().map(ToString::to_string);
    }
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
}

/// The counter, with those who are not tracked any more.
fn counted(counter: Option<i32>, uncounted: &mut Vec<String>, tracked: &HashSet<&str>) -> Option<i32> {
    let before = uncounted.len();
    uncounted.retain(|uid| tracked.contains(uid.as_str()));
    let more = i32::try_from(before - uncounted.len()).unwrap_or(i32::MAX);
    Some(counter.unwrap_or_default().saturating_add(more)).filter(|count| *count > 0)
}

/// How many run, are ready and are on their way out.
fn population(account: &Account<'_>, done: &Performed<'_>, status: &mut JobStatus) {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let (gone, left): (Vec<_>, Vec<_>) =
        account.active.iter().partition(|pod| done.deleted.contains(pod.uid()));
    let terminating = account.claim.owned.iter().filter(|pod| pods::is_terminating(pod)).count();
    status.active = Some(number(left.len()) + done.created).filter(|count| *count > 0);
    status.ready = Some(number(left.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(number(terminating + gone.len()));
}

fn finish(view: &JobView, ending: &Ending, status: &mut JobStatus, now: Timestamp) -> Told {
    let type_ = if ending.success { COMPLETE } else { FAILED };
    let conditions = status.conditions.get_or_insert_default();
    conditions::set(conditions, (type_, true), (&ending.reason, &ending.message), now);
    // One that ends while it is suspended has lost the time, which the API wants of whoever has ended.
    status.start_time.get_or_insert(Time(now));
    let regarding = view.job.reference();
    if ending.success {
        status.completion_time = Some(Time(now));
        let text = "Job completed".to_owned();
        return Told { regarding, gravity: Gravity::Normal, reason: "Completed", text };
    }
    let reasons = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    let reason = reasons.into_iter().find(|reason| *reason == ending.reason).unwrap_or(FAILED);
    Told { regarding, gravity: Gravity::Warning, reason, text: ending.message.clone() }
}

/// Says that it is suspended, or that it goes on. From then on its time counts anew.
fn suspension(view: &JobView, status: &mut JobStatus, now: Timestamp) -> Option<Told> {
    let suspended = view.suspended();
    let words = if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
    let mut conditions = status.conditions.take().unwrap_or_default();
    let changed = conditions::set(&mut conditions, (SUSPENDED, suspended), words, now);
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    if !changed {
        return None;
    }
    status.start_time = (!suspended).then_some(Time(now));
    let reason = if suspended { "Suspended" } else { "Resumed" };
    let text = words.1.to_owned();
    Some(Told { regarding: view.job.reference(), gravity: Gravity::Normal, reason, text })
}
