//! The conditions of a Job. Values; time is handed in.

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

pub(crate) const COMPLETE: &str = "Complete";
pub(crate) const FAILED: &str = "Failed";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUSPENDED: &str = "Suspended";

/// The condition of this type that is true.
pub(crate) fn holding<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether it has ended, well or not.
pub(crate) fn is_finished(job: &Job) -> bool {
    holding(job, COMPLETE).or_else(|| holding(job, FAILED)).is_some()
}

/// Sets a condition; whether that changed something. What is not there is not set to false.
pub(super) fn set(
    conditions: &mut Vec<JobCondition>,
    (type_, holds): (&str, bool),
    (reason, message): (&str, &str),
    now: Timestamp,
) -> bool {
    let condition = JobCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|before| before.type_ == type_) {
        Some(before) => {
            let same = (&before.status, &before.reason, &before.message)
                == (&condition.status, &condition.reason, &condition.message);
            if !same {
                *before = condition;
            }
            !same
        }
        None if holds => {
            conditions.push(condition);
            true
        }
        None => false,
    }
}
