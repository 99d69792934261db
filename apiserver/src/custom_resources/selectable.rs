//! Fields of a version that selectors may ask for: whether their paths lead to something that selectors can compare. Must
//! never allow one that a selector could not tell from others.

use barque_api::field::{FieldError, FieldPath};
use barque_api::schema::{Schema, SchemaRef, Texts, Type, read};
use serde_json::Value;

use super::{list, text};

/// The most that a version may have.
const MOST: usize = 8;

/// What is wrong with the selectable fields of a version.
pub(super) fn judge(version: &Value, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let fields = list(version, "/selectableFields");
    if fields.is_empty() {
        return;
    }
    // What is wrong with the schema itself is told beside it.
    let schema = version.pointer("/schema/openAPIV3Schema");
    let Some(Ok(schema)) = schema.map(|schema| read(at, schema, &mut Texts::default())) else { return };
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let at = at.index(index).child("jsonPath");
        let path = text(field, "/jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let found = match follow(&schema, path) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&at, path, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if path == ".metadata" || path.starts_with(".metadata.") {
            errors.push(FieldError::invalid(&at, path, "must not point to fields in metadata"));
        }
        if !matches!(found.kind, Some(Type::String | Type::Boolean | Type::Integer)) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(FieldError::invalid(&at, path, why));
        }
        if seen.contains(&path) {
            errors.push(FieldError::duplicate(&at, path));
        } else {
            seen.push(path);
        }
    }
    if seen.len() > MOST {
        errors.push(FieldError::too_many(at, seen.len(), MOST));
    }
}

/// The schema of the field that a path of dots leads to.
fn follow<'a>(schema: &'a Schema, path: &str) -> Result<&'a Schema, String> {
    let unknown = || "does not refer to a valid field".to_owned();
    let Some(names) = path.strip_prefix('.') else {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        return Err(format!("expected [ or . but got: {first}"));
    };
    names.split('.').try_fold(schema, |schema, name| match schema.properties.get(name) {
        Some(SchemaRef::Inline(below)) => Ok(&**below),
        _ => Err(unknown()),
    })
}
