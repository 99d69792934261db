//! Pods that run to their end (`batch/v1` Job).

use barque_api::field::FieldError;
use barque_api::labels::Selector;
use barque_api::names;
use serde_json::{Map, Value, json};

use super::job_policies::{check_failure_policy, check_success_policy};
use super::{Change, check_chosen, check_pod_template};
use crate::validation::findings::{Findings, IMMUTABLE};
use crate::validation::part::Part;
use crate::validation::same::same;

const MANAGED_BY_LIMIT: usize = 63;
/// The most pods at once of a job with indexes, and the most of its indexes that may fail.
const MOST_INDEXED: i64 = 100_000;
/// The same for jobs of more completions than that, with a limit for each index.
const MOST_OF_MANY: i64 = 10_000;
const PATH: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
const PATH_SIGNS: &[u8] = b"/-._~%!$&'()*+,;=:";
const LABEL_PREFIX: &str = "batch.kubernetes.io/";

/// The whole job.
pub(super) fn check_job(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.field("spec");
    match &spec.old {
        None => {
            check_generated_selector(&change.new, findings);
            check_spec(&spec.new, findings);
            check_hostnames(&change.new, findings);
        }
        Some(old) => {
            check_spec(&spec.new, findings);
            check_update(change, &spec.new, old, findings);
        }
    }
}

/// The spec of a job, whose selector is there by now.
fn check_spec(spec: &Part<'_>, findings: &mut Findings) {
    check_job_spec(spec, findings);
    if spec.has("selector") {
        findings.selector(spec, "selector");
    } else {
        findings.required(&spec.at("selector"), "");
    }
    check_chosen(spec, None, findings);
}

/// The spec of a job or of a template of jobs.
pub(super) fn check_job_spec(spec: &Part<'_>, findings: &mut Findings) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    findings.nonnegative(spec, &numbers);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        findings.required(&spec.at("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if spec.has("managedBy") {
        check_manager(spec, findings);
    }
    findings.word_if_given(spec, "completionMode", &["NonIndexed", "Indexed"]);
    if is_indexed(spec) {
        check_indexed(spec, findings);
    }
    if ["", "NonIndexed"].contains(&spec.text("completionMode")) {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.number(field) {
                findings.invalid(&spec.at(field), number, "requires indexed completion mode");
            }
        }
    }
    check_failure_policy(spec, findings);
    if let Some(policy) = spec.given("successPolicy") {
        if is_indexed(spec) {
            check_success_policy(spec, &policy, findings);
        } else {
            findings.invalid(&policy.path, policy.value.clone(), "requires indexed completion mode");
        }
    }
    let replacement: &[&str] =
        if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    findings.word_if_given(spec, "podReplacementPolicy", replacement);
    check_pod_template(&spec.child("template"), &[], findings);
    check_ending(spec, findings);
}

/// Whether each pod has a number.
pub(super) fn is_indexed(spec: &Part<'_>) -> bool {
    spec.text("completionMode") == "Indexed"
}

