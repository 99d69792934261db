//! One version of a definition: its schema, subresources, columns and selectable fields. Must never judge again what stays as
//! it was stored.

use barque_api::custom_schema::CustomSchema;
use barque_api::field::{FieldError, FieldPath};
use serde_json::Value;

use super::super::definition::has_status;
use super::super::{is_true, list, selectable, text, versions};

/// What a version says for itself, where versions differ.
pub(super) fn judge(
    definition: &Value,
    old: Option<&Value>,
    version: &Value,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let warning = version.get("deprecationWarning").filter(|text| !text.is_null());
    for why in deprecation(is_true(version, "deprecated"), warning.and_then(Value::as_str)) {
        let shown = warning.cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&at.child("deprecationWarning"), shown, why));
    }
    let all = versions(definition);
    let differ = |field: &str| !alike(all, field);
    if differ("schema") {
        schema(version, old, has_status(version), &at.child("schema"), errors);
    }
    if differ("subresources") {
        subresources(version, &at.child("subresources"), errors);
    }
    if differ("additionalPrinterColumns") {
        columns(version, &at.child("additionalPrinterColumns"), errors);
    }
    if differ("selectableFields") {
        selectable::judge(version, &at.child("selectableFields"), errors);
    }
}

/// What all versions say alike.
pub(super) fn judge_alike(
    definition: &Value,
    old: Option<&Value>,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let all = versions(definition);
    let Some(first) = all.first() else { return };
    if alike(all, "schema") {
        schema(first, old, all.iter().any(has_status), &at.child("validation"), errors);
    }
    if alike(all, "subresources") {
        subresources(first, &at.child("subresources"), errors);
    }
    if alike(all, "additionalPrinterColumns") {
        columns(first, &at.child("additionalPrinterColumns"), errors);
    }
    if alike(all, "selectableFields") {
        selectable::judge(first, &at.child("selectableFields"), errors);
    }
}

fn alike(all: &[Value], field: &str) -> bool {
    all.windows(2).all(|pair| pair[0].get(field) == pair[1].get(field))
}

fn deprecation(deprecated: bool, warning: Option<&str>) -> Vec<String> {
    let Some(warning) = warning else { return Vec::new() };
    if !deprecated {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut wrong = Vec::new();
    if warning.len() > 256 {
        wrong.push("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        wrong.push("must not be an empty string".to_owned());
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, one)| one.is_control()) {
        wrong.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
    wrong
}

fn schema(
    version: &Value,
    old: Option<&Value>,
    with_status: bool,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|schema| !schema.is_null()) else {
        return;
    };
    let name = text(version, "/name");
    let before = old.into_iter().flat_map(versions).find(|one| text(one, "/name") == name);
    let same = before.is_some_and(|before| {
        before.get("schema") == version.get("schema") && has_status(before) == has_status(version)
    });
    if same {
        return;
    }
    if let Err(wrong) = CustomSchema::new(schema, &at.child("openAPIV3Schema"), with_status) {
        errors.extend(wrong);
    }
}

fn subresources(version: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(scale) = version.pointer("/subresources/scale").filter(|scale| !scale.is_null()) else { return };
    let table = [
        ("specReplicasPath", &[".spec."][..], ".spec", true),
        ("statusReplicasPath", &[".status."], ".status", true),
        ("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status", false),
    ];
    for (field, below, words, needed) in table {
        // One name with a dot in it, as Kubernetes tells it.
        let at = at.child(&format!("scale.{field}"));
        let path = scale.get(field).and_then(Value::as_str).unwrap_or_default();
        if path.is_empty() {
            if needed {
                errors.push(FieldError::required(&at, ""));
            }
        } else if let Some(error) = simple_path(path, &at) {
            errors.push(error);
        } else if !below.iter().any(|prefix| path.starts_with(prefix)) {
            errors.push(FieldError::invalid(&at, path, format!("should be a json path under {words}")));
        }
    }
}

fn simple_path(path: &str, at: &FieldPath) -> Option<FieldError> {
    let starts = path.starts_with('.');
    (!starts).then(|| FieldError::invalid(at, path, "must be a simple json path starting with ."))
}

fn columns(version: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in list(version, "/additionalPrinterColumns").iter().enumerate() {
        let at = at.index(index);
        if text(column, "/name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let kind = text(column, "/type");
        let one_of = |known: &[&str]| format!("must be one of {}", known.join(","));
        if kind.is_empty() {
            errors.push(FieldError::required(&at.child("type"), one_of(&TYPES)));
        } else if !TYPES.contains(&kind) {
            errors.push(FieldError::invalid(&at.child("type"), kind, one_of(&TYPES)));
        }
        let format = text(column, "/format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.push(FieldError::invalid(&at.child("format"), format, one_of(&FORMATS)));
        }
        let path = text(column, "/jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at.child("JSONPath"), ""));
        } else {
            errors.extend(simple_path(path, &at.child("JSONPath")));
        }
    }
}
