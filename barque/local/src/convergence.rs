//! Whether an object is what it asks to be, as the objects of its kind tell it. Must never ask a server.

use serde_json::Value;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is as it should be.
    Done,
    /// It may come to be so, with what is missing.
    Missing(String),
    /// It never will, with the reason.
    Failed(String),
}

use Progress::{Done, Failed, Missing};

/// How far an object of this group and kind is; kinds of which nothing is known are there when they are there.
#[must_use]
pub fn progress(group: &str, kind: &str, object: &Value) -> Progress {
    match (group, kind) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => seen(object).unwrap_or_else(|| {
            of(number(object, "/status/readyReplicas", 0), wanted(object), "replicas are ready")
        }),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => match condition(object, "Established") {
            Some((true, _)) => Done,
            _ => Missing("is not established".to_owned()),
        },
        ("apiregistration.k8s.io", "APIService") => match condition(object, "Available") {
            Some((true, _)) => Done,
            Some((false, why)) => Missing(format!("is not available: {why}")),
            None => Missing("is not available".to_owned()),
        },
        _ => Done,
    }
}

fn number(object: &Value, pointer: &str, usual: u64) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or(usual)
}

fn wanted(object: &Value) -> u64 {
    number(object, "/spec/replicas", 1)
}

fn of(have: u64, want: u64, what: &str) -> Progress {
    if have >= want { Done } else { Missing(format!("{have} of {want} {what}")) }
}

/// A condition: whether it is true, and its words.
fn condition(object: &Value, name: &str) -> Option<(bool, String)> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == name)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    let words = [text("reason"), text("message")];
    let told = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
    Some((found["status"] == "True", told))
}

/// What is told of an object before its controller has looked at what it asks for now.
fn seen(object: &Value) -> Option<Progress> {
    let is_old = number(object, "/status/observedGeneration", 0) < number(object, "/metadata/generation", 0);
    is_old.then(|| Missing("was not looked at by its controller yet".to_owned()))
}

fn first_missing(steps: impl IntoIterator<Item = Progress>) -> Progress {
    steps.into_iter().find(|step| *step != Done).unwrap_or(Done)
}

fn deployment(object: &Value) -> Progress {
    if let Some(progress) = seen(object) {
        return progress;
    }
    if let Some((false, why)) = condition(object, "Progressing")
        && why.starts_with("ProgressDeadlineExceeded")
    {
        return Failed(why);
    }
    let (want, updated) = (wanted(object), number(object, "/status/updatedReplicas", 0));
    let old = number(object, "/status/replicas", 0).saturating_sub(updated);
    first_missing([
        of(updated, want, "replicas are of the newest template"),
        if old == 0 { Done } else { Missing(format!("{old} replicas of older templates are still there")) },
        of(number(object, "/status/availableReplicas", 0), want, "replicas are available"),
    ])
}

fn stateful_set(object: &Value) -> Progress {
    if let Some(progress) = seen(object) {
        return progress;
    }
    let want = wanted(object);
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition", 0);
    let is_rolling = object.pointer("/spec/updateStrategy/type").is_none_or(|kind| kind == "RollingUpdate");
    let updating = if is_rolling { want.saturating_sub(partition) } else { 0 };
    first_missing([
        of(number(object, "/status/readyReplicas", 0), want, "replicas are ready"),
        of(number(object, "/status/updatedReplicas", 0), updating, "replicas are of the newest template"),
    ])
}

fn daemon_set(object: &Value) -> Progress {
    if let Some(progress) = seen(object) {
        return progress;
    }
    let want = number(object, "/status/desiredNumberScheduled", 0);
    let is_rolling = object.pointer("/spec/updateStrategy/type").is_none_or(|kind| kind == "RollingUpdate");
    first_missing([
        of(
            number(object, "/status/updatedNumberScheduled", 0),
            if is_rolling { want } else { 0 },
            "pods are of the newest template",
        ),
        of(number(object, "/status/numberAvailable", 0), want, "pods are available"),
    ])
}

