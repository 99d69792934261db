//! How the number of pods follows their load (`autoscaling` HorizontalPodAutoscaler, in both of its versions).

use barque_api::names;

use super::metrics::check_metrics;
use crate::validation::findings::{Findings, NEGATIVE};
use crate::validation::part::Part;

const LONGEST_PERIOD_SECONDS: i64 = 1800;
const LONGEST_WINDOW_SECONDS: i64 = 3600;

/// The spec.
pub(super) fn check_spec(spec: &Part<'_>, findings: &mut Findings) {
    let (least, most) = (spec.number("minReplicas"), spec.count("maxReplicas"));
    if let Some(least) = least.filter(|least| *least < 1) {
        findings.invalid(&spec.at("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        findings.invalid(&spec.at("maxReplicas"), most, "must be greater than 0");
    }
    if least.is_some_and(|least| most < least) {
        findings.invalid(&spec.at("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    check_reference(&spec.child("scaleTargetRef"), findings);
    check_metrics(spec, findings);
    let behavior = spec.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = behavior.given(direction) {
            check_rules(&rules, findings);
        }
    }
}

/// An object of any kind (`CrossVersionObjectReference`).
pub(super) fn check_reference(reference: &Part<'_>, findings: &mut Findings) {
    for field in ["kind", "name"] {
        let text = reference.text(field);
        if text.is_empty() {
            findings.required(&reference.at(field), "");
        } else {
            findings.each(&reference.at(field), text, names::path_segment_name(text));
        }
    }
}

fn check_rules(rules: &Part<'_>, findings: &mut Findings) {
    if let Some(seconds) = rules.number("stabilizationWindowSeconds") {
        let at = rules.at("stabilizationWindowSeconds");
        if seconds < 0 {
            findings.invalid(&at, seconds, "must be greater than or equal to zero");
        }
        if seconds > LONGEST_WINDOW_SECONDS {
            findings.invalid(&at, seconds, format!("must be less than or equal to {LONGEST_WINDOW_SECONDS}"));
        }
    }
    findings.word_if_given(rules, "selectPolicy", &["Disabled", "Max", "Min"]);
    if rules.list("policies").is_empty() {
        findings.required(&rules.at("policies"), "must specify at least one Policy");
    }
    for policy in rules.items("policies") {
        let known = ["Percent", "Pods"];
        if !known.contains(&policy.text("type")) {
            findings.not_supported(&policy.at("type"), policy.text("type"), &known);
        }
        for field in ["value", "periodSeconds"] {
            if policy.count(field) <= 0 {
                findings.invalid(&policy.at(field), policy.count(field), "must be greater than zero");
            }
        }
        let period = policy.count("periodSeconds");
        if period > LONGEST_PERIOD_SECONDS {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD_SECONDS}");
            findings.invalid(&policy.at("periodSeconds"), period, detail);
        }
    }
    if rules.has("tolerance")
        && let Some(tolerance) = findings.quantity(rules.get("tolerance"), &rules.at("tolerance"))
        && tolerance.sign() < 0
    {
        findings.invalid(&rules.at("tolerance"), tolerance.to_string(), NEGATIVE);
    }
}
