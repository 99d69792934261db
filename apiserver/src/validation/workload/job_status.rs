//! What is told of a job. What was wrong already when it was told before may stay; only what changes is judged by the
//! rules that came late.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::time::Time;
use serde_json::Value;

use super::Change;
use super::indexes::{count_indexes, overlap};
use super::job::is_indexed;
use crate::validation::findings::{Findings, IMMUTABLE};
use crate::validation::part::Part;
use crate::validation::same::same;

/// An update of the status.
pub(super) fn check_status(change: &Change<'_>, findings: &mut Findings) {
    let status = change.field("status");
    check_counts(&status.new, findings);
    let nothing = Value::Null;
    let old = status.old.unwrap_or_else(|| Part::new(&nothing, status.new.path.clone()));
    let told = Told { spec: change.new.child("spec"), new: status.new, old };
    told.check_conditions(findings);
    told.check_times(findings);
    told.check_finished(findings);
    told.check_indexes(findings);
    told.check_transitions(findings);
}

fn check_counts(status: &Part<'_>, findings: &mut Findings) {
    findings.nonnegative(status, &["active", "succeeded", "failed", "ready", "terminating"]);
    let mut seen = BTreeSet::new();
    let uncounted = status.child("uncountedTerminatedPods");
    for list in ["succeeded", "failed"] {
        for item in uncounted.items(list) {
            let uid = item.value.as_str().unwrap_or_default();
            if uid.is_empty() {
                findings.invalid(&item.path, uid, "must not be empty");
            } else if !seen.insert(uid) {
                findings.duplicate(&item.path, uid);
            }
        }
    }
}

struct Told<'a> {
    spec: Part<'a>,
    new: Part<'a>,
    old: Part<'a>,
}

fn is_true(status: &Part<'_>, condition: &str) -> bool {
    status.items("conditions").any(|one| one.text("type") == condition && one.text("status") == "True")
}

fn is_finished(status: &Part<'_>) -> bool {
    is_true(status, "Complete") || is_true(status, "Failed")
}

