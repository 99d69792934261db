//! Labels and the selectors that choose objects by them. Must never look at anything else of an object.

mod object;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldPath};
use crate::names;

pub use object::{LabelSelectorError, SelectorRules, validate_label_selector, validate_labels};
pub use text::SelectorTextError;

/// Something that has labels.
pub trait Labels {
    /// The value of a label, if there is one of this name.
    fn label(&self, key: &str) -> Option<&str>;
}

/// The labels as they stand in an object.
impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<L: Labels> Labels for Option<&L> {
    fn label(&self, key: &str) -> Option<&str> {
        self.and_then(|labels| labels.label(key))
    }
}

/// What is asked of one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`, the same
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `in`
    In,
    /// `notin`
    NotIn,
    /// `>`
    GreaterThan,
    /// `<`
    LessThan,
    /// The key alone.
    Exists,
    /// The key behind `!`.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: Box<str>,
    operator: Operator,
    values: Vec<Box<str>>,
}

impl Requirement {
    /// A requirement, checked.
    ///
    /// # Errors
    /// What is wrong with its key and values, below `path`.
    pub fn new(
        key: &str,
        operator: Operator,
        values: &[&str],
        path: &FieldPath,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        errors.extend(check_key(key, &path.child("key")));
        let at = path.child("values");
        let invalid = |detail: &str| FieldError::invalid(&at, Value::from(values.to_vec()), detail);
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(invalid("for 'in', 'notin' operators, values set can't be empty"));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                errors.push(invalid("exact-match compatibility requires one single value"));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                errors.push(invalid("values set must be empty for exists and does not exist"));
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    errors.push(invalid("for 'Gt', 'Lt' operators, exactly one value is required"));
                }
                for (index, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        errors.push(FieldError::invalid(
                            &at.index(index),
                            *value,
                            "for 'Gt', 'Lt' operators, the value must be an integer",
                        ));
                    }
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                errors.push(FieldError::invalid(&at.index(index).key(key), *value, wrong.join("; ")));
            }
        }
        if errors.is_empty() { Ok(Self::unchecked(key, operator, values)) } else { Err(errors) }
    }

    fn unchecked(key: &str, operator: Operator, values: &[&str]) -> Self {
        Self { key: key.into(), operator, values: values.iter().map(|value| (*value).into()).collect() }
    }

    /// The label it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it asks.
    #[must_use]
    pub const fn operator(&self) -> Operator {
        self.operator
    }

    /// The values it names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.values.iter().map(|value| &**value)
    }

    /// Whether the labels have what it asks.
    #[must_use]
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        let named = || value.is_some_and(|value| self.values().any(|one| one == value));
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => named(),
            Operator::NotEquals | Operator::NotIn => !named(),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.numbers(value).is_some_and(|(label, bound)| label > bound),
            Operator::LessThan => self.numbers(value).is_some_and(|(label, bound)| label < bound),
        }
    }

    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        let [bound] = self.values.as_slice() else { return None };
        Some((value?.parse().ok()?, bound.parse().ok()?))
    }
}

fn check_key(key: &str, path: &FieldPath) -> Option<FieldError> {
    let wrong = names::label_key(key);
    (!wrong.is_empty()).then(|| FieldError::invalid(path, key, wrong.join("; ")))
}

/// As selectors are written; values in order.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let mut values: Vec<&str> = values.iter().map(|value| &**value).collect();
        values.sort_unstable();
        let values = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// Chooses objects by their labels: all requirements must hold. Sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Chooses every object.
    #[must_use]
    pub const fn everything() -> Self {
        Self { requirements: Vec::new(), nothing: false }
    }

    /// Chooses no object.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Of requirements.
    #[must_use]
    pub fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { requirements, nothing: false }
    }

    /// Chooses objects that have all these labels, such as the selector of a Service. They are not checked. No labels
    /// choose every object.
    #[must_use]
    pub fn of_labels(labels: &Map<String, Value>) -> Self {
        let equals = |(key, value): (&String, &Value)| {
            Requirement::unchecked(key, Operator::Equals, &[value.as_str().unwrap_or_default()])
        };
        Self::of(labels.iter().map(equals).collect())
    }

    /// The requirements, sorted by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it chooses every object.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether it is known to choose no object.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether an object with these labels is chosen.
    #[must_use]
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        !self.nothing && self.requirements.iter().all(|one| one.matches(labels))
    }

    /// The one value that this label must have, if there is one.
    #[must_use]
    pub fn exact(&self, key: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|one| &*one.key == key)?;
        match (found.operator, found.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

/// As it is read; the selector that chooses nothing is empty too.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requirements_hold_or_not() {
        let labels = json!({"app": "web", "tier": "front", "weight": "5"});
        let labels = labels.as_object().unwrap();
        let table = [
            ("", true),
            ("app=web", true),
            ("app==db", false),
            ("app!=db", true),
            ("other!=db", true),
            ("app in (db,web)", true),
            ("app notin (db,web)", false),
            ("other notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("weight>4", true),
            ("weight>5", false),
            ("weight<6", true),
            ("app>1", false),
            ("other<1", false),
            ("app=web,tier=back", false),
            ("other=", false),
        ];
        for (text, matches) in table {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(labels), matches, "{text}");
        }
        assert!(!Selector::nothing().matches(labels));
        assert!(Selector::everything().matches(&None::<&Map<String, Value>>));
    }

    #[test]
    fn exact_values_are_known() {
        let selector: Selector = "a=1,b in (2),c in (3,4),d!=5".parse().unwrap();
        let exact = ["a", "b", "c", "d", "e"].map(|key| selector.exact(key));
        assert_eq!(exact, [Some("1"), Some("2"), None, None, None]);
    }

    #[test]
    fn labels_make_a_selector() {
        let labels = json!({"b": "2", "a": "1"});
        assert_eq!(Selector::of_labels(labels.as_object().unwrap()).to_string(), "a=1,b=2");
        assert!(Selector::of_labels(&Map::new()).is_everything());
    }
}
