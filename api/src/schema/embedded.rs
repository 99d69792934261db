//! Whole objects inside others (`x-kubernetes-embedded-resource`): their apiVersion, kind and metadata. Must never judge
//! the rest of them.

use serde_json::{Map, Value};

use super::builtin::BuiltinSchemas;
use super::model::View;
use super::pattern::compile;
use super::prune::Place;
use super::validate::{Extent, validate};
use crate::field::{FieldError, FieldPath};
use crate::kind::GroupVersion;

/// What is wrong with the objects inside a value; with the value itself, too, if it is one.
#[must_use]
pub fn validate_embedded(view: View<'_>, value: &Value, at: &FieldPath, place: Place) -> Vec<FieldError> {
    let mut errors = Vec::new();
    look(view, value, at, place == Place::Object, &mut errors);
    errors
}

fn look(view: View<'_>, value: &Value, at: &FieldPath, object: bool, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if object || view.schema().embedded {
                judge(fields, at, errors);
            }
            for (name, value) in fields {
                let Some(below) = view.property(name) else { continue };
                let named = view.schema().properties.contains_key(name.as_str());
                let at = if named { at.child(name) } else { at.key(name) };
                look(below, value, &at, false, errors);
            }
        }
        Value::Array(list) => {
            let Some(below) = view.items() else { return };
            for (index, item) in list.iter().enumerate() {
                look(below, item, &at.index(index), false, errors);
            }
        }
        _ => {}
    }
}

fn judge(fields: &Map<String, Value>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    for name in ["apiVersion", "kind"] {
        let at = at.child(name);
        match fields.get(name) {
            None => errors.push(FieldError::required(&at, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => kind(text, &at, errors),
            Some(Value::String(text)) => {
                if GroupVersion::of_api_version(text).is_err() {
                    let why = format!("unexpected GroupVersion string: {text}");
                    errors.push(FieldError::invalid(&at, text.as_str(), why));
                }
            }
            Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = fields.get("metadata") {
        let meta = BuiltinSchemas::get().object_meta();
        errors.extend(validate(meta, metadata, &at.child("metadata"), Extent::Types));
    }
}

fn kind(text: &str, at: &FieldPath, errors: &mut Vec<FieldError>) {
    const LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
    let lower = text.to_lowercase();
    let label = compile(&format!("^{LABEL}$")).is_ok_and(|compiled| compiled.is_match(&lower));
    let start = "may have mixed case, but should otherwise match: ";
    if !label {
        let why = format!(
            "{start}a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
             alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex \
             used for validation is '{LABEL}')"
        );
        errors.push(FieldError::invalid(at, text, why));
    } else if lower.len() > 63 {
        errors.push(FieldError::invalid(at, text, format!("{start}must be no more than 63 bytes")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{Definitions, Texts, read};

    #[test]
    fn objects_inside_others_have_a_type() {
        let schema = json!({"properties": {"t": {"x-kubernetes-embedded-resource": true}}});
        let schema = read(&FieldPath::root(), &schema, &mut Texts::default()).unwrap();
        let definitions = Definitions::default();
        let table = [
            (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}), vec![]),
            (json!({}), vec!["t.apiVersion: Required value", "t.kind: Required value"]),
            (
                json!({"apiVersion": "a/b/c", "kind": ""}),
                vec![
                    r#"t.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
                    r#"t.kind: Invalid value: "": must not be empty"#,
                ],
            ),
            (
                json!({"apiVersion": 1, "kind": "K", "metadata": {"labels": {"a": 1}}}),
                vec![
                    "t.apiVersion: Invalid value: 1: must be a string",
                    r#"t.metadata.labels.a: Invalid value: "integer": labels.a in body must be of type string: "integer""#,
                ],
            ),
        ];
        for (value, expected) in table {
            let value = json!({"t": value});
            let view = definitions.view_of(&schema);
            let told: Vec<_> = validate_embedded(view, &value, &FieldPath::root(), Place::Part)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(told, expected, "{value}");
        }
    }
}
