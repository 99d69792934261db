//! The merge patch from one value to another. A data structure; must never know what is merged.

use serde_json::{Map, Value};

/// What turns `before` into `after` as a merge patch; nothing when they are the same.
///
/// Lists are replaced whole, and what is not there any more is null.
#[must_use]
pub(crate) fn difference(before: &Value, after: &Value) -> Option<Value> {
    if before == after {
        return None;
    }
    let Value::Object(after) = after else { return Some(after.clone()) };
    let empty = Map::new();
    // A patch of an object makes an object of what was none.
    let before = before.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (name, value) in after {
        let old = before.get(name).unwrap_or(&Value::Null);
        if let Some(change) = difference(old, value) {
            patch.insert(name.clone(), change);
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_different_is_told() {
        let before = json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3});
        let after = json!({"a": 1, "b": {"c": [1, 2], "d": 2}, "f": {"g": 4}});
        assert_eq!(difference(&before, &after), Some(json!({"b": {"c": [1, 2]}, "e": null, "f": {"g": 4}})));
        assert_eq!(difference(&after, &after), None);
    }

    /// Values as objects have them: nothing is null.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0i32..3).prop_map(Value::from), "[ab]{0,1}".prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_patch_leads_from_one_to_the_other(before in values(), after in values()) {
            let mut merged = before.clone();
            if let Some(patch) = difference(&before, &after) {
                barque_api::patch::merge::merge(&mut merged, patch);
            }
            prop_assert_eq!(merged, after);
        }
    }
}
