//! The examples of the RFC, the habits and sentences of API servers, and patches of differences.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIMIT: usize = 1 << 20;

#[track_caller]
fn gives(object: Value, patch: Value, result: Value) {
    assert_eq!(apply(object, &patch, LIMIT), Ok(result), "{patch}");
}

#[track_caller]
fn fails(object: Value, patch: Value, sentence: &str) {
    let error = apply(object, &patch, LIMIT).unwrap_err();
    assert_eq!(error.to_string(), sentence, "{patch}");
    assert_eq!(error.status().details.causes[0].message, sentence);
    assert_eq!(error.status().reason.code(), 422);
}

#[test]
fn the_cases_of_the_rfc() {
    gives(
        json!({"foo": "bar"}),
        json!([{"op": "add", "path": "/baz", "value": "qux"}]),
        json!({"foo": "bar", "baz": "qux"}),
    );
    gives(
        json!({"foo": ["bar", "baz"]}),
        json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
        json!({"foo": ["bar", "qux", "baz"]}),
    );
    gives(json!({"baz": 1, "foo": 2}), json!([{"op": "remove", "path": "/baz"}]), json!({"foo": 2}));
    gives(json!({"foo": [1, 2, 3]}), json!([{"op": "remove", "path": "/foo/1"}]), json!({"foo": [1, 3]}));
    gives(
        json!({"baz": "qux", "foo": "bar"}),
        json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
        json!({"baz": "boo", "foo": "bar"}),
    );
    gives(
        json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
        json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
        json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
    );
    gives(
        json!({"foo": ["all", "grass", "cows", "eat"]}),
        json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
        json!({"foo": ["all", "cows", "eat", "grass"]}),
    );
    gives(
        json!({"baz": "qux", "foo": ["a", 2, "c"]}),
        json!([
            {"op": "test", "path": "/baz", "value": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
        ]),
        json!({"baz": "qux", "foo": ["a", 2, "c"]}),
    );
    gives(
        json!({"foo": "bar"}),
        json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
        json!({"foo": "bar", "child": {"grandchild": {}}}),
    );
    gives(
        json!({"/": 9, "~1": 10}),
        json!([{"op": "test", "path": "/~01", "value": 10}, {"op": "add", "path": "/a~1b~0c", "value": 1}]),
        json!({"/": 9, "~1": 10, "a/b~c": 1}),
    );
    gives(
        json!({"foo": ["bar"]}),
        json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
        json!({"foo": ["bar", ["abc", "def"]]}),
    );
    gives(
        json!({"a": {"b": [1]}}),
        json!([{"op": "copy", "from": "/a", "path": "/a/b/0"}, {"op": "add", "path": "/a/b/0/b/-", "value": 2}]),
        json!({"a": {"b": [{"b": [1, 2]}, 1]}}),
    );
}

#[test]
fn habits_of_the_server() {
    gives(json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), json!({"a": 1}));
    gives(
        json!({"a": [1, 2]}),
        json!([{"op": "replace", "path": "/a/-1", "value": 3}, {"op": "add", "path": "/a/-1", "value": 4}]),
        json!({"a": [1, 3, 4]}),
    );
    gives(json!({"a": 1}), json!([{"op": "test", "path": "/b", "value": null}]), json!({"a": 1}));
    gives(json!({"a": 1}), json!([{"op": "test", "path": "/b"}]), json!({"a": 1}));
    gives(json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 2}}]), json!({"b": 2}));
    gives(
        json!({"a": 1}),
        json!([{"op": "test", "path": "", "value": {"a": 1}}, {"op": "add", "path": "/b"}]),
        json!({"a": 1, "b": null}),
    );
    gives(json!({"a": 1}), json!(null), json!({"a": 1}));
}

