//! When a job failed, and when it succeeded before all of its pods did.

use std::collections::BTreeSet;

use barque_api::field::FieldError;

use super::indexes::count_indexes;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

const MOST_RULES: usize = 20;
const MOST_PATTERNS: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const INDEXES_LIMIT: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

fn values(known: &[&str]) -> String {
    let known: Vec<_> = known.iter().map(|one| format!("{one:?}")).collect();
    format!("valid values: [{}]", known.join(" "))
}

/// What is done about pods that failed.
pub(super) fn check_failure_policy(spec: &Part<'_>, findings: &mut Findings) {
    let Some(policy) = spec.given("podFailurePolicy") else { return };
    let rules = policy.list("rules").len();
    if rules > MOST_RULES {
        findings.push(FieldError::too_many(&policy.at("rules"), rules, MOST_RULES));
    }
    let pod = spec.child("template").child("spec");
    let containers: BTreeSet<_> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod.items(list))
        .map(|container| container.text("name"))
        .collect();
    for rule in policy.items("rules") {
        let action = rule.text("action");
        if action.is_empty() {
            findings.required(&rule.at("action"), values(&ACTIONS));
        } else if action == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                let detail = "requires the backoffLimitPerIndex to be set";
                findings.invalid(&rule.at("action"), action, detail);
            }
        } else if !ACTIONS.contains(&action) {
            findings.not_supported(&rule.at("action"), action, &ACTIONS);
        }
        let codes = rule.given("onExitCodes");
        let has_patterns = !rule.list("onPodConditions").is_empty();
        if let Some(codes) = &codes {
            check_exit_codes(codes, &containers, findings);
        }
        check_patterns(&rule, findings);
        let wrong = match (codes.is_some(), has_patterns) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        findings.push(FieldError::invalid_whole(&rule.path, wrong));
    }
}

fn check_patterns(rule: &Part<'_>, findings: &mut Findings) {
    let count = rule.list("onPodConditions").len();
    if count > MOST_PATTERNS {
        findings.push(FieldError::too_many(&rule.at("onPodConditions"), count, MOST_PATTERNS));
    }
    for pattern in rule.items("onPodConditions") {
        findings.label_key(&pattern.at("type"), pattern.text("type"));
        let status = pattern.text("status");
        if status.is_empty() {
            findings.required(&pattern.at("status"), values(&STATUSES));
        } else if !STATUSES.contains(&status) {
            findings.not_supported(&pattern.at("status"), status, &STATUSES);
        }
    }
}

fn check_exit_codes(codes: &Part<'_>, containers: &BTreeSet<&str>, findings: &mut Findings) {
    let operator = codes.text("operator");
    let known = ["In", "NotIn"];
    if operator.is_empty() {
        findings.required(&codes.at("operator"), values(&known));
    } else if !known.contains(&operator) {
        findings.not_supported(&codes.at("operator"), operator, &known);
    }
    if codes.has("containerName") && !containers.contains(codes.text("containerName")) {
        let detail = "must be one of the container or initContainer names in the pod template";
        findings.invalid(&codes.at("containerName"), codes.text("containerName"), detail);
    }
    let (at, list) = (codes.at("values"), codes.list("values"));
    if list.is_empty() {
        findings.invalid(&at, codes.get("values").clone(), "at least one value is required");
    } else if list.len() > MOST_EXIT_CODES {
        findings.push(FieldError::too_many(&at, list.len(), MOST_EXIT_CODES));
    }
    let numbers: Vec<_> = list.iter().map(|code| code.as_i64().unwrap_or_default()).collect();
    let mut seen = BTreeSet::new();
    for (index, code) in numbers.iter().enumerate() {
        if operator == "In" && *code == 0 {
            findings.invalid(&at.index(index), *code, "must not be 0 for the In operator");
        }
        if !seen.insert(*code) {
            findings.duplicate(&at.index(index), *code);
        }
    }
    if !numbers.is_sorted() {
        findings.invalid(&at, codes.get("values").clone(), "must be ordered");
    }
}

/// When enough pods of an indexed job succeeded.
pub(super) fn check_success_policy(spec: &Part<'_>, policy: &Part<'_>, findings: &mut Findings) {
    let count = policy.list("rules").len();
    if count == 0 {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        findings.required(&policy.at("rules"), detail);
    }
    if count > MOST_RULES {
        findings.push(FieldError::too_many(&policy.at("rules"), count, MOST_RULES));
    }
    let completions = spec.count("completions");
    for rule in policy.items("rules") {
        let (indexes, enough) = (rule.has("succeededIndexes"), rule.number("succeededCount"));
        if !indexes && enough.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            findings.required(&rule.path, detail);
        }
        let mut total = 0;
        if indexes {
            let (text, at) = (rule.text("succeededIndexes"), rule.at("succeededIndexes"));
            if text.len() > INDEXES_LIMIT {
                findings.push(FieldError::too_long(&at, INDEXES_LIMIT));
            }
            match count_indexes(text, completions) {
                Ok(found) => total = found,
                Err(why) => findings.invalid(&at, text, format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(enough) = enough {
            findings.nonnegative(&rule, &["succeededCount"]);
            let at = rule.at("succeededCount");
            if enough > completions {
                let detail = format!(
                    "must be less than or equal to {completions} (the number of specified completions)"
                );
                findings.invalid(&at, enough, detail);
            }
            if indexes && enough > total {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes \
                     field)"
                );
                findings.invalid(&at, enough, detail);
            }
        }
    }
}
