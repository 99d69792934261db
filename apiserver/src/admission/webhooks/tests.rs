//! Webhooks over real TLS.

use serde_json::{Value, json};

use super::super::Operation;
use super::super::test_request::{Ask, Objects, config_map, only_yes, sendable};
use super::*;
use crate::metrics::Metrics;
use crate::storage::memory::Memory;
use crate::test_webhook::{Respond, Server, patch};

/// What the paths of the server answer.
fn respond(path: &str, request: &Value) -> Option<Value> {
    let seen = request["object"]["data"]["seen"].as_str().unwrap_or_default();
    match path {
        "yes" => Some(json!({"allowed": true, "warnings": ["careful"], "auditAnnotations": {"k": "v"}})),
        "no" => {
            let status = json!({"message": "never", "code": 409, "reason": "Conflict"});
            Some(json!({"allowed": false, "status": status}))
        }
        "silence" => None,
        "wrong" => Some(json!({"allowed": true, "patch": "W10="})),
        "break" => patch(&json!([{"op": "replace", "path": "/data", "value": 3}])),
        "most" => {
            let replicas = json!([{"op": "replace", "path": "/spec/maxReplicas", "value": 9}]);
            assert_eq!(request["object"]["apiVersion"], "autoscaling/v2");
            assert_eq!(request["object"]["spec"]["metrics"][0]["resource"]["name"], "cpu");
            patch(&replicas)
        }
        name => patch(&json!([{"op": "replace", "path": "/data/seen", "value": format!("{seen}{name}")}])),
    }
}

fn rule(resource: &str) -> Value {
    json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]})
}

fn webhook(name: &str, client: Value, changes: Value) -> Value {
    let mut webhook = json!({"name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None",
        "rules": [rule("configmaps")], "admissionReviewVersions": ["v1"]});
    webhook.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    webhook
}

fn configuration(kind: &str, name: &str, webhooks: Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": webhooks})
}

struct Cluster {
    objects: Objects,
    server: Server,
}

impl Cluster {
    async fn new() -> Self {
        let objects = Objects::new();
        objects.namespace("a").await;
        let answers: Respond = respond;
        let server = Server::start(answers, &objects.tasks, &objects.stop).await;
        Self { objects, server }
    }

    /// With one configuration, whose webhooks are at paths of their own name.
    async fn with(kind: &str, webhooks: &[(&str, Value)]) -> (Self, Webhooks<Memory>) {
        let cluster = Self::new().await;
        let all = webhooks
            .iter()
            .map(|(name, changes)| webhook(name, cluster.server.client(name), changes.clone()));
        cluster.objects.put(configuration(kind, "c", all.collect())).await;
        let webhooks = cluster.start();
        (cluster, webhooks)
    }

    fn start(&self) -> Webhooks<Memory> {
        Webhooks::start(
            &self.objects.collections,
            &only_yes(),
            &Metrics::new().admission,
            &self.objects.tasks,
            &self.objects.stop,
        )
    }
}

/// The object after all rounds.
async fn mutated(webhooks: &Webhooks<Memory>, ask: &Ask, object: Value) -> Result<Value, Status> {
    let (mut object, mut rounds) = (object, Rounds::default());
    loop {
        let (attributes, mut told) = (ask.attributes(), Told::default());
        sendable(webhooks.mutate(&attributes, &mut object, &mut told, &mut rounds)).await?;
        if !rounds.again() {
            return Ok(object);
        }
    }
}

async fn validated(webhooks: &Webhooks<Memory>, ask: &Ask) -> (Result<(), Status>, Told) {
    let mut told = Told::default();
    let object = config_map(&json!({"seen": ""}));
    let attributes = ask.attributes();
    let answer = sendable(webhooks.validate(&attributes, &object, &mut told)).await;
    (answer, told)
}

