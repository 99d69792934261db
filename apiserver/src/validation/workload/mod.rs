//! What makes pods and minds their number: the kinds of `apps`, `batch`, `autoscaling` and `policy`, and
//! `ReplicationController`s. Must never judge metadata, but for names that would make names of others too long.

mod autoscaler;
pub(super) mod conditions;
mod cron_job;
mod cron_schedule;
mod daemon_set;
mod deployment;
mod disruption_budget;
mod indexes;
mod job;
mod job_policies;
mod job_status;
mod metrics;
mod replicas;
mod shares;
mod stateful_set;

use barque_api::labels::Selector;

use super::Subject;
use super::findings::Findings;
use super::part::Part;
use super::pod::check_pod_template;

/// The object, and what it was; where it has none it is made.
struct Change<'a> {
    new: Part<'a>,
    old: Option<Part<'a>>,
}

impl<'a> Change<'a> {
    /// A field of both.
    fn field(&self, field: &str) -> Self {
        Self { new: self.new.child(field), old: self.old.as_ref().map(|old| old.child(field)) }
    }
}

/// Judges one of these kinds; false when it is none of them.
pub(super) fn check_kind(subject: &Subject<'_>, findings: &mut Findings) -> bool {
    let change = Change { new: Part::root(subject.new), old: subject.old.map(Part::root) };
    if subject.kind == "Scale" || subject.subresource == "scale" && is_scaled(subject) {
        check_scale(&change.new, findings);
        return true;
    }
    let (spec, status) = (change.field("spec"), change.field("status"));
    let of_status = subject.subresource == "status";
    match (subject.group, subject.kind) {
        ("", "ReplicationController") if of_status => replicas::check_status(&status.new, findings),
        ("", "ReplicationController") => replicas::check_controller(&spec.new, findings),
        ("apps", "ReplicaSet") if of_status => replicas::check_status(&status.new, findings),
        ("apps", "ReplicaSet") => replicas::check_set(&spec, findings),
        ("apps", "Deployment") if of_status => deployment::check_status(&status, findings),
        ("apps", "Deployment") => deployment::check_spec(&spec, findings),
        ("apps", "StatefulSet") if of_status => stateful_set::check_status(&status, findings),
        ("apps", "StatefulSet") => stateful_set::check_spec(&spec, findings),
        ("apps", "DaemonSet") if of_status => daemon_set::check_status(&status, findings),
        ("apps", "DaemonSet") => daemon_set::check_spec(&spec, findings),
        ("apps", "ControllerRevision") => check_revision(&change, findings),
        ("batch", "Job") if of_status => job_status::check_status(&change, findings),
        ("batch", "Job") => job::check_job(&change, findings),
        // Its status has no rules.
        ("batch", "CronJob") if of_status => {}
        ("batch", "CronJob") => cron_job::check_cron_job(&change, findings),
        ("autoscaling", "HorizontalPodAutoscaler") if of_status => {
            findings.nonnegative(&status.new, &["currentReplicas", "desiredReplicas"]);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::check_spec(&spec.new, findings),
        ("policy", "PodDisruptionBudget") if of_status => {
            disruption_budget::check_status(&status.new, findings);
        }
        ("policy", "PodDisruptionBudget") => disruption_budget::check_spec(&spec.new, findings),
        _ => return false,
    }
    true
}

fn is_scaled(subject: &Subject<'_>) -> bool {
    matches!(
        (subject.group, subject.kind),
        ("", "ReplicationController") | ("apps", "ReplicaSet" | "Deployment" | "StatefulSet")
    )
}

/// A number of replicas (`autoscaling/v1` Scale).
fn check_scale(scale: &Part<'_>, findings: &mut Findings) {
    findings.nonnegative(&scale.child("spec"), &["replicas"]);
}

/// A version of the template of a set (`apps/v1` ControllerRevision).
fn check_revision(change: &Change<'_>, findings: &mut Findings) {
    if !change.new.has("data") {
        findings.required(&change.new.at("data"), "data is mandatory");
    }
    findings.nonnegative(&change.new, &["revision"]);
    if let Some(old) = &change.old {
        findings.immutable(&change.new, old, "data");
    }
}

/// The selector of a set that must choose the pods of its template. `what` is the set in the sentence about a selector that
/// chooses everything.
fn check_selector(spec: &Part<'_>, what: &str, findings: &mut Findings) {
    let selector = spec.child("selector");
    findings.selector(spec, "selector");
    let is_empty =
        selector.entries("matchLabels").next().is_none() && selector.list("matchExpressions").is_empty();
    if !selector.value.is_null() && is_empty {
        let detail = format!("empty selector is invalid for {what}");
        findings.invalid(&selector.path, selector.value.clone(), detail);
    }
}

/// The labels of a template must be chosen by the selector of its set; one that is not there chooses nothing. `wrong` is
/// what some kinds say of a selector that is none, beside what is wrong with it.
fn check_chosen(spec: &Part<'_>, wrong: Option<&str>, findings: &mut Findings) {
    match (Selector::of_object(Some(spec.get("selector"))), wrong) {
        (Ok(selector), _) => check_chosen_by(&selector, spec, findings),
        (Err(_), Some(wrong)) => findings.invalid(&spec.at("selector"), spec.get("selector").clone(), wrong),
        (Err(_), None) => {}
    }
}

fn check_chosen_by(selector: &Selector, spec: &Part<'_>, findings: &mut Findings) {
    let metadata = spec.child("template").child("metadata");
    let labels = metadata.map("labels").cloned().unwrap_or_default();
    if !selector.matches(&labels) {
        let detail = "`selector` does not match template `labels`";
        findings.invalid(&metadata.at("labels"), metadata.get("labels").clone(), detail);
    }
}

/// Pods of sets start again whenever they end, and have no deadline.
fn check_lasting(spec: &Part<'_>, what: &str, findings: &mut Findings) {
    let pod = spec.child("template").child("spec");
    if pod.text("restartPolicy") != "Always" {
        findings.not_supported(&pod.at("restartPolicy"), pod.text("restartPolicy"), &["Always"]);
    }
    if pod.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {what} is not Supported");
        findings.forbidden(&pod.at("activeDeadlineSeconds"), detail);
    }
}

/// A number that may not become less.
fn check_not_decremented(change: &Change<'_>, field: &str, findings: &mut Findings) {
    let Some(before) = change.old.as_ref().and_then(|old| old.number(field)) else { return };
    let now = change.new.number(field);
    if now.is_none_or(|now| now < before) {
        findings.invalid(&change.new.at(field), now.unwrap_or_default(), "cannot be decremented");
    }
}

/// A part of the replicas may not be more than all of them.
fn check_at_most(status: &Part<'_>, fields: &[&str], all: &str, detail: &str, findings: &mut Findings) {
    for field in fields {
        if status.count(field) > status.count(all) {
            findings.invalid(&status.at(field), status.count(field), detail);
        }
    }
}

#[cfg(test)]
mod tests;
