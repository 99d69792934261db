//! What is wrong with the owners that a client writes into an object itself, as errors of fields. Their fields are not looked
//! at: owners that cannot be read do not count.

use serde_json::Value;

use super::manager_name;
use crate::field::{FieldError, FieldPath};

/// How many bytes the name of a subresource may have.
const SUBRESOURCE_BYTES_MAX: usize = 256;

/// Checks `metadata.managedFields` of an object.
#[must_use]
pub fn check(object: &Value) -> Vec<FieldError> {
    let path = FieldPath::of("metadata.managedFields");
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entries = entries.into_iter().flatten().enumerate();
    entries.flat_map(|(place, entry)| check_entry(&path.index(place), entry)).collect()
}

fn check_entry(path: &FieldPath, entry: &Value) -> Vec<FieldError> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    match text("operation") {
        "Apply" | "Update" => {}
        "" => errors.push(FieldError::required(&path.child("operation"), "must not be empty")),
        other => {
            errors.push(FieldError::not_supported(&path.child("operation"), other, &["Apply", "Update"]));
        }
    }
    let form = text("fieldsType");
    if !form.is_empty() && form != "FieldsV1" {
        errors.push(FieldError::invalid(&path.child("fieldsType"), form, "must be `FieldsV1`"));
    }
    errors.extend(manager_name::check(text("manager"), &path.child("manager")));
    if text("subresource").len() > SUBRESOURCE_BYTES_MAX {
        errors.push(FieldError::too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_are_checked_one_by_one() {
        let object = json!({"metadata": {"managedFields": [
            {"operation": "Apply", "fieldsType": "FieldsV1", "manager": "a"},
            {"operation": "Patch", "fieldsType": "V2", "manager": "a\u{7}", "subresource": "s".repeat(257)},
            {},
        ]}});
        let told: Vec<String> = check(&object).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "metadata.managedFields[1].operation: Unsupported value: \"Patch\": supported values: \"Apply\", \"Update\"",
                "metadata.managedFields[1].fieldsType: Invalid value: \"V2\": must be `FieldsV1`",
                "metadata.managedFields[1].manager: Invalid value: \"a\\u0007\": invalid character U+0007 (at position 1)",
                "metadata.managedFields[1].subresource: Too long: may not be more than 256 bytes",
                "metadata.managedFields[2].operation: Required value: must not be empty",
            ]
        );
        assert!(check(&json!({})).is_empty());
    }
}