#[tokio::test]
async fn webhooks_change_an_object_one_after_another() {
    let cluster = Cluster::new().await;
    let hooks = |name: &str| json!([webhook(name, cluster.server.client(name), json!({}))]);
    cluster.objects.put(configuration("Mutating", "second", hooks("b"))).await;
    cluster.objects.put(configuration("Mutating", "first", hooks("a"))).await;
    let webhooks = cluster.start();
    let mut ask = Ask::config_map();
    ask.old = Some(config_map(&json!({"seen": "old"})));
    ask.operation = Operation::Update;
    let object = mutated(&webhooks, &ask, config_map(&json!({"seen": ""}))).await.unwrap();
    assert_eq!(object["data"]["seen"], "ab");

    let (_, request) = cluster.server.asked.lock()[0].clone();
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&request["name"], &request["namespace"]), (&json!("x"), &json!("a")));
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("UPDATE"), &json!(false)));
    assert_eq!(request["userInfo"], json!({"username": "u", "groups": ["g"]}));
    assert_eq!(request["oldObject"]["data"], json!({"seen": "old"}));
    assert_eq!(request["object"]["data"], json!({"seen": ""}));
    cluster.objects.end().await;
}

#[tokio::test]
async fn webhooks_are_asked_again_when_later_ones_change_something() {
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = [("yes", again.clone()), ("a", again), ("b", json!({}))];
    let (cluster, webhooks) = Cluster::with("Mutating", &hooks).await;
    let object = mutated(&webhooks, &Ask::config_map(), config_map(&json!({"seen": ""}))).await.unwrap();
    assert_eq!(object["data"]["seen"], "aba");
    assert_eq!(cluster.server.paths(), ["yes", "a", "b", "yes", "a"]);
    cluster.objects.end().await;
}

#[tokio::test]
async fn what_a_webhook_says_is_passed_on() {
    let hooks = [("yes", json!({})), ("no", json!({}))];
    let (cluster, webhooks) = Cluster::with("Validating", &hooks).await;
    let (answer, told) = validated(&webhooks, &Ask::config_map()).await;
    let status = answer.unwrap_err();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (409, "admission webhook \"no.example.com\" denied the request: never")
    );
    assert_eq!(told.warnings, ["careful"]);
    assert_eq!(told.annotations, [("yes.example.com/k".to_owned(), "v".to_owned())]);
    cluster.objects.end().await;
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_refuses_unless_it_says_otherwise() {
    let table = [
        ("silence", json!({"timeoutSeconds": 1}), "failed to call webhook: Post \"https://127.0.0.1:"),
        (
            "wrong",
            json!({}),
            "received invalid webhook response: validating webhook may not return response.patch",
        ),
        ("yes", json!({"clientConfig": {"url": "https://127.0.0.1:1/"}}), "failed to call webhook: Post "),
        (
            "yes",
            json!({"clientConfig": {"service": {"name": "none", "namespace": "a"}}}),
            "failed to call webhook: Post \"https://none.a.svc:443/?timeout=10s\": service \"none\" not found",
        ),
    ];
    for (name, changes, expected) in table {
        let mut ignored = changes.clone();
        ignored["failurePolicy"] = json!("Ignore");
        let (cluster, webhooks) = Cluster::with("Validating", &[(name, changes)]).await;
        let status = validated(&webhooks, &Ask::config_map()).await.0.unwrap_err();
        let begin =
            format!("Internal error occurred: failed calling webhook \"{name}.example.com\": {expected}");
        assert_eq!(status.code(), 500);
        assert!(status.message.starts_with(&begin), "{status}");
        cluster.objects.end().await;

        let (cluster, webhooks) = Cluster::with("Validating", &[(name, ignored)]).await;
        let (answer, told) = validated(&webhooks, &Ask::config_map()).await;
        assert_eq!(answer, Ok(()));
        let key = "failed-open.validating.webhook.admission.k8s.io/round_0_index_0".to_owned();
        assert_eq!(told.annotations, [(key, format!("{name}.example.com"))]);
        cluster.objects.end().await;
    }
}

#[tokio::test]
async fn services_are_reached_by_their_address_and_known_by_their_name() {
    let cluster = Cluster::new().await;
    let client = cluster.server.client("a");
    let port: u16 = client["url"].as_str().unwrap().split([':', '/']).nth(4).unwrap().parse().unwrap();
    cluster
        .objects
        .put(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook", "namespace": "a"},
            "spec": {"clusterIP": "127.0.0.1", "ports": [{"port": port}]}}))
        .await;
    let service = json!({"name": "hook", "namespace": "a", "port": port, "path": "/a"});
    let client = json!({"service": service, "caBundle": client["caBundle"]});
    let hooks = json!([webhook("a", client, json!({}))]);
    cluster.objects.put(configuration("Mutating", "c", hooks)).await;
    let webhooks = cluster.start();
    let object = mutated(&webhooks, &Ask::config_map(), config_map(&json!({"seen": ""}))).await.unwrap();
    assert_eq!(object["data"]["seen"], "a");
    cluster.objects.end().await;
}

