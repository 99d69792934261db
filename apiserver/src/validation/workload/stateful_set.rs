//! Pods with names and volumes of their own (`apps/v1` StatefulSet).

use serde_json::{Map, Value};

use super::shares::{check_share, is_nothing};
use super::{
    Change, check_at_most, check_chosen, check_lasting, check_not_decremented, check_pod_template,
    check_selector,
};
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::pod::claim::check_claim_spec;
use crate::validation::same::same;

/// Fields that may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const MAY_CHANGE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                          'minReadySeconds' are forbidden";

/// The spec.
pub(super) fn check_spec(spec: &Change<'_>, findings: &mut Findings) {
    let (new, old) = (&spec.new, &spec.old);
    match new.text("podManagementPolicy") {
        "" => findings.required(&new.at("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            findings.invalid(&new.at("podManagementPolicy"), other, detail);
        }
    }
    check_strategy(&new.child("updateStrategy"), findings);
    let retention = new.child("persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"] {
        findings.word_if_given(&retention, when, &["Retain", "Delete"]);
    }
    findings.nonnegative(new, &["replicas", "minReadySeconds", "revisionHistoryLimit"]);
    let start = new.child("ordinals").count("start");
    if start < 0 {
        findings.invalid(&new.at("ordinals.start"), start, crate::validation::findings::NEGATIVE);
    }
    let service = new.text("serviceName");
    let same_service = old.as_ref().is_some_and(|old| old.text("serviceName") == service);
    if !service.is_empty() && !same_service {
        findings.dns_label(&new.at("serviceName"), service);
    }
    if !new.has("selector") {
        findings.required(&new.at("selector"), "");
    }
    check_selector(new, "statefulset", findings);
    check_chosen(new, Some(""), findings);
    check_template(new, old.as_ref(), findings);
    check_lasting(new, "StatefulSet", findings);
    if let Some(old) = old
        && !same(&fixed(new), &fixed(old))
    {
        findings.forbidden(&new.path, MAY_CHANGE);
    }
}

/// The template, whose pods have the claims of the set as volumes. What was wrong already when the set came may stay.
fn check_template(new: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    let judge = |spec: &Part<'_>, findings: &mut Findings| {
        let claims: Vec<_> = names_of_claims(spec).collect();
        check_pod_template(&spec.child("template"), &claims, findings);
    };
    let was_wrong = |judge: &dyn Fn(&Part<'_>, &mut Findings)| {
        old.is_some_and(|old| {
            let mut before = Findings::default();
            judge(old, &mut before);
            before.len() > 0
        })
    };
    if !was_wrong(&judge) {
        judge(new, findings);
    }
    let judge_claims = |spec: &Part<'_>, findings: &mut Findings| {
        for claim in spec.items("volumeClaimTemplates") {
            let name = claim.child("metadata");
            if name.text("name").is_empty() {
                findings.required(&name.at("name"), "");
            } else {
                findings.dns_subdomain(&name.at("name"), name.text("name"));
            }
            check_claim_spec(&claim.child("spec"), findings);
        }
    };
    if !was_wrong(&judge_claims) {
        judge_claims(new, findings);
    }
}

fn names_of_claims<'a>(spec: &Part<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    spec.items("volumeClaimTemplates").map(|claim| claim.child("metadata").text("name"))
}

fn check_strategy(strategy: &Part<'_>, findings: &mut Findings) {
    match strategy.text("type") {
        "" => findings.required(&strategy.path, ""),
        "OnDelete" => {
            if let Some(rolling) = strategy.given("rollingUpdate") {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                findings.invalid(&rolling.path, rolling.value.clone(), detail);
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = strategy.given("rollingUpdate") else { return };
            findings.nonnegative(&rolling, &["partition"]);
            if rolling.has("maxUnavailable") {
                check_share(&rolling, "maxUnavailable", true, findings);
                if is_nothing(&rolling, "maxUnavailable") {
                    let value = rolling.get("maxUnavailable").clone();
                    findings.invalid(&rolling.at("maxUnavailable"), value, "cannot be 0");
                }
            }
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            findings.invalid(&strategy.path, strategy.value.clone(), detail);
        }
    }
}

/// The part of a spec that may not change.
fn fixed(spec: &Part<'_>) -> Value {
    let mut fields: Map<String, Value> = spec.value.as_object().cloned().unwrap_or_default();
    fields.retain(|field, _| !MUTABLE.contains(&field.as_str()));
    Value::Object(fields)
}

/// What is told of its pods.
pub(super) fn check_status(status: &Change<'_>, findings: &mut Findings) {
    let counts = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let new = &status.new;
    findings.nonnegative(new, &counts);
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    check_at_most(new, &parts, "replicas", "cannot be greater than status.replicas", findings);
    let detail = "cannot be greater than status.readyReplicas";
    check_at_most(new, &["availableReplicas"], "readyReplicas", detail, findings);
    check_not_decremented(status, "collisionCount", findings);
}
