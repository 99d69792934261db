//! What of an object is told: what places and moves it, and nothing that it holds. Only named fields pass. Pure.

use serde_json::{Map, Value, json};

/// How objects of a collection are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Metadata, and what its status counts.
    Workload,
    /// Where it runs, and how its containers are.
    Pod,
    /// All of its status.
    Node,
    /// What happened, to whom.
    Event,
    /// Who has it, and since when.
    Lease,
    /// Metadata alone.
    Metadata,
    /// A map of Barque's own, with what it holds.
    Own,
}

/// Those fields of an object that are named and there.
fn only(from: &Value, names: &[&str]) -> Value {
    let fields = names.iter().filter_map(|name| Some(((*name).to_owned(), from.get(*name)?.clone())));
    Value::Object(fields.collect())
}

fn metadata(object: &Value) -> Value {
    let from = &object["metadata"];
    let mut kept = only(
        from,
        &[
            "name",
            "namespace",
            "uid",
            "labels",
            "creationTimestamp",
            "deletionTimestamp",
            "generation",
            "resourceVersion",
            "finalizers",
            "ownerReferences",
        ],
    );
    // Values hold whole objects as they were applied, with their environment.
    if let Some(annotations) = from["annotations"].as_object() {
        kept["annotations"] = annotations.keys().cloned().collect();
    }
    kept
}

fn containers(pod: &Value, field: &str) -> Value {
    let all = pod["spec"][field].as_array().into_iter().flatten();
    all.map(|it| only(it, &["name", "image", "imagePullPolicy", "resources", "ports"])).collect()
}

/// States without the last words of containers.
fn container_statuses(pod: &Value, field: &str) -> Value {
    let state = |state: &Value| -> Value {
        let states = state.as_object().into_iter().flatten();
        let told = states.map(|(name, state)| {
            let names: &[&str] = &["reason", "exitCode", "signal", "startedAt", "finishedAt"];
            let mut told = only(state, names);
            if let (true, Some(message)) = (name == "waiting", state.get("message")) {
                told["message"] = message.clone();
            }
            (name.clone(), told)
        });
        Value::Object(told.collect::<Map<_, _>>())
    };
    let all = pod["status"][field].as_array().into_iter().flatten();
    all.map(|it| {
        let mut told = only(it, &["name", "ready", "started", "restartCount", "image", "imageID"]);
        told["state"] = state(&it["state"]);
        told["lastState"] = state(&it["lastState"]);
        told
    })
    .collect()
}

fn pod(object: &Value) -> Value {
    let mut spec = only(
        &object["spec"],
        &[
            "nodeName",
            "hostNetwork",
            "restartPolicy",
            "priority",
            "schedulerName",
            "serviceAccountName",
            "tolerations",
        ],
    );
    let mut status = only(
        &object["status"],
        &["phase", "reason", "conditions", "podIPs", "hostIP", "startTime", "qosClass"],
    );
    for field in ["initContainers", "containers"] {
        spec[field] = containers(object, field);
    }
    for field in ["initContainerStatuses", "containerStatuses"] {
        status[field] = container_statuses(object, field);
    }
    json!({"metadata": metadata(object), "spec": spec, "status": status})
}

/// Numbers, truths and conditions of a status.
fn counts(status: &Value) -> Value {
    let fields = status.as_object().into_iter().flatten();
    let kept =
        fields.filter(|(name, value)| value.is_number() || value.is_boolean() || *name == "conditions");
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// What is told of it.
pub(super) fn told(shape: Shape, object: &Value) -> Value {
    let metadata = || metadata(object);
    match shape {
        Shape::Pod => pod(object),
        Shape::Node => {
            let spec = only(&object["spec"], &["podCIDRs", "taints", "unschedulable", "providerID"]);
            let status =
                only(&object["status"], &["conditions", "capacity", "allocatable", "addresses", "nodeInfo"]);
            json!({"metadata": metadata(), "spec": spec, "status": status})
        }
        Shape::Workload => {
            let spec = only(
                &object["spec"],
                &["replicas", "paused", "suspend", "parallelism", "completions", "schedule"],
            );
            json!({"metadata": metadata(), "spec": spec, "status": counts(&object["status"])})
        }
        Shape::Event => {
            let names = [
                "involvedObject",
                "reason",
                "message",
                "type",
                "count",
                "firstTimestamp",
                "lastTimestamp",
                "eventTime",
                "series",
                "source",
                "reportingComponent",
                "reportingInstance",
                "action",
            ];
            let mut told = only(object, &names);
            told["metadata"] = only(&object["metadata"], &["name", "namespace", "creationTimestamp"]);
            told
        }
        Shape::Lease => json!({"metadata": metadata(), "spec": object["spec"]}),
        Shape::Metadata => json!({"metadata": metadata()}),
        Shape::Own => json!({"metadata": metadata(), "data": object["data"]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_that_an_object_holds() {
        let object = json!({
            "metadata": {
                "name": "p", "labels": {"a": "b"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "PLANTED"},
                "managedFields": [{"manager": "PLANTED"}],
            },
            "spec": {
                "nodeName": "n1", "replicas": 3,
                "containers": [{
                    "name": "c", "image": "i", "command": ["PLANTED"], "args": ["PLANTED"],
                    "env": [{"name": "A", "value": "PLANTED"}], "lifecycle": {"x": "PLANTED"},
                    "livenessProbe": {"exec": {"command": ["PLANTED"]}},
                }],
                "template": {"spec": {"containers": [{"env": [{"value": "PLANTED"}]}]}},
                "volumes": [{"x": "PLANTED"}],
            },
            "status": {
                "phase": "Running", "readyReplicas": 2,
                "containerStatuses": [{
                    "name": "c", "restartCount": 2,
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "PLANTED"}},
                }],
            },
            "data": {"k": "PLANTED"}, "stringData": {"k": "PLANTED"}, "binaryData": {"k": "PLANTED"},
        });
        for shape in [Shape::Workload, Shape::Pod, Shape::Node, Shape::Event, Shape::Metadata] {
            let text = told(shape, &object).to_string();
            assert!(!text.contains("PLANTED") && text.contains("\"name\":\"p\""), "{shape:?}: {text}");
        }
        let pod = told(Shape::Pod, &object);
        assert_eq!(pod["spec"]["nodeName"], "n1");
        assert_eq!(pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"], "no such image");
        assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
        assert_eq!(pod["metadata"]["annotations"][0], "kubectl.kubernetes.io/last-applied-configuration");
        assert_eq!(told(Shape::Workload, &object)["status"], json!({"readyReplicas": 2}));
    }
}
