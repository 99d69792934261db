//! Which old value a new one comes from: by the name of its field, or by the keys of its list. Must never find one where
//! a schema does not say how items are told apart.

use std::sync::Arc;

use serde_json::Value;

use super::model::{ListType, View};

/// The old value of a field.
#[must_use]
pub(crate) fn old_field<'a>(old: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    old?.get(name)
}

/// The old value of an item of a list whose items have keys.
#[must_use]
pub(crate) fn old_item<'a>(list: View<'_>, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    let ListType::Map(keys) = list.list_type() else { return None };
    old?.as_array()?.iter().find(|one| same_keys(list, keys, one, item))
}

/// Whether two items of a list are the same one. A key that is not given has its default.
fn same_keys(list: View<'_>, keys: &[Arc<str>], left: &Value, right: &Value) -> bool {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else { return false };
    keys.iter().all(|key| {
        let default = || {
            let field = list.items()?.property(key)?;
            field.field().default.as_ref().or(field.schema().default.as_ref())
        };
        left.get(&**key).or_else(default) == right.get(&**key).or_else(default)
    })
}
