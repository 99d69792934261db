//! How many pods may be taken away at once (`policy/v1` PodDisruptionBudget).

use super::conditions::check_conditions;
use super::shares::check_share;
use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// The spec.
pub(super) fn check_spec(spec: &Part<'_>, findings: &mut Findings) {
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        findings.invalid(&spec.path, spec.value.clone(), detail);
    }
    check_share(spec, "minAvailable", true, findings);
    check_share(spec, "maxUnavailable", true, findings);
    findings.selector(spec, "selector");
    findings.word_if_given(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"]);
}

/// What is told of its pods.
pub(super) fn check_status(status: &Part<'_>, findings: &mut Findings) {
    check_conditions(status, findings);
    findings.nonnegative(status, &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]);
}
