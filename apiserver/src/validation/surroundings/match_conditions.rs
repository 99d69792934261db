//! Conditions under which webhooks and policies are asked (`matchConditions`). Must never evaluate one.

use std::collections::BTreeSet;

use barque_api::field::FieldError;

use super::{Findings, Part};
use crate::admission::expressions::Names;

const MOST_CONDITIONS: usize = 64;

/// What is wrong with the conditions of a webhook or of the specification of a policy, which may name these variables.
pub(super) fn check_conditions(owner: &Part<'_>, names: &Names, findings: &mut Findings) {
    let many = owner.list("matchConditions").len();
    if many > MOST_CONDITIONS {
        findings.push(FieldError::too_many(&owner.at("matchConditions"), many, MOST_CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for condition in owner.items("matchConditions") {
        let expression = condition.text("expression").trim();
        if expression.is_empty() {
            findings.required(&condition.at("expression"), "");
        } else if let Err(why) = names.compile(expression, &["bool"]) {
            findings.invalid(&condition.at("expression"), expression, why);
        }
        let name = condition.text("name");
        if name.is_empty() {
            findings.required(&condition.at("name"), "");
            continue;
        }
        findings.label_key(&condition.at("name"), name);
        if !seen.insert(name) {
            findings.duplicate(&condition.at("name"), name);
        }
    }
}
