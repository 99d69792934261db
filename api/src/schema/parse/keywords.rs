//! What each keyword of a schema may say, and which of them go together. Must never judge rules in CEL but by their
//! outside.

use serde_json::Value;

use super::json_path::field_exists;
use super::props::{Props, is_set};
use super::structural::required_or_invalid;
use crate::field::{FieldError, FieldPath};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
const REASONS: &[&str] =
    &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Why there may be no default.
    no_default: Option<&'a str>,
    in_metadata: bool,
    root: bool,
}

/// All that is wrong with the keywords of a schema and of those below it.
pub(super) fn judge(props: &Props<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(props, at, Place { no_default: None, in_metadata: false, root: true }, &mut errors);
    errors
}

fn walk(props: &Props<'_>, at: &FieldPath, place: Place<'_>, errors: &mut Vec<FieldError>) {
    not_supported(props, at, place, errors);
    if props.flag("uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
    let inside = Place { root: false, ..place };
    if let Some(additional) = props.get("additionalProperties") {
        let at = at.child("additionalProperties");
        if props.has_properties() && additional != &Value::Bool(true) {
            errors
                .push(FieldError::forbidden(&at, "additionalProperties and properties are mutual exclusive"));
        }
        if let Some(below) = Props::of(additional) {
            let why = Some("inside additionalProperties applying to object metadata");
            let no_default = if place.in_metadata { why } else { place.no_default };
            walk(&below, &at, Place { no_default, ..inside }, errors);
        }
    }
    for (name, field) in props.named("properties") {
        let mut below = inside;
        let object = place.root || props.flag("x-kubernetes-embedded-resource");
        let why = format!("in top-level {name}");
        if object && matches!(name, "metadata" | "kind" | "apiVersion") {
            below.in_metadata = true;
            if place.root {
                below.no_default = Some(&why);
            }
        }
        walk(&field, &at.child("properties").key(name), below, errors);
    }
    if let Some(not) = props.schema("not") {
        walk(&not, &at.child("not"), inside, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (index, one) in props.schemas(key) {
            walk(&one, &at.child(key).index(index), inside, errors);
        }
    }
    if let Some(items) = props.schema("items") {
        walk(&items, &at.child("items"), inside, errors);
    }
    if props.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = at.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    map_type(props, at, errors);
    list_type(props, at, errors);
    map_keys(props, at, errors);
    for (index, rule) in props.list("x-kubernetes-validations").iter().enumerate() {
        let at = at.child("x-kubernetes-validations").index(index);
        judge_rule(props, rule, &at, errors);
    }
}

fn not_supported(props: &Props<'_>, at: &FieldPath, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let kind = props.kind();
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&at.child("type"), kind, TYPES));
    }
    if let (true, Some(why)) = (props.has("default"), place.no_default) {
        errors.push(FieldError::forbidden(&at.child("default"), format!("must not be set {why}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let empty_counts = matches!(key, "additionalItems" | "dependencies" | "$ref");
        if is_set(props.get(key)) || (empty_counts && props.has(key)) {
            errors.push(FieldError::forbidden(&at.child(key), format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), why));
    }
    if !props.list("items").is_empty() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&at.child("items"), why));
    }
    if place.in_metadata && props.flag("x-kubernetes-embedded-resource") {
        let at = at.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&at, "must not be used inside of resource meta"));
    }
}

fn map_type(props: &Props<'_>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(map_type) = props.get("x-kubernetes-map-type").and_then(Value::as_str) else { return };
    if props.kind() != "object" {
        let why = "must be object if x-kubernetes-map-type is specified";
        errors.push(required_or_invalid(&at.child("type"), props.kind(), why));
    }
    let known = &["atomic", "granular"];
    if !known.contains(&map_type) {
        errors.push(FieldError::not_supported(&at.child("x-kubernetes-map-type"), map_type, known));
    }
}

