//! Which nodes a pod may or would rather run on, by their labels and names: `nodeSelector` and `nodeAffinity`, compiled.
//! Must never look at pods on nodes.

use barque_api::labels::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1 as core;

use crate::label_set::{LabelSet, requirement};

/// One term: all that it asks must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    labels: Selector,
    /// `metadata.name`, as it must be (or must not be).
    names: Box<[(bool, Box<str>)]>,
    /// A term that asks for nothing or nonsense holds nowhere.
    nowhere: bool,
}

impl NodeTerm {
    fn of(term: &core::NodeSelectorTerm) -> Self {
        let mut nowhere = false;
        let mut requirements: Vec<Requirement> = Vec::new();
        for asked in term.match_expressions.iter().flatten() {
            let operator = match asked.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                "Gt" => Operator::GreaterThan,
                "Lt" => Operator::LessThan,
                _ => {
                    nowhere = true;
                    continue;
                }
            };
            let values: Vec<&str> = asked.values.iter().flatten().map(String::as_str).collect();
            match requirement(&asked.key, operator, &values) {
                Ok(one) => requirements.push(one),
                Err(_) => nowhere = true,
            }
        }
        let mut names = Vec::new();
        for asked in term.match_fields.iter().flatten() {
            match (asked.key.as_str(), asked.operator.as_str(), asked.values.as_deref()) {
                ("metadata.name", "In", Some([name])) => names.push((true, name.as_str().into())),
                ("metadata.name", "NotIn", Some([name])) => names.push((false, name.as_str().into())),
                _ => nowhere = true,
            }
        }
        nowhere |= requirements.is_empty() && names.is_empty();
        Self { labels: Selector::of(requirements), names: names.into(), nowhere }
    }

    /// Whether a node of this name and these labels is meant.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &LabelSet) -> bool {
        !self.nowhere
            && self.names.iter().all(|(is, wanted)| *is == (&**wanted == name))
            && self.labels.matches(labels)
    }
}

/// Terms of which one must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerms(Box<[NodeTerm]>);

impl NodeTerms {
    /// From a node selector of an object.
    #[must_use]
    pub fn of(selector: &core::NodeSelector) -> Self {
        Self(selector.node_selector_terms.iter().map(NodeTerm::of).collect())
    }

    /// Whether a node of this name and these labels is meant.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &LabelSet) -> bool {
        self.0.iter().any(|term| term.matches(name, labels))
    }

    /// The only nodes that can be meant, if every term names some. Sorted.
    fn pinned(&self) -> Option<Vec<Box<str>>> {
        let mut all = Vec::new();
        for term in &self.0 {
            let mut named = term.names.iter().filter(|(is, _)| *is).map(|(_, name)| name);
            let first = named.next()?;
            if named.all(|name| name == first) {
                all.push(first.clone());
            }
        }
        all.sort_unstable();
        all.dedup();
        (!self.0.is_empty()).then_some(all)
    }
}

/// Where a pod may run at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequiredNodes {
    labels: Box<[(Box<str>, Box<str>)]>,
    terms: Option<NodeTerms>,
}

impl RequiredNodes {
    pub(super) fn of(spec: &core::PodSpec) -> Self {
        let labels = spec.node_selector.iter().flatten();
        let labels = labels.map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let terms = affinity
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self { labels, terms: terms.map(NodeTerms::of) }
    }

    /// Whether every node will do.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }

    /// Whether the pod may run on a node of this name and these labels.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &LabelSet) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.matches(name, labels))
    }

    /// The only nodes that can match, if the terms name them: at most these have to be looked at.
    #[must_use]
    pub fn pinned(&self) -> Option<Vec<Box<str>>> {
        self.terms.as_ref()?.pinned()
    }
}

/// Where a pod would rather run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PreferredNodes(Box<[(i32, NodeTerm)]>);

impl PreferredNodes {
    /// From the preferences of an object; those of no weight, or that ask for nothing, are none.
    #[must_use]
    pub fn of(preferences: &[core::PreferredSchedulingTerm]) -> Self {
        let terms = preferences.iter().filter(|one| one.weight != 0);
        Self(
            terms
                .map(|one| (one.weight, NodeTerm::of(&one.preference)))
                .filter(|(_, term)| !term.nowhere)
                .collect(),
        )
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The weights of all that hold on a node.
    #[must_use]
    pub fn weight(&self, name: &str, labels: &LabelSet) -> i64 {
        self.0
            .iter()
            .filter(|(_, term)| term.matches(name, labels))
            .map(|(weight, _)| i64::from(*weight))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn required(spec: serde_json::Value) -> RequiredNodes {
        let mut spec = spec;
        spec["containers"] = json!([]);
        RequiredNodes::of(&serde_json::from_value(spec).unwrap())
    }

    fn terms(terms: serde_json::Value) -> serde_json::Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    fn asks(key: &str, operator: &str, values: &[&str]) -> serde_json::Value {
        json!({"key": key, "operator": operator, "values": values})
    }

    #[test]
    fn terms_are_alternatives_and_what_they_ask_goes_together() {
        let labels = BTreeMap::from([("zone".into(), "a".into()), ("cores".into(), "8".into())]);
        let labels = LabelSet::of(Some(&labels));
        let expressions = |list: serde_json::Value| terms(json!([{"matchExpressions": list}]));
        let table = [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (expressions(json!([asks("zone", "In", &["a", "b"])])), true),
            (expressions(json!([asks("zone", "NotIn", &["a"])])), false),
            (expressions(json!([asks("zone", "Exists", &[]), asks("gpu", "DoesNotExist", &[])])), true),
            (expressions(json!([asks("cores", "Gt", &["7"])])), true),
            (expressions(json!([asks("cores", "Lt", &["8"])])), false),
            (expressions(json!([asks("zone", "Like", &["a"])])), false),
            (terms(json!([])), false),
            (terms(json!([{}])), false),
            (terms(json!([{}, {"matchExpressions": [asks("zone", "Exists", &[])]}])), true),
            (terms(json!([{"matchFields": [asks("metadata.name", "In", &["n"])]}])), true),
            (terms(json!([{"matchFields": [asks("metadata.name", "NotIn", &["n"])]}])), false),
            (terms(json!([{"matchFields": [asks("metadata.uid", "In", &["n"])]}])), false),
        ];
        for (spec, expected) in table {
            assert_eq!(required(spec.clone()).matches("n", &labels), expected, "{spec}");
        }
    }

    #[test]
    fn nodes_are_pinned_when_every_term_names_one() {
        let named = |names: &[&str]| json!({"matchFields": names.iter().map(|name| asks("metadata.name", "In", &[name])).collect::<Vec<_>>()});
        let pinned = |list| required(terms(list)).pinned();
        assert_eq!(pinned(json!([named(&["b"]), named(&["a"])])), Some(vec!["a".into(), "b".into()]));
        assert_eq!(pinned(json!([named(&["b"]), {"matchExpressions": [asks("x", "Exists", &[])]}])), None);
        assert_eq!(pinned(json!([named(&["a", "b"])])), Some(vec![]));
        assert_eq!(required(json!({"nodeSelector": {"a": "b"}})).pinned(), None);
    }
}
