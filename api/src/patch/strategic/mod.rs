//! Strategic merge patch: a merge patch that knows from the schema which lists are merged by which key, with directives for
//! what a merge cannot say. What the schema does not know is merged as a JSON merge patch. Must never know a kind by name.

mod error;
mod lists;
mod order;

use serde_json::{Map, Value};

pub use self::error::StrategicPatchError;
use self::lists::merge_lists;
use self::order::Identity;
use crate::schema::{PatchStrategy, View};

/// In an object or an item of a list: `delete`, `replace` or `merge`.
const DIRECTIVE: &str = "$patch";
/// The fields that stay; all others go.
const RETAIN_KEYS: &str = "$retainKeys";
/// With `/` and the name of a list: scalars that go from it.
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";
/// With `/` and the name of a list: the order of its items.
const SET_ELEMENT_ORDER: &str = "$setElementOrder";

/// Changes `object` as `patch` says.
///
/// # Errors
/// When the patch is wrong in itself or does not fit the object.
pub fn apply(object: Value, patch: Value, schema: Option<View<'_>>) -> Result<Value, StrategicPatchError> {
    let Value::Object(patch) = patch else { return Err(StrategicPatchError::NotAnObject) };
    let Value::Object(object) = object else { return Err(StrategicPatchError::NotAnObject) };
    Ok(Value::Object(merge_objects(object, patch, schema)?))
}

type Fields = Map<String, Value>;

fn merge_objects(
    mut original: Fields,
    mut patch: Fields,
    schema: Option<View<'_>>,
) -> Result<Fields, StrategicPatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(as_new_fields(patch)),
            Some("delete") => Ok(Fields::new()),
            _ => {
                patch.insert(DIRECTIVE.to_owned(), directive.clone());
                Err(StrategicPatchError::directive(&directive, &patch))
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (name, change) in patch {
        if name.starts_with(DELETE_FROM_PRIMITIVE_LIST) {
            let list =
                list_named(&name, DELETE_FROM_PRIMITIVE_LIST).ok_or(StrategicPatchError::PrimitiveList)?;
            delete_from_list(&mut original, list, change, schema)?;
        } else if change.is_null() {
            original.remove(&name);
        } else {
            merge_field(&mut original, name, change, schema)?;
        }
    }
    Ok(original)
}

fn merge_field(
    original: &mut Fields,
    name: String,
    change: Value,
    schema: Option<View<'_>>,
) -> Result<(), StrategicPatchError> {
    let field = schema.and_then(|schema| schema.property(&name));
    let strategy = strategy(field);
    let merged = match (original.remove(&name), change) {
        (Some(Value::Object(before)), Value::Object(change)) => {
            let merged =
                if strategy.replace { as_new_fields(change) } else { merge_objects(before, change, field)? };
            Some(Value::Object(merged))
        }
        (Some(Value::Array(before)), Value::Array(change)) => {
            let merged = match strategy.merge_key.as_deref() {
                Some(key) => merge_lists(before, change, key, field.and_then(View::items))?,
                None => change.into_iter().filter_map(as_new).collect(),
            };
            Some(Value::Array(merged))
        }
        (_, change) => as_new(change),
    };
    if let Some(merged) = merged {
        original.insert(name, merged);
    }
    Ok(())
}

/// How the field says that a patch is merged into it, or else what its shape says.
fn strategy(field: Option<View<'_>>) -> &PatchStrategy {
    const NONE: &PatchStrategy = &PatchStrategy { merge_key: None, retain_keys: false, replace: false };
    let Some(view) = field else { return NONE };
    if view.field().patch == *NONE { &view.schema().patch } else { &view.field().patch }
}

/// The list that a directive is about: `$setElementOrder/ports`.
fn list_named<'a>(name: &'a str, directive: &str) -> Option<&'a str> {
    name.strip_prefix(directive)?.strip_prefix('/')
}

