//! TaintNodesByCondition and DefaultTolerationSeconds: a new node takes no pods before it is ready, and pods stay for some time
//! on a node that is lost. Pure.

use serde_json::{Value, json};

use super::pod::{list, text};
use super::{Attributes, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// How long pods stay on a lost node that say nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultTolerations {
    /// On one that says that it is not ready.
    pub not_ready_seconds: i64,
    /// On one that is not heard of.
    pub unreachable_seconds: i64,
}

impl Default for DefaultTolerations {
    fn default() -> Self {
        Self { not_ready_seconds: 300, unreachable_seconds: 300 }
    }
}

/// Taints a node that is created.
pub(super) fn taint_new_node(attributes: &Attributes<'_>, node: &mut Value) {
    if attributes.operation != Operation::Create || !attributes.is_plainly("", "nodes") {
        return;
    }
    let is_there = list(node, "/spec/taints")
        .iter()
        .any(|taint| text(taint, "/key") == NOT_READY && text(taint, "/effect") == "NoSchedule");
    if !is_there {
        append(node, "taints", json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

/// Lets a pod tolerate lost nodes for a while, unless it says how it does.
pub(super) fn tolerate_lost_nodes(
    defaults: DefaultTolerations,
    attributes: &Attributes<'_>,
    pod: &mut Value,
) {
    if !matches!(attributes.operation, Operation::Create | Operation::Update)
        || !attributes.is_plainly("", "pods")
    {
        return;
    }
    for (taint, seconds) in
        [(NOT_READY, defaults.not_ready_seconds), (UNREACHABLE, defaults.unreachable_seconds)]
    {
        let says = list(pod, "/spec/tolerations").iter().any(|toleration| {
            ["", taint].contains(&text(toleration, "/key"))
                && ["", "NoExecute"].contains(&text(toleration, "/effect"))
        });
        if !says {
            let toleration = json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": seconds});
            append(pod, "tolerations", toleration);
        }
    }
}

fn append(object: &mut Value, field: &str, item: Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let spec = fields.entry("spec").or_insert_with(|| json!({}));
    let Some(list) = spec.as_object_mut().map(|spec| spec.entry(field).or_insert(Value::Null)) else {
        return;
    };
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_cluster::Asked;

    #[test]
    fn a_new_node_takes_no_pods_yet() {
        let asked = Asked::create("", "nodes", "Node").named("n");
        let mut node = json!({"metadata": {"name": "n"}});
        for _ in 0..2 {
            taint_new_node(&asked.attributes(), &mut node);
            assert_eq!(
                node["spec"]["taints"],
                json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
            );
        }
        let mut old = json!({"spec": {}});
        taint_new_node(&asked.doing(Operation::Update).attributes(), &mut old);
        assert_eq!(old, json!({"spec": {}}));
    }

    #[test]
    fn pods_stay_five_minutes_on_lost_nodes() {
        let asked = Asked::pod();
        let keys = |tolerations: Value| {
            let mut pod = json!({"spec": {"tolerations": tolerations}});
            tolerate_lost_nodes(DefaultTolerations::default(), &asked.attributes(), &mut pod);
            let list = pod["spec"]["tolerations"].as_array().unwrap().clone();
            list.iter()
                .filter(|one| one["tolerationSeconds"] == 300)
                .map(|one| one["key"].clone())
                .collect::<Value>()
        };
        assert_eq!(keys(json!(null)), json!([NOT_READY, UNREACHABLE]));
        assert_eq!(keys(json!([{"operator": "Exists"}])), json!([]));
        assert_eq!(
            keys(json!([{"operator": "Exists", "effect": "NoSchedule"}])),
            json!([NOT_READY, UNREACHABLE])
        );
        let own =
            json!([{"key": NOT_READY, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
        assert_eq!(keys(own), json!([UNREACHABLE]));
        let mut pod = json!({"spec": {}});
        let short = DefaultTolerations { not_ready_seconds: 10, unreachable_seconds: 20 };
        tolerate_lost_nodes(short, &asked.attributes(), &mut pod);
        assert_eq!(pod["spec"]["tolerations"][0]["tolerationSeconds"], 10);
        assert_eq!(pod["spec"]["tolerations"][1]["tolerationSeconds"], 20);
    }
}
