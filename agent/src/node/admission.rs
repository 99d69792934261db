//! Whether a node takes a pod that was bound to it, in the kubelet's words: resources, labels, taints. A decision; whoever
//! bound the pod may have known less, or never asked.

use std::collections::BTreeMap;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, ResourceRequirements, Taint,
    Toleration,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::containers::qos::{Qos, class};
use crate::eviction::ranking::is_critical;
use crate::eviction::signals::{Pressure, Pressures};
use crate::pods::plan::Refusal;
use crate::pods::spec::{self, Kind};

/// Amounts of resources: thousandths of cores, and whole units of everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, i64>);

impl Amounts {
    /// As a list says.
    #[must_use]
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let amount = |(name, text): (&String, &Text)| {
            // The API server has read it before.
            let quantity = Quantity::parse(&text.0).ok()?;
            let amount = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            Some((name.clone(), amount))
        };
        Self(list.into_iter().flatten().filter_map(amount).collect())
    }

    /// So much of this resource.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

/// What a pod asks for: its containers together with its sidecars, or the init container that asks for more; the pod's own
/// word goes before that of its containers. A pod also is one.
#[must_use]
pub fn asks(pod: &Pod) -> Amounts {
    let Some(spec) = spec::spec(pod) else { return Amounts::default() };
    let mut sum = together(pod, |resources| resources.requests.as_ref());
    let whole = Amounts::of(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    sum.0.extend(whole.0);
    sum.add(&Amounts::of(spec.overhead.as_ref()));
    sum.0.insert("pods".to_owned(), 1);
    sum
}

/// The most that a pod may have of a resource, when any of its containers has a bound for it: that of all who have one.
#[must_use]
pub fn bound(pod: &Pod, name: &str) -> Option<i64> {
    together(pod, |resources| resources.limits.as_ref()).0.get(name).copied()
}

/// What containers say, added up as they run.
fn together(pod: &Pod, said: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Text>>) -> Amounts {
    let Some(spec) = spec::spec(pod) else { return Amounts::default() };
    let of = |container: &Container| Amounts::of(container.resources.as_ref().and_then(said));
    let mut sum = Amounts::default();
    spec.containers.iter().for_each(|container| sum.add(&of(container)));
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in spec::init_containers(pod) {
        let Some(asked) = container.container.map(of) else { continue };
        if container.kind == Kind::Sidecar {
            sum.add(&asked);
            sidecars.add(&asked);
            most.raise(&sidecars);
        } else {
            let mut meanwhile = asked;
            meanwhile.add(&sidecars);
            most.raise(&meanwhile);
        }
    }
    sum.raise(&most);
    sum
}

/// Why a node in these conditions does not take a pod: without what the system needs it takes none, but who asks for something
/// where memory alone is short.
#[must_use]
pub fn admit_under(pressures: &Pressures, pod: &Pod) -> Option<Refusal> {
    if pressures.is_empty() || is_critical(pod) {
        return None;
    }
    if pressures.iter().eq([&Pressure::Memory]) {
        let taint = Taint {
            key: "node.kubernetes.io/memory-pressure".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let tolerations = spec::spec(pod).and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        if class(pod) != Qos::BestEffort || tolerations.iter().any(|it| tolerates(it, &taint)) {
            return None;
        }
    }
    let words: Vec<_> = pressures.iter().map(|pressure| pressure.word()).collect();
    Some(Refusal::new("Evicted", format!("The node had condition: [{}]. ", words.join(" "))))
}

/// Why the node does not take the pod, beside others that use so much; nothing when it does.
#[must_use]
pub fn admit(pod: &Pod, node: &Node, used: &Amounts) -> Option<Refusal> {
    let refuse = |reason: &str, text: String| Some(Refusal::new(reason, format!("Pod was rejected: {text}")));
    let predicate = |name: &str, text: &str| refuse(name, format!("Predicate {name} failed: {text}"));
    let spec = spec::spec(pod)?;
    let status = node.status.as_ref();
    let capacity = Amounts::of(status.and_then(|status| status.allocatable.as_ref()));
    for (name, asked) in &asks(pod).0 {
        // Resources of others than Kubernetes that the node does not have are somebody else's to give.
        let unknown = name.contains('/') && !capacity.0.contains_key(name);
        let (used, capacity) = (used.get(name), capacity.get(name));
        if *asked > 0 && !unknown && *asked > capacity.saturating_sub(used) {
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
            );
            return refuse(&format!("OutOf{name}"), text);
        }
    }
    if !is_chosen(spec, node) {
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let mut evicting = taints.iter().filter(|taint| taint.effect == "NoExecute");
    if evicting.any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    None
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect) = (said(&toleration.key), said(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match said(&toleration.operator).as_str() {
        "" | "Equal" => said(&toleration.value) == said(&taint.value),
        "Exists" => true,
        _ => false,
    }
}

/// Whether the pod's selector and the affinity that it requires choose the node.
fn is_chosen(spec: &PodSpec, node: &Node) -> bool {
    let nothing = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&nothing);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    selected
        && required.is_none_or(|required| {
            required.node_selector_terms.iter().any(|term| matches(term, name, labels))
        })
}

/// A term without anything chooses nothing.
fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = BTreeMap::from([("metadata.name".to_owned(), name.to_owned())]);
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, labels))
        && fields.iter().all(|requirement| holds(requirement, &name))
}