fn job(object: &Value) -> Progress {
    match (condition(object, "Complete"), condition(object, "Failed")) {
        (Some((true, _)), _) => Done,
        (_, Some((true, why))) => Failed(why),
        _ => {
            let want = number(object, "/spec/completions", 1);
            Missing(format!("{} of {want} pods have succeeded", number(object, "/status/succeeded", 0)))
        }
    }
}

fn pod(object: &Value) -> Progress {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => return Done,
        Some("Failed") => return Failed("has failed".to_owned()),
        _ => {}
    }
    match condition(object, "Ready") {
        Some((true, _)) => Done,
        _ => {
            let waiting = object
                .pointer("/status/containerStatuses")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .find_map(|status| status.pointer("/state/waiting/reason")?.as_str());
            let why = match (waiting, condition(object, "PodScheduled")) {
                (Some(reason), _) => format!(": {reason}"),
                (None, Some((false, why))) => format!(": {why}"),
                _ => String::new(),
            };
            Missing(format!("is not ready{why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn missing(text: &str) -> Progress {
        Missing(text.to_owned())
    }

    #[test]
    fn deployments_are_done_when_all_replicas_are_new_and_available() {
        let deployment = |status: Value| {
            let mut object = json!({"metadata": {"generation": 2}, "spec": {"replicas": 3}});
            object["status"] = status;
            progress("apps", "Deployment", &object)
        };
        let cases = [
            (json!({}), missing("was not looked at by its controller yet")),
            (
                json!({"observedGeneration": 1, "availableReplicas": 3, "updatedReplicas": 3}),
                missing("was not looked at by its controller yet"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 1}),
                missing("1 of 3 replicas are of the newest template"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4, "availableReplicas": 4}),
                missing("1 replicas of older templates are still there"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
                missing("2 of 3 replicas are available"),
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
                Done,
            ),
            (
                json!({"observedGeneration": 2, "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "x"}]}),
                Failed("ProgressDeadlineExceeded: x".to_owned()),
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(deployment(status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn other_workloads_tell_in_their_own_words() {
        let cases = [
            (
                ("apps", "StatefulSet"),
                json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 1}}),
                missing("1 of 2 replicas are ready"),
            ),
            (
                ("apps", "StatefulSet"),
                json!({"spec": {"replicas": 2}, "status": {"readyReplicas": 2, "updatedReplicas": 1}}),
                missing("1 of 2 replicas are of the newest template"),
            ),
            (
                ("apps", "StatefulSet"),
                json!({"spec": {"replicas": 2, "updateStrategy": {"type": "OnDelete"}}, "status": {"readyReplicas": 2}}),
                Done,
            ),
            (
                ("apps", "DaemonSet"),
                json!({"metadata": {"generation": 1}}),
                missing("was not looked at by its controller yet"),
            ),
            (
                ("apps", "DaemonSet"),
                json!({"status": {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1}}),
                missing("1 of 2 pods are available"),
            ),
            (("apps", "ReplicaSet"), json!({"status": {"readyReplicas": 1}}), Done),
            (
                ("batch", "Job"),
                json!({"spec": {"completions": 3}, "status": {"succeeded": 1}}),
                missing("1 of 3 pods have succeeded"),
            ),
            (
                ("batch", "Job"),
                json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
                Done,
            ),
            (
                ("batch", "Job"),
                json!({"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}}),
                Failed("BackoffLimitExceeded".to_owned()),
            ),
            (("", "Pod"), json!({"status": {"phase": "Succeeded"}}), Done),
            (("", "Pod"), json!({"status": {"phase": "Failed"}}), Failed("has failed".to_owned())),
            (
                ("", "Pod"),
                json!({"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
                missing("is not ready: ErrImagePull"),
            ),
            (
                ("", "Pod"),
                json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}}),
                missing("is not ready: Unschedulable"),
            ),
            (("", "Pod"), json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}), Done),
            (("apiextensions.k8s.io", "CustomResourceDefinition"), json!({}), missing("is not established")),
            (("", "ConfigMap"), json!({}), Done),
            (("example.org", "Deployment"), json!({}), Done),
        ];
        for ((group, kind), object, expected) in cases {
            assert_eq!(progress(group, kind, &object), expected, "{kind} {object}");
        }
    }
}
