//! Admission through a whole server: what policies and webhooks are shown of each kind of request, and where that what they say
//! arrives.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{LogConfig, Policy};
use crate::streaming::dial::AgentFlags;
use crate::streaming::tests::{Cluster, PODS};
use crate::test_webhook::{Server, patch};

const GROUP: &str = "admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn rule(operations: &[&str], resources: &[&str]) -> Value {
    json!({"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"], "resources": resources,
        "scope": "*"})
}

/// A policy and its binding, as they are stored.
fn policy(kind: &str, name: &str, rule: Value, actions: &[&str], changes: Value) -> Vec<(String, Value)> {
    let mut spec = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never", "matchConstraints": {
        "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule]}});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let plural = kind.to_lowercase();
    let object = |kind: String, spec| json!({"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let binding = json!({"policyName": name, "validationActions": actions});
    vec![
        (format!("{plural}admissionpolicies/{name}"), object(format!("{kind}AdmissionPolicy"), spec)),
        (
            format!("{plural}admissionpolicybindings/{name}"),
            object(format!("{kind}AdmissionPolicyBinding"), binding),
        ),
    ]
}

fn mutating_webhook(client: &Value, rules: &[Value]) -> (String, Value) {
    let webhook = json!({"name": "hook.example.com", "clientConfig": client, "rules": rules, "sideEffects": "None",
        "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 10, "reinvocationPolicy": "Never"});
    let object = json!({"apiVersion": GROUP, "kind": "MutatingWebhookConfiguration", "metadata": {"name": "c"},
        "webhooks": [webhook]});
    ("mutatingwebhookconfigurations/c".to_owned(), object)
}

/// A server with these objects; all that is asked of it is audited into the file.
async fn with(objects: Vec<(String, Value)>) -> (Cluster, PathBuf) {
    let keyed: Vec<_> =
        objects.iter().map(|(key, object)| (format!("/registry/{key}"), object.clone())).collect();
    let keyed: Vec<_> = keyed.iter().map(|(key, object)| (key.as_str(), object.clone())).collect();
    let mut log = PathBuf::new();
    let cluster = Cluster::configured(
        |_| AgentFlags::default(),
        &keyed,
        |settings, files| {
            log = files.join("audit.log");
            let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Request}]}";
            let file = LogConfig { path: log.clone(), max_size: 0, max_backup: 0, max_age: 0 };
            settings.audit = Some((Policy::parse(policy).unwrap(), file));
        },
    )
    .await;
    (cluster, log)
}

/// What is said in the warnings of an answer.
fn warnings(answer: &str) -> Vec<String> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let lines = head.lines().filter_map(|line| line.strip_prefix("warning: 299 - \""));
    lines.filter_map(|line| line.strip_suffix('"')).map(|line| line.replace("\\\"", "\"")).collect()
}

