//! `PersistentVolumeClaim`: what is asked for, and what may change when it is bound. Must never look for a volume.

use barque_api::field::FieldPath;
use barque_api::labels::{SelectorRules, validate_label_selector};
use barque_api::metadata::Metadata;
use barque_api::names;
use barque_api::quantity::Quantity;
use serde_json::{Value, json};

use super::amounts::{check_amount, check_positive, is_native};
use super::volumes::{VOLUME_MODES, check_access_modes};
use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;
use crate::validation::same::{difference, same};

const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// What is wrong with a `PersistentVolumeClaim`.
pub(super) fn check_claim(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        check_status(&change.new, findings);
        return;
    }
    let spec = change.new.child("spec");
    check_claim_spec(&spec, change.old.as_ref().map(|old| old.child("spec")).as_ref(), findings);
    if let Some(old) = &change.old {
        check_changed(&change.new, old, findings);
    }
}

/// What a claim, or the template of one, asks for.
fn check_claim_spec(spec: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    if spec.list("accessModes").is_empty() {
        findings.required(&spec.at("accessModes"), "at least 1 access mode is required");
    }
    let strict = SelectorRules::default();
    let lax = old
        .is_some_and(|old| !validate_label_selector(Some(old.get("selector")), strict, &old.path).is_empty());
    let rules = SelectorRules { any_value: lax, ..strict };
    findings.extend(validate_label_selector(Some(spec.get("selector")), rules, &spec.at("selector")));
    check_access_modes(spec, findings);
    let at = spec.at("resources").key("storage");
    match spec.child("resources").child("requests").given("storage") {
        None => findings.required(&at, ""),
        Some(storage) => {
            check_positive(storage.value, &at, findings);
        }
    }
    if !spec.text("storageClassName").is_empty() {
        findings.dns_subdomain(&spec.at("storageClassName"), spec.text("storageClassName"));
    }
    findings.word_if_given(spec, "volumeMode", &VOLUME_MODES);
    check_data_sources(spec, old, findings);
    if !spec.text("volumeAttributesClassName").is_empty() {
        let class = spec.text("volumeAttributesClassName");
        findings.dns_subdomain(&spec.at("volumeAttributesClassName"), class);
    }
}

fn check_data_sources(spec: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    let any_group = old.is_some_and(|old| {
        ["dataSource", "dataSourceRef"].iter().any(|field| old.child(field).has("apiGroup"))
    });
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = spec.given(field) else { continue };
        findings.needs(&source, "name");
        findings.needs(&source, "kind");
        let (group, kind) = (source.text("apiGroup"), source.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            findings.invalid(&source.path, kind, detail);
        }
        if !group.is_empty() && !any_group {
            findings.dns_subdomain(&source.at("apiGroup"), group);
        }
        if !source.text("namespace").is_empty() {
            findings.dns_label(&source.at("namespace"), source.text("namespace"));
        }
    }
    let (Some(source), Some(reference)) = (spec.given("dataSource"), spec.given("dataSourceRef")) else {
        return;
    };
    let told = || Value::String(spec.at("dataSource").to_string());
    if !reference.text("namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        findings.invalid(&spec.path, told(), detail);
    } else if ["apiGroup", "kind", "name"].iter().any(|field| source.get(field) != reference.get(field)) {
        findings.invalid(&spec.path, told(), "must match dataSourceRef");
    }
}

/// A claim stays as it is, but for the volume it is given, and its size and attributes once it is bound.
fn check_changed(new: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let (spec, before) = (new.child("spec"), old.child("spec"));
    let (mut after, mut left) = (spec.value.clone(), before.value.clone());
    if before.text("volumeName").is_empty() {
        put(&mut left, "volumeName", spec.get("volumeName"));
    }
    let class_of = |claim: &Part<'_>| Metadata::of(claim.value).annotation(CLASS).map(str::to_owned);
    let (old_class, new_class) = (class_of(old), class_of(new));
    let named = spec.get("storageClassName").as_str();
    let was_unnamed = !before.has("storageClassName");
    let moved = old_class.is_some()
        && was_unnamed
        && named == old_class.as_deref()
        && (new_class.is_none() || new_class == old_class);
    if moved {
        put(&mut after, "storageClassName", &Value::Null);
    } else {
        if new_class != old_class {
            let at = FieldPath::of("metadata.annotations").child(CLASS);
            findings.invalid(&at, new_class.unwrap_or_default(), IMMUTABLE);
        }
        if was_unnamed && named.is_some() && (old_class.is_none() || named == old_class.as_deref()) {
            put(&mut left, "storageClassName", spec.get("storageClassName"));
        }
    }
    let size_of = |spec: &Part<'_>| spec.child("resources").child("requests").get("storage").clone();
    if new.child("status").text("phase") == "Bound" {
        if let Some(requests) = after.pointer_mut("/resources/requests") {
            put(requests, "storage", &size_of(&before));
        }
        if spec.has("volumeAttributesClassName") {
            put(&mut after, "volumeAttributesClassName", before.get("volumeAttributesClassName"));
        }
    }
    if !same(&after, &left) {
        let changes = difference(&left, &after, &FieldPath::of("spec"));
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{changes}"
        );
        findings.forbidden(&FieldPath::of("spec"), detail);
    }
    let zero = json!("0");
    let amount = |value: &Value| Quantity::of_value(if value.is_null() { &zero } else { value }).ok();
    let status_size = old.child("status").child("capacity").get("storage").clone();
    if let (Some(new_size), Some(old_size), Some(real)) =
        (amount(&size_of(&spec)), amount(&size_of(&before)), amount(&status_size))
        && new_size < old_size
        && new_size <= real
    {
        let at = FieldPath::of("spec.resources.requests.storage");
        findings.forbidden(&at, "field can not be less than status.capacity");
    }
    if !same(spec.get("volumeMode"), before.get("volumeMode")) {
        findings.invalid(&FieldPath::of("volumeMode"), spec.get("volumeMode").clone(), IMMUTABLE);
    }
    if before.has("volumeAttributesClassName") {
        let at = spec.at("volumeAttributesClassName");
        if !spec.has("volumeAttributesClassName") {
            findings.forbidden(&at, "update from non-nil value to nil is forbidden");
        } else if spec.text("volumeAttributesClassName").is_empty()
            && !before.text("volumeAttributesClassName").is_empty()
        {
            findings.forbidden(&at, "update from non-nil value to an empty string is forbidden");
        }
    }
}

