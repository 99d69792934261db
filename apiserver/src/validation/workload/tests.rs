//! What makes pods, wrong in all ways. Must never name a rule that these kinds do not have.

use serde_json::{Value, json};

use crate::validation::tests::{judged, patched};

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
}

/// A set of a kind of `apps`.
fn set(patch: &Value) -> Value {
    let base = json!({
        "metadata": {"name": "web", "uid": "u"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "serviceName": "web", "template": template()},
    });
    patched(&base, &json!({"spec": patch}))
}

fn created(kind: &str, patch: &Value) -> Vec<String> {
    judged("apps", kind, "", &set(patch), None)
}

fn updated(kind: &str, old: &Value, new: &Value) -> Vec<String> {
    judged("apps", kind, "", &set(new), Some(&set(old)))
}

fn status(group: &str, kind: &str, new: &Value, old: &Value) -> Vec<String> {
    let with = |status: &Value| json!({"spec": {}, "status": status});
    judged(group, kind, "status", &with(new), Some(&with(old)))
}

const NONE: [&str; 0] = [];

#[test]
fn sets_with_nothing_wrong() {
    for kind in ["ReplicaSet", "Deployment", "StatefulSet", "DaemonSet"] {
        assert_eq!(created(kind, &json!({})), NONE, "{kind}");
        assert_eq!(
            updated(kind, &json!({"minReadySeconds": 1}), &json!({"minReadySeconds": 2})),
            NONE,
            "{kind}"
        );
    }
}

#[test]
fn a_selector_chooses_the_pods_of_its_set_and_never_changes() {
    for (kind, word) in [
        ("ReplicaSet", "deployment"),
        ("Deployment", "deployment"),
        ("StatefulSet", "statefulset"),
        ("DaemonSet", "daemonset"),
    ] {
        let other = json!({"selector": {"matchLabels": {"app": "db"}}});
        assert_eq!(
            created(kind, &other),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
            ],
            "{kind}"
        );
        assert_eq!(
            created(kind, &json!({"selector": {"matchLabels": null}})),
            [format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {word}")],
            "{kind}"
        );
        if kind != "StatefulSet" {
            let wider = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}});
            assert_eq!(
                updated(kind, &json!({}), &wider),
                [
                    "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}],\
                  \"matchLabels\":{\"app\":\"web\"}}: field is immutable"
                ],
                "{kind}"
            );
        }
    }
    assert_eq!(
        created("Deployment", &json!({"selector": null})),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
        ]
    );
    let unknown =
        json!({"selector": {"matchLabels": null, "matchExpressions": [{"key": "app", "operator": "Is"}]}});
    assert_eq!(
        created("Deployment", &unknown),
        [
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Is\"}]}: invalid label \
             selector",
        ]
    );
}