#[tokio::test]
async fn dry_runs_reach_webhooks_that_do_nothing_then() {
    let mut ask = Ask::config_map();
    ask.dry_run = true;
    let effects = json!({"sideEffects": "NoneOnDryRun"});
    let (cluster, webhooks) = Cluster::with("Validating", &[("yes", effects)]).await;
    assert_eq!(validated(&webhooks, &ask).await.0, Ok(()));
    assert_eq!(cluster.server.asked.lock()[0].1["dryRun"], true);
    cluster.objects.end().await;

    let effects = json!({"sideEffects": "Some", "failurePolicy": "Ignore"});
    let (cluster, webhooks) = Cluster::with("Validating", &[("yes", effects)]).await;
    let status = validated(&webhooks, &ask).await.0.unwrap_err();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (400, "admission webhook \"yes.example.com\" does not support dry run")
    );
    assert!(cluster.server.paths().is_empty());
    cluster.objects.end().await;
}

#[tokio::test]
async fn conditions_decide_who_is_asked() {
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    let name = condition("object.metadata.name != 'x' || request.userInfo.username != 'u'");
    let denied = condition("authorizer.requestResource.check('no').allowed()");
    let allowed = condition("has(object.data.seen) && authorizer.requestResource.check('yes').allowed()");
    let hooks = [("no", name), ("no", denied), ("yes", allowed)];
    let (cluster, webhooks) = Cluster::with("Validating", &hooks).await;
    assert_eq!(validated(&webhooks, &Ask::config_map()).await.0, Ok(()));
    assert_eq!(cluster.server.paths(), ["yes"]);
    cluster.objects.end().await;

    let (cluster, webhooks) = Cluster::with("Validating", &[("yes", condition("object.none == 1"))]).await;
    let status = validated(&webhooks, &Ask::config_map()).await.0.unwrap_err();
    assert_eq!(
        (status.code(), status.message.as_str()),
        (
            403,
            "configmaps \"x\" is forbidden: expression 'object.none == 1' resulted in error: no such key: none"
        )
    );
    cluster.objects.end().await;
}

#[tokio::test]
async fn nobody_is_asked_about_configurations() {
    let every = json!({"rules": [rule("*")]});
    let (cluster, webhooks) = Cluster::with("Validating", &[("no", every)]).await;
    let mut ask = Ask::create(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
    );
    ask.namespace = "";
    assert_eq!(validated(&webhooks, &ask).await.0, Ok(()));
    assert!(validated(&webhooks, &Ask::config_map()).await.0.is_err());
    cluster.objects.end().await;
}

#[tokio::test]
async fn patches_make_objects_of_the_same_kind() {
    let (cluster, webhooks) =
        Cluster::with("Mutating", &[("break", json!({"failurePolicy": "Ignore"}))]).await;
    let status = mutated(&webhooks, &Ask::config_map(), config_map(&json!({"seen": ""}))).await.unwrap_err();
    assert_eq!(status.code(), 500);
    assert!(status.message.contains("the object cannot be read any more: data: "), "{status}");
    let mut ask = Ask::config_map();
    ask.operation = Operation::Delete;
    let status = mutated(&webhooks, &ask, Value::Null).await.unwrap_err();
    assert!(status.message.contains("attempted to modify the object"), "{status}");
    cluster.objects.end().await;
}

#[tokio::test]
async fn webhooks_are_asked_in_the_version_that_they_know() {
    let mut v2 = rule("horizontalpodautoscalers");
    v2["apiVersions"] = json!(["v2"]);
    let (cluster, webhooks) = Cluster::with("Mutating", &[("most", json!({"rules": [v2]}))]).await;
    let ask = Ask::create("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler");
    let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "x", "namespace": "a"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let changed = mutated(&webhooks, &ask, object).await.unwrap();
    assert_eq!(changed["apiVersion"], "autoscaling/v1");
    assert_eq!(changed["spec"]["maxReplicas"], 9);
    assert_eq!(changed["spec"]["targetCPUUtilizationPercentage"], 80);
    let (_, request) = cluster.server.asked.lock()[0].clone();
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v2"), &json!("v1"))
    );
    cluster.objects.end().await;
}
