//! What is wrong with an object's metadata, when it is created and when it is changed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{FOREGROUND_FINALIZER, Metadata, ORPHAN_FINALIZER, OwnerReference};
use crate::field::{FieldError, FieldPath};
use crate::labels::validate_labels;
use crate::names::{self, NameRule};
use crate::time::Time;

/// The most bytes of all annotations of an object, with their keys.
pub const ANNOTATIONS_LIMIT: usize = 256 * 1024;
const MANAGER_LIMIT: usize = 128;
const SUBRESOURCE_LIMIT: usize = 256;

/// What is wrong with the metadata of an object that is to be created. Its name is already generated.
#[must_use]
pub fn validate_create(
    metadata: Metadata<'_>,
    namespaced: bool,
    rule: NameRule,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (base, name) = (metadata.generate_name(), metadata.name());
    if !base.is_empty() {
        add(&mut errors, &path.child("generateName"), base, rule.check_base(base));
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        add(&mut errors, &path.child("name"), name, rule.check(name));
    }
    let (namespace, at) = (metadata.namespace(), path.child("namespace"));
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(FieldError::required(&at, "")),
        (true, false) => add(&mut errors, &at, namespace, names::dns_label(namespace)),
        (false, true) => {}
        (false, false) => errors.push(FieldError::forbidden(&at, "not allowed on this type")),
    }
    errors.extend(validate_generation(metadata, path));
    validate_maps_and_owners(metadata, path, &mut errors);
    errors.extend(validate_finalizers(metadata, &path.child("finalizers")));
    errors.extend(validate_managed_fields(metadata.managed_fields(), &path.child("managedFields")));
    errors
}

/// What is wrong with the metadata of an object that is to become this one.
#[must_use]
pub fn validate_update(new: Metadata<'_>, old: Metadata<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_deleting() {
        errors.extend(no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if new.resource_version().is_empty() {
        let detail = "must be specified for an update";
        errors.push(FieldError::invalid(&path.child("resourceVersion"), "", detail));
    }
    errors.extend(validate_generation(new, path));
    if new.generation() < old.generation() {
        let detail = "must not be decremented";
        errors.push(FieldError::invalid(&path.child("generation"), new.generation(), detail));
    }
    let mut immutable = |name: &str, new: Value, same: bool| {
        if !same {
            errors.push(FieldError::invalid(&path.child(name), new, "field is immutable"));
        }
    };
    immutable("name", new.name().into(), new.name() == old.name());
    immutable("namespace", new.namespace().into(), new.namespace() == old.namespace());
    immutable("uid", new.uid().into(), new.uid() == old.uid());
    for name in ["creationTimestamp", "deletionTimestamp"] {
        let (new, old) = (new.field(name), old.field(name));
        immutable(name, new.cloned().unwrap_or_default(), same_moment(new, old));
    }
    let (new_grace, old_grace) = (new.deletion_grace_seconds(), old.deletion_grace_seconds());
    immutable("deletionGracePeriodSeconds", new_grace.into(), new_grace == old_grace);
    validate_maps_and_owners(new, path, &mut errors);
    errors.extend(validate_managed_fields(new.managed_fields(), &path.child("managedFields")));
    errors
}

fn add(errors: &mut Vec<FieldError>, path: &FieldPath, value: &str, wrong: Vec<String>) {
    errors.extend(wrong.into_iter().map(|wrong| FieldError::invalid(path, value, wrong)));
}

fn same_moment(left: Option<&Value>, right: Option<&Value>) -> bool {
    let given = |value: Option<&Value>| value.cloned().unwrap_or_default();
    let moment = |value: &Value| value.as_str().and_then(|text| Time::parse(text).ok());
    let (left, right) = (given(left), given(right));
    match (moment(&left), moment(&right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn validate_generation(metadata: Metadata<'_>, path: &FieldPath) -> Option<FieldError> {
    let generation = metadata.generation();
    let detail = "must be greater than or equal to 0";
    (generation < 0).then(|| FieldError::invalid(&path.child("generation"), generation, detail))
}

fn validate_maps_and_owners(metadata: Metadata<'_>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(labels) = metadata.labels() {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = metadata.annotations() {
        errors.extend(validate_annotations(annotations, &path.child("annotations")));
    }
    errors.extend(validate_owner_references(metadata, &path.child("ownerReferences")));
}

/// What is wrong with annotations.
#[must_use]
pub fn validate_annotations(annotations: &Map<String, Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations {
        add(&mut errors, path, key, names::annotation_key(key));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(path, ANNOTATIONS_LIMIT));
    }
    errors
}

/// What is wrong with the owners of an object.
#[must_use]
pub fn validate_owner_references(metadata: Metadata<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for (index, owner) in metadata.owner_references().enumerate() {
        validate_owner(owner, &path.index(index), &mut errors);
        if !owner.is_controller() {
            continue;
        }
        let name = format!("{}/{}", owner.kind(), owner.name());
        match &controller {
            None => controller = Some(name),
            Some(first) => errors.push(FieldError::invalid(
                path,
                metadata.field("ownerReferences").cloned().unwrap_or_default(),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} \
                     and {name}"
                ),
            )),
        }
    }
    errors
}

