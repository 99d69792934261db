//! JSON patch (RFC 6902), with the habits and sentences of Kubernetes' API servers: a negative index counts from the end,
//! `replace` also sets a field that is not there, and the whole object can be replaced but not added or removed. Must never
//! look at a schema.

use serde_json::{Map, Value};

use crate::status::{Reason, Status};

/// How many operations a patch may have.
pub const OPERATIONS_MAX: usize = 10_000;

/// A JSON patch that is none, or does not fit the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is not a list of operations.
    #[error("error decoding patch: json: cannot unmarshal {found} into Go value of type jsonpatch.{wanted}")]
    Malformed {
        /// What stands there.
        found: &'static str,
        /// `Patch`, or `Operation` for an item of it.
        wanted: &'static str,
    },
    /// It has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    /// Its copies make the object too large.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {size}, exceeding the limit {limit}"
    )]
    CopiesTooLarge {
        /// What all copies have in bytes.
        size: usize,
        /// What they may have.
        limit: usize,
    },
    /// An operation does not fit the object, or its test failed.
    #[error("{0}")]
    Operation(String),
}

impl JsonPatchError {
    /// What the client is told. Kubernetes keeps the reason why an operation failed to itself; here it is the cause.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed { .. } => Status::new(Reason::BadRequest, self.to_string()),
            Self::TooManyOperations(_) => {
                Status::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {self}"))
            }
            Self::CopiesTooLarge { .. } | Self::Operation(_) => {
                Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
                    .because("FieldValueInvalid", self.to_string(), "patch")
            }
        }
    }
}

/// Carries the operations of `patch` out on `object`, all or none. The result is at most as large as both together and
/// `copies_bytes_max`, which bounds what operations `copy` add.
///
/// # Errors
/// When the patch is none, is too long, or an operation fails.
pub fn apply(object: Value, patch: &Value, copies_bytes_max: usize) -> Result<Value, JsonPatchError> {
    let operations = match patch {
        Value::Null => &[][..],
        Value::Array(operations) => operations,
        other => return Err(JsonPatchError::Malformed { found: json_type(other), wanted: "Patch" }),
    };
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(JsonPatchError::Malformed { found: json_type(other), wanted: "Operation" });
    }
    if operations.len() > OPERATIONS_MAX {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    let mut document = Document { root: object, copied_bytes: 0, copies_bytes_max };
    for operation in operations.iter().filter_map(Value::as_object) {
        document.carry_out(operation)?;
    }
    Ok(document.root)
}

const fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

type Outcome<T = ()> = Result<T, String>;

struct Document {
    root: Value,
    copied_bytes: usize,
    copies_bytes_max: usize,
}

impl Document {
    fn carry_out(&mut self, operation: &Map<String, Value>) -> Result<(), JsonPatchError> {
        let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
        let outcome = match kind {
            "add" => self.add(operation),
            "remove" => self.remove(operation),
            "replace" => self.replace(operation),
            "move" => self.shift(operation),
            "test" => self.test(operation),
            "copy" => return self.copy(operation),
            other => Err(format!("Unexpected kind: {other}")),
        };
        outcome.map_err(JsonPatchError::Operation)
    }

    fn add(&mut self, operation: &Map<String, Value>) -> Outcome {
        let path = path_of(operation)
            .map_err(|_| "add operation failed to decode path: missing value".to_owned())?;
        let Some((container, key)) = self.find(path) else {
            return Err(format!(
                "add operation does not apply: doc is missing path: \"{path}\": missing value"
            ));
        };
        container
            .add(&key, value_of(operation))
            .map_err(|why| format!("error in add for path: '{path}': {why}"))
    }

    fn remove(&mut self, operation: &Map<String, Value>) -> Outcome {
        let path = path_of(operation)
            .map_err(|_| "remove operation failed to decode path: missing value".to_owned())?;
        let Some((mut container, key)) = self.find(path) else {
            return Err(format!(
                "remove operation does not apply: doc is missing path: \"{path}\": missing value"
            ));
        };
        container.remove(&key).map(|_| ()).map_err(|why| format!("error in remove for path: '{path}': {why}"))
    }

