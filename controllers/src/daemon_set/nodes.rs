//! Which nodes a pod of a DaemonSet fits, and which node a pod asks for. A decision.

use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Taint, Toleration,
};

use crate::kind::Object as _;
use crate::pods::{self, NAME_FIELD};

/// Whether a node is to have a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is to have one.
    Run,
    /// It gets none, but keeps the one that it has: its taints keep away new pods only.
    Keep,
    /// It is to have none.
    Never,
}

/// Whether a node is to have a pod of this kind.
pub(super) fn fit(node: &Node, spec: &PodSpec) -> Fit {
    let name = node.key().name;
    if spec.node_name.as_ref().is_some_and(|wanted| !wanted.is_empty() && *wanted != name) {
        return Fit::Never;
    }
    let labels = |key: &str| node.label(key);
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels(key) == Some(value)) {
        return Fit::Never;
    }
    if let Some(selector) = required(spec)
        && !selector.node_selector_terms.iter().any(|term| is_met(term, node))
    {
        return Fit::Never;
    }
    let tolerations = tolerations(spec);
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let bad = taints.into_iter().flatten().filter(|taint| !tolerations.iter().any(|it| tolerates(it, taint)));
    let mut fit = Fit::Run;
    for taint in bad {
        match taint.effect.as_str() {
            "NoExecute" => return Fit::Never,
            "NoSchedule" => fit = Fit::Keep,
            _ => {}
        }
    }
    fit
}

fn required(spec: &PodSpec) -> Option<&NodeSelector> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    affinity.required_during_scheduling_ignored_during_execution.as_ref()
}

/// A term without requirements is met by no node.
fn is_met(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.key().name;
    labels.iter().all(|it| holds(it, node.label(&it.key)))
        && fields.iter().all(|it| it.key == NAME_FIELD && holds(it, Some(&name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_one = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => is_one,
        "NotIn" => !is_one,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_open = |said: &Option<String>, taken: &str| {
        said.as_ref().is_none_or(|said| said.is_empty() || said == taken)
    };
    if !is_open(&toleration.effect, &taint.effect) || !is_open(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

/// What a pod of a DaemonSet tolerates: what its template says, and that its node is not as it should be.
pub(super) fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let mut own = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        own.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in own {
        let added = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !all.contains(&added) {
            all.push(added);
        }
    }
    all
}

/// The affinity of a template, for this node alone.
pub(super) fn only(affinity: Option<Affinity>, node: &str) -> Affinity {
    let here = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let mut affinity = affinity.unwrap_or_default();
    let of_nodes = affinity.node_affinity.get_or_insert_default();
    // That the node fits the template's terms is decided already.
    of_nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![here]),
            match_expressions: None,
        }],
    });
    affinity
}

/// The node that a pod is on or asks for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let bound = pods::node(pod);
    if bound.is_empty() { pods::asked_node(pod) } else { Some(bound) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(node: Value, spec: Value, expected: Fit) {
        let mut node = node;
        node["metadata"]["name"] = "n1".into();
        let mut spec = spec;
        spec["containers"] = json!([]);
        let (node, spec) = (serde_json::from_value(node).unwrap(), serde_json::from_value(spec).unwrap());
        assert_eq!(fit(&node, &spec), expected, "{node:?} {spec:?}");
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        let node = || json!({"metadata": {"labels": {"disk": "ssd", "size": "10"}}});
        let terms = |requirement: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [requirement]}, {}],
            }}}})
        };
        check(node(), json!({}), Fit::Run);
        check(node(), json!({"nodeName": "n1"}), Fit::Run);
        check(node(), json!({"nodeName": "n2"}), Fit::Never);
        check(node(), json!({"nodeSelector": {"disk": "ssd"}}), Fit::Run);
        check(node(), json!({"nodeSelector": {"disk": "hdd"}}), Fit::Never);
        for (operator, values, expected) in [
            ("In", json!(["ssd", "x"]), Fit::Run),
            ("In", json!(["x"]), Fit::Never),
            ("NotIn", json!(["x"]), Fit::Run),
            ("Exists", json!(null), Fit::Run),
            ("DoesNotExist", json!(null), Fit::Never),
        ] {
            check(node(), terms(json!({"key": "disk", "operator": operator, "values": values})), expected);
        }
        check(node(), terms(json!({"key": "size", "operator": "Gt", "values": ["9"]})), Fit::Run);
        check(node(), terms(json!({"key": "size", "operator": "Lt", "values": ["9"]})), Fit::Never);
        check(node(), terms(json!({"key": "none", "operator": "NotIn", "values": ["x"]})), Fit::Run);
    }

    #[test]
    fn taints_keep_pods_away_or_only_new_ones() {
        let taint = |key: &str, effect: &str| json!({"metadata": {}, "spec": {"taints": [{"key": key, "value": "v", "effect": effect}]}});
        let tolerates = |toleration: Value| json!({"tolerations": [toleration]});
        check(taint("a", "NoSchedule"), json!({}), Fit::Keep);
        check(taint("a", "NoExecute"), json!({}), Fit::Never);
        check(taint("a", "PreferNoSchedule"), json!({}), Fit::Run);
        check(taint("a", "NoExecute"), tolerates(json!({"key": "a", "value": "v"})), Fit::Run);
        check(taint("a", "NoExecute"), tolerates(json!({"key": "a", "value": "w"})), Fit::Never);
        check(taint("a", "NoExecute"), tolerates(json!({"operator": "Exists"})), Fit::Run);
        check(taint("node.kubernetes.io/unschedulable", "NoSchedule"), json!({}), Fit::Run);
        check(taint("node.kubernetes.io/not-ready", "NoExecute"), json!({}), Fit::Run);
        let network = "node.kubernetes.io/network-unavailable";
        check(taint(network, "NoSchedule"), json!({}), Fit::Keep);
        check(taint(network, "NoSchedule"), json!({"hostNetwork": true}), Fit::Run);
    }
}
