//! What is wrong with the spec and the status of an object of a built-in kind, in the words of Kubernetes: on its creation,
//! on each update, and through its subresources. Objects come here with the right types and with defaults; metadata is
//! judged by `barque_api::metadata`. Must never panic at any shape, and never depend on anything but the object and what it
//! was before.

mod findings;
mod part;
mod paths;
mod pod;
mod same;
mod surroundings;
mod workload;

use barque_api::field::{FieldError, FieldPath};
use serde_json::Value;

use self::findings::Findings;
use self::part::Part;

/// What is validated.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The group of the kind; empty for the core.
    pub group: &'a str,
    /// The kind of the object.
    pub kind: &'a str,
    /// Empty for the object itself; `status`, `scale`, `resize`, `ephemeralcontainers`, `binding`.
    pub subresource: &'a str,
    /// The object as it is to be; for `scale` and `binding` what was sent to them.
    pub new: &'a Value,
    /// The object as it is; nothing on creation.
    pub old: Option<&'a Value>,
}

/// What is wrong with an object; nothing for kinds that have no rules here.
#[must_use]
pub fn validate(subject: &Subject<'_>) -> Vec<FieldError> {
    validate_workloads(subject).or_else(|| surroundings::validate_surroundings(subject)).unwrap_or_default()
}

/// What is wrong with a pod, a template of pods, or what makes pods and minds their number. Nothing at all when the kind is
/// none of these.
#[must_use]
pub fn validate_workloads(subject: &Subject<'_>) -> Option<Vec<FieldError>> {
    let mut findings = Findings::default();
    let known = pod::check_kind(subject, &mut findings) || workload::check_kind(subject, &mut findings);
    known.then(|| findings.into_errors())
}

/// What is wrong with a template of pods (`core/v1` PodTemplateSpec) at a place in an object.
#[must_use]
pub fn validate_pod_template(template: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut findings = Findings::default();
    pod::check_pod_template(&Part::new(template, path.clone()), &[], &mut findings);
    findings.into_errors()
}

#[cfg(test)]
mod tests;