    fn replace(&mut self, operation: &Map<String, Value>) -> Outcome {
        let path =
            path_of(operation).map_err(|why| format!("replace operation failed to decode path: {why}"))?;
        let value = value_of(operation);
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err("replace operation value must be object or array".to_owned());
            }
            self.root = value;
            return Ok(());
        }
        let Some((mut container, key)) = self.find(path) else {
            return Err(format!(
                "replace operation does not apply: doc is missing path: {path}: missing value"
            ));
        };
        container.set(&key, value).map_err(|_| {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        })
    }

    fn shift(&mut self, operation: &Map<String, Value>) -> Outcome {
        let from =
            from_of(operation).map_err(|why| format!("move operation failed to decode from: {why}"))?;
        let Some((mut container, key)) = self.find(from) else {
            return Err(format!(
                "move operation does not apply: doc is missing from path: {from}: missing value"
            ));
        };
        let value =
            container.remove(&key).map_err(|why| format!("error in move for path: '{key}': {why}"))?;
        let path =
            path_of(operation).map_err(|why| format!("move operation failed to decode path: {why}"))?;
        let Some((container, key)) = self.find(path) else {
            return Err(format!(
                "move operation does not apply: doc is missing destination path: {path}: missing value"
            ));
        };
        container.add(&key, value).map_err(|why| format!("error in move for path: '{path}': {why}"))
    }

    fn copy(&mut self, operation: &Map<String, Value>) -> Result<(), JsonPatchError> {
        let failed = JsonPatchError::Operation;
        let from = from_of(operation)
            .map_err(|why| failed(format!("copy operation failed to decode from: {why}")))?;
        let Some((container, key)) = self.find(from) else {
            return Err(failed(format!(
                "copy operation does not apply: doc is missing from path: {from}: missing value"
            )));
        };
        let value = container
            .get(&key)
            .map_err(|why| failed(format!("error in copy for from: '{from}': {why}")))?
            .cloned();
        let path = path_of(operation)
            .map_err(|_| failed("copy operation failed to decode path: missing value".to_owned()))?;
        self.copied_bytes += value.as_ref().map_or(0, |value| value.to_string().len());
        let (size, limit) = (self.copied_bytes, self.copies_bytes_max);
        let Some((container, key)) = self.find(path) else {
            return Err(failed(format!(
                "copy operation does not apply: doc is missing destination path: {path}: missing value"
            )));
        };
        if size > limit {
            return Err(JsonPatchError::CopiesTooLarge { size, limit });
        }
        container
            .add(&key, value.unwrap_or_default())
            .map_err(|why| failed(format!("error while adding value during copy: {why}")))
    }

    fn test(&mut self, operation: &Map<String, Value>) -> Outcome {
        let path =
            path_of(operation).map_err(|why| format!("test operation failed to decode path: {why}"))?;
        let wanted = operation.get("value").unwrap_or(&Value::Null);
        let same = if path.is_empty() {
            self.root == *wanted
        } else {
            let Some((container, key)) = self.find(path) else {
                return Err(format!("test operation does not apply: is missing path: {path}: missing value"));
            };
            // A field that is not there passes for null.
            let found =
                container.get(&key).map_err(|why| format!("error in test for path: '{path}': {why}"))?;
            found.unwrap_or(&Value::Null) == wanted
        };
        if same { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
    }

    /// What holds the place that a path leads to, and the place's name in it.
    fn find(&mut self, path: &str) -> Option<(Container<'_>, String)> {
        // What stands before the first slash does not count.
        let (_, steps) = path.split_once('/')?;
        let (parents, key) = match steps.rsplit_once('/') {
            Some((parents, key)) => (Some(parents), key),
            None => (None, steps),
        };
        let mut place = &mut self.root;
        for step in parents.into_iter().flat_map(|parents| parents.split('/')) {
            let step = unescaped(step);
            place = match place {
                Value::Object(fields) => fields.get_mut(&step)?,
                Value::Array(items) => {
                    let index = index_of(&step, items.len(), items.len()).ok()?;
                    items.get_mut(index)?
                }
                _ => return None,
            };
        }
        let container = match place {
            Value::Object(fields) => Container::Object(fields),
            Value::Array(items) => Container::Array(items),
            _ => return None,
        };
        Some((container, unescaped(key)))
    }
}

enum Container<'a> {
    Object(&'a mut Map<String, Value>),
    Array(&'a mut Vec<Value>),
}

impl Container<'_> {
    fn get(&self, key: &str) -> Outcome<Option<&Value>> {
        match self {
            Self::Object(fields) => Ok(fields.get(key)),
            Self::Array(items) => Ok(items.get(index_of(key, items.len(), items.len())?)),
        }
    }

    fn add(self, key: &str, value: Value) -> Outcome {
        match self {
            Self::Object(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Self::Array(items) if key == "-" => items.push(value),
            Self::Array(items) => {
                let places = items.len() + 1;
                if let Err(why) = key.parse::<i64>() {
                    let why = unreadable(key, &why);
                    return Err(format!("value was not a proper array index: '{key}': {why}"));
                }
                items.insert(index_of(key, places, places)?, value);
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value) -> Outcome {
        match self {
            Self::Object(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Self::Array(items) => {
                let index = index_of(key, items.len(), items.len())?;
                items[index] = value;
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Outcome<Value> {
        match self {
            Self::Object(fields) => fields
                .remove(key)
                .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
            Self::Array(items) => {
                let index = index_of(key, items.len(), items.len())?;
                Ok(items.remove(index))
            }
        }
    }
}

/// A place in a list: below `end`, or from `-length` counted from the end.
fn index_of(key: &str, end: usize, length: usize) -> Outcome<usize> {
    let index: i64 = key.parse().map_err(|why| unreadable(key, &why))?;
    let place = if index < 0 {
        usize::try_from(index.unsigned_abs()).ok().and_then(|back| length.checked_sub(back))
    } else {
        usize::try_from(index).ok()
    };
    place
        .filter(|place| *place < end)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

fn unreadable(key: &str, why: &std::num::ParseIntError) -> String {
    let why = match why.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.Atoi: parsing {key:?}: {why}")
}

/// `~1` is a slash and `~0` a tilde (RFC 6901).
fn unescaped(step: &str) -> String {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~") } else { step.to_owned() }
}

fn path_of(operation: &Map<String, Value>) -> Outcome<&str> {
    text_of(operation, "path", "operation missing path field: missing value")
}

fn from_of(operation: &Map<String, Value>) -> Outcome<&str> {
    text_of(operation, "from", "operation, missing from field: missing value")
}

fn text_of<'a>(operation: &'a Map<String, Value>, field: &str, missing: &str) -> Outcome<&'a str> {
    match operation.get(field) {
        None | Some(Value::Null) => Err(missing.to_owned()),
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            Err(format!("json: cannot unmarshal {} into Go value of type string", json_type(other)))
        }
    }
}

fn value_of(operation: &Map<String, Value>) -> Value {
    operation.get("value").cloned().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
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
            (
                json!({"op": "replace", "path": "", "value": 1}),
                "replace operation value must be object or array",
            ),
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
            (
                400,
                "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
            )
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
        assert!(
            matches!(error, JsonPatchError::CopiesTooLarge { limit: 1000, size } if size < 2100),
            "{error}"
        );
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
}
