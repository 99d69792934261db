//! What stands in an object at a JSON pointer: texts, lists, values. Must never decide whether it may stand there.

use serde_json::Value;

/// The text at a JSON pointer; empty when there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a JSON pointer; empty when there is none.
#[must_use]
pub fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What stands at a JSON pointer, if it is not null.
#[must_use]
pub fn given<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    object.pointer(pointer).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_empty() {
        let object = json!({"a": {"t": "x", "l": [1], "n": null}});
        assert_eq!((text(&object, "/a/t"), text(&object, "/a/l"), text(&object, "/b")), ("x", "", ""));
        assert_eq!((list(&object, "/a/l").len(), list(&object, "/a/t").len()), (1, 0));
        assert_eq!((given(&object, "/a/t"), given(&object, "/a/n")), (Some(&json!("x")), None));
    }
}