fn deployment(replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn policies_judge_and_change_a_scale() {
    let scales = rule(&["UPDATE"], &["deployments/scale"]);
    let validations = json!([{
        "expression": "object.kind == 'Scale' && oldObject.kind == 'Scale' && object.spec.replicas <= oldObject.spec.replicas + 2",
        "messageExpression": "'not from ' + string(oldObject.spec.replicas) + ' to ' + string(object.spec.replicas)"}]);
    let mutations = json!([{"patchType": "JSONPatch", "jsonPatch": {
        "expression": "[JSONPatch{op: 'replace', path: '/spec/replicas', value: 2}]"}}]);
    let never_none = json!({"matchConditions": [{"name": "none", "expression": "object.spec.replicas == 0"}],
        "mutations": mutations});
    let mut objects =
        policy("Validating", "slowly", scales.clone(), &["Deny"], json!({"validations": validations}));
    objects.extend(policy("Mutating", "some", scales, &[], never_none));
    let (cluster, _) = with(objects).await;
    cluster.create(DEPLOYMENTS, &deployment(1)).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let scale = |replicas: u32| {
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": "default"},
            "spec": {"replicas": replicas}})
        .to_string()
    };
    let (code, answer) = cluster.ask("PUT", &path, "", &scale(3)).await;
    assert_eq!(code, 200, "{answer}");
    let (code, answer) = cluster.ask("PUT", &path, "", &scale(9)).await;
    assert_eq!(code, 422, "{answer}");
    assert!(answer.contains("with binding 'slowly' denied request: not from 3 to 9"), "{answer}");
    let merge = "content-type: application/merge-patch+json\r\n";
    let (code, answer) = cluster.ask("PATCH", &path, merge, r#"{"spec":{"replicas":6}}"#).await;
    assert!(code == 422 && answer.contains("not from 3 to 6"), "{answer}");
    let (code, answer) = cluster.ask("PUT", &path, "", &scale(0)).await;
    assert!(code == 200 && answer.contains(r#""spec":{"replicas":2}"#), "{answer}");
    let (_, answer) = cluster.ask("GET", &format!("{DEPLOYMENTS}/d"), "", "").await;
    assert!(answer.contains(r#""replicas":2"#), "{answer}");
    // The deployment itself is none of their business.
    let (code, answer) =
        cluster.ask("PUT", &format!("{DEPLOYMENTS}/d"), "", &deployment(9).to_string()).await;
    assert_eq!(code, 200, "{answer}");
    cluster.server.stop().await;
}

#[tokio::test]
async fn each_subresource_is_shown_as_its_own_kind_and_warnings_come_with_failures() {
    let told = "request.operation + ' ' + request.requestKind.kind + ' ' + object.kind + ' ' + request.resource.resource + '/' + \
        (has(request.subResource) ? request.subResource : '') + ' ' + string(oldObject == null)";
    let validations = json!([{"expression": "false", "messageExpression": told}]);
    let everything = rule(&["CREATE", "CONNECT"], &["pods/*", "services/*", "nodes/*", "bindings"]);
    let (cluster, _) =
        with(policy("Validating", "tells", everything, &["Warn"], json!({"validations": validations}))).await;
    let said = |answer: &str| {
        let begin = "Validation failed for ValidatingAdmissionPolicy 'tells' with binding 'tells': ";
        let all = warnings(answer);
        let all: Vec<_> = all.iter().filter_map(|one| one.strip_prefix(begin)).collect();
        all.join("; ")
    };
    let binding = |node: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "waits"},
            "target": {"kind": "Node", "name": node}})
        .to_string()
    };
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "two"}}).to_string();
    let bindings = "/api/v1/namespaces/default/bindings";
    let table = [
        ("POST", bindings.to_owned(), binding("n"), 201, "CREATE Binding Binding bindings/ true"),
        // It has a node by now.
        (
            "POST",
            format!("{PODS}/waits/binding"),
            binding("m"),
            409,
            "CREATE Binding Binding pods/binding true",
        ),
        (
            "POST",
            format!("{PODS}/two/eviction"),
            eviction,
            201,
            "CREATE Eviction Eviction pods/eviction true",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/services/none/proxy/x".to_owned(),
            String::new(),
            404,
            "CONNECT ServiceProxyOptions ServiceProxyOptions services/proxy true",
        ),
        (
            "GET",
            format!("{PODS}/none/proxy/"),
            String::new(),
            404,
            "CONNECT PodProxyOptions PodProxyOptions pods/proxy true",
        ),
        (
            "POST",
            format!("{PODS}/none/exec?command=sh"),
            String::new(),
            404,
            "CONNECT PodExecOptions PodExecOptions pods/exec true",
        ),
        (
            "POST",
            format!("{PODS}/none/attach"),
            String::new(),
            404,
            "CONNECT PodAttachOptions PodAttachOptions pods/attach true",
        ),
        (
            "POST",
            format!("{PODS}/none/portforward"),
            String::new(),
            404,
            "CONNECT PodPortForwardOptions PodPortForwardOptions pods/portforward true",
        ),
    ];
    for (method, path, body, wanted, expected) in table {
        let (code, answer) = cluster.ask(method, &path, "", &body).await;
        assert_eq!((code, said(&answer).as_str()), (wanted, expected), "{path}: {answer}");
    }
    cluster.server.stop().await;
}

