//! Whether an object can be owned path by path: values are of the kind that the schema says, and items can be told apart.
//! Must never check what is not needed for that; the rest of validation comes later.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::shape::{Form, Items, List, Scalar, Shape};
use crate::go_text;
use crate::managed_fields::path::{Path, PathElement};

/// What is taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// What somebody applies: every field is known, and no item is there twice.
    Applied,
    /// What is stored, or about to be: it may be older than its schema.
    Stored,
}

/// What is wrong, each with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedErrors(Vec<String>);

impl fmt::Display for TypedErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            several => write!(f, "errors:\n  {}", several.join("\n  ")),
        }
    }
}

/// Checks a value.
pub(crate) fn validate(shape: Shape<'_>, value: &Value, strictness: Strictness) -> Result<(), TypedErrors> {
    let mut walk = Walk { strictness, path: Path::default(), errors: Vec::new() };
    walk.value(shape, value);
    if walk.errors.is_empty() { Ok(()) } else { Err(TypedErrors(walk.errors)) }
}

struct Walk {
    strictness: Strictness,
    path: Path,
    errors: Vec<String>,
}

impl Walk {
    fn wrong(&mut self, message: &str) {
        let path = self.path.to_string();
        self.errors.push(if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") });
    }

    fn below(&mut self, step: PathElement, shape: Shape<'_>, value: &Value) {
        self.path.push(step);
        self.value(shape, value);
        self.path.pop();
    }

    fn value(&mut self, shape: Shape<'_>, value: &Value) {
        match (shape.form(Some(value)), value) {
            (_, Value::Null) => {}
            (Form::Map(fields), Value::Object(values)) => {
                for (name, value) in values {
                    let step = PathElement::field(name);
                    match fields.field(name) {
                        Some(shape) => self.below(step, shape, value),
                        None if self.strictness == Strictness::Stored => {}
                        None => {
                            self.path.push(step);
                            self.wrong("field not declared in schema");
                            self.path.pop();
                        }
                    }
                }
            }
            (Form::List(list), Value::Array(items)) => self.items(list, items),
            (Form::Map(_), other) => {
                self.wrong(&format!("expected map, got &{{{}}}", go_text::printed(other)));
            }
            (Form::List(_), other) => {
                self.wrong(&format!("expected list, got &{{{}}}", go_text::printed(other)));
            }
            (Form::Scalar(scalar), value) => {
                if let Some(message) = mismatch(scalar, value) {
                    self.wrong(&message);
                }
            }
        }
    }

    fn items(&mut self, list: List<'_>, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            let step = match list.items {
                Items::Whole => PathElement::Index(i64::try_from(place).unwrap_or(i64::MAX)),
                Items::Set | Items::Keyed(_) => match list.step(item) {
                    Ok(step) => step,
                    Err(why) => return self.wrong(&format!("element {place}: {why}")),
                },
            };
            if !seen.insert(step.clone()) && self.strictness == Strictness::Applied {
                self.wrong(&format!("duplicate entries for key {step}"));
            }
            self.below(step, list.item, item);
        }
    }
}

fn mismatch(scalar: Scalar, value: &Value) -> Option<String> {
    match scalar {
        Scalar::Number if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {}", go_text::type_name(value)))
        }
        Scalar::Text if !value.is_string() => Some(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            go_text::printed_as_source(value)
        )),
        Scalar::Boolean if !value.is_boolean() => {
            Some(format!("expected boolean, got &{{{}}}", go_text::printed(value)))
        }
        Scalar::Any if value.is_object() || value.is_array() => {
            Some(format!("expected any scalar, got &{{{}}}", go_text::printed(value)))
        }
        _ => None,
    }
}
