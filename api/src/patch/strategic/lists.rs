//! How lists are merged: scalars as sets, objects by a key. Must never look at fields beside the key but by merging items.

use serde_json::Value;

use super::error::StrategicPatchError;
use super::order::{Identity, key_of, object, ordered};
use super::{DIRECTIVE, as_new, merge_objects};
use crate::schema::{Type, View};

/// The type of items that are objects, in Go's words.
const OBJECT: &str = "map[string]interface {}";

/// The type of the items of lists, which must be one; nothing where there are no items.
pub(super) fn item_type(lists: &[&[Value]]) -> Result<Option<&'static str>, StrategicPatchError> {
    let mut items = lists.iter().copied().flatten();
    let Some(first) = items.next() else { return Ok(None) };
    if first.is_array() {
        return Err(StrategicPatchError::ListOfLists);
    }
    let name = crate::go_text::type_name(first);
    if first.is_null() || items.any(|item| crate::go_text::type_name(item) != name) {
        let lists: Vec<_> = lists.iter().map(|list| crate::go_text::printed_items(list)).collect();
        return Err(StrategicPatchError::MixedItems(format!("[{}]", lists.join(" "))));
    }
    Ok(Some(name))
}

/// Merges a list of a patch into the one that is there, by a key, or as sets of scalars where the key is empty.
pub(super) fn merge_lists(
    original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    items: Option<View<'_>>,
) -> Result<Vec<Value>, StrategicPatchError> {
    if item_type(&[&original, &patch])? != Some(OBJECT) {
        let mut merged = original.clone();
        for item in &patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let merged = without_repetition(merged);
        return ordered(merged, &patch, &original, Identity::Scalar);
    }
    if key.is_empty() {
        return Err(StrategicPatchError::NoMergeKeyDeclared(shape(items)));
    }
    let (original, patch) = carry_directives_out(original, patch, key)?;
    let mut merged = original.clone();
    for change in &patch {
        let wanted = key_of(change, key)?;
        match find(&merged, key, wanted)? {
            Some(place) => {
                let before = object(&merged[place])?.clone();
                merged[place] = Value::Object(merge_objects(before, object(change)?.clone(), items)?);
            }
            None => merged.extend(as_new(change.clone())),
        }
    }
    ordered(merged, &patch, &original, Identity::Key(key))
}

/// Takes scalars out of a list. A list of objects has none; what is meant to go is merged like any patch.
pub(super) fn delete_scalars(
    list: &mut Vec<Value>,
    gone: Vec<Value>,
    key: Option<&str>,
    field: Option<View<'_>>,
) -> Result<(), StrategicPatchError> {
    if item_type(&[list, &gone])? == Some(OBJECT) {
        let original = std::mem::take(list);
        *list = merge_lists(original, gone, key.unwrap_or_default(), field.and_then(View::items))?;
    } else {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Items with `$patch: delete` take others with them, one with `$patch: replace` all of them. What is left of both lists.
fn carry_directives_out(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicPatchError> {
    let mut changes = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let fields = object(&item)?;
        match fields.get(DIRECTIVE) {
            None => changes.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = key_of(&item, key)?;
                while let Some(place) = find(&original, key, gone)? {
                    original.remove(place);
                }
            }
            Some(Value::String(directive)) if directive == "replace" => replace = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(StrategicPatchError::MergeOfLists);
            }
            Some(other) => return Err(StrategicPatchError::directive(other, fields)),
        }
    }
    Ok(if replace {
        (changes.into_iter().filter_map(as_new).collect(), Vec::new())
    } else {
        (original, changes)
    })
}

/// The server's order as a merge leaves it: items that go free their places, and new items count as standing there, at the
/// end. With Kubernetes this comes of lists that share memory; where a new item stands beside those of others depends on it.
pub(super) fn with_freed_places_taken(
    mut server: Vec<Value>,
    patch: &[Value],
    identity: Identity<'_>,
) -> Vec<Value> {
    let Identity::Key(key) = identity else { return server };
    let places = server.len();
    let same = |one: &Value, other: &Value| one.get(key) == other.get(key);
    let (gone, changes): (Vec<_>, Vec<_>) =
        patch.iter().partition(|item| item.get(DIRECTIVE).is_some_and(|directive| directive == "delete"));
    server.retain(|item| !gone.iter().any(|gone| same(gone, item)));
    for new in changes {
        if server.len() < places && !server.iter().any(|item| same(item, new)) {
            server.push(new.clone());
        }
    }
    server
}

fn find(list: &[Value], key: &str, wanted: &Value) -> Result<Option<usize>, StrategicPatchError> {
    for (place, item) in list.iter().enumerate() {
        let fields = item.as_object().ok_or(StrategicPatchError::ItemNotAnObject(place))?;
        if fields.get(key) == Some(wanted) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn without_repetition(items: Vec<Value>) -> Vec<Value> {
    let mut once = Vec::with_capacity(items.len());
    for item in items {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}

/// What Go calls the shape of items.
fn shape(items: Option<View<'_>>) -> &'static str {
    match items.and_then(|items| items.schema().kind) {
        Some(Type::String) => "string",
        Some(Type::Boolean) => "bool",
        Some(Type::Integer) => "int64",
        Some(Type::Number) => "float64",
        Some(Type::Array) => "slice",
        Some(Type::Object) | None => "struct",
    }
}