/// A webhook that opens the standard input of each process, and sends every proxy elsewhere.
fn open(_: &str, request: &Value) -> Option<Value> {
    match (request["operation"].as_str(), request["subResource"].as_str()) {
        (Some("CONNECT"), Some("exec")) => patch(&json!([{"op": "add", "path": "/stdin", "value": true}])),
        (Some("DELETE"), _) if request["name"] == "two" => {
            patch(&json!([{"op": "add", "path": "/x", "value": 1}]))
        }
        _ => Some(json!({"allowed": true, "auditAnnotations": {"seen": "yes"}})),
    }
}

#[tokio::test]
async fn webhooks_that_change_objects_are_asked_about_connections_and_deletions() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let hook = Server::start(open, &tasks, &stop).await;
    let rules = [rule(&["CONNECT", "DELETE"], &["pods", "pods/exec"])];
    let (cluster, log) = with(vec![mutating_webhook(&hook.client("hook"), &rules)]).await;
    let headers = "upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n";
    let (stream, head) =
        cluster.upgrade("POST", &format!("{PODS}/p/exec?command=sh&stdout=true"), headers).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let asked = cluster.asked();
    assert!(asked.starts_with("POST /exec/default/p/c?command=sh&input=1&output=1 "), "{asked}");
    drop(stream);
    let (code, answer) = cluster.ask("DELETE", &format!("{PODS}/waits"), "", "").await;
    assert_eq!(code, 200, "{answer}");
    let (code, answer) = cluster.ask("DELETE", &format!("{PODS}/two"), "", "").await;
    assert_eq!(code, 500, "{answer}");
    assert!(
        answer.contains("attempted to modify the object, which is not supported for this operation"),
        "{answer}"
    );

    let requests: Vec<Value> = hook.asked.lock().iter().map(|(_, request)| request.clone()).collect();
    let exec = &requests[0];
    assert_eq!(exec["kind"], json!({"group": "", "version": "v1", "kind": "PodExecOptions"}));
    assert_eq!((&exec["resource"]["resource"], &exec["subResource"]), (&json!("pods"), &json!("exec")));
    assert_eq!(
        exec["object"],
        json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdout": true, "command": ["sh"]})
    );
    assert_eq!((&exec["oldObject"], &exec["options"]), (&Value::Null, &Value::Null));
    let deleted = &requests[1];
    assert_eq!(
        (&deleted["object"], &deleted["oldObject"]["metadata"]["name"]),
        (&Value::Null, &json!("waits"))
    );
    assert_eq!(deleted["options"]["kind"], "DeleteOptions");

    cluster.server.stop().await;
    let events = events(&log);
    let annotations = |verb: &str, uri: &str| {
        let event = events.iter().find(|event| {
            event["verb"] == verb
                && event["requestURI"].as_str().is_some_and(|one| one.starts_with(&format!("{PODS}/{uri}")))
                && event["annotations"].is_object()
        });
        event.map(|event| event["annotations"].clone()).unwrap_or_default()
    };
    let on_exec = annotations("create", "p/exec");
    let mutation: Value =
        serde_json::from_str(on_exec["mutation.webhook.admission.k8s.io/round_0_index_0"].as_str().unwrap())
            .unwrap();
    assert_eq!(mutation, json!({"configuration": "c", "webhook": "hook.example.com", "mutated": true}));
    let patched: Value =
        serde_json::from_str(on_exec["patch.webhook.admission.k8s.io/round_0_index_0"].as_str().unwrap())
            .unwrap();
    assert_eq!(patched["patch"][0]["path"], "/stdin");
    assert_eq!(annotations("delete", "waits")["hook.example.com/seen"], "yes");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// A webhook that never answers.
fn silent(_: &str, _: &Value) -> Option<Value> {
    None
}

#[tokio::test]
async fn a_request_ends_with_its_time_also_when_somebody_who_is_asked_does_not_answer() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let hook = Server::start(silent, &tasks, &stop).await;
    let (key, mut webhook) = mutating_webhook(&hook.client("hook"), &[rule(&["CREATE"], &["configmaps"])]);
    webhook["webhooks"][0]["timeoutSeconds"] = json!(30);
    let (cluster, log) = with(vec![(key, webhook)]).await;
    let map = json!({"metadata": {"name": "m"}}).to_string();
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, answer) = cluster.ask("POST", &format!("{path}?timeout=200ms"), "", &map).await;
    assert_eq!(code, 504, "{answer}");
    assert!(answer.contains("Timeout: request did not complete within the allotted timeout"), "{answer}");
    let (code, answer) = cluster.ask("GET", &format!("{path}/m"), "", "").await;
    assert_eq!(code, 404, "{answer}");
    // What follows something has no such time; its own ends it in peace.
    let (code, answer) =
        cluster.ask("GET", &format!("{path}?watch=true&timeoutSeconds=1&timeout=200ms"), "", "").await;
    assert_eq!(code, 200, "{answer}");
    cluster.server.stop().await;
    assert!(events(&log).iter().any(|event| event["responseStatus"]["code"] == 504));
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

