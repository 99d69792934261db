//! How a value is put where none is. Must never know a kind.

use serde_json::{Map, Value};

/// Puts a value into a field of an object that has none, or null.
pub(super) fn put(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(fields) = object.as_object_mut()
        && fields.get(field).is_none_or(Value::is_null)
    {
        fields.insert(field.to_owned(), value.into());
    }
}

/// The object in a field, made if there is none; nothing when something else stands there.
pub(super) fn made<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    put(object, field, Map::new());
    inside(object, field)
}

/// The object in a field, where there is one.
pub(super) fn inside<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    object.get_mut(field).filter(|found| found.is_object())
}

/// The object at the end of several fields, where there is one.
pub(super) fn within<'a>(object: &'a mut Value, fields: &[&str]) -> Option<&'a mut Value> {
    fields.iter().try_fold(object, |object, field| inside(object, field))
}

/// Each item of the list in a field.
pub(super) fn each<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Whether a field has something that says something: no null, no empty list or object.
pub(super) fn given(object: &Value, field: &str) -> bool {
    match object.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    }
}

/// The text in a field; empty when there is none.
pub(super) fn word<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}
