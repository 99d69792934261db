//! RuntimeClass: a pod with a class carries what the class costs, and goes where the class can run. Must never let a pod say
//! itself what it costs.

use barque_api::quota::amounts::amounts;
use barque_api::status::Status;
use serde_json::{Map, Value};

use super::pod::{list, text};
use super::{Admission, Attributes, Operation};
use crate::storage::Storage;

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

impl<S: Storage> Admission<S> {
    /// Puts overhead, node selector and tolerations of its class into a new pod.
    pub(super) async fn apply_runtime_class(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
    ) -> Result<(), Status> {
        if let Some(class) = self.runtime_class(attributes, object).await? {
            apply(object, &class).map_err(|why| attributes.forbidden(why))?;
        }
        Ok(())
    }

    /// Whether the overhead of a new pod is that of its class.
    pub(super) async fn check_overhead(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<(), Status> {
        let class = self.runtime_class(attributes, object).await?;
        if !is_new_pod(attributes) {
            return Ok(());
        }
        judge(object, class.as_ref()).map_err(|why| attributes.forbidden(why))
    }

    async fn runtime_class(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Value>, Status> {
        if !is_new_pod(attributes) {
            return Ok(None);
        }
        let Some(name) = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) else {
            return Ok(None);
        };
        match self.found("node.k8s.io", "runtimeclasses", "", name).await? {
            None => Err(attributes.forbidden(format!("pod rejected: RuntimeClass {name:?} not found"))),
            found => Ok(found),
        }
    }
}

fn is_new_pod(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create && attributes.is_plainly("", "pods")
}

fn fixed(class: &Value) -> Option<&Value> {
    class.get("overhead").filter(|overhead| overhead.is_object())?.get("podFixed")
}

fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    let own = amounts(pod.pointer("/spec/overhead"));
    let overhead = fixed(class).cloned();
    if class.get("overhead").is_some_and(Value::is_object)
        && !own.is_empty()
        && own != amounts(overhead.as_ref())
    {
        return Err(DIFFERS.to_owned());
    }
    let scheduling = class.get("scheduling").filter(|scheduling| scheduling.is_object());
    let selector = scheduling.map(|scheduling| merged_selector(pod, scheduling)).transpose()?;
    let tolerations =
        scheduling.map(|scheduling| merged(list(pod, "/spec/tolerations"), list(scheduling, "/tolerations")));
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if let Some(overhead) = overhead {
        spec.insert("overhead".to_owned(), overhead);
    }
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        spec.insert("nodeSelector".to_owned(), selector.into());
    }
    if let Some(tolerations) = tolerations.filter(|tolerations| !tolerations.is_empty()) {
        spec.insert("tolerations".to_owned(), tolerations.into());
    }
    Ok(())
}

fn merged_selector(pod: &Value, scheduling: &Value) -> Result<Map<String, Value>, String> {
    let all = |object: Option<&Value>| object.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut selector = all(pod.pointer("/spec/nodeSelector"));
    for (key, value) in all(scheduling.get("nodeSelector")) {
        if let Some(own) = selector.get(&key).filter(|own| **own != value) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.as_str().unwrap_or_default(),
                own.as_str().unwrap_or_default()
            ));
        }
        selector.insert(key, value);
    }
    Ok(selector)
}

/// Both lists without what another one of them covers.
fn merged(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::with_capacity(all.len());
    for (index, one) in all.iter().enumerate() {
        let covered = merged.iter().any(|other| covers(other, one))
            || all[index + 1..].iter().any(|other| other != one && covers(other, one));
        if !covered {
            merged.push((*one).clone());
        }
    }
    merged
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let (key, effect) = (text(wide, "/key"), text(wide, "/effect"));
    let operator = text(wide, "/operator");
    if text(narrow, "/key") != key && !(key.is_empty() && operator == "Exists") {
        return false;
    }
    if !["", text(narrow, "/effect")].contains(&effect) {
        return false;
    }
    let seconds = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if effect == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|own| own > most)
    {
        return false;
    }
    match operator {
        "Exists" => true,
        "Equal" | "" => {
            text(narrow, "/operator") == "Equal" && text(narrow, "/value") == text(wide, "/value")
        }
        _ => false,
    }
}

fn judge(pod: &Value, class: Option<&Value>) -> Result<(), &'static str> {
    let own = amounts(pod.pointer("/spec/overhead"));
    if own.is_empty() {
        return Ok(());
    }
    match class.filter(|class| class.get("overhead").is_some_and(Value::is_object)) {
        Some(class) if amounts(fixed(class)) == own => Ok(()),
        Some(_) => Err(DIFFERS),
        None => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn class() -> Value {
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"}, "handler": "vm",
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}})
    }

    #[tokio::test]
    async fn a_pod_carries_what_its_class_costs() {
        let cluster = Cluster::with(&[class()]).await;
        let asked = Asked::pod();
        let mut pod = json!({"spec": {"runtimeClassName": "vm", "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "vm", "operator": "Equal", "value": "x", "effect": "NoSchedule"}]}});
        cluster.admission.apply_runtime_class(&asked.attributes(), &mut pod).await.unwrap();
        assert_eq!(pod["spec"]["overhead"], json!({"cpu": "250m"}));
        assert_eq!(pod["spec"]["nodeSelector"], json!({"a": "b", "vm": "yes"}));
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": "vm", "operator": "Exists"}]));
        assert_eq!(cluster.admission.check_overhead(&asked.attributes(), &pod).await, Ok(()));

        let mut unknown = json!({"spec": {"runtimeClassName": "none"}});
        let status =
            cluster.admission.apply_runtime_class(&asked.attributes(), &mut unknown).await.unwrap_err();
        assert_eq!(status.message, r#"pods "p" is forbidden: pod rejected: RuntimeClass "none" not found"#);
    }

    #[test]
    fn a_pod_does_not_say_itself_what_it_costs() {
        let with = |cpu: &str| json!({"spec": {"overhead": {"cpu": cpu}}});
        assert_eq!(judge(&with("0.25"), Some(&class())), Ok(()));
        assert_eq!(judge(&with("1"), Some(&class())), Err(DIFFERS));
        assert_eq!(apply(&mut with("1"), &class()), Err(DIFFERS.to_owned()));
        assert_eq!(
            judge(&with("1"), None),
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        );
        let mut other = json!({"spec": {"nodeSelector": {"vm": "no"}}});
        assert_eq!(
            apply(&mut other, &class()),
            Err("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
                .to_owned())
        );
    }

    #[test]
    fn tolerations_that_others_cover_go() {
        let all = json!({"operator": "Exists"});
        let short = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 50});
        let table = [
            (vec![short.clone()], vec![long.clone()], vec![long.clone()]),
            (vec![long.clone()], vec![short], vec![long.clone()]),
            (vec![long.clone()], vec![all.clone()], vec![all]),
            (vec![long.clone()], vec![long.clone()], vec![long]),
        ];
        for (first, second, expected) in table {
            assert_eq!(merged(&first, &second), expected);
        }
    }
}
