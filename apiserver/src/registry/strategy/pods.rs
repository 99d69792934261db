//! Pods: how good their service is, and what each subresource may change. Must never place or start one.

use barque_api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{keep, keep_inside, keep_metadata};

const MEASURED: [&str; 2] = ["cpu", "memory"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quality {
    BestEffort,
    Burstable,
    Guaranteed,
}

/// The quality of service of a pod (`status.qosClass`), after defaults: `Guaranteed` when all containers, or the pod as a
/// whole, may use of CPU and memory just what they ask for; `BestEffort` when none asks for or limits any; else `Burstable`.
#[must_use]
pub fn quality_of_service(pod: &Value) -> &'static str {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let quality = match spec.get("resources") {
        Some(resources) if resources.is_object() => quality_of(resources),
        _ => {
            let lists = ["initContainers", "containers"].into_iter();
            let containers = lists.filter_map(|list| spec.get(list)?.as_array()).flatten();
            let mut qualities =
                containers.map(|container| quality_of(container.get("resources").unwrap_or(&Value::Null)));
            let first = qualities.next().unwrap_or(Quality::BestEffort);
            if qualities.all(|quality| quality == first) { first } else { Quality::Burstable }
        }
    };
    match quality {
        Quality::BestEffort => "BestEffort",
        Quality::Burstable => "Burstable",
        Quality::Guaranteed => "Guaranteed",
    }
}

fn quality_of(resources: &Value) -> Quality {
    let amount = |list: &str, name: &str| {
        let quantity = Quantity::of_value(resources.get(list)?.get(name)?).ok()?;
        (quantity.sign() > 0).then_some(quantity)
    };
    let pairs = MEASURED.map(|name| (amount("requests", name), amount("limits", name)));
    if pairs.iter().all(|(request, limit)| request.is_none() && limit.is_none()) {
        return Quality::BestEffort;
    }
    if pairs.iter().all(|(request, limit)| limit.is_some() && request == limit) {
        return Quality::Guaranteed;
    }
    Quality::Burstable
}

/// A change of the status leaves the pod and what owns and deletes it.
pub(super) fn keep_all_but_status(object: &mut Value, old: &Value) {
    keep(object, old, &["spec"]);
    keep_inside(object, old, "metadata", &["ownerReferences", "deletionTimestamp"]);
    let says_quality =
        object.pointer("/status/qosClass").and_then(Value::as_str).is_some_and(|it| !it.is_empty());
    if !says_quality {
        keep_inside(object, old, "status", &["qosClass"]);
    }
    keep_seen_generations(object, old);
}

/// Only containers for debugging are added.
pub(super) fn keep_all_but_ephemeral(object: &mut Value, old: &Value) {
    let wanted = object.get("spec").cloned().unwrap_or_default();
    keep(object, old, &["spec", "status"]);
    keep_metadata(object, old);
    if let Some(spec) = object.get_mut("spec") {
        keep(spec, &wanted, &["ephemeralContainers"]);
    }
}

/// Only what containers, or the pod as a whole, ask for is changed, and what happens then. Who names other containers is
/// left alone: that is refused later.
pub(super) fn keep_all_but_resources(object: &mut Value, old: &Value) {
    const LISTS: [&str; 2] = ["initContainers", "containers"];
    let names = |pod: &Value, list: &str| -> Vec<Value> {
        let containers = pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array);
        containers.into_iter().flatten().map(|one| one.get("name").cloned().unwrap_or_default()).collect()
    };
    if LISTS.iter().any(|list| names(object, list) != names(old, list)) {
        return;
    }
    let wanted = object.get("spec").cloned().unwrap_or_default();
    keep(object, old, &["spec", "status"]);
    keep_metadata(object, old);
    let Some(spec) = object.get_mut("spec") else { return };
    keep(spec, &wanted, &["resources"]);
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        let wanted = wanted.get(list).and_then(Value::as_array).into_iter().flatten();
        for (container, wanted) in containers.zip(wanted) {
            keep(container, wanted, &["resources", "resizePolicy"]);
        }
    }
}

