//! Whether a Job has come to its end, and why. A decision; time is handed in.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::account::Account;
use super::conditions::{self, FAILURE_TARGET, SUCCESS_CRITERIA_MET};
use super::failure_policy::Consequence;
use super::{JobView, success_policy};
use crate::kind::Object as _;

/// The end of a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) success: bool,
    /// In one word.
    pub(super) reason: String,
    /// In a sentence.
    pub(super) message: String,
    /// Whether its status tells so.
    pub(super) told: bool,
}

fn ending(success: bool, reason: &str, message: impl Into<String>) -> Ending {
    Ending { success, reason: reason.to_owned(), message: message.into(), told: false }
}

/// The end that it has come to; what its status tells stays.
pub(super) fn of(account: &Account<'_>, now: Timestamp) -> Option<Ending> {
    told(account.view)
        .or_else(|| by_failure(account, now))
        .or_else(|| by_indexes(account))
        .or_else(|| by_completion(account))
}

fn told(view: &JobView) -> Option<Ending> {
    let success = conditions::holding(&view.job, SUCCESS_CRITERIA_MET);
    let condition = success.or_else(|| conditions::holding(&view.job, FAILURE_TARGET))?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(Ending {
        success: success.is_some(),
        reason: text(&condition.reason),
        message: text(&condition.message),
        told: true,
    })
}

fn by_failure(account: &Account<'_>, now: Timestamp) -> Option<Ending> {
    let view = account.view;
    let mut failed = account.claim.owned.iter().filter(|pod| account.is_failed(pod));
    let by_rule = failed.find_map(|pod| match account.consequence(pod) {
        Consequence::FailJob(message) => Some(message),
        _ => None,
    });
    if let Some(message) = by_rule {
        return Some(ending(false, "PodFailurePolicy", message));
    }
    let limit = view.spec(|spec| spec.backoff_limit).unwrap_or(6);
    if account.failed > limit || restarts_exceed(account, limit) {
        return Some(ending(false, "BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    let left = until_deadline(view, now)?;
    left.is_zero().then(|| ending(false, "DeadlineExceeded", "Job was active longer than specified deadline"))
}

/// Whether containers that are started again in their pods were so too often.
fn restarts_exceed(account: &Account<'_>, limit: i32) -> bool {
    let policy =
        account.view.spec(|spec| spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.clone()));
    if policy.as_deref() != Some("OnFailure") {
        return false;
    }
    let running = account
        .claim
        .owned
        .iter()
        .filter_map(|pod| pod.status.as_ref())
        .filter(|status| matches!(status.phase.as_deref(), Some("Running" | "Pending")));
    let containers = running
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten());
    let restarts: i64 = containers.map(|container| i64::from(container.restart_count)).sum();
    restarts >= i64::from(limit.max(1))
}

/// How long until it has been active for too long; nothing when it may be for ever, or is not now.
pub(super) fn until_deadline(view: &JobView, now: Timestamp) -> Option<Duration> {
    if view.suspended() {
        return None;
    }
    let allowed = Duration::from_secs(u64::try_from(view.spec(|spec| spec.active_deadline_seconds)?).ok()?);
    let passed = match view.status(|status| status.start_time.clone()) {
        Some(start) => Duration::try_from(now.duration_since(start.0)).unwrap_or_default(),
        None => Duration::ZERO,
    };
    Some(allowed.saturating_sub(passed))
}

fn by_indexes(account: &Account<'_>) -> Option<Ending> {
    let (view, indexes) = (account.view, account.indexes.as_ref()?);
    let completions = view.completions().unwrap_or_default();
    if let Some(failed) = &indexes.failed {
        if view.spec(|spec| spec.max_failed_indexes).is_some_and(|most| failed.len() > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(ending(false, "MaxFailedIndexesExceeded", message));
        }
        if !failed.is_empty() && failed.len() + indexes.succeeded.len() >= completions {
            return Some(ending(false, "FailedIndexes", "Job has failed indexes"));
        }
    }
    let policy = view.job.spec.as_ref().and_then(|spec| spec.success_policy.as_ref());
    let message = success_policy::met(policy, completions, &indexes.succeeded)?;
    Some(ending(true, "SuccessPolicy", message))
}

fn by_completion(account: &Account<'_>) -> Option<Ending> {
    let enough = match account.view.completions() {
        Some(completions) => account.succeeded >= completions,
        // Each pod knows whether all is done; the others end by themselves.
        None => account.succeeded > 0,
    };
    let over = enough && account.active.is_empty() && !account.view.job.is_deleting();
    over.then(|| ending(true, "CompletionsReached", "Reached expected number of succeeded pods"))
}
