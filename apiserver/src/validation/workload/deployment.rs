//! Pods that are replaced by newer ones step by step (`apps/v1` Deployment).

use super::replicas::check_template_of_set;
use super::shares::{check_share, is_nothing};
use super::{Change, check_at_most, check_not_decremented};
use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// The spec.
pub(super) fn check_spec(spec: &Change<'_>, findings: &mut Findings) {
    let (new, old) = (&spec.new, &spec.old);
    findings.nonnegative(new, &["replicas"]);
    check_template_of_set(new, "deployment", "ReplicaSet", findings);
    check_strategy(&new.child("strategy"), findings);
    findings.nonnegative(new, &["minReadySeconds", "revisionHistoryLimit"]);
    if let Some(seconds) = new.number("progressDeadlineSeconds") {
        findings.nonnegative(new, &["progressDeadlineSeconds"]);
        if seconds <= new.count("minReadySeconds") {
            let detail = "must be greater than minReadySeconds";
            findings.invalid(&new.at("progressDeadlineSeconds"), seconds, detail);
        }
    }
    if let Some(old) = old {
        findings.immutable(new, old, "selector");
    }
}

fn check_strategy(strategy: &Part<'_>, findings: &mut Findings) {
    match strategy.text("type") {
        "Recreate" => {
            if strategy.has("rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                findings.forbidden(&strategy.at("rollingUpdate"), detail);
            }
        }
        "RollingUpdate" => match strategy.given("rollingUpdate") {
            None => {
                let detail = "this should be defaulted and never be nil";
                findings.required(&strategy.at("rollingUpdate"), detail);
            }
            Some(rolling) => {
                check_share(&rolling, "maxUnavailable", true, findings);
                check_share(&rolling, "maxSurge", false, findings);
                if is_nothing(&rolling, "maxUnavailable") && is_nothing(&rolling, "maxSurge") {
                    let value = rolling.get("maxUnavailable").clone();
                    let detail = "may not be 0 when `maxSurge` is 0";
                    findings.invalid(&rolling.at("maxUnavailable"), value, detail);
                }
            }
        },
        _ => {
            findings.not_supported(&strategy.path, strategy.value.clone(), &["Recreate", "RollingUpdate"]);
        }
    }
}

/// What is told of its pods.
pub(super) fn check_status(status: &Change<'_>, findings: &mut Findings) {
    let new = &status.new;
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    findings.nonnegative(new, &counts);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    check_at_most(new, &parts, "replicas", "cannot be greater than status.replicas", findings);
    let detail = "cannot be greater than readyReplicas";
    check_at_most(new, &["availableReplicas"], "readyReplicas", detail, findings);
    check_not_decremented(status, "collisionCount", findings);
}