/// Pods of jobs end.
fn check_ending(spec: &Part<'_>, findings: &mut Findings) {
    let pod = spec.child("template").child("spec");
    let at = pod.at("restartPolicy");
    match pod.text("restartPolicy") {
        "" | "Always" => findings.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            findings.invalid(&at, "OnFailure", detail);
        }
        "OnFailure" | "Never" => {}
        other => findings.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

/// Who minds the job: a domain and a path, such as `example.com/queue`.
fn check_manager(spec: &Part<'_>, findings: &mut Findings) {
    let (manager, at) = (spec.text("managedBy"), spec.at("managedBy"));
    match manager.split_once('/') {
        _ if manager.is_empty() => findings.required(&at, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            findings.dns_subdomain(&at, domain);
            let right = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || PATH_SIGNS.contains(&byte));
            if !right {
                findings.invalid(&at, path, names::no_match("Invalid path", PATH, &[]));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            findings.invalid(&at, manager, detail);
        }
    }
    if manager.len() > MANAGED_BY_LIMIT {
        findings.push(FieldError::too_long(&at, MANAGED_BY_LIMIT));
    }
}

fn check_indexed(spec: &Part<'_>, findings: &mut Findings) {
    let (completions, parallelism) = (spec.number("completions"), spec.number("parallelism"));
    let most_failed = spec.number("maxFailedIndexes");
    let failed_at = spec.at("maxFailedIndexes");
    if completions.is_none() {
        findings.required(&spec.at("completions"), "when completion mode is Indexed");
    }
    if let Some(parallelism) = parallelism.filter(|number| *number > MOST_INDEXED) {
        let detail = format!("must be less than or equal to {MOST_INDEXED} when completion mode is Indexed");
        findings.invalid(&spec.at("parallelism"), parallelism, detail);
    }
    if let (Some(failed), Some(completions)) = (most_failed, completions)
        && failed > completions
    {
        findings.invalid(&failed_at, failed, "must be less than or equal to completions");
    }
    if let Some(failed) = most_failed.filter(|number| *number > MOST_INDEXED) {
        findings.invalid(&failed_at, failed, format!("must be less than or equal to {MOST_INDEXED}"));
    }
    if completions.is_some_and(|number| number > MOST_INDEXED) && spec.has("backoffLimitPerIndex") {
        if most_failed.is_none() {
            let detail = format!("must be specified when completions is above {MOST_INDEXED}");
            findings.required(&failed_at, detail);
        }
        let detail = format!(
            "must be less than or equal to {MOST_OF_MANY} when completions are above {MOST_INDEXED} and used with \
             backoff limit per index"
        );
        for (field, number) in [("parallelism", parallelism), ("maxFailedIndexes", most_failed)] {
            if let Some(number) = number.filter(|number| *number > MOST_OF_MANY) {
                findings.invalid(&spec.at(field), number, detail.as_str());
            }
        }
    }
}

/// A selector that users did not write chooses by the uid of the job, which its template has as a label.
fn check_generated_selector(job: &Part<'_>, findings: &mut Findings) {
    let (metadata, spec) = (job.child("metadata"), job.child("spec"));
    if spec.flag("manualSelector") || !spec.has("selector") {
        return;
    }
    let (uid, name) = (metadata.text("uid"), metadata.text("name"));
    if uid.is_empty() {
        findings.required(&metadata.at("uid"), "");
    }
    let template = spec.child("template").child("metadata");
    let labels = template.child("labels");
    let mut expected = Map::new();
    for prefix in ["", LABEL_PREFIX] {
        for (label, value) in [("controller-uid", uid), ("job-name", name)] {
            let label = format!("{prefix}{label}");
            let at = labels.path.key(&label);
            if !labels.has(&label) {
                findings.required(&at, format!("must be '{value}'"));
            } else if labels.text(&label) != value {
                findings.invalid(&at, labels.value.clone(), format!("must be '{value}'"));
            }
            expected.insert(label, json!(value));
        }
    }
    if Selector::of_object(Some(spec.get("selector"))).is_ok_and(|selector| !selector.matches(&expected)) {
        let detail = "`selector` not auto-generated";
        findings.invalid(&spec.at("selector"), spec.get("selector").clone(), detail);
    }
}

/// The pods of a job with indexes have names of hosts made of its own.
fn check_hostnames(job: &Part<'_>, findings: &mut Findings) {
    let (metadata, spec) = (job.child("metadata"), job.child("spec"));
    let completions = spec.count("completions");
    if is_indexed(&spec) && completions > 0 {
        let longest = format!("{}-{}", metadata.text("name"), completions - 1);
        if !names::dns_label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            findings.invalid(&metadata.at("name"), metadata.text("name"), detail);
        }
    }
}

fn check_update(change: &Change<'_>, new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    check_completions(new, old, findings);
    findings.immutable(new, old, "selector");
    check_template_update(change, new, old, findings);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        findings.immutable(new, old, field);
    }
}

/// Indexed jobs may grow and shrink together with the number of pods at once.
fn check_completions(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    if !is_indexed(new) {
        findings.immutable(new, old, "completions");
    } else if let Some(completions) = new.number("completions")
        && old.number("completions") != Some(completions)
        && new.number("parallelism") != Some(completions)
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        findings.invalid(&new.at("completions"), completions, detail);
    }
}

/// The template may not change, but for where and with what its pods run, while the job is suspended and none ran.
fn check_template_update(change: &Change<'_>, new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let (mut now, mut before) = (new.get("template").clone(), old.get("template").clone());
    let status = change.old.as_ref().map(|old| old.child("status"));
    let never_started = status.is_none_or(|status| !status.has("startTime"));
    let is_suspended = old.flag("suspend") && never_started;
    if is_suspended {
        for template in [&mut now, &mut before] {
            forget_directives(template);
        }
    }
    if !same(&now, &before) {
        findings.invalid(&new.at("template"), new.get("template").clone(), IMMUTABLE);
    }
}

/// Takes away what may change of a template while nothing of it runs.
fn forget_directives(template: &mut Value) {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
        metadata.remove("annotations");
    }
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        spec.remove(field);
    }
    if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
        affinity.remove("nodeAffinity");
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers.filter_map(Value::as_object_mut) {
            container.remove("resources");
        }
    }
}