fn put(object: &mut Value, field: &str, value: &Value) {
    if let Some(fields) = object.as_object_mut() {
        if value.is_null() {
            fields.remove(field);
        } else {
            fields.insert(field.to_owned(), value.clone());
        }
    }
}

fn check_status(claim: &Part<'_>, findings: &mut Findings) {
    if claim.child("spec").list("accessModes").is_empty() {
        findings.required(&FieldPath::of("Spec.accessModes"), "");
    }
    let status = claim.child("status");
    for (name, value) in status.entries("capacity") {
        let at = status.at("capacity").key(name);
        if let Some(quantity) = findings.quantity(value, &at)
            && quantity.sign() < 0
        {
            findings.invalid(&at, quantity.value(), "must be a valid resource quantity");
        }
    }
    let at = status.at("allocatedResourceStatus");
    for (name, value) in status.entries("allocatedResourceStatuses") {
        check_resource(name, &at, findings);
        if !RESIZES.contains(&value.as_str().unwrap_or_default()) {
            findings.not_supported(&at, name, &RESIZES);
        }
    }
    let at = status.at("allocatedResources");
    for (name, value) in status.entries("allocatedResources") {
        if check_resource(name, &at, findings) {
            check_amount("storage", value, &at.key(name), findings);
        }
    }
}

fn check_resource(name: &str, at: &FieldPath, findings: &mut Findings) -> bool {
    let wrong = names::label_key(name);
    if !wrong.is_empty() {
        findings.each(at, name, wrong);
        return false;
    }
    if is_native(name) && name != "storage" {
        findings.not_supported(at, name, &["storage"]);
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::told;
    use super::*;

    fn claim(size: &str, phase: &str, class: Option<&str>) -> Value {
        json!({
            "metadata": {"name": "a"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}},
                     "storageClassName": class},
            "status": {"phase": phase, "capacity": {"storage": "1Gi"}},
        })
    }

    fn told_of(new: &Value, old: Option<&Value>) -> Vec<String> {
        told("", "PersistentVolumeClaim", new, old)
    }

    #[test]
    fn claims_ask_for_storage() {
        assert!(told_of(&claim("1Gi", "Pending", None), None).is_empty());
        assert_eq!(
            told_of(&json!({"spec": {}}), None),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value",
            ]
        );
        let mut sourced = claim("1Gi", "Pending", None);
        sourced["spec"]["dataSource"] = json!({"kind": "Other", "name": "b"});
        assert_eq!(
            told_of(&sourced, None),
            [
                "spec.dataSource: Invalid value: \"Other\": must be 'PersistentVolumeClaim' when referencing the default \
             apiGroup"
            ]
        );
    }

    #[test]
    fn a_bound_claim_may_grow() {
        let old = claim("1Gi", "Bound", Some("c"));
        assert!(told_of(&claim("2Gi", "Bound", Some("c")), Some(&old)).is_empty());
        let told = told_of(&claim("2Gi", "Pending", Some("c")), Some(&claim("1Gi", "Pending", Some("c"))));
        assert!(told[0].starts_with("spec: Forbidden: spec is immutable after creation except"), "{told:?}");
        assert_eq!(
            told_of(&claim("1Mi", "Bound", Some("c")), Some(&old)),
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
        );
        assert_eq!(told_of(&claim("1Gi", "Bound", Some("d")), Some(&old)).len(), 1);
    }

    #[test]
    fn a_claim_gets_its_volume_and_class_once() {
        let old = claim("1Gi", "Pending", None);
        let mut new = claim("1Gi", "Pending", Some("c"));
        new["spec"]["volumeName"] = json!("v");
        assert!(told_of(&new, Some(&old)).is_empty());
        let mut other = new.clone();
        other["spec"]["volumeName"] = json!("w");
        assert_eq!(told_of(&other, Some(&new)).len(), 1);
    }
}
