//! Selectors as they stand in objects, with `matchLabels` and `matchExpressions`, and what is wrong with them.

use serde_json::{Map, Value};

use super::{Operator, Requirement, Selector};
use crate::field::{FieldError, FieldPath};
use crate::names;

/// A selector of an object that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    /// There is no such operator.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// A key or a value is wrong; the first of what is wrong is told.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Fields(Vec<FieldError>),
}

/// What [`validate_label_selector`] lets pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelectorRules {
    /// Values of expressions that are none, because the object had some before.
    pub any_value: bool,
    /// Operators that are not known, because somebody else knows them.
    pub any_operator: bool,
}

impl Selector {
    /// From a `LabelSelector` of an object. One that is not there chooses nothing; an empty one chooses everything.
    ///
    /// # Errors
    /// When it is none; objects that are validated have only such that are.
    pub fn of_object(selector: Option<&Value>) -> Result<Self, LabelSelectorError> {
        let Some(Value::Object(selector)) = selector else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        let root = FieldPath::root();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let requirement = Requirement::new(key, Operator::Equals, &[value], &root);
            requirements.push(requirement.map_err(LabelSelectorError::Fields)?);
        }
        for expression in expressions(selector) {
            let Expression { key, operator, values } = Expression::of(expression);
            let operator = match operator {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(LabelSelectorError::Operator(other.to_owned())),
            };
            let requirement = Requirement::new(key, operator, &values, &root);
            requirements.push(requirement.map_err(LabelSelectorError::Fields)?);
        }
        Ok(Self::of(requirements))
    }
}

fn expressions(selector: &Map<String, Value>) -> &[Value] {
    selector.get("matchExpressions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

struct Expression<'a> {
    key: &'a str,
    operator: &'a str,
    values: Vec<&'a str>,
}

impl<'a> Expression<'a> {
    fn of(value: &'a Value) -> Self {
        let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
        let values = value.get("values").and_then(Value::as_array).into_iter().flatten();
        Self {
            key: text("key"),
            operator: text("operator"),
            values: values.filter_map(Value::as_str).collect(),
        }
    }
}

/// What is wrong with a `LabelSelector`; one that is not there is right.
#[must_use]
pub fn validate_label_selector(
    selector: Option<&Value>,
    rules: SelectorRules,
    path: &FieldPath,
) -> Vec<FieldError> {
    let Some(Value::Object(selector)) = selector else { return Vec::new() };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut errors =
        labels.map_or_else(Vec::new, |labels| validate_labels(labels, &path.child("matchLabels")));
    let path = path.child("matchExpressions");
    for (index, expression) in expressions(selector).iter().enumerate() {
        validate_expression(&Expression::of(expression), rules, &path.index(index), &mut errors);
    }
    errors
}

fn validate_expression(
    expression: &Expression<'_>,
    rules: SelectorRules,
    path: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let at = path.child("values");
    match expression.operator {
        "In" | "NotIn" => {
            if expression.values.is_empty() {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&at, detail));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !expression.values.is_empty() {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&at, detail));
            }
        }
        other => {
            if !rules.any_operator {
                let detail = "not a valid selector operator";
                errors.push(FieldError::invalid(&path.child("operator"), other, detail));
            }
        }
    }
    validate_key(expression.key, &path.child("key"), errors);
    if !rules.any_value {
        for (index, value) in expression.values.iter().enumerate() {
            for wrong in names::label_value(value) {
                errors.push(FieldError::invalid(&at.index(index), *value, wrong));
            }
        }
    }
}

/// What is wrong with labels: each error is told at the place of all of them.
#[must_use]
pub fn validate_labels(labels: &Map<String, Value>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        validate_key(key, path, &mut errors);
        let value = value.as_str().unwrap_or_default();
        for wrong in names::label_value(value) {
            errors.push(FieldError::invalid(path, value, wrong));
        }
    }
    errors
}

fn validate_key(key: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    errors.extend(names::label_key(key).into_iter().map(|wrong| FieldError::invalid(path, key, wrong)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_become_selectors() {
        let table = [
            (json!({}), ""),
            (json!({"matchLabels": {"b": "2", "a": "1"}}), "a=1,b=2"),
            (
                json!({"matchLabels": {"z": "1"}, "matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["y", "x"]},
                    {"key": "b", "operator": "NotIn", "values": ["x"]},
                    {"key": "c", "operator": "Exists"},
                    {"key": "d", "operator": "DoesNotExist", "values": []},
                ]}),
                "a in (x,y),b notin (x),c,!d,z=1",
            ),
        ];
        for (object, text) in table {
            assert_eq!(Selector::of_object(Some(&object)).unwrap().to_string(), text);
        }
        assert!(Selector::of_object(None).unwrap().is_nothing());
        assert!(Selector::of_object(Some(&Value::Null)).unwrap().is_nothing());
        assert!(Selector::of_object(Some(&json!({}))).unwrap().is_everything());
        let foo = json!({"matchExpressions": [{"key": "a", "operator": "Foo"}]});
        assert_eq!(
            Selector::of_object(Some(&foo)).unwrap_err().to_string(),
            r#""Foo" is not a valid label selector operator"#
        );
    }

    #[test]
    fn what_is_wrong_is_told_where_it_is() {
        let selector = json!({
            "matchLabels": {"a": "-"},
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["b"]},
                {"key": "", "operator": "Foo", "values": ["-"]},
            ],
        });
        let path = FieldPath::of("spec.selector");
        let told = |rules| {
            let errors = validate_label_selector(Some(&selector), rules, &path);
            errors.iter().map(|error| format!("{} {}", error.path, error.fault.reason())).collect::<Vec<_>>()
        };
        assert_eq!(
            told(SelectorRules::default()),
            [
                "spec.selector.matchLabels FieldValueInvalid",
                "spec.selector.matchExpressions[0].values FieldValueRequired",
                "spec.selector.matchExpressions[1].values FieldValueForbidden",
                "spec.selector.matchExpressions[2].operator FieldValueInvalid",
                "spec.selector.matchExpressions[2].key FieldValueInvalid",
                "spec.selector.matchExpressions[2].key FieldValueInvalid",
                "spec.selector.matchExpressions[2].values[0] FieldValueInvalid",
            ]
        );
        assert_eq!(told(SelectorRules { any_value: true, any_operator: true }).len(), 5);
    }
}
