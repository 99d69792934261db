//! JSON merge patch (RFC 7386). Must never look at a schema.

use serde_json::{Map, Value};

use crate::status::{Reason, Status};

/// A merge patch that cannot be applied to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid JSON Patch")]
pub struct NotAnObject;

impl NotAnObject {
    /// What the client is told.
    #[must_use]
    pub fn status(self) -> Status {
        Status::new(Reason::BadRequest, self.to_string())
    }
}

/// Changes `object` as `patch` says: null removes a field, objects merge, everything else replaces.
///
/// # Errors
/// When the patch is none, because it would make something else of the object.
pub fn apply(mut object: Value, patch: Value) -> Result<Value, NotAnObject> {
    if !patch.is_object() {
        return Err(NotAnObject);
    }
    merge(&mut object, patch);
    Ok(object)
}

/// The merge of RFC 7386 for values of any type.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::patch::json::tests::any_object;

    #[test]
    fn the_cases_of_the_rfc() {
        let table = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, result) in table {
            let told = format!("{target} {patch}");
            merge(&mut target, patch);
            assert_eq!(target, result, "{told}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for patch in [json!([]), json!("x"), json!(null), json!(1)] {
            let error = apply(json!({"a": 1}), patch).unwrap_err();
            assert_eq!(
                (error.status().reason.code(), error.to_string().as_str()),
                (400, "Invalid JSON Patch")
            );
        }
    }

    /// The smallest merge patch from one to the other; neither holds nulls.
    fn difference(from: &Value, to: &Value) -> Value {
        let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
        let gone = from.keys().filter(|name| !to.contains_key(*name));
        let mut patch: Map<String, Value> = gone.map(|name| (name.clone(), Value::Null)).collect();
        for (name, value) in to {
            match from.get(name) {
                Some(before) if before == value => {}
                Some(before) => {
                    patch.insert(name.clone(), difference(before, value));
                }
                None => {
                    patch.insert(name.clone(), value.clone());
                }
            }
        }
        Value::Object(patch)
    }

    proptest! {
        #[test]
        fn the_patch_of_a_difference_gives_the_target(from in any_object(), to in any_object()) {
            // An object that takes the place of something else merges into nothing.
            let patch = difference(&from, &to);
            prop_assert_eq!(apply(from, patch), Ok(to));
        }
    }
}