#[test]
fn sentences_of_operations_that_do_not_fit() {
    let object = json!({"a": {"b": [1, 2]}, "s": "x", "n": null});
    let table = [
        (json!({"op": "spam", "path": "/a"}), "Unexpected kind: spam"),
        (json!({"path": "/a"}), "Unexpected kind: unknown"),
        (json!({"op": "add", "value": 1}), "add operation failed to decode path: missing value"),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/n/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/n/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "/s/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/s/y\": missing value",
        ),
        (
            json!({"op": "add", "path": "", "value": {}}),
            "add operation does not apply: doc is missing path: \"\": missing value",
        ),
        (
            json!({"op": "add", "path": "/a/b/3", "value": 1}),
            "error in add for path: '/a/b/3': Unable to access invalid index: 3: invalid index referenced",
        ),
        (
            json!({"op": "add", "path": "/a/b/x", "value": 1}),
            "error in add for path: '/a/b/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            json!({"op": "remove", "path": "/z"}),
            "error in remove for path: '/z': Unable to remove nonexistent key: z: missing value",
        ),
        (
            json!({"op": "remove", "path": "/a/b/-3"}),
            "error in remove for path: '/a/b/-3': Unable to access invalid index: -3: invalid index referenced",
        ),
        (
            json!({"op": "remove", "path": "/a/b/99999999999999999999"}),
            "error in remove for path: '/a/b/99999999999999999999': strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        ),
        (
            json!({"op": "remove", "path": "/x/y"}),
            "remove operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "replace", "path": "/a/b/2", "value": 1}),
            "replace operation does not apply: doc is missing key: /a/b/2: missing value",
        ),
        (
            json!({"op": "replace", "path": "/x/y", "value": 1}),
            "replace operation does not apply: doc is missing path: /x/y: missing value",
        ),
        (
            json!({"op": "replace", "path": 7, "value": 1}),
            "replace operation failed to decode path: json: cannot unmarshal number into Go value of type string",
        ),
        (json!({"op": "replace", "path": "", "value": 1}), "replace operation value must be object or array"),
        (
            json!({"op": "move", "path": "/q"}),
            "move operation failed to decode from: operation, missing from field: missing value",
        ),
        (
            json!({"op": "move", "from": "/q", "path": "/r"}),
            "error in move for path: 'q': Unable to remove nonexistent key: q: missing value",
        ),
        (
            json!({"op": "move", "from": "/a", "path": "/a/b"}),
            "move operation does not apply: doc is missing destination path: /a/b: missing value",
        ),
        (
            json!({"op": "copy", "from": "/a/b/9", "path": "/r"}),
            "error in copy for from: '/a/b/9': Unable to access invalid index: 9: invalid index referenced",
        ),
        (json!({"op": "test", "path": "/s", "value": "y"}), "testing value /s failed: test failed"),
        (json!({"op": "test", "path": "/s"}), "testing value /s failed: test failed"),
        (
            json!({"op": "test", "path": "/x/y"}),
            "test operation does not apply: is missing path: /x/y: missing value",
        ),
    ];
    for (operation, sentence) in table {
        fails(object.clone(), json!([operation]), sentence);
    }
}

#[test]
fn patches_that_are_none_or_too_large() {
    let error = apply(json!({}), &json!({"op": "add"}), LIMIT).unwrap_err();
    assert_eq!(
        (error.status().reason.code(), error.to_string().as_str()),
        (400, "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    );
    let error = apply(json!({}), &json!([1]), LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error decoding patch: json: cannot unmarshal number into Go value of type jsonpatch.Operation"
    );

    let test = json!({"op": "test", "path": "/a", "value": null});
    let most = Value::Array(vec![test.clone(); OPERATIONS_MAX]);
    assert!(apply(json!({}), &most, LIMIT).is_ok());
    let error = apply(json!({}), &Value::Array(vec![test; OPERATIONS_MAX + 1]), LIMIT).unwrap_err();
    assert_eq!(error.status().reason.code(), 413);
    assert_eq!(
        error.status().message,
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );

    // Each copy doubles the object.
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let bomb = Value::Array(vec![double; 100]);
    let error = apply(json!({"a": ["0123456789"]}), &bomb, 1000).unwrap_err();
    assert!(matches!(error, JsonPatchError::CopiesTooLarge { limit: 1000, size } if size < 2100), "{error}");
    assert!(error.to_string().ends_with("exceeding the limit 1000"));
}

#[test]
fn a_failed_operation_undoes_those_before() {
    let patch = json!([{"op": "add", "path": "/b", "value": 1}, {"op": "remove", "path": "/c"}]);
    fails(
        json!({"a": 1}),
        patch,
        "error in remove for path: '/c': Unable to remove nonexistent key: c: missing value",
    );
}

/// Objects without nulls.
pub(crate) fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..5_i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("[a-d/~]{1,2}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-d/~]{1,2}", value, 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn difference(path: &str, from: &Value, to: &Value, patch: &mut Vec<Value>) {
    let below = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            for name in from.keys().filter(|name| !to.contains_key(*name)) {
                patch.push(json!({"op": "remove", "path": below(name)}));
            }
            for (name, value) in to {
                match from.get(name) {
                    Some(before) => difference(&below(name), before, value, patch),
                    None => patch.push(json!({"op": "add", "path": below(name), "value": value})),
                }
            }
        }
        (Value::Array(from), Value::Array(to)) => {
            for index in (to.len()..from.len()).rev() {
                patch.push(json!({"op": "remove", "path": format!("{path}/{index}")}));
            }
            for (index, value) in to.iter().enumerate() {
                match from.get(index) {
                    Some(before) => difference(&format!("{path}/{index}"), before, value, patch),
                    None => patch.push(json!({"op": "add", "path": format!("{path}/-"), "value": value})),
                }
            }
        }
        (from, to) if from == to => patch.push(json!({"op": "test", "path": path, "value": from})),
        (_, to) => patch.push(json!({"op": "replace", "path": path, "value": to})),
    }
}

proptest! {
    #[test]
    fn the_patch_of_a_difference_gives_the_target(from in any_object(), to in any_object()) {
        let mut patch = Vec::new();
        difference("", &from, &to, &mut patch);
        prop_assert_eq!(apply(from, &Value::Array(patch), 0), Ok(to));
    }
}
