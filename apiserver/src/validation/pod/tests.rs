//! Pods that are wrong, and what is told of them. Must never name a rule that pods do not have.

use serde_json::{Value, json};

use crate::validation::tests::{judged, patched};

fn pod(patch: &Value) -> Value {
    let base = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]},
    });
    patched(&base, &json!({"spec": patch}))
}

fn created(patch: &Value) -> Vec<String> {
    judged("", "Pod", "", &pod(patch), None)
}

fn updated(old: &Value, new: &Value) -> Vec<String> {
    judged("", "Pod", "", &pod(new), Some(&pod(old)))
}

#[test]
fn pods_and_what_is_wrong_with_them() {
    let table: &[(Value, &[&str])] = &[
        (json!({}), &[]),
        (json!({"containers": []}), &["spec.containers: Required value"]),
        (json!({"containers": [{"name": "a"}]}), &["spec.containers[0].image: Required value"]),
        (
            json!({"containers": [{"image": " x"}]}),
            &[
                "spec.containers[0].name: Required value",
                "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
            ],
        ),
        (
            json!({"containers": [{"name": "A", "image": "x"}]}),
            &[
                "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case \
               alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
               or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]}),
            &["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"initContainers": [{"name": "web", "image": "x", "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
            &[
                "spec.initContainers[0].name: Duplicate value: \"web\"",
                "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
            ],
        ),
        (
            json!({"initContainers": [
                {"name": "proxy", "image": "x", "restartPolicy": "Always", "livenessProbe": {"tcpSocket": {"port": 1}}}]}),
            &[],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "ports": [
                {"containerPort": 0}, {"containerPort": 70000, "name": "Http"}, {"containerPort": 1, "hostPort": 8080},
                {"containerPort": 2, "hostPort": 8080, "protocol": "TCPP"}]}]}),
            &[
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].name: Invalid value: \"Http\": must contain only alpha-numeric characters \
                 (a-z, 0-9), and hyphens (-)",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[3].protocol: Unsupported value: \"TCPP\": supported values: \"SCTP\", \"TCP\", \
                 \"UDP\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "ports": [
                {"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]}]}),
            &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
        ),
        (
            json!({"hostNetwork": true, "containers": [
                {"name": "a", "image": "x", "ports": [{"containerPort": 1, "hostPort": 2}]}]}),
            &[
                "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is \
               true",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "imagePullPolicy": "Sometimes",
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
                 \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            json!({"containers": [{"name": "a", "image": "x", "restartPolicyRules": [
                {"action": "Stop", "exitCodes": {"operator": "Equals", "values": [3]}}]}]}),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \
                 \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Equals\": supported \
                 values: \"In\", \"NotIn\"",
            ],
        ),
        (
            json!({"restartPolicy": "Sometimes", "dnsPolicy": "Mine"}),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \
                 \"Never\"",
                "spec.dnsPolicy: Unsupported value: \"Mine\": supported values: \"ClusterFirstWithHostNet\", \
                 \"ClusterFirst\", \"Default\", \"None\"",
            ],
        ),
        (
            json!({"dnsPolicy": "None"}),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        ),
        (
            json!({"dnsConfig": {"nameservers": ["1.2.3.x"], "searches": ["a_b.", "-"], "options": [{}]}}),
            &[
                "spec.dnsConfig.nameservers[0]: Invalid value: \"1.2.3.x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "spec.dnsConfig.searches[1]: Invalid value: \"-\": a lowercase RFC 1123 subdomain must consist of lower \
                 case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'example.com', regex used for validation is \
                 '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
        (
            json!({"activeDeadlineSeconds": 0, "hostAliases": [{"ip": "x"}]}),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
            ],
        ),
        (
            json!({"schedulingGates": [{"name": "a"}, {"name": "a"}], "nodeName": "n"}),
            &[
                "spec.schedulingGates[1]: Duplicate value: \"a\"",
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        ),
        (
            json!({"ephemeralContainers": [{"name": "debug", "image": "x"}]}),
            &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            json!({"resourceClaims": [{"name": "a"}], "preemptionPolicy": "Maybe"}),
            &[
                "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, \
                 `resourceClaimTemplateName`",
                "spec.preemptionPolicy: Unsupported value: \"Maybe\": supported values: \"PreemptLowerPriority\", \
                 \"Never\"",
            ],
        ),
        (
            json!({"hostUsers": false, "hostPID": true}),
            &["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"],
        ),
        (
            json!({"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
            &[
                "spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when \
               serviceAccountName is not set",
            ],
        ),
        (
            json!({"overhead": {"cpu": "-1"}}),
            &["spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"],
        ),
    ];
    for (patch, expected) in table {
        assert_eq!(created(patch), *expected, "{patch}");
    }
}

#[test]
fn of_a_pod_little_may_change() {
    let image =
        |image: &str| json!({"containers": [{"name": "web", "image": image, "imagePullPolicy": "Always"}]});
    let gates = json!([{"name": "a"}, {"name": "b"}]);
    let zones = |zones: &[&str]| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": zones.iter().map(|zone| json!({"key": zone, "operator": "Exists"})).collect::<Vec<_>>()}]}}})
    };
    let right = [
        (image("a"), image("b")),
        (json!({}), json!({"activeDeadlineSeconds": 5})),
        (json!({"activeDeadlineSeconds": 5}), json!({"activeDeadlineSeconds": 3})),
        (json!({}), json!({"tolerations": [{"operator": "Exists"}]})),
        (json!({"terminationGracePeriodSeconds": -1}), json!({"terminationGracePeriodSeconds": 1})),
        (
            json!({"schedulingGates": gates}),
            json!({"schedulingGates": [{"name": "b"}], "nodeSelector": {"a": "b"}}),
        ),
        (
            json!({"schedulingGates": gates, "affinity": zones(&["a"])}),
            json!({"affinity": zones(&["a", "b"])}),
        ),
        (json!({"schedulingGates": gates}), json!({"affinity": zones(&["a"])})),
        (json!({"hostNetwork": false}), json!({})),
    ];
    for (old, new) in right {
        assert_eq!(updated(&old, &new), Vec::<String>::new(), "{old} {new}");
    }
    let wrong = [
        (
            json!({"activeDeadlineSeconds": 5}),
            json!({"activeDeadlineSeconds": 6}),
            "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value",
        ),
        (
            json!({"tolerations": [{"operator": "Exists"}]}),
            json!({}),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            json!({"schedulingGates": [{"name": "a"}]}),
            json!({"schedulingGates": [{"name": "b"}]}),
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'",
        ),
        (
            json!({}),
            json!({"containers": [{"name": "web", "image": "a"}, {"name": "b", "image": "b"}]}),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            json!({"schedulingGates": gates, "affinity": zones(&["a"])}),
            json!({"affinity": zones(&["b"])}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid \
             value: {\"matchExpressions\":[{\"key\":\"b\",\"operator\":\"Exists\"}]}: only additions are allowed (no \
             mutations or deletions)",
        ),
        (
            json!({"nodeName": "a"}),
            json!({"nodeName": "b"}),
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
             `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
             tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
             - spec.nodeName: \"a\"\n+ spec.nodeName: \"b\"\n",
        ),
    ];
    for (old, new, expected) in wrong {
        assert_eq!(updated(&old, &new), [expected], "{old} {new}");
    }
}

#[test]
fn ephemeral_containers_are_only_added() {
    let with = |containers: Value| pod(&json!({"ephemeralContainers": containers}));
    let debug = json!({"name": "debug", "image": "x", "targetContainerName": "web"});
    let judge =
        |old: Value, new: Value| judged("", "Pod", "ephemeralcontainers", &with(new), Some(&with(old)));
    assert_eq!(judge(json!([]), json!([debug])), Vec::<String>::new());
    assert_eq!(
        judge(json!([debug]), json!([])),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"]
    );
    assert_eq!(
        judge(
            json!([]),
            json!([{"name": "web", "image": "x", "ports": [{"containerPort": 1}], "targetContainerName": "q"}])
        ),
        [
            "spec.ephemeralContainers[0].name: Duplicate value: \"web\"",
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"q\"",
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ]
    );
}

#[test]
fn a_resize_changes_cpu_and_memory_alone() {
    let with = |resources: Value, image: &str| {
        pod(
            &json!({"containers": [{"name": "web", "image": image, "imagePullPolicy": "Always", "resources": resources}]}),
        )
    };
    let small = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
    let judge = |new: Value| judged("", "Pod", "resize", &new, Some(&with(small.clone(), "a")));
    assert_eq!(
        judge(with(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}), "a")),
        Vec::<String>::new()
    );
    assert_eq!(
        judge(with(json!({"requests": {"cpu": "1"}}), "a")),
        ["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"]
    );
    assert_eq!(
        judge(with(small.clone(), "b")),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    assert_eq!(
        judge(with(
            json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
            "a"
        )),
        ["spec: Invalid value: \"\": Pod QOS Class may not change as a result of resizing"]
    );
}

#[test]
fn what_nodes_tell_of_a_pod() {
    let with = |status: Value| patched(&pod(&json!({"restartPolicy": "Never"})), &json!({"status": status}));
    let ended = json!({"containerStatuses": [{"name": "web", "state": {"terminated": {"exitCode": 0}}}]});
    let runs = json!({"containerStatuses": [{"name": "web", "state": {"running": {}}}]});
    let judge =
        |old: &Value, new: &Value| judged("", "Pod", "status", &with(new.clone()), Some(&with(old.clone())));
    assert_eq!(judge(&runs, &ended), Vec::<String>::new());
    assert_eq!(
        judge(&ended, &runs),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    assert_eq!(
        judge(
            &json!({"qosClass": "Burstable"}),
            &json!({"qosClass": "Guaranteed", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "hostIP": "1.1.1.1",
                "hostIPs": [{"ip": "1.1.1.2"}]})
        ),
        [
            "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
            "status.podIPs: Invalid value: [{\"ip\":\"10.0.0.1\"},{\"ip\":\"10.0.0.2\"}]: may specify no more than one IP \
             for each IP family",
            "status.hostIPs[0].ip: Invalid value: \"1.1.1.2\": must be equal to `hostIP`",
        ]
    );
}

#[test]
fn a_binding_names_a_node() {
    let judge = |target: Value| judged("", "Binding", "", &json!({"target": target}), None);
    assert_eq!(judge(json!({"kind": "Node", "name": "n"})), Vec::<String>::new());
    assert_eq!(
        judge(json!({"kind": "Pod"})),
        [
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
            "target.name: Required value",
        ]
    );
}
