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
pub(crate) mod tests;
