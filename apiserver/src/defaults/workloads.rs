//! What makes pods: `apps/v1`, `batch/v1`, `autoscaling`, and the older replication controllers.

use serde_json::{Value, json};

use super::fill::{each, given, inside, made, put, within, word};
use super::pod::fill_template;

pub(super) fn fill_kind(group: &str, kind: &str, object: &mut Value) -> bool {
    if kind == "ReplicationController" && group.is_empty() {
        labels_of_template(object, true);
    }
    let fill: fn(&mut Value) = match (group, kind) {
        ("", "ReplicationController") | ("apps", "ReplicaSet") => |spec| put(spec, "replicas", 1),
        ("apps", "Deployment") => deployment,
        ("apps", "StatefulSet") => stateful_set,
        ("apps", "DaemonSet") => daemon_set,
        ("batch", "Job") => {
            labels_of_template(object, false);
            job
        }
        ("batch", "CronJob") => cron_job,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler,
        _ => return false,
    };
    if let Some(spec) = inside(object, "spec") {
        fill(spec);
        fill_template(spec);
    }
    true
}

/// The older kinds take labels, and replication controllers their selector, from the template.
fn labels_of_template(object: &mut Value, selector_too: bool) {
    let labels =
        object.pointer("/spec/template/metadata/labels").filter(|labels| labels.is_object()).cloned();
    let Some(labels) = labels else { return };
    if selector_too
        && let Some(spec) = inside(object, "spec")
        && !given(spec, "selector")
    {
        spec["selector"] = labels.clone();
    }
    if let Some(metadata) = made(object, "metadata")
        && !given(metadata, "labels")
    {
        metadata["labels"] = labels;
    }
}

fn deployment(spec: &mut Value) {
    put(spec, "replicas", 1);
    put(spec, "revisionHistoryLimit", 10);
    put(spec, "progressDeadlineSeconds", 600);
    let Some(strategy) = made(spec, "strategy") else { return };
    put(strategy, "type", "RollingUpdate");
    if word(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = made(strategy, "rollingUpdate")
    {
        put(rolling, "maxUnavailable", "25%");
        put(rolling, "maxSurge", "25%");
    }
}

fn stateful_set(spec: &mut Value) {
    put(spec, "replicas", 1);
    put(spec, "podManagementPolicy", "OrderedReady");
    put(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = made(spec, "updateStrategy") {
        put(strategy, "type", "RollingUpdate");
        if word(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            put(rolling, "partition", 0);
        }
    }
    if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        put(retention, "whenDeleted", "Retain");
        put(retention, "whenScaled", "Retain");
    }
    for claim in each(spec, "volumeClaimTemplates") {
        put(claim, "apiVersion", "v1");
        put(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = inside(claim, "spec") {
            put(spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = made(claim, "status") {
            put(status, "phase", "Pending");
        }
    }
}

fn daemon_set(spec: &mut Value) {
    put(spec, "revisionHistoryLimit", 10);
    let Some(strategy) = made(spec, "updateStrategy") else { return };
    put(strategy, "type", "RollingUpdate");
    if word(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = made(strategy, "rollingUpdate")
    {
        put(rolling, "maxUnavailable", 1);
        put(rolling, "maxSurge", 0);
    }
}

fn job(spec: &mut Value) {
    // A job without numbers runs one pod once; a job with parallelism alone runs until one succeeds.
    if !given(spec, "completions") && !given(spec, "parallelism") {
        put(spec, "completions", 1);
    }
    put(spec, "parallelism", 1);
    let limit = if given(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    put(spec, "backoffLimit", limit);
    put(spec, "completionMode", "NonIndexed");
    put(spec, "suspend", false);
    put(spec, "manualSelector", false);
    let judged = spec.get("podFailurePolicy").is_some_and(Value::is_object);
    let replaced = if judged { "Failed" } else { "TerminatingOrFailed" };
    put(spec, "podReplacementPolicy", replaced);
    if let Some(policy) = inside(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            for pattern in each(rule, "onPodConditions") {
                put(pattern, "status", "True");
            }
        }
    }
}

fn cron_job(spec: &mut Value) {
    put(spec, "concurrencyPolicy", "Allow");
    put(spec, "suspend", false);
    put(spec, "successfulJobsHistoryLimit", 3);
    put(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = within(spec, &["jobTemplate", "spec"]) {
        fill_template(job);
    }
}

fn autoscaler(spec: &mut Value) {
    put(spec, "minReplicas", 1);
    if !given(spec, "metrics") && spec.get("targetCPUUtilizationPercentage").is_none() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        spec["metrics"] = json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    }
    let Some(behavior) = inside(spec, "behavior") else { return };
    let quickly = json!([
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]);
    let slowly = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    for (direction, policies, window) in [("scaleUp", quickly, Some(0)), ("scaleDown", slowly, None)] {
        if let Some(rules) = made(behavior, direction) {
            put(rules, "selectPolicy", "Max");
            if let Some(seconds) = window {
                put(rules, "stabilizationWindowSeconds", seconds);
            }
            if !given(rules, "policies") {
                rules["policies"] = policies;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::tests::filled;

    #[test]
    fn deployments_roll_a_quarter_at_a_time() {
        let spec = filled("apps", "Deployment", json!({"spec": {}}))["spec"].clone();
        let rolling = json!({"maxUnavailable": "25%", "maxSurge": "25%"});
        assert_eq!(spec["strategy"], json!({"type": "RollingUpdate", "rollingUpdate": rolling}));
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        let recreated = filled("apps", "Deployment", json!({"spec": {"strategy": {"type": "Recreate"}}}));
        assert_eq!(recreated["spec"]["strategy"], json!({"type": "Recreate"}));
        let stopped = filled("apps", "Deployment", json!({"spec": {"replicas": 0}}));
        assert_eq!(stopped["spec"]["replicas"], 0);
    }

    #[test]
    fn jobs_run_once_unless_they_say_so() {
        let spec = |spec: Value| filled("batch", "Job", json!({"spec": spec}))["spec"].clone();
        let once = spec(json!({}));
        assert_eq!((&once["completions"], &once["parallelism"]), (&json!(1), &json!(1)));
        assert_eq!(spec(json!({"parallelism": 3})).get("completions"), None);
        assert_eq!(spec(json!({"backoffLimitPerIndex": 1}))["backoffLimit"], i32::MAX);
        assert_eq!(once["podReplacementPolicy"], "TerminatingOrFailed");
        assert_eq!(spec(json!({"podFailurePolicy": {}}))["podReplacementPolicy"], "Failed");
    }

    #[test]
    fn replication_controllers_select_what_they_make() {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {}});
        let object = filled("", "ReplicationController", json!({"spec": {"template": template}}));
        assert_eq!(object["spec"]["selector"], json!({"a": "b"}));
        assert_eq!(object["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn claims_of_stateful_sets_are_whole_objects() {
        let object = filled("apps", "StatefulSet", json!({"spec": {"volumeClaimTemplates": [{"spec": {}}]}}));
        let claim = &object["spec"]["volumeClaimTemplates"][0];
        let expected = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"},
        });
        assert_eq!(*claim, expected);
    }

    #[test]
    fn autoscalers_look_at_the_processor() {
        let object =
            filled("autoscaling", "HorizontalPodAutoscaler", json!({"spec": {"behavior": {"scaleUp": {}}}}));
        assert_eq!(object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(object["spec"]["behavior"]["scaleUp"]["policies"].as_array().unwrap().len(), 2);
        assert_eq!(object["spec"]["behavior"]["scaleUp"]["stabilizationWindowSeconds"], 0);
    }
}