fn validate_owner(owner: OwnerReference<'_>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let api_version = owner.api_version();
    // `/v1` is the core group too, as Kubernetes has it.
    let parts: Vec<&str> = api_version.split('/').collect();
    let group_version = match parts.as_slice() {
        [version] => Some(("", *version)),
        [group, version] => Some((*group, *version)),
        _ => None,
    };
    if api_version.is_empty() {
        errors.push(FieldError::required(&path.child("apiVersion"), "must not be empty"));
    } else if group_version.is_none_or(|(_, version)| version.is_empty()) {
        let detail = "must be <group>/<version> or <version>";
        errors.push(FieldError::invalid(&path.child("apiVersion"), api_version, detail));
    }
    for (name, text) in [("kind", owner.kind()), ("name", owner.name()), ("uid", owner.uid())] {
        if text.is_empty() {
            errors.push(FieldError::required(&path.child(name), "must not be empty"));
        }
    }
    if group_version == Some(("", "v1")) && owner.kind() == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(FieldError::invalid(path, owner.value().clone(), detail));
    }
}

/// What is wrong with the finalizers of an object.
#[must_use]
pub fn validate_finalizers(metadata: Metadata<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for finalizer in metadata.finalizers() {
        add(&mut errors, path, finalizer, names::label_key(finalizer));
    }
    if metadata.has_finalizer(ORPHAN_FINALIZER) && metadata.has_finalizer(FOREGROUND_FINALIZER) {
        let detail = format!("finalizer {ORPHAN_FINALIZER} and {FOREGROUND_FINALIZER} cannot be both set");
        let finalizers: Vec<&str> = metadata.finalizers().collect();
        errors.push(FieldError::invalid(path, finalizers, detail));
    }
    errors
}

fn no_new_finalizers(new: Metadata<'_>, old: Metadata<'_>, path: &FieldPath) -> Option<FieldError> {
    let added: BTreeSet<&str> = new.finalizers().filter(|one| !old.has_finalizer(one)).collect();
    if added.is_empty() {
        return None;
    }
    let added: Vec<String> = added.into_iter().map(|one| format!("{one:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        added.join(", ")
    );
    Some(FieldError::forbidden(path, detail))
}

/// What is wrong with the record of who set which fields.
#[must_use]
pub fn validate_managed_fields(entries: &[Value], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = path.index(index);
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("operation") {
            "Apply" | "Update" => {}
            "" => errors.push(FieldError::required(&path.child("operation"), "must not be empty")),
            other => {
                errors.push(FieldError::not_supported(&path.child("operation"), other, &["Apply", "Update"]));
            }
        }
        let kind = text("fieldsType");
        if !kind.is_empty() && kind != "FieldsV1" {
            errors.push(FieldError::invalid(&path.child("fieldsType"), kind, "must be `FieldsV1`"));
        }
        errors.extend(validate_field_manager(text("manager"), &path.child("manager")));
        if text("subresource").len() > SUBRESOURCE_LIMIT {
            errors.push(FieldError::too_long(&path.child("subresource"), SUBRESOURCE_LIMIT));
        }
    }
    errors
}

/// What is wrong with the name of somebody who sets fields.
#[must_use]
pub fn validate_field_manager(manager: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > MANAGER_LIMIT {
        errors.push(FieldError::too_long(path, MANAGER_LIMIT));
    }
    for (at, letter) in manager.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        errors.push(FieldError::invalid(path, manager, detail));
    }
    errors
}