fn holds(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let number = |text: &String| text.parse::<i64>().ok();
    let limit = || values.first().and_then(number);
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(limit()).is_some_and(|(value, limit)| value > limit),
        "Lt" => value.and_then(number).zip(limit()).is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a", "size": "7"}},
            "spec": {"taints": [{"key": "fire", "value": "hot", "effect": "NoExecute"}, {"key": "x", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1"}},
        }))
        .unwrap()
    }

    fn pod(extra: &Value, requests: &Value) -> Pod {
        let mut spec = json!({
            "containers": [{"name": "c", "resources": {"requests": requests}}],
            "tolerations": [{"key": "fire", "operator": "Exists"}],
        });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    fn check(extra: Value, requests: Value, expected: &str) {
        let used = asks(&pod(&json!({}), &json!({"cpu": "1500m"})));
        let found = admit(&pod(&extra, &requests), &node(), &used);
        let found = found.map_or_else(|| "ok".to_owned(), |it| format!("{}: {}", it.reason, it.message));
        assert_eq!(found, expected, "{extra} {requests}");
    }

    #[test]
    fn pods_that_do_not_fit_are_refused_in_the_kubelets_words() {
        check(json!({}), json!({"cpu": "500m", "memory": "1Gi"}), "ok");
        let cpu = "OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000";
        check(json!({}), json!({"cpu": "501m"}), cpu);
        let memory = "OutOfmemory: Pod was rejected: Node didn't have enough resource: memory, requested: 1073741825, used: 0, capacity: 1073741824";
        check(json!({}), json!({"memory": "1073741825"}), memory);
        check(json!({}), json!({"example.com/gpu": "1"}), "ok");
        check(json!({}), json!({"example.com/other": "5"}), "ok");
        let init = json!({"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "501m"}}}]});
        check(init, json!({}), cpu);
        let mut full = Amounts::default();
        (0..3).for_each(|_| full.add(&asks(&pod(&json!({}), &json!({})))));
        assert_eq!(admit(&pod(&json!({}), &json!({})), &node(), &full).unwrap().reason, "OutOfpods");
    }

    #[test]
    fn pods_for_other_nodes_are_refused() {
        let affinity = "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(json!({"nodeSelector": {"zone": "a"}}), json!({}), "ok");
        check(json!({"nodeSelector": {"zone": "b"}}), json!({}), affinity);
        let required = |term: Value| {
            json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
        };
        let expression = |key: &str, operator: &str, values: &[&str]| {
            required(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (key, operator, values, expected) in [
            ("zone", "In", &["a", "b"][..], "ok"),
            ("zone", "NotIn", &["a"], affinity),
            ("size", "Gt", &["6"], "ok"),
            ("size", "Lt", &["7"], affinity),
            ("none", "DoesNotExist", &[], "ok"),
            ("none", "Exists", &[], affinity),
        ] {
            check(expression(key, operator, values), json!({}), expected);
        }
        check(required(json!({})), json!({}), affinity);
        let field = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]});
        check(required(field), json!({}), "ok");
        let taint = "TaintToleration: Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        check(json!({"tolerations": []}), json!({}), taint);
        check(json!({"tolerations": [{"key": "fire", "value": "cold"}]}), json!({}), taint);
        check(
            json!({"tolerations": [{"key": "fire", "value": "hot", "effect": "NoExecute"}]}),
            json!({}),
            "ok",
        );
    }
}
