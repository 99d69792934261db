//! Pods: how good their service is, and what each subresource may change. Must never place or start one.

use barque_api::quantity::Quantity;
use serde_json::Value;

use super::{keep, keep_inside};

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
}

/// The metadata of a request that the server needs beside that of the object: which version it changes, and who changed
/// what.
fn restart_from(object: &mut Value, old: &Value) -> Value {
    let new = std::mem::replace(object, old.clone());
    if object.get("metadata").is_some_and(Value::is_object) {
        keep_inside(object, &new, "metadata", &["resourceVersion", "managedFields"]);
    }
    new
}

/// Only containers for debugging are added.
pub(super) fn keep_all_but_ephemeral(object: &mut Value, old: &Value) {
    let new = restart_from(object, old);
    if let (Some(spec), Some(wanted)) = (object.get_mut("spec"), new.get("spec")) {
        keep(spec, wanted, &["ephemeralContainers"]);
    }
}

/// Only what containers, or the pod as a whole, ask for is changed, and what happens then.
pub(super) fn keep_all_but_resources(object: &mut Value, old: &Value) {
    let new = restart_from(object, old);
    let (Some(spec), Some(wanted)) = (object.get_mut("spec"), new.get("spec")) else { return };
    keep(spec, wanted, &["resources"]);
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        let wanted = wanted.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for container in containers {
            let name = container.get("name").cloned().unwrap_or_default();
            let same = wanted.iter().find(|one| !name.is_null() && one.get("name") == Some(&name));
            if let Some(one) = same {
                keep(container, one, &["resources", "resizePolicy"]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
}