/// Whether a letter can be seen, or is a plain space. Letters that nobody assigned yet count as seen.
fn is_printable(letter: char) -> bool {
    let unseen = letter.is_control()
        || letter.is_whitespace()
        || matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(letter, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    letter == ' ' || !unseen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn create(metadata: &Value, namespaced: bool) -> Vec<String> {
        let object = json!({"metadata": metadata});
        let path = FieldPath::of("metadata");
        told(&validate_create(Metadata::of(&object), namespaced, NameRule::Subdomain, &path))
    }

    #[test]
    fn what_may_be_created() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": true});
        let right = json!({
            "name": "a", "namespace": "b", "generateName": "a-", "labels": {"a": ""}, "annotations": {"A.b/c": "any"},
            "finalizers": ["orphan", "x.y/z"], "ownerReferences": [owner],
            "managedFields": [{"operation": "Apply", "fieldsType": "FieldsV1", "manager": "a b"}],
        });
        assert_eq!(create(&right, true), [""; 0]);
        let cluster_wide = json!({"name": "a"});
        assert_eq!(create(&cluster_wide, false), [""; 0]);
    }

    #[test]
    fn what_may_not_be_created() {
        let owner = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "name": "r", "uid": "1", "controller": true});
        let both = json!([owner("A"), owner("B")]);
        let table = [
            (json!({}), "metadata.name: Required value: name or generateName is required"),
            (json!({"name": "a"}), "metadata.namespace: Required value"),
            (
                json!({"name": "a", "namespace": "b.c"}),
                "metadata.namespace: Invalid value: \"b.c\": must not contain dots",
            ),
            (
                json!({"name": "a", "namespace": "b", "generation": -1}),
                "metadata.generation: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"name": "a", "namespace": "b", "finalizers": ["a/b/c"]}),
                "metadata.finalizers: Invalid value: \"a/b/c\": a valid label key",
            ),
            (
                json!({"name": "a", "namespace": "b", "finalizers": ["orphan", "foregroundDeletion"]}),
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                 foregroundDeletion cannot be both set",
            ),
            (
                json!({"name": "a", "namespace": "b", "annotations": {"a": "x".repeat(ANNOTATIONS_LIMIT)}}),
                "metadata.annotations: Too long: may not be more than 262144 bytes",
            ),
            (
                json!({"name": "a", "namespace": "b", "labels": {"a": "b c"}}),
                "metadata.labels: Invalid value: \"b c\": a valid label must be",
            ),
            (
                json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u"}]}),
                "metadata.ownerReferences[0].apiVersion: Invalid value: \"a/b/c\": must be <group>/<version> or <version>",
            ),
            (
                json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n"}]}),
                "metadata.ownerReferences[0].uid: Required value: must not be empty",
            ),
            (
                json!({"name": "a", "namespace": "b", "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]}),
                "metadata.ownerReferences[0]: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"n\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
            ),
            (
                json!({"name": "a", "namespace": "b", "managedFields": [{"operation": "Foo"}]}),
                "metadata.managedFields[0].operation: Unsupported value: \"Foo\": supported values: \"Apply\", \"Update\"",
            ),
            (
                json!({"name": "a", "namespace": "b", "managedFields": [{"operation": "Update", "manager": "a\tb"}]}),
                "metadata.managedFields[0].manager: Invalid value: \"a\\tb\": invalid character U+0009 (at position 1)",
            ),
        ];
        for (metadata, error) in table {
            let errors = create(&metadata, true);
            assert!(errors.iter().any(|one| one.starts_with(error)), "{metadata}: {errors:?}");
        }
        let errors = create(&json!({"name": "a", "namespace": "b", "ownerReferences": both}), true);
        assert!(errors[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for A/r and B/r"
        ));
        let errors = create(&json!({"name": "a", "namespace": "b"}), false);
        assert_eq!(errors, ["metadata.namespace: Forbidden: not allowed on this type"]);
    }

    #[test]
    fn what_may_not_be_changed() {
        let old = json!({
            "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1", "generation": 2, "finalizers": ["x/y"],
            "creationTimestamp": "2024-01-01T00:00:00Z",
        });
        let deleting =
            json!({"name": "a", "resourceVersion": "1", "deletionTimestamp": "2024-01-01T00:00:00Z"});
        let with = |base: &Value, name: &str, value: Value| {
            let mut changed = base.clone();
            changed[name] = value;
            changed
        };
        let table = [
            (&old, old.clone(), None),
            (&old, with(&old, "creationTimestamp", json!("2024-01-01T01:00:00+01:00")), None),
            (&old, with(&old, "finalizers", json!(["x/y", "z/z"])), None),
            (
                &old,
                with(&old, "resourceVersion", json!("")),
                Some("metadata.resourceVersion: Invalid value: \"\": must be specified for an update"),
            ),
            (
                &old,
                with(&old, "generation", json!(1)),
                Some("metadata.generation: Invalid value: 1: must not be decremented"),
            ),
            (
                &old,
                with(&old, "name", json!("b")),
                Some("metadata.name: Invalid value: \"b\": field is immutable"),
            ),
            (
                &old,
                with(&old, "uid", json!("v")),
                Some("metadata.uid: Invalid value: \"v\": field is immutable"),
            ),
            (
                &old,
                with(&old, "creationTimestamp", Value::Null),
                Some("metadata.creationTimestamp: Invalid value: null: field is immutable"),
            ),
            (
                &old,
                with(&old, "deletionTimestamp", json!("2024-01-01T00:00:00Z")),
                Some(
                    "metadata.deletionTimestamp: Invalid value: \"2024-01-01T00:00:00Z\": field is immutable",
                ),
            ),
            (
                &deleting,
                with(&deleting, "finalizers", json!(["z/z", "y/y"])),
                Some(
                    "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
                     found new finalizers []string{\"y/y\", \"z/z\"}",
                ),
            ),
        ];
        for (old, new, error) in table {
            let (new, old) = (json!({"metadata": new}), json!({"metadata": old}));
            let path = FieldPath::of("metadata");
            let errors = told(&validate_update(Metadata::of(&new), Metadata::of(&old), &path));
            assert_eq!(errors, Vec::from_iter(error), "{new}");
        }
    }
}
