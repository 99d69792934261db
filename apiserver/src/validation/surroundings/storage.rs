//! How volumes are made and found: classes, drivers, attachments, capacities. Must never make or attach one.

use std::collections::BTreeSet;

use barque_api::field::{FieldError, FieldPath};
use barque_api::labels::{SelectorRules, validate_label_selector};
use barque_api::names;

use super::{Change, Findings, Part};
use crate::validation::findings::{IMMUTABLE, NEGATIVE};
use crate::validation::same::same;

const MOST_PARAMETERS: usize = 512;
const LARGEST_PARAMETERS: usize = 256 * 1024;
const LARGEST_METADATA: usize = 256 * 1024;
const LARGEST_MESSAGE: usize = 1024;
const LONGEST_NODE_ID: usize = 256;

/// A name of a driver: a DNS subdomain, with capitals too.
pub(super) fn check_driver_name(name: &str, at: &FieldPath, findings: &mut Findings) {
    if name.is_empty() {
        findings.required(at, "");
        return;
    }
    if name.len() > 63 {
        findings.push(FieldError::too_long(at, 63));
    }
    findings.each(at, name, names::dns_subdomain(&name.to_lowercase()));
}

fn check_provisioner(part: &Part<'_>, field: &str, findings: &mut Findings) {
    let name = part.text(field);
    if name.is_empty() {
        findings.required(&part.at(field), "");
    } else {
        let lower = name.to_lowercase();
        findings.label_key(&part.at(field), &lower);
    }
}