fn list_type(props: &Props<'_>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    const LIST_TYPE: &str = "x-kubernetes-list-type";
    const MAP_TYPE: &str = "x-kubernetes-map-type";
    let Some(list_type) = props.get(LIST_TYPE).and_then(Value::as_str) else { return };
    if props.kind() != "array" {
        let why = "must be array if x-kubernetes-list-type is specified";
        errors.push(required_or_invalid(&at.child("type"), props.kind(), why));
    } else if let Some(items) = props.schema("items").filter(|_| list_type == "set") {
        let at = at.child("items");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        match (items.kind(), items.text(LIST_TYPE), items.text(MAP_TYPE)) {
            ("array", other, _) if !matches!(other, "" | "atomic") => {
                errors.push(FieldError::invalid(&at.child(LIST_TYPE), other, why));
            }
            ("object", _, other) if other != "atomic" => {
                let value = items.get(MAP_TYPE).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&at.child(MAP_TYPE), value, why));
            }
            _ => {}
        }
    }
    let known = &["atomic", "set", "map"];
    if !known.contains(&list_type) {
        errors.push(FieldError::not_supported(&at.child(LIST_TYPE), list_type, known));
    }
}

fn map_keys(props: &Props<'_>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let (keys, list_type) = (props.texts("x-kubernetes-list-map-keys"), props.text("x-kubernetes-list-type"));
    let keys_at = at.child("x-kubernetes-list-map-keys");
    if !keys.is_empty() && list_type != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(required_or_invalid(&at.child("x-kubernetes-list-type"), list_type, why));
    }
    let items = props.schema("items");
    if list_type == "map" {
        if keys.is_empty() {
            let why = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&keys_at, why));
        }
        match &items {
            None => {
                let why = "must have a schema if x-kubernetes-list-type is map";
                errors.push(FieldError::required(&at.child("items"), why));
            }
            Some(items) if items.kind() != "object" => {
                let why = "must be object if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&at.child("items").child("type"), items.kind(), why));
            }
            Some(items) => named_keys(&keys, items, at, &keys_at, errors),
        }
    }
    if let Some(items) = items.filter(|_| matches!(list_type, "set" | "map")) {
        not_null(&keys, &items, list_type, at, errors);
    }
}

fn named_keys(
    keys: &[&str],
    items: &Props<'_>,
    at: &FieldPath,
    keys_at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for (index, key) in keys.iter().enumerate() {
        match items.property(key) {
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(keys_at, keys.to_vec(), why));
            }
            Some(field) if matches!(field.kind(), "array" | "object") => {
                let at = at.child("items").child("properties").key(key).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&at, items.kind(), why));
            }
            Some(_) => {}
        }
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(keys_at, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
}

/// Items of sets and maps are never null, and those of maps have their keys.
fn not_null(keys: &[&str], items: &Props<'_>, list_type: &str, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let at = at.child("items");
    if items.flag("nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&at.child("nullable"), why));
    }
    if list_type != "map" {
        return;
    }
    let required = items.texts("required");
    for key in keys {
        let Some(field) = items.property(key) else { continue };
        let at = at.child("properties").key(key);
        if !required.contains(key) && !field.has("default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&at.child("default"), why));
        }
        if field.flag("nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&at.child("nullable"), why));
        }
    }
}

fn judge_rule(props: &Props<'_>, rule: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
    let lines = |text: &str| text.contains(['\n', '\r']);
    let (expression, message) = (text("rule"), text("message"));
    let at_message = at.child("message");
    if expression.trim().is_empty() {
        errors.push(FieldError::required(&at.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(&at_message, message, "must be non-empty if specified"));
    } else if lines(message.trim()) {
        errors.push(FieldError::invalid(&at_message, message, "must not contain line breaks"));
    } else if lines(expression.trim()) && message.trim().is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(&at_message, why));
    }
    let blank = |key: &str| !text(key).is_empty() && text(key).trim().is_empty();
    if blank("messageExpression") {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&at.child("messageExpression"), why));
    }
    if rule.get("reason").is_some_and(|reason| !reason.is_null()) && !REASONS.contains(&text("reason")) {
        errors.push(FieldError::not_supported(&at.child("reason"), text("reason"), REASONS));
    }
    let (path, at) = (text("fieldPath"), at.child("fieldPath"));
    if blank("fieldPath") {
        errors.push(FieldError::invalid(&at, path, "must be non-empty if specified"));
    }
    if lines(path) {
        errors.push(FieldError::invalid(&at, path, "must not contain line breaks"));
    }
    if !path.is_empty() && !field_exists(props, path) {
        errors.push(FieldError::invalid(&at, path, "must be a valid path"));
    }
}
