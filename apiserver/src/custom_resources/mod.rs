//! Kinds that users define: CustomResourceDefinitions are judged, told what becomes of them, and served. Decisions are pure;
//! [`controller`] alone carries them out. Must never treat objects of a custom kind apart from others once they are served.

pub mod conditions;
pub mod controller;
pub mod definition;
pub mod deletion;
mod drain;
mod selectable;
pub mod validation;
pub mod webhook_conversion;

use barque_api::kind::{GroupResource, GroupVersionResource};
use serde_json::Value;

/// The finalizer of definitions whose objects are still there.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The collection of definitions.
#[must_use]
pub fn definitions() -> GroupVersionResource {
    GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

/// Whether a collection is that of definitions.
#[must_use]
pub fn are_definitions(resource: &GroupResource) -> bool {
    &*resource.group == "apiextensions.k8s.io" && &*resource.resource == "customresourcedefinitions"
}

/// The text at this place; empty when there is none.
fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The versions of a definition, in its order.
fn versions(definition: &Value) -> &[Value] {
    list(definition, "/spec/versions")
}

/// The items of the list at this place.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_true(object: &Value, field: &str) -> bool {
    object.get(field).and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests;