/// The status of a new pod.
pub(super) fn first_status(pod: &Value) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": quality_of_service(pod)});
    let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

/// Selectors of other pods by the pod's own labels (`matchLabelKeys`, `mismatchLabelKeys`) are written out with the values
/// that the labels have now.
pub(super) fn write_out_label_keys(pod: &mut Value) {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|all| all.get_mut(kind)) else { continue };
        for (list, inner) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", None),
            ("preferredDuringSchedulingIgnoredDuringExecution", Some("podAffinityTerm")),
        ] {
            let terms = affinity.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for term in terms {
                let term = match inner {
                    None => Some(term),
                    Some(inner) => term.get_mut(inner),
                };
                if let Some(term) = term {
                    add_expressions(term, "matchLabelKeys", "In", &labels);
                    add_expressions(term, "mismatchLabelKeys", "NotIn", &labels);
                }
            }
        }
    }
    let constraints = spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut);
    for constraint in constraints.into_iter().flatten() {
        add_expressions(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn add_expressions(term: &mut Value, keys: &str, operator: &str, labels: &Map<String, Value>) {
    let keys = term.get(keys).and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    for key in keys.iter().filter_map(Value::as_str) {
        let Some(value) = labels.get(key) else { continue };
        let expression = json!({"key": key, "operator": operator, "values": [value]});
        let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
        if expressions.is_null() {
            *expressions = json!([]);
        }
        if let Some(expressions) = expressions.as_array_mut()
            && !expressions.contains(&expression)
        {
            expressions.push(expression);
        }
    }
}

/// A status that does not say what generation was seen does not take it back.
fn keep_seen_generations(object: &mut Value, old: &Value) {
    const SEEN: &str = "observedGeneration";
    let says_nothing = |part: &Value| part.get(SEEN).is_none_or(|seen| seen.is_null() || *seen == 0);
    let Some(status) = object.get_mut("status").filter(|status| status.is_object()) else { return };
    let nothing = Value::Null;
    let before = old.get("status").unwrap_or(&nothing);
    if says_nothing(status) {
        keep(status, before, &[SEEN]);
    }
    let mut left: Vec<&Value> =
        before.get("conditions").and_then(Value::as_array).into_iter().flatten().collect();
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten();
    for condition in conditions.filter(|condition| condition.is_object()) {
        let Some(at) = left.iter().position(|old| old.get("type") == condition.get("type")) else { continue };
        let old = left.remove(at);
        if says_nothing(condition) {
            keep(condition, old, &[SEEN]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{created, updated};
    use super::*;

    fn with(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    #[test]
    fn quality_follows_from_requests_and_limits() {
        let all = json!({"cpu": "1", "memory": "1Gi"});
        let same = json!({"cpu": "1000m", "memory": "1024Mi"});
        let guaranteed = with(all.clone(), same.clone());
        let none = with(json!({}), json!({}));
        let table = [
            (vec![none.clone()], "BestEffort"),
            (vec![with(json!({"cpu": "0"}), json!({"example.com/gpu": "1"}))], "BestEffort"),
            (vec![guaranteed.clone()], "Guaranteed"),
            (vec![guaranteed.clone(), guaranteed.clone()], "Guaranteed"),
            (vec![guaranteed.clone(), none.clone()], "Burstable"),
            (vec![with(json!({"cpu": "1"}), json!({"cpu": "1"}))], "Burstable"),
            (
                vec![with(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "2", "memory": "1Gi"}))],
                "Burstable",
            ),
        ];
        for (containers, expected) in table {
            let pod = json!({"spec": {"containers": containers}});
            assert_eq!(quality_of_service(&pod), expected, "{pod}");
        }
        let begun = json!({"spec": {"initContainers": [none], "containers": [guaranteed]}});
        assert_eq!(quality_of_service(&begun), "Burstable");
        let whole = json!({"spec": {"resources": {"requests": all, "limits": same}, "containers": [{}]}});
        assert_eq!(quality_of_service(&whole), "Guaranteed");
    }

    #[test]
    fn a_new_pod_is_pending() {
        let pod = created(
            "",
            "Pod",
            json!({"metadata": {}, "spec": {"containers": []}, "status": {"phase": "Running"}}),
        );
        assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
        assert_eq!(pod["metadata"]["generation"], 1);
    }

    #[test]
    fn subresources_change_only_what_they_are_for() {
        let old = created(
            "",
            "Pod",
            json!({
                "metadata": {"labels": {"a": "1"}},
                "spec": {"containers": [{"name": "c", "image": "x"}]},
            }),
        );
        let new = json!({
            "metadata": {"labels": {"a": "2"}, "resourceVersion": "3"},
            "spec": {
                "containers": [{"name": "c", "image": "y", "resources": {"limits": {"cpu": "1"}}}],
                "ephemeralContainers": [{"name": "e"}],
            },
            "status": {"phase": "Running"},
        });
        let debugged = updated("", "Pod", "ephemeralcontainers", new.clone(), &old);
        assert_eq!(debugged["spec"]["ephemeralContainers"], json!([{"name": "e"}]));
        assert_eq!(debugged["spec"]["containers"], old["spec"]["containers"]);
        assert_eq!(debugged["metadata"]["resourceVersion"], "3");
        assert_eq!(debugged["metadata"]["generation"], 2);
        let resized = updated("", "Pod", "resize", new.clone(), &old);
        assert_eq!(
            resized["spec"]["containers"],
            json!([{"name": "c", "image": "x", "resources": {"limits": {"cpu": "1"}}}])
        );
        assert_eq!(resized["metadata"]["labels"]["a"], "1");
        let running = updated("", "Pod", "status", new, &old);
        assert_eq!(running["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
        assert_eq!(running["spec"], old["spec"]);
    }

    #[test]
    fn who_names_other_containers_is_left_to_be_refused() {
        let old = json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}});
        let new = json!({"metadata": {"generation": 0}, "spec": {"containers": [{"name": "d"}]}});
        assert_eq!(updated("", "Pod", "resize", new, &old)["spec"]["containers"], json!([{"name": "d"}]));
    }

    #[test]
    fn a_gated_pod_says_so() {
        let pod = created("", "Pod", json!({"metadata": {}, "spec": {"schedulingGates": [{"name": "g"}]}}));
        assert_eq!(pod["status"]["conditions"][0]["reason"], "SchedulingGated");
    }

    #[test]
    fn keys_of_labels_are_written_out() {
        let term = json!({"labelSelector": {}, "matchLabelKeys": ["a", "none"], "mismatchLabelKeys": ["b"]});
        let pod = created(
            "",
            "Pod",
            json!({
                "metadata": {"labels": {"a": "1", "b": "2"}},
                "spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
            }),
        );
        let terms = &pod["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms[0]["labelSelector"]["matchExpressions"],
            json!([
                {"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "NotIn", "values": ["2"]},
            ])
        );
    }

    #[test]
    fn generations_that_were_seen_are_not_forgotten() {
        let old = json!({"metadata": {}, "status": {"observedGeneration": 2, "conditions": [
            {"type": "Ready", "observedGeneration": 2},
        ]}});
        let new = json!({"metadata": {}, "status": {"conditions": [{"type": "Ready"}, {"type": "New"}]}});
        let kept = updated("", "Pod", "status", new, &old);
        assert_eq!(
            kept["status"],
            json!({"observedGeneration": 2, "conditions": [
                {"type": "Ready", "observedGeneration": 2}, {"type": "New"},
            ]})
        );
    }
}
