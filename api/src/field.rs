//! Where in an object something is wrong, and what: paths of fields and the errors told about them, in the words that
//! users of Kubernetes know. Must never decide what is wrong.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// A place in an object, such as `spec.containers[0].ports[1].name` or `metadata.labels[app]`. Cloning is a pointer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldPath(Option<Arc<Step>>);

#[derive(PartialEq, Eq)]
struct Step {
    parent: FieldPath,
    part: Part,
}

#[derive(PartialEq, Eq)]
enum Part {
    Child(Box<str>),
    Index(usize),
    Key(Box<str>),
}

impl FieldPath {
    /// The object itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(None)
    }

    /// The place that dots lead to: `FieldPath::of("spec.template")`.
    #[must_use]
    pub fn of(dotted: &str) -> Self {
        dotted.split('.').fold(Self::root(), |path, name| path.child(name))
    }

    /// A field of this place.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        self.step(Part::Child(name.into()))
    }

    /// An item of the list at this place, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Part::Index(index))
    }

    /// An entry of the map at this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.step(Part::Key(key.into()))
    }

    fn step(&self, part: Part) -> Self {
        Self(Some(Arc::new(Step { parent: self.clone(), part })))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        write!(f, "{}", step.parent)?;
        match &step.part {
            Part::Child(name) if step.parent.0.is_none() => f.write_str(name),
            Part::Child(name) => write!(f, ".{name}"),
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldPath({self})")
    }
}

/// What is wrong with a field; as text, the reason in a cause of a Status (`FieldValueInvalid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What is referred to is not there.
    NotFound,
    /// It must be given.
    Required,
    /// It is there twice.
    Duplicate,
    /// It has the wrong form.
    Invalid,
    /// The same, of a value that is not shown: it is too much to read.
    InvalidWhole,
    /// It is none of the values that are known.
    NotSupported,
    /// It may not be given, or not be changed.
    Forbidden,
    /// It has too many bytes.
    TooLong,
    /// It has too many items.
    TooMany,
    /// The server failed to find out.
    Internal,
    /// It has the wrong type.
    TypeInvalid,
}

impl Fault {
    /// The `reason` of a cause (`metav1.CauseType`).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid | Self::InvalidWhole => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::InvalidWhole | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    const fn shows_value(self) -> bool {
        use Fault::{Forbidden, Internal, InvalidWhole, Required, TooLong};
        !matches!(self, Required | Forbidden | TooLong | Internal | InvalidWhole)
    }
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where.
    pub path: FieldPath,
    /// What kind of wrong.
    pub fault: Fault,
    /// What stands there.
    pub value: Value,
    /// What would be right; may be empty.
    pub detail: String,
}

impl FieldError {
    fn new(path: &FieldPath, fault: Fault, value: Value, detail: impl Into<String>) -> Self {
        Self { path: path.clone(), fault, value, detail: detail.into() }
    }

    /// A value of the wrong form; `detail` says what would be right.
    #[must_use]
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::Invalid, value.into(), detail)
    }

    /// A value of the wrong form that is not shown, such as a list of conditions that contradict each other.
    #[must_use]
    pub fn invalid_whole(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::InvalidWhole, Value::Null, detail)
    }

    /// A value of the wrong type.
    #[must_use]
    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::TypeInvalid, value.into(), detail)
    }

    /// A field that must be given.
    #[must_use]
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::Required, Value::Null, detail)
    }

    /// A value that is there twice.
    #[must_use]
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(path, Fault::Duplicate, value.into(), "")
    }

    /// A value that names something that is not there.
    #[must_use]
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(path, Fault::NotFound, value.into(), "")
    }

    /// A value that is none of `supported`.
    #[must_use]
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let supported: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = if supported.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", supported.join(", "))
        };
        Self::new(path, Fault::NotSupported, value.into(), detail)
    }

    /// A field that may not be given here, or not be changed.
    #[must_use]
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::Forbidden, Value::Null, detail)
    }

    /// A text of more than `limit` bytes.
    #[must_use]
    pub fn too_long(path: &FieldPath, limit: usize) -> Self {
        Self::new(path, Fault::TooLong, Value::Null, format!("may not be more than {limit} bytes"))
    }

    /// A list of more than `limit` items.
    #[must_use]
    pub fn too_many(path: &FieldPath, items: usize, limit: usize) -> Self {
        let unit = if limit == 1 { "item" } else { "items" };
        Self::new(path, Fault::TooMany, items.into(), format!("must have at most {limit} {unit}"))
    }

    /// What could not be found out.
    #[must_use]
    pub fn internal(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Fault::Internal, Value::Null, detail)
    }

    /// The message without the path: the `message` of a cause, whose `field` is the path.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = self.fault.words().to_owned();
        if self.fault.shows_value() {
            message.push_str(": ");
            message.push_str(&self.value.to_string());
        }
        if !self.detail.is_empty() {
            message.push_str(": ");
            message.push_str(&self.detail);
        }
        message
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path == FieldPath::root() {
            write!(f, "<nil>: {}", self.message())
        } else {
            write!(f, "{}: {}", self.path, self.message())
        }
    }
}

impl std::error::Error for FieldError {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_read_as_users_write_them() {
        let path = FieldPath::of("spec.containers").index(0).child("ports").index(1).child("name");
        assert_eq!(path.to_string(), "spec.containers[0].ports[1].name");
        assert_eq!(FieldPath::of("metadata.labels").key("a/b").to_string(), "metadata.labels[a/b]");
    }

    #[test]
    fn errors_read_as_those_of_kubernetes() {
        let path = FieldPath::of("spec.replicas");
        let table = [
            (FieldError::required(&path, ""), "spec.replicas: Required value"),
            (FieldError::required(&path, "set it"), "spec.replicas: Required value: set it"),
            (
                FieldError::invalid(&path, -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (FieldError::invalid_whole(&path, "no"), "spec.replicas: Invalid value: no"),
            (FieldError::invalid(&path, "a\"b", "no"), r#"spec.replicas: Invalid value: "a\"b": no"#),
            (
                FieldError::invalid(&path, json!({"a": 1}), "no"),
                r#"spec.replicas: Invalid value: {"a":1}: no"#,
            ),
            (
                FieldError::not_supported(&path, "x", &["A", "B"]),
                r#"spec.replicas: Unsupported value: "x": supported values: "A", "B""#,
            ),
            (FieldError::duplicate(&path, "x"), r#"spec.replicas: Duplicate value: "x""#),
            (FieldError::not_found(&path, "x"), r#"spec.replicas: Not found: "x""#),
            (FieldError::forbidden(&path, "no"), "spec.replicas: Forbidden: no"),
            (FieldError::too_long(&path, 63), "spec.replicas: Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&path, 3, 1), "spec.replicas: Too many: 3: must have at most 1 item"),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
    }
}