fn events(log: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_audit_log_and_the_metrics_tell_of_admission() {
    let maps = rule(&["CREATE"], &["configmaps"]);
    // The server has maps of its own.
    let small = "!('size' in object.data) || object.data.size != 'large'";
    let validations = json!([{"expression": small}]);
    let annotations = json!([{"key": "may",
        "valueExpression": "authorizer.requestResource.check('x').allowed() ? 'yes' : 'no'"}]);
    let spec = json!({"validations": validations, "auditAnnotations": annotations});
    let mut objects = policy("Validating", "size", maps.clone(), &["Audit", "Warn"], spec);
    let denies = json!({"validations": [{"expression": small, "message": "too large"}]});
    objects.extend(policy("Validating", "strict", maps, &["Deny"], denies));
    let (cluster, log) = with(objects).await;
    let map = |name: &str, size: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"size": size}, "unknown": 1})
            .to_string()
    };
    let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Warn";
    let (code, answer) = cluster.ask("POST", path, "", &map("small", "small")).await;
    assert_eq!((code, warnings(&answer)), (201, vec!["unknown field \"unknown\"".to_owned()]), "{answer}");
    let (code, answer) = cluster.ask("POST", path, "", &map("large", "large")).await;
    assert_eq!(code, 422, "{answer}");
    let told = warnings(&answer);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("Validation failed for ValidatingAdmissionPolicy 'size'"), "{told:?}");

    let mut plain = TcpStream::connect(cluster.server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    plain.read_to_end(&mut rest).await.unwrap();
    let (_, metrics) = cluster.ask("GET", "/metrics", "", "").await;
    let begins = [
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"PodSecurity\",operation=\"CREATE\",rejected=\"false\",type=\"validate\"}",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"ValidatingAdmissionPolicy\",operation=\"CREATE\",rejected=\"true\",type=\"validate\"} 1",
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"true\",type=\"validate\"} 1",
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"audit\",error_type=\"no_error\",policy=\"size\",policy_binding=\"size\"} 1",
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"no_error\",policy=\"strict\",policy_binding=\"strict\"} 1",
        "apiserver_audit_level_total{level=\"Request\"}",
        "authentication_attempts{result=\"success\"}",
        "authenticated_user_requests{username=\"admin\"}",
        "authorization_attempts_total{result=\"allowed\"}",
        "apiserver_tls_handshake_errors_total 1",
    ];
    for begin in begins {
        assert!(metrics.lines().any(|line| line.starts_with(begin)), "{begin} is missing in {metrics}");
    }
    let events_told = metrics.lines().find_map(|line| line.strip_prefix("apiserver_audit_event_total "));
    assert!(events_told.unwrap().parse::<u64>().unwrap() > 2);

    cluster.server.stop().await;
    let events = events(&log);
    let of = |name: &str| {
        let event = events.iter().find(|event| {
            event["objectRef"]["resource"] == "configmaps"
                && event["requestObject"]["metadata"]["name"] == name
                && event["stage"] == "ResponseComplete"
        });
        event.unwrap()["annotations"].clone()
    };
    let small = of("small");
    assert_eq!(small["authorization.k8s.io/decision"], "allow");
    assert_eq!(small["authorization.k8s.io/reason"], "");
    assert_eq!(small["size/may"], "yes");
    let failure = of("large")["validation.policy.admission.k8s.io/validation_failure"].clone();
    let failure: Value = serde_json::from_str(failure.as_str().unwrap()).unwrap();
    assert_eq!((&failure[0]["policy"], &failure[0]["expressionIndex"]), (&json!("size"), &json!(0)));
}
