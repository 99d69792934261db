//! Conditions as most kinds tell them (`meta/v1` Condition).

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::names;

use crate::validation::findings::Findings;
use crate::validation::part::Part;

const REASON_LIMIT: usize = 1024;
const MESSAGE_LIMIT: usize = 32 * 1024;

/// All of a list, each of a type of its own.
pub(in crate::validation) fn check_conditions(status: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for condition in status.items("conditions") {
        let kind = condition.text("type");
        if kind.is_empty() {
            findings.required(&condition.at("type"), "must be set");
        } else if !seen.insert(kind) {
            findings.duplicate(&condition.at("type"), kind);
        }
        findings.label_key(&condition.at("type"), kind);
        let state = condition.text("status");
        if !["False", "True", "Unknown"].contains(&state) {
            findings.not_supported(&condition.at("status"), state, &["False", "True", "Unknown"]);
        }
        if condition.count("observedGeneration") < 0 {
            let value = condition.count("observedGeneration");
            let detail = "must be greater than or equal to zero";
            findings.invalid(&condition.at("observedGeneration"), value, detail);
        }
        if !condition.has("lastTransitionTime") {
            findings.required(&condition.at("lastTransitionTime"), "must be set");
        }
        let (reason, at) = (condition.text("reason"), condition.at("reason"));
        if reason.is_empty() {
            findings.required(&at, "must be set");
        } else {
            findings.each(&at, reason, names::condition_reason(reason));
            if reason.len() > REASON_LIMIT {
                findings.push(FieldError::too_long(&at, REASON_LIMIT));
            }
        }
        if condition.text("message").len() > MESSAGE_LIMIT {
            findings.push(FieldError::too_long(&condition.at("message"), MESSAGE_LIMIT));
        }
    }
}