impl Told<'_> {
    fn is(&self, condition: &str) -> bool {
        is_true(&self.new, condition)
    }

    fn was(&self, condition: &str) -> bool {
        is_true(&self.old, condition)
    }

    fn becomes(&self, condition: &str) -> bool {
        self.is(condition) && !self.was(condition)
    }

    fn changed(&self, field: &str) -> bool {
        !same(self.new.get(field), self.old.get(field))
    }

    fn conditions(&self, detail: impl Into<String>, findings: &mut Findings) {
        findings.push(FieldError::invalid_whole(&self.new.at("conditions"), detail));
    }

    fn check_conditions(&self, findings: &mut Findings) {
        let changed = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"]
            .iter()
            .any(|condition| self.is(condition) != self.was(condition));
        if !changed {
            return;
        }
        let pairs = [
            ("Complete", "Failed", "cannot set Complete=True and Failed=true conditions"),
            ("Complete", "FailureTarget", "cannot set Complete=True and FailureTarget=true conditions"),
            ("SuccessCriteriaMet", "Failed", "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
            (
                "SuccessCriteriaMet",
                "FailureTarget",
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
        ];
        for (left, right, detail) in pairs {
            if self.is(left) && self.is(right) {
                self.conditions(detail, findings);
            }
        }
        if self.becomes("Failed") && !self.is("FailureTarget") {
            let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
            self.conditions(detail, findings);
        }
        if self.becomes("Complete") && !self.is("SuccessCriteriaMet") {
            let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            self.conditions(detail, findings);
        }
    }

    fn check_times(&self, findings: &mut Findings) {
        let (start, end) = (self.new.get("startTime"), self.new.get("completionTime"));
        let at = self.new.at("completionTime");
        let end_changed = self.changed("completionTime");
        if end_changed && !end.is_null() && !self.is("Complete") {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            findings.invalid(&at, end.clone(), detail);
        }
        if self.becomes("Complete") && end.is_null() {
            findings.required(&at, "completionTime is required for Complete jobs");
        }
        let time = |value: &Value| value.as_str().and_then(|text| Time::parse(text).ok());
        if let (Some(started), Some(ended)) = (time(start), time(end))
            && (end_changed || self.changed("startTime"))
            && ended < started
        {
            findings.invalid(&at, end.clone(), "must be equal to or after `startTime`");
        }
        if end_changed && !end.is_null() && self.old.has("completionTime") {
            findings.invalid(&at, end.clone(), IMMUTABLE);
        }
        if self.old.has("startTime") && self.changed("startTime") && !self.spec.flag("suspend") {
            let detail = "startTime cannot be removed for unsuspended job";
            findings.required(&self.new.at("startTime"), detail);
        }
    }

    fn check_finished(&self, findings: &mut Findings) {
        let new = &self.new;
        let is_finished = is_finished(new);
        let finishes = is_finished && !self::is_finished(&self.old);
        for (field, detail) in [
            ("active", "active>0 is invalid for finished job"),
            ("terminating", "terminating>0 is invalid for finished job"),
        ] {
            if is_finished && new.count(field) > 0 && (finishes || self.changed(field)) {
                findings.invalid(&new.at(field), new.count(field), detail);
            }
        }
        if is_finished && !new.has("startTime") && (finishes || self.changed("startTime")) {
            findings.required(&new.at("startTime"), "startTime is required for finished job");
        }
        let uncounted = new.child("uncountedTerminatedPods");
        let some = !uncounted.list("succeeded").is_empty() || !uncounted.list("failed").is_empty();
        if is_finished && some && (finishes || self.changed("uncountedTerminatedPods")) {
            findings.invalid(&uncounted.path, uncounted.value.clone(), "must be empty for finished job");
        }
        let moved = self.changed("ready") || self.changed("active");
        if moved && new.count("ready") > new.count("active") {
            let detail = "cannot set more ready pods than active";
            findings.invalid(&new.at("ready"), new.count("ready"), detail);
        }
    }

    fn check_indexes(&self, findings: &mut Findings) {
        let new = &self.new;
        let (completed, failed) = (new.text("completedIndexes"), new.text("failedIndexes"));
        let (completed_at, failed_at) = (new.at("completedIndexes"), new.at("failedIndexes"));
        let (completed_changed, failed_changed) =
            (self.changed("completedIndexes"), self.changed("failedIndexes"));
        let completions = self.spec.number("completions");
        let per_index = self.spec.has("backoffLimitPerIndex");
        if let (Some(completions), true) = (completions, completed_changed)
            && let Err(why) = count_indexes(completed, completions)
        {
            findings.invalid(&completed_at, completed, format!("error parsing completedIndexes: {why}"));
        }
        if let (Some(completions), true, true) = (completions, failed_changed, per_index)
            && let Err(why) = count_indexes(failed, completions)
        {
            findings.invalid(&failed_at, failed, format!("error parsing failedIndexes: {why}"));
        }
        if completed_changed && !completed.is_empty() && !is_indexed(&self.spec) {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            findings.invalid(&completed_at, completed, detail);
        }
        if failed_changed && new.has("failedIndexes") && !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            findings.invalid(&failed_at, failed, detail);
        }
        if let (Some(completions), true) = (completions, completed_changed || failed_changed)
            && let Some(index) = overlap(completed, failed, completions)
        {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            findings.invalid(&failed_at, failed, detail);
        }
    }

    fn check_transitions(&self, findings: &mut Findings) {
        for condition in ["Failed", "Complete", "FailureTarget"] {
            if self.was(condition) && !self.is(condition) {
                self.conditions(format!("cannot disable the terminal {condition}=True condition"), findings);
            }
        }
        let is_indexed = is_indexed(&self.spec);
        for (field, detail, counts) in [
            ("failed", "cannot decrease the failed counter", true),
            // Of indexed jobs with fewer completions fewer pods count.
            ("succeeded", "cannot decrease the succeeded counter", !is_indexed),
        ] {
            let now = self.new.count(field);
            if counts && now < self.old.count(field) {
                findings.invalid(&self.new.at(field), now, detail);
            }
        }
        if self.was("SuccessCriteriaMet") && !self.is("SuccessCriteriaMet") {
            self.conditions("cannot disable the SuccessCriteriaMet=True condition", findings);
        }
        if self.was("Complete") && self.becomes("SuccessCriteriaMet") {
            let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            self.conditions(detail, findings);
        }
    }
}
