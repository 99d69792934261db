//! Paths of fields as owners hold them: a step names a field, an item by its key, an item by its value, or a place. Unlike
//! [`crate::field::FieldPath`] they stay right when a list is reordered. Must never look at a schema.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of an object or a map.
    Field(Arc<str>),
    /// The item of a list in which these fields have these values, sorted by name.
    Key(Arc<[(Arc<str>, Value)]>),
    /// The item of a set that is this scalar.
    Value(Value),
    /// The item at this place.
    Index(i64),
}

impl PathElement {
    /// A field.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// An item by its key, in any order.
    #[must_use]
    pub fn key(mut fields: Vec<(Arc<str>, Value)>) -> Self {
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self::Key(fields.into())
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

/// Fields before keys before values before places; numbers by their size, whole or not.
impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(one), Self::Field(other)) => one.cmp(other),
            (Self::Key(one), Self::Key(other)) => {
                let pairs = one.iter().zip(other.iter());
                let unequal = pairs
                    .map(|((name, value), (other_name, other))| {
                        name.cmp(other_name).then_with(|| compare(value, other))
                    })
                    .find(|order| order.is_ne());
                unequal.unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (Self::Value(one), Self::Value(other)) => compare(one, other),
            (Self::Index(one), Self::Index(other)) => one.cmp(other),
            (one, other) => one.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

/// As messages show it: `.spec`, `[name="a",port=80]`, `[="a"]`, `[0]`.
impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect();
                write!(f, "[{}]", fields.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The way from an object to one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<PathElement>);

impl Path {
    /// From its steps.
    #[must_use]
    pub const fn new(steps: Vec<PathElement>) -> Self {
        Self(steps)
    }

    /// Through named fields: `Path::of("spec.replicas")`.
    #[must_use]
    pub fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(PathElement::field).collect())
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[PathElement] {
        &self.0
    }

    pub(super) fn push(&mut self, step: PathElement) {
        self.0.push(step);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => crate::go_text::printed(value),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(shown).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}={}", shown(value))).collect()
        }
    }
}

/// A total order of values: numbers, texts, booleans, lists, objects, null.
pub(super) fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => {
                let (one, other) = (one.as_f64().unwrap_or(0.0), other.as_f64().unwrap_or(0.0));
                one.partial_cmp(&other).unwrap_or(Ordering::Equal)
            }
        },
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Array(one), Value::Array(other)) => {
            let unequal = one.iter().zip(other).map(|(one, other)| compare(one, other));
            unequal.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Value::Object(one), Value::Object(other)) => {
            let pairs = one.iter().zip(other);
            let unequal = pairs.map(|((name, value), (other_name, other))| {
                name.cmp(other_name).then_with(|| compare(value, other))
            });
            unequal.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    compare(one, other).is_eq()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_read_as_messages_show_them() {
        let port =
            PathElement::key(vec![("protocol".into(), json!("TCP")), ("containerPort".into(), json!(80))]);
        let mut path = Path::of("spec.ports");
        path.push(port);
        path.push(PathElement::field("name"));
        assert_eq!(path.to_string(), r#".spec.ports[containerPort=80,protocol="TCP"].name"#);
        assert_eq!(PathElement::Value(json!("a\"b")).to_string(), r#"[="a\"b"]"#);
        assert_eq!(PathElement::Value(json!(true)).to_string(), "[=true]");
        assert_eq!(PathElement::Index(3).to_string(), "[3]");
    }

    #[test]
    fn steps_have_an_order() {
        let key = |value: Value| PathElement::key(vec![("a".into(), value)]);
        let sorted = [
            PathElement::field("a"),
            PathElement::field("b"),
            key(json!(2)),
            key(json!(10)),
            key(json!("10")),
            PathElement::key(vec![("a".into(), json!("10")), ("b".into(), json!(1))]),
            PathElement::key(vec![("b".into(), json!(1))]),
            PathElement::Value(json!(1.5)),
            PathElement::Value(json!(2)),
            PathElement::Value(json!("1")),
            PathElement::Value(json!(false)),
            PathElement::Value(json!(true)),
            PathElement::Index(1),
            PathElement::Index(2),
        ];
        for (place, one) in sorted.iter().enumerate() {
            for (other_place, other) in sorted.iter().enumerate() {
                assert_eq!(one.cmp(other), place.cmp(&other_place), "{one} {other}");
            }
        }
        assert_eq!(PathElement::Value(json!(1)), PathElement::Value(json!(1.0)));
    }
}
