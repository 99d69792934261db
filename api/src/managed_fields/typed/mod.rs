//! Objects seen through their schema: which paths they hold, how two of them differ, how one is merged into another, and one
//! without some of its paths. Must never know who owns a path.

mod compare;
mod extract;
mod merge;
mod reconcile;
mod remove;
mod shape;
#[cfg(test)]
mod tests;
mod validate;

use serde_json::{Map, Value};

pub(crate) use self::compare::{Comparison, compare};
pub(crate) use self::extract::{field_set, with_named_fields};
pub(crate) use self::merge::merge;
pub(crate) use self::reconcile::reconcile;
pub(crate) use self::remove::{with_emptied_maps, without};
pub(crate) use self::shape::{Form, Items, Shape};
pub(crate) use self::validate::{Strictness, validate};

/// The fields, where it is an object; null has none.
fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The items, where it is a list; null has none.
fn list_of(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}
