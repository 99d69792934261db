//! Pods, templates of pods, and what is asked of a pod beside its own update (`core/v1`). Must never judge the metadata that
//! all objects have.

mod affinity;
mod annotations;
pub(super) mod claim;
mod containers;
mod disks;
mod env;
mod mounts;
mod probes;
mod projected;
mod resize;
mod resources;
mod scheduling;
mod security;
pub(super) mod spec;
mod status;
mod update;
mod volumes;
mod windows;

use std::sync::LazyLock;

use barque_api::metadata::validate_annotations;
use serde_json::{Map, Value};

use self::annotations::{check_pod_annotations, check_profiles_match};
use self::spec::{Owner, check_pod_spec};
use super::Subject;
use super::findings::Findings;
use super::part::Part;

/// Judges one of these kinds; false when it is none of them.
pub(super) fn check_kind(subject: &Subject<'_>, findings: &mut Findings) -> bool {
    let new = Part::root(subject.new);
    match (subject.group, subject.kind, subject.subresource) {
        ("", "Binding", _) | ("", "Pod", "binding") => check_binding(&new, findings),
        ("", "Pod", subresource) => {
            let old = subject.old.map(Part::root);
            match (subresource, old) {
                ("status", Some(old)) => status::check_status_update(&new, &old, findings),
                ("ephemeralcontainers", Some(old)) => update::check_ephemeral_update(&new, &old, findings),
                ("resize", Some(old)) => resize::check_resize(&new, &old, findings),
                ("", Some(old)) => update::check_update(&new, &old, findings),
                ("", None) => check_create(&new, findings),
                _ => {}
            }
        }
        ("", "PodTemplate", _) => check_pod_template(&new.child("template"), &[], findings),
        _ => return false,
    }
    true
}

/// A template of pods. `claims` are names of volumes that the owner of the template adds as claims.
pub(super) fn check_pod_template(template: &Part<'_>, claims: &[&str], findings: &mut Findings) {
    let spec = template.child("spec");
    check_template_metadata(template, findings);
    check_pod_spec(&spec, Owner { claims, ..Owner::default() }, findings);
    if let Some(annotations) = template.child("metadata").map("annotations") {
        check_profiles_match(annotations, &spec, findings);
    }
    if !spec.list("ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        findings.forbidden(&spec.at("ephemeralContainers"), detail);
    }
}

/// Labels and annotations of a template. As in Kubernetes their places have no `metadata` in them.
fn check_template_metadata(template: &Part<'_>, findings: &mut Findings) {
    let metadata = Part::new(template.get("metadata"), template.path.clone());
    findings.labels(&metadata, "labels");
    if let Some(annotations) = metadata.map("annotations") {
        let path = template.at("annotations");
        findings.extend(validate_annotations(annotations, &path));
        check_pod_annotations(annotations, &template.child("spec"), &path, findings);
    }
}

fn check_create(pod: &Part<'_>, findings: &mut Findings) {
    check_pod(pod, findings);
    let spec = pod.child("spec");
    if !spec.list("ephemeralContainers").is_empty() {
        findings.forbidden(&spec.at("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.text("nodeName").is_empty() && !spec.list("schedulingGates").is_empty() {
        findings.forbidden(&spec.at("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    check_profiles_match(annotations_of(pod), &spec, findings);
}

/// What holds for a pod whenever it is written.
fn check_pod(pod: &Part<'_>, findings: &mut Findings) {
    let (metadata, spec) = (pod.child("metadata"), pod.child("spec"));
    check_pod_annotations(annotations_of(pod), &spec, &metadata.at("annotations"), findings);
    let owner = Owner { pod: metadata.text("name"), is_pod: true, claims: &[] };
    check_pod_spec(&spec, owner, findings);
    if spec.text("serviceAccountName").is_empty() {
        for volume in spec.items("volumes") {
            for source in volume.child("projected").items("sources") {
                if source.has("serviceAccountToken") {
                    let detail = "must not be specified when serviceAccountName is not set";
                    findings.forbidden(&source.at("serviceAccountToken"), detail);
                }
            }
        }
    }
}

fn check_binding(binding: &Part<'_>, findings: &mut Findings) {
    let target = binding.child("target");
    if !["", "Node"].contains(&target.text("kind")) {
        findings.not_supported(&target.at("kind"), target.text("kind"), &["Node", "<empty>"]);
    }
    findings.needs(&target, "name");
}

fn annotations_of<'a>(pod: &Part<'a>) -> &'a Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    pod.child("metadata").map("annotations").unwrap_or(&NONE)
}

/// The containers of a pod of all kinds.
fn each_container<'a>(spec: &Part<'a>) -> impl Iterator<Item = Part<'a>> + use<'a> {
    let spec = spec.clone();
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(move |field| spec.items(field))
}

#[cfg(test)]
mod tests;