#[test]
fn pods_of_sets_start_again() {
    for (kind, word) in [
        ("ReplicaSet", "ReplicaSet"),
        ("Deployment", "ReplicaSet"),
        ("StatefulSet", "StatefulSet"),
        ("DaemonSet", "DaemonSet"),
    ] {
        let patch = json!({"template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 3}}});
        assert_eq!(
            created(kind, &patch),
            [
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"".to_owned(),
                format!(
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {word} is not Supported"
                ),
            ]
        );
    }
}

#[test]
fn deployments_and_what_is_wrong_with_them() {
    let table: &[(Value, &[&str])] = &[
        (
            json!({"replicas": -1, "progressDeadlineSeconds": 5, "minReadySeconds": 5}),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ],
        ),
        (
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        ),
        (
            json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ],
        ),
        (
            json!({"strategy": {"type": "Slow"}}),
            &[
                "spec.strategy: Unsupported value: {\"type\":\"Slow\"}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        ),
        (
            json!({"template": {"spec": {"containers": [{"name": "web"}]}}}),
            &["spec.template.spec.containers[0].image: Required value"],
        ),
        (
            json!({"template": {"metadata": {"labels": {"a b": "c"}}}}),
            &[
                "spec.template.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' \
               or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
               '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
    ];
    for (patch, expected) in table {
        assert_eq!(created("Deployment", patch), *expected, "{patch}");
    }
}

#[test]
fn daemon_sets_replace_pods_one_way() {
    let rolling =
        |update: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": update}});
    assert_eq!(created("DaemonSet", &rolling(json!({"maxSurge": 1, "maxUnavailable": 0}))), NONE);
    assert_eq!(
        created("DaemonSet", &rolling(json!({"maxSurge": 1, "maxUnavailable": 1}))),
        [
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
        ]
    );
    assert_eq!(
        created("DaemonSet", &rolling(json!({"maxSurge": 0, "maxUnavailable": 0}))),
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
    );
}

#[test]
fn of_a_stateful_set_little_may_change() {
    let claim = json!([{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mounted = json!({"volumeClaimTemplates": claim, "template": {"spec": {"containers": [
        {"name": "web", "image": "web:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}]}}});
    assert_eq!(created("StatefulSet", &mounted), NONE);
    assert_eq!(updated("StatefulSet", &mounted, &patched(&mounted, &json!({"replicas": 3}))), NONE);
    let detail = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                  'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                  'minReadySeconds' are forbidden";
    assert_eq!(updated("StatefulSet", &json!({}), &json!({"serviceName": "db"})), [detail]);
    assert_eq!(updated("StatefulSet", &json!({}), &json!({"volumeClaimTemplates": claim})), [detail]);
    assert_eq!(
        created(
            "StatefulSet",
            &json!({"podManagementPolicy": "x", "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "x"},
            "updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}, "ordinals": {"start": -1}})
        ),
        [
            "spec.podManagementPolicy: Invalid value: \"x\": must be 'OrderedReady' or 'Parallel'",
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy \
             'RollingUpdate'",
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"x\": supported values: \
             \"Retain\", \"Delete\"",
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
}

#[test]
fn what_was_wrong_in_a_stateful_set_may_stay() {
    let wrong = json!({"template": {"spec": {"containers": [{"name": "web"}]}}});
    assert_eq!(created("StatefulSet", &wrong), ["spec.template.spec.containers[0].image: Required value"]);
    assert_eq!(updated("StatefulSet", &wrong, &patched(&wrong, &json!({"replicas": 3}))), NONE);
    assert_eq!(updated("StatefulSet", &json!({}), &wrong).len(), 1);
}

#[test]
fn counts_of_pods_add_up() {
    let counts = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "collisionCount": 1});
    let all = "cannot be greater than status.replicas";
    assert_eq!(
        status("apps", "Deployment", &counts, &json!({"collisionCount": 2})),
        [
            format!("status.readyReplicas: Invalid value: 2: {all}"),
            format!("status.availableReplicas: Invalid value: 3: {all}"),
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas".to_owned(),
            "status.collisionCount: Invalid value: 1: cannot be decremented".to_owned(),
        ]
    );
    assert_eq!(
        status("apps", "ReplicaSet", &json!({"replicas": -1}), &json!({})),
        [
            "status.replicas: Invalid value: -1: must be greater than or equal to 0".to_owned(),
            format!("status.fullyLabeledReplicas: Invalid value: 0: {all}"),
            format!("status.readyReplicas: Invalid value: 0: {all}"),
            format!("status.availableReplicas: Invalid value: 0: {all}"),
        ]
    );
    assert_eq!(status("apps", "DaemonSet", &json!({"numberReady": 2}), &json!({})), NONE);
}

#[test]
fn replication_controllers_and_what_is_wrong_with_them() {
    let controller = |patch: Value| {
        let base = json!({"spec": {"selector": {"app": "web"}, "template": template()}});
        judged("", "ReplicationController", "", &patched(&base, &json!({"spec": patch})), None)
    };
    assert_eq!(controller(json!({})), NONE);
    assert_eq!(controller(json!({"template": null})), ["spec.template: Required value"]);
    assert_eq!(
        controller(json!({"selector": {"app": "db"}})),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
        ]
    );
}

#[test]
fn a_number_of_replicas_is_not_negative() {
    let scale = json!({"spec": {"replicas": -2}});
    let expected = ["spec.replicas: Invalid value: -2: must be greater than or equal to 0"];
    assert_eq!(judged("autoscaling", "Scale", "", &scale, None), expected);
    assert_eq!(judged("apps", "Deployment", "scale", &scale, None), expected);
}

#[test]
fn a_revision_keeps_its_data() {
    let judge = |new: Value, old: Option<Value>| judged("apps", "ControllerRevision", "", &new, old.as_ref());
    assert_eq!(judge(json!({"data": {"a": 1}, "revision": 1}), None), NONE);
    assert_eq!(judge(json!({"revision": 1}), None), ["data: Required value: data is mandatory"]);
    assert_eq!(
        judge(json!({"data": {"a": 2}, "revision": 2}), Some(json!({"data": {"a": 1}, "revision": 1}))),
        ["data: Invalid value: {\"a\":2}: field is immutable"]
    );
}

fn job(patch: &Value) -> Value {
    let labels = json!({"controller-uid": "u", "job-name": "sum", "batch.kubernetes.io/controller-uid": "u",
        "batch.kubernetes.io/job-name": "sum"});
    let base = json!({
        "metadata": {"name": "sum", "uid": "u"},
        "spec": {
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
            "template": {"metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "sum", "image": "sum:1"}]}},
        },
    });
    patched(&base, &json!({"spec": patch}))
}

fn judged_job(new: &Value, old: Option<&Value>) -> Vec<String> {
    judged("batch", "Job", "", &job(new), old.map(job).as_ref())
}

#[test]
fn jobs_and_what_is_wrong_with_them() {
    let table: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (
            json!({"template": {"spec": {"restartPolicy": null}}}),
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        ),
        (
            json!({"parallelism": -1, "backoffLimit": -1}),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": null, "parallelism": 2}),
            &["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1}),
            &[
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ],
        ),
        (
            json!({"managedBy": "me"}),
            &[
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ],
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"batch.kubernetes.io/controller-uid\":\"u\"}}: \
                 `selector` not auto-generated",
                "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\
                 \"batch.kubernetes.io/job-name\":\"sum\",\"controller-uid\":\"u\",\"job-name\":\"sum\"}: `selector` does \
                 not match template `labels`",
            ],
        ),
        (
            json!({"template": {"metadata": {"labels": {"job-name": null}}}}),
            &["spec.template.metadata.labels[job-name]: Required value: must be 'sum'"],
        ),
        (
            json!({"podFailurePolicy": {"rules": [
                {"action": "Stop", "onExitCodes": {"operator": "In", "values": [3, 0], "containerName": "x"}}, {"action": "Count"}]}}),
            &[
                "spec.podFailurePolicy.rules[0].action: Unsupported value: \"Stop\": supported values: \"Count\", \
                 \"FailIndex\", \"FailJob\", \"Ignore\"",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the \
                 container or initContainer names in the pod template",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [3,0]: must be ordered",
                "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and \
                 OnPodConditions is required",
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
                "successPolicy": {"rules": [{"succeededIndexes": "0-1,9", "succeededCount": 4}]}}),
            &[
                "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-1,9\": error parsing succeededIndexes: \
                 too large index: \"9\"",
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number \
                 of specified completions)",
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 0 (the number \
                 of indexes in the specified succeededIndexes field)",
            ],
        ),
    ];
    for (patch, expected) in table {
        assert_eq!(judged_job(patch, None), *expected, "{patch}");
    }
}

#[test]
fn the_template_of_a_job_changes_only_while_it_waits() {
    let moved = json!({"template": {"spec": {"nodeSelector": {"zone": "a"}}}});
    let suspended = json!({"suspend": true});
    assert_eq!(judged_job(&patched(&suspended, &moved), Some(&suspended)), NONE);
    let changed = judged_job(&moved, Some(&json!({})));
    assert_eq!(changed.len(), 1);
    assert!(changed[0].starts_with("spec.template: Invalid value: {"), "{changed:?}");
    assert!(changed[0].ends_with("}: field is immutable"), "{changed:?}");
    let image = json!({"template": {"spec": {"containers": [{"name": "sum", "image": "sum:2"}]}}});
    assert_eq!(judged_job(&patched(&suspended, &image), Some(&suspended)).len(), 1);
    assert_eq!(judged_job(&json!({"parallelism": 5}), Some(&json!({"parallelism": 2}))), NONE);
    assert_eq!(
        judged_job(&json!({"completions": 5}), Some(&json!({"completions": 2}))),
        ["spec.completions: Invalid value: 5: field is immutable"]
    );
    let indexed = |completions: i32, parallelism: i32| json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism});
    assert_eq!(judged_job(&indexed(5, 5), Some(&indexed(2, 2))), NONE);
    assert_eq!(
        judged_job(&indexed(5, 2), Some(&indexed(2, 2))),
        ["spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"]
    );
}

#[test]
fn a_job_that_ended_stays_ended() {
    let when = "2026-01-01T00:00:00Z";
    let conditions =
        |kinds: &[&str]| kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect::<Vec<_>>();
    let ended = json!({"conditions": conditions(&["SuccessCriteriaMet", "Complete"]), "startTime": when,
        "completionTime": when, "succeeded": 1});
    let runs = json!({"startTime": when, "active": 1});
    assert_eq!(status("batch", "Job", &ended, &runs), NONE);
    assert_eq!(
        status("batch", "Job", &runs, &ended),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
    let hasty = json!({"conditions": conditions(&["Complete"]), "active": 1});
    let told = status("batch", "Job", &hasty, &json!({}));
    let ends: Vec<_> = told.iter().map(|one| one.rsplit(": ").next().unwrap()).collect();
    assert_eq!(
        ends,
        [
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "completionTime is required for Complete jobs",
            "active>0 is invalid for finished job",
            "startTime is required for finished job",
        ]
    );
}

#[test]
fn cron_jobs_and_what_is_wrong_with_them() {
    let spec = json!({"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": "a:1"}]}}}}});
    let judge = |name: &str, patch: Value, old: Option<Value>| {
        let with = |patch: &Value| json!({"metadata": {"name": name}, "spec": patched(&spec, patch)});
        judged("batch", "CronJob", "", &with(&patch), old.map(|old| with(&old)).as_ref())
    };
    assert_eq!(judge("hourly", json!({"timeZone": "Europe/Berlin"}), None), NONE);
    assert_eq!(
        judge(
            "hourly",
            json!({"schedule": "x", "timeZone": "Mars/Base", "concurrencyPolicy": "Maybe"}),
            None
        ),
        [
            "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]",
            "spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base",
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
        ]
    );
    let zoned = json!({"schedule": "TZ=UTC 0 * * * *"});
    assert_eq!(
        judge("hourly", zoned.clone(), None),
        [
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field \
          instead"
        ]
    );
    assert_eq!(judge("hourly", zoned.clone(), Some(zoned)), NONE);
    let long = "a".repeat(53);
    assert_eq!(
        judge(&long, json!({}), None),
        [format!("metadata.name: Invalid value: \"{long}\": must be no more than 52 characters")]
    );
    assert_eq!(judge(&long, json!({}), Some(json!({}))), NONE);
    assert_eq!(
        judge(
            "a",
            json!({"jobTemplate": {"spec": {"manualSelector": true, "template": {"spec": {"restartPolicy": "Always"}}}}}),
            None
        ),
        [
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
        ]
    );
}

#[test]
fn autoscalers_and_what_is_wrong_with_them() {
    let judge = |patch: Value| {
        let spec = json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}});
        judged("autoscaling", "HorizontalPodAutoscaler", "", &json!({"spec": patched(&spec, &patch)}), None)
    };
    let cpu = |target: Value| json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]});
    assert_eq!(judge(json!({})), NONE);
    assert_eq!(judge(cpu(json!({"type": "Utilization", "averageUtilization": 50}))), NONE);
    assert_eq!(
        judge(cpu(json!({"type": "Utilization", "averageUtilization": 0}))),
        ["spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"]
    );
    assert_eq!(
        judge(json!({"minReplicas": 5, "scaleTargetRef": {"name": null}})),
        [
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.name: Required value",
        ]
    );
    assert_eq!(
        judge(
            json!({"metrics": [{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "x", "averageValue": "-1"}}}]})
        ),
        [
            "spec.metrics[0].resource.target.type: Invalid value: \"x\": must be either Utilization, Value, or AverageValue",
            "spec.metrics[0].resource.target.averageValue: Invalid value: \"-1\": must be positive",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ]
    );
    assert_eq!(
        judge(json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 1}}}],
            "behavior": {"scaleDown": {"selectPolicy": "Most", "policies": [{"type": "Percent", "value": 0, "periodSeconds": 9999}],
                "stabilizationWindowSeconds": 4000}}})),
        [
            "spec.metrics[0].containerResource.container: Required value: must specify a container",
            "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600",
            "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"Most\": supported values: \"Disabled\", \"Max\", \
             \"Min\"",
            "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 9999: must be less than or equal to 1800",
        ]
    );
}

#[test]
fn budgets_and_what_is_wrong_with_them() {
    let judge = |spec: Value| judged("policy", "PodDisruptionBudget", "", &json!({"spec": spec}), None);
    assert_eq!(judge(json!({"minAvailable": "50%", "selector": {}})), NONE);
    assert_eq!(
        judge(json!({"minAvailable": "150%", "maxUnavailable": -1, "unhealthyPodEvictionPolicy": "x"})),
        [
            "spec: Invalid value: {\"maxUnavailable\":-1,\"minAvailable\":\"150%\",\"unhealthyPodEvictionPolicy\":\"x\"}: \
             minAvailable and maxUnavailable cannot be both set",
            "spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%",
            "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \
             \"IfHealthyBudget\"",
        ]
    );
    let condition = json!({"type": "DisruptionAllowed", "status": "Maybe", "reason": "a b"});
    let told = status(
        "policy",
        "PodDisruptionBudget",
        &json!({"conditions": [condition], "expectedPods": -1}),
        &json!({}),
    );
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!(told[1], "status.conditions[0].lastTransitionTime: Required value: must be set");
}
