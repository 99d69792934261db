//! A pod for each node (`apps/v1` DaemonSet).

use super::shares::{check_share, is_nothing};
use super::{Change, check_chosen, check_lasting, check_not_decremented, check_pod_template, check_selector};
use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// The spec.
pub(super) fn check_spec(spec: &Change<'_>, findings: &mut Findings) {
    let (new, old) = (&spec.new, &spec.old);
    check_selector(new, "daemonset", findings);
    check_chosen(new, None, findings);
    check_pod_template(&new.child("template"), &[], findings);
    check_lasting(new, "DaemonSet", findings);
    findings.nonnegative(new, &["minReadySeconds"]);
    check_strategy(&new.child("updateStrategy"), findings);
    findings.nonnegative(new, &["revisionHistoryLimit"]);
    if let Some(old) = old {
        findings.immutable(new, old, "selector");
    }
}

fn check_strategy(strategy: &Part<'_>, findings: &mut Findings) {
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let Some(rolling) = strategy.given("rollingUpdate") else {
                findings.required(&strategy.at("rollingUpdate"), "");
                return;
            };
            check_share(&rolling, "maxUnavailable", true, findings);
            check_share(&rolling, "maxSurge", true, findings);
            match (is_nothing(&rolling, "maxUnavailable"), is_nothing(&rolling, "maxSurge")) {
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    findings.invalid(&rolling.at("maxSurge"), rolling.get("maxSurge").clone(), detail);
                }
                (true, true) => {
                    findings.required(&rolling.at("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                }
                _ => {}
            }
        }
        _ => {
            findings.not_supported(&strategy.path, strategy.value.clone(), &["RollingUpdate", "OnDelete"]);
        }
    }
}

/// What is told of its pods.
pub(super) fn check_status(status: &Change<'_>, findings: &mut Findings) {
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    findings.nonnegative(&status.new, &counts);
    check_not_decremented(status, "collisionCount", findings);
}
