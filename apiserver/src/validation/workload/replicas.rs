//! As many pods as told: `ReplicationController`s and `ReplicaSet`s.

use barque_api::labels::Selector;

use super::{
    Change, check_at_most, check_chosen, check_chosen_by, check_lasting, check_pod_template, check_selector,
};
use crate::validation::findings::Findings;
use crate::validation::part::Part;

/// The spec of a `ReplicationController`.
pub(super) fn check_controller(spec: &Part<'_>, findings: &mut Findings) {
    findings.nonnegative(spec, &["minReadySeconds"]);
    let selector = spec.map("selector").map_or_else(Selector::everything, Selector::of_labels);
    if selector.is_everything() {
        findings.required(&spec.at("selector"), "");
    }
    findings.nonnegative(spec, &["replicas"]);
    let Some(template) = spec.given("template") else {
        findings.required(&spec.at("template"), "");
        return;
    };
    check_chosen_by(&selector, spec, findings);
    check_pod_template(&template, &[], findings);
    check_lasting(spec, "ReplicationController", findings);
}

/// The spec of a `ReplicaSet`.
pub(super) fn check_set(spec: &Change<'_>, findings: &mut Findings) {
    let (new, old) = (&spec.new, &spec.old);
    findings.nonnegative(new, &["replicas", "minReadySeconds"]);
    check_template_of_set(new, "deployment", "ReplicaSet", findings);
    if let Some(old) = old {
        findings.immutable(new, old, "selector");
    }
}

/// Selector and template of a `ReplicaSet`, and of a Deployment, which makes them.
pub(super) fn check_template_of_set(spec: &Part<'_>, selector_of: &str, what: &str, findings: &mut Findings) {
    if !spec.has("selector") {
        findings.required(&spec.at("selector"), "");
    }
    check_selector(spec, selector_of, findings);
    check_chosen(spec, Some("invalid label selector"), findings);
    check_pod_template(&spec.child("template"), &[], findings);
    check_lasting(spec, what, findings);
}

/// What is told of their pods.
pub(super) fn check_status(status: &Part<'_>, findings: &mut Findings) {
    let counts =
        ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    findings.nonnegative(status, &counts);
    findings.nonnegative(status, &["terminatingReplicas"]);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    check_at_most(status, &parts, "replicas", "cannot be greater than status.replicas", findings);
    let detail = "cannot be greater than readyReplicas";
    check_at_most(status, &["availableReplicas"], "readyReplicas", detail, findings);
}
