//! Labels of one object, sorted, as they are compared and hashed; and selectors read from typed objects. Must never look
//! at anything else of an object.

use std::collections::BTreeMap;

use barque_api::field::{FieldError, FieldPath};
use barque_api::labels::{Labels, Operator, Requirement, Selector};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The labels of a pod, node or namespace, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSet(Box<[(Box<str>, Box<str>)]>);

impl LabelSet {
    /// From the labels of an object, if it has some.
    #[must_use]
    pub fn of(labels: Option<&BTreeMap<String, String>>) -> Self {
        let labels = labels.into_iter().flatten();
        Self(labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }
}

impl Labels for LabelSet {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)
    }
}

/// A selector that is none; what is wrong with it, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl SelectorError {
    fn of(errors: &[FieldError]) -> Self {
        Self(errors.first().map(ToString::to_string).unwrap_or_default())
    }
}

/// The requirements of a selector and whether there is one at all. One that is not there chooses nothing.
pub(crate) fn requirements_of(
    selector: Option<&LabelSelector>,
) -> Result<Option<Vec<Requirement>>, SelectorError> {
    let Some(selector) = selector else { return Ok(None) };
    let mut requirements = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        requirements.push(requirement(key, Operator::In, &[value])?);
    }
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
        };
        let values: Vec<&str> = expression.values.iter().flatten().map(String::as_str).collect();
        requirements.push(requirement(&expression.key, operator, &values)?);
    }
    Ok(Some(requirements))
}

/// A `LabelSelector`; one that is not there chooses nothing, an empty one everything.
pub(crate) fn selector_of(selector: Option<&LabelSelector>) -> Result<Selector, SelectorError> {
    Ok(requirements_of(selector)?.map_or_else(Selector::nothing, Selector::of))
}

/// One requirement, checked.
pub(crate) fn requirement(
    key: &str,
    operator: Operator,
    values: &[&str],
) -> Result<Requirement, SelectorError> {
    Requirement::new(key, operator, values, &FieldPath::root()).map_err(|errors| SelectorError::of(&errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_that_is_not_there_chooses_nothing_and_an_empty_one_everything() {
        assert!(selector_of(None).unwrap().is_nothing());
        assert!(selector_of(Some(&LabelSelector::default())).unwrap().is_everything());
    }

    #[test]
    fn labels_are_found_by_key() {
        let labels = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let labels = LabelSet::of(Some(&labels));
        assert_eq!((labels.get("a"), labels.get("b"), labels.get("c")), (Some("1"), Some("2"), None));
    }
}