fn check_parameters(part: &Part<'_>, needed: bool, findings: &mut Findings) {
    let at = part.at("parameters");
    let many = part.entries("parameters").count();
    if many > MOST_PARAMETERS {
        findings.push(FieldError::too_long(&at, MOST_PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in part.entries("parameters") {
        if key.is_empty() {
            findings.invalid(&at, key, "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_PARAMETERS {
        findings.push(FieldError::too_long(&at, LARGEST_PARAMETERS));
    }
    if needed && many == 0 {
        findings.required(&at, "must contain at least one key/value pair");
    }
}

fn check_kept(change: &Change<'_>, old: &Part<'_>, fields: &[&str], findings: &mut Findings) {
    for field in fields.iter().filter(|field| !same(change.new.get(field), old.get(field))) {
        findings.forbidden(&FieldPath::of(field), format!("updates to {field} are forbidden."));
    }
}

/// What is wrong with a `StorageClass`.
pub(super) fn check_class(change: &Change<'_>, findings: &mut Findings) {
    let class = &change.new;
    if let Some(old) = &change.old {
        check_kept(change, old, &["parameters", "provisioner", "reclaimPolicy"], findings);
        findings.immutable(class, old, "volumeBindingMode");
        return;
    }
    check_provisioner(class, "provisioner", findings);
    check_parameters(class, false, findings);
    if !class.text("reclaimPolicy").is_empty() {
        findings.word_if_given(class, "reclaimPolicy", &["Delete", "Retain"]);
    }
    findings.word(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]);
    let mut terms: Vec<&serde_json::Value> = Vec::new();
    for term in class.items("allowedTopologies") {
        check_topology(&term, findings);
        if terms.contains(&term.value) {
            findings.duplicate(&term.at("matchLabelExpressions"), "");
        }
        terms.push(term.value);
    }
}

fn check_topology(term: &Part<'_>, findings: &mut Findings) {
    let mut keys = BTreeSet::new();
    for expression in term.items("matchLabelExpressions") {
        let key = expression.text("key");
        if expression.list("values").is_empty() {
            findings.required(&expression.at("values"), "");
        }
        findings.label_key(&expression.at("key"), key);
        let mut values = BTreeSet::new();
        for (index, value) in expression.texts("values").enumerate() {
            if !values.insert(value) {
                findings.duplicate(&expression.at("values").index(index), value);
            }
        }
        if !keys.insert(key) {
            findings.duplicate(&expression.at("key"), key);
        }
    }
}

/// What is wrong with a `VolumeAttributesClass`.
pub(super) fn check_attributes_class(change: &Change<'_>, findings: &mut Findings) {
    if let Some(old) = &change.old {
        check_kept(change, old, &["driverName", "parameters"], findings);
    }
    check_provisioner(&change.new, "driverName", findings);
    check_parameters(&change.new, true, findings);
}

/// What is wrong with a `VolumeAttachment`.
pub(super) fn check_attachment(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    findings.needs(&spec, "attacher");
    let source = spec.child("source");
    let volume = source.at("persistentVolumeName");
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.has("inlineVolumeSpec"), source.has("persistentVolumeName")) {
        (false, false) => findings.required(&source.path, one),
        (true, true) => findings.forbidden(&source.path, one),
        (false, true) if source.text("persistentVolumeName").is_empty() => {
            findings.required(&volume, "must specify non empty persistentVolumeName");
        }
        _ => {}
    }
    findings.dns_subdomain(&spec.at("nodeName"), spec.text("nodeName"));
    let status = change.new.child("status");
    let metadata = status.entries("attachmentMetadata");
    let size: usize = metadata.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > LARGEST_METADATA {
        findings.push(FieldError::too_long(&status.at("attachmentMetadata"), LARGEST_METADATA));
    }
    for error in ["attachError", "detachError"].iter().filter_map(|field| status.given(field)) {
        if error.text("message").len() > LARGEST_MESSAGE {
            findings.push(FieldError::too_long(&error.at("message"), LARGEST_METADATA));
        }
        if error.count("errorCode") < 0 {
            let detail = names::inclusive_range(0, i64::from(i32::MAX));
            findings.invalid(&error.at("errorCode"), error.count("errorCode"), detail);
        }
    }
    match &change.old {
        None => {
            check_driver_name(spec.text("attacher"), &FieldPath::of("spec.attacher"), findings);
            if source.has("persistentVolumeName") {
                findings.dns_subdomain(&volume, source.text("persistentVolumeName"));
            }
        }
        Some(old) => findings.immutable(&change.new, old, "spec"),
    }
}

/// What is wrong with a `CSIDriver`.
pub(super) fn check_driver(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    // Kubernetes tells the first by this name.
    for (field, told) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            findings.required(&spec.at(told), "");
        }
    }
    findings.word_if_given(&spec, "fsGroupPolicy", &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = BTreeSet::new();
    for request in spec.items("tokenRequests") {
        let audience = request.text("audience");
        if !audiences.insert(audience) {
            findings.duplicate(&request.at("audience"), audience);
            continue;
        }
        let Some(seconds) = request.number("expirationSeconds") else { continue };
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            findings.invalid(&request.at("expirationSeconds"), seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            findings.invalid(&request.at("expirationSeconds"), seconds, detail);
        }
    }
    for mode in spec.texts("volumeLifecycleModes") {
        if !["Persistent", "Ephemeral"].contains(&mode) {
            findings.not_supported(&spec.at("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    if let Some(seconds) = spec.number("nodeAllocatableUpdatePeriodSeconds")
        && seconds < 10
    {
        let at = spec.at("nodeAllocatableUpdatePeriodSeconds");
        findings.invalid(&at, seconds, "must be greater than or equal to 10 seconds");
    }
    if let Some(old) = &change.old {
        let old = old.child("spec");
        if spec.get("attachRequired") != old.get("attachRequired") {
            let value = spec.get("attachRequired").clone();
            findings.invalid(&spec.at("attachedRequired"), value, IMMUTABLE);
        }
        findings.immutable(&spec, &old, "volumeLifecycleModes");
    }
}

/// What is wrong with a `CSINode`.
pub(super) fn check_node(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let mut seen = BTreeSet::new();
    for driver in spec.items("drivers") {
        let name = driver.text("name");
        check_driver_name(name, &driver.at("name"), findings);
        findings.needs(&driver, "nodeID");
        if driver.text("nodeID").len() > LONGEST_NODE_ID {
            let detail = format!("must be {LONGEST_NODE_ID} characters or less");
            findings.invalid(&driver.at("nodeID"), driver.text("nodeID"), detail);
        }
        findings.nonnegative(&driver.child("allocatable"), &["count"]);
        if !seen.insert(name) {
            findings.duplicate(&driver.at("name"), name);
        }
        let mut keys = BTreeSet::new();
        for key in driver.texts("topologyKeys") {
            if key.is_empty() {
                findings.required(&driver.path, "");
            }
            if !keys.insert(key) {
                findings.duplicate(&driver.path, key);
            }
            findings.label_key(&driver.path, key);
        }
    }
    let Some(old) = &change.old else { return };
    for before in old.child("spec").items("drivers") {
        for after in spec.items("drivers").filter(|after| after.text("name") == before.text("name")) {
            let fields = ["nodeID", "topologyKeys"];
            if fields.iter().any(|field| !same(after.get(field), before.get(field))) {
                findings.invalid(&spec.at("drivers"), after.value.clone(), IMMUTABLE);
            }
        }
    }
}

/// What is wrong with a `CSIStorageCapacity`.
pub(super) fn check_capacity(change: &Change<'_>, findings: &mut Findings) {
    let capacity = &change.new;
    if let Some(old) = &change.old {
        for field in ["nodeTopology", "storageClassName"] {
            findings.immutable(capacity, old, field);
        }
        return;
    }
    let rules = SelectorRules::default();
    let at = capacity.at("nodeTopology");
    findings.extend(validate_label_selector(Some(capacity.get("nodeTopology")), rules, &at));
    findings.dns_subdomain(&capacity.at("storageClassName"), capacity.text("storageClassName"));
    if capacity.has("capacity")
        && let Some(quantity) = findings.quantity(capacity.get("capacity"), &capacity.at("capacity"))
        && quantity.sign() < 0
    {
        findings.invalid(&capacity.at("capacity"), quantity.to_string(), NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    fn told_of(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        told("storage.k8s.io", kind, new, old)
    }

    #[test]
    fn what_a_class_says_stays() {
        let class =
            json!({"provisioner": "a.io/b", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
        assert!(told_of("StorageClass", &class, None).is_empty());
        let mut other = class.clone();
        other["parameters"] = json!({"a": "b"});
        other["reclaimPolicy"] = json!("Retain");
        other["volumeBindingMode"] = json!("WaitForFirstConsumer");
        assert_eq!(
            told_of("StorageClass", &other, Some(&class)),
            [
                "parameters: Forbidden: updates to parameters are forbidden.",
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
                "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
            ]
        );
        other["reclaimPolicy"] = json!("Recycle");
        assert_eq!(
            told_of("StorageClass", &other, None),
            ["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""]
        );
        assert_eq!(
            told_of("VolumeAttributesClass", &json!({"driverName": "a.io"}), None),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
    }

    #[test]
    fn an_attachment_has_one_source_and_stays() {
        let attachment = |node: &str| json!({"spec": {"attacher": "a.io", "nodeName": node, "source": {"persistentVolumeName": "v"}}});
        assert!(told_of("VolumeAttachment", &attachment("n"), None).is_empty());
        let told = told_of("VolumeAttachment", &attachment("m"), Some(&attachment("n")));
        assert!(told.len() == 1 && told[0].ends_with("field is immutable"), "{told:?}");
        let none = json!({"spec": {"attacher": "a.io", "nodeName": "n"}});
        assert_eq!(
            told_of("VolumeAttachment", &none, None),
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            ]
        );
    }

    #[test]
    fn drivers_say_how_they_work() {
        let driver =
            json!({"spec": {"attachRequired": true, "podInfoOnMount": false, "storageCapacity": false}});
        assert!(told_of("CSIDriver", &driver, None).is_empty());
        let mut other = driver.clone();
        other["spec"]["attachRequired"] = json!(false);
        assert_eq!(
            told_of("CSIDriver", &other, Some(&driver)),
            ["spec.attachedRequired: Invalid value: false: field is immutable"]
        );
        assert_eq!(told_of("CSIDriver", &json!({"spec": {}}), None).len(), 3);
    }

    #[test]
    fn nodes_and_capacities_of_drivers() {
        let node =
            |id: &str| json!({"spec": {"drivers": [{"name": "a.io", "nodeID": id, "topologyKeys": ["a"]}]}});
        assert!(told_of("CSINode", &node("x"), Some(&node("x"))).is_empty());
        assert_eq!(told_of("CSINode", &node("y"), Some(&node("x"))).len(), 1);
        assert_eq!(told_of("CSINode", &node(""), None), ["spec.drivers[0].nodeID: Required value"]);
        let capacity = |class: &str| json!({"storageClassName": class, "capacity": "-1"});
        assert_eq!(
            told_of("CSIStorageCapacity", &capacity("a"), None),
            ["capacity: Invalid value: \"-1\": must be greater than or equal to 0"]
        );
        assert_eq!(
            told_of("CSIStorageCapacity", &capacity("b"), Some(&capacity("a"))),
            ["storageClassName: Invalid value: \"b\": field is immutable"]
        );
    }
}
