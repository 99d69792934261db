//! Names of a collection and its kind. Must never know whether they are free.

use barque_api::field::{FieldError, FieldPath};
use barque_api::names::dns_1035_label;
use serde_json::Value;

use super::super::{list, text};

/// The names that a definition wants: some must be given.
pub(super) fn judge_spec(definition: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let names = definition.pointer("/spec/names").unwrap_or(&Value::Null);
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    judge(names, at, errors);
}

/// The form of names.
pub(super) fn judge(names: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    for field in ["plural", "singular"] {
        let name = names.get(field).and_then(Value::as_str).unwrap_or_default();
        let wrong = dns_1035_label(name);
        if !name.is_empty() && !wrong.is_empty() {
            errors.push(FieldError::invalid(&at.child(field), name, wrong.join(",")));
        }
    }
    for field in ["kind", "listKind"] {
        let name = names.get(field).and_then(Value::as_str).unwrap_or_default();
        let wrong = dns_1035_label(&name.to_lowercase());
        if !name.is_empty() && !wrong.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.push(FieldError::invalid(&at.child(field), name, why));
        }
    }
    labels(names, "shortNames", at, errors);
    let (kind, list_kind) = (text(names, "/kind"), text(names, "/listKind"));
    if !kind.is_empty() && kind == list_kind {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&at.child("listKind"), list_kind, why));
    }
    labels(names, "categories", at, errors);
}

fn labels(names: &Value, field: &str, at: &FieldPath, errors: &mut Vec<FieldError>) {
    for (index, name) in list(names, &format!("/{field}")).iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let wrong = dns_1035_label(name);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at.child(field).index(index), name, wrong.join(",")));
        }
    }
}