/// Carries `$retainKeys` out.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), StrategicPatchError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(StrategicPatchError::RetainKeys) };
    let stays = |name: &str| retained.iter().any(|one| one.as_str() == Some(name));
    let forgotten = patch.iter().any(|(name, change)| {
        let directive = name.starts_with(DELETE_FROM_PRIMITIVE_LIST) || name.starts_with(SET_ELEMENT_ORDER);
        !change.is_null() && !directive && !stays(name)
    });
    if forgotten {
        return Err(StrategicPatchError::RetainKeys);
    }
    original.retain(|name, _| stays(name));
    Ok(())
}

/// Merges the lists for which the patch tells the order, and takes them out of it.
fn merge_ordered_lists(
    original: &mut Fields,
    patch: &mut Fields,
    schema: Option<View<'_>>,
) -> Result<(), StrategicPatchError> {
    let directives: Vec<String> =
        patch.keys().filter(|name| name.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let Value::Array(order) = order else { return Err(StrategicPatchError::not_a_list(&order)) };
        let name = list_named(&directive, SET_ELEMENT_ORDER).ok_or(StrategicPatchError::SetElementOrder)?;
        let before = original.get(name).map(list).transpose()?;
        let change = patch.get(name).map(list).transpose()?;
        let field = schema.and_then(|schema| schema.property(name));
        let strategy = strategy(field);
        let key = strategy.merge_key.as_deref();
        let identity = match key {
            Some("") | None => Identity::Scalar,
            Some(key) => Identity::Key(key),
        };
        order::check(change.unwrap_or_default(), &order, identity)?;
        let server = before.unwrap_or_default().to_vec();
        let merged = match (before, change) {
            (None, None) => continue,
            (Some(before), None) => before.to_vec(),
            (None, Some(change)) => change.iter().cloned().filter_map(as_new).collect(),
            (Some(before), Some(change)) => match key {
                Some(key) => merge_lists(before.to_vec(), change.to_vec(), key, field.and_then(View::items))?,
                None => change.iter().cloned().filter_map(as_new).collect(),
            },
        };
        lists::item_type(&[&server, change.unwrap_or_default()])?;
        let server = lists::with_freed_places_taken(server, change.unwrap_or_default(), identity);
        let merged = order::ordered(merged, &order, &server, identity)?;
        original.insert(name.to_owned(), Value::Array(merged));
        patch.remove(name);
    }
    Ok(())
}

fn list(value: &Value) -> Result<&[Value], StrategicPatchError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| StrategicPatchError::not_a_list(value))
}

/// Takes scalars out of a list, where there is one.
fn delete_from_list(
    original: &mut Fields,
    name: &str,
    gone: Value,
    schema: Option<View<'_>>,
) -> Result<(), StrategicPatchError> {
    if gone.is_null() {
        original.remove(name);
    }
    if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(name), gone) {
        let field = schema.and_then(|schema| schema.property(name));
        lists::delete_scalars(items, gone, strategy(field).merge_key.as_deref(), field)?;
    }
    Ok(())
}

/// What a patch sets where nothing was before: without nulls and directives. Nothing is left of an object that is only a
/// directive.
fn as_new(change: Value) -> Option<Value> {
    match change {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(as_new_fields(fields))),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(as_new).collect())),
        scalar => Some(scalar),
    }
}

fn as_new_fields(fields: Fields) -> Fields {
    let set = fields.into_iter().filter(|(name, change)| !change.is_null() && !is_directive(name));
    set.filter_map(|(name, change)| Some((name, as_new(change)?))).collect()
}

fn is_directive(name: &str) -> bool {
    name == DIRECTIVE
        || name == RETAIN_KEYS
        || list_named(name, DELETE_FROM_PRIMITIVE_LIST).is_some()
        || list_named(name, SET_ELEMENT_ORDER).is_some()
}

#[cfg(test)]
mod tests;
