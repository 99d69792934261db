//! Policies and bindings over stored objects.

use serde_json::{Value, json};

use super::super::test_request::{Ask, Objects, config_map, only_yes, sendable};
use super::*;
use crate::metrics::Metrics;
use crate::storage::memory::Memory;

const GROUP: &str = "admissionregistration.k8s.io/v1";

fn constraints() -> Value {
    let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    json!({"resourceRules": [rule]})
}

fn policy(kind: &str, name: &str, changes: Value) -> Value {
    let mut spec = json!({"matchConstraints": constraints(), "reinvocationPolicy": "Never"});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({"apiVersion": GROUP, "kind": format!("{kind}AdmissionPolicy"), "metadata": {"name": name}, "spec": spec})
}

fn binding(kind: &str, name: &str, policy: &str, changes: Value) -> Value {
    let mut spec = json!({"policyName": policy, "validationActions": ["Deny"]});
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let kind = format!("{kind}AdmissionPolicyBinding");
    json!({"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Policies over stored objects, in a namespace `a`.
async fn with(objects: Vec<Value>) -> (Objects, Policies<Memory>) {
    let cluster = Objects::new();
    cluster.namespace("a").await;
    for object in objects {
        cluster.put(object).await;
    }
    let policies = Policies::start(
        &cluster.collections,
        &only_yes(),
        &Metrics::new().admission,
        &cluster.tasks,
        &cluster.stop,
    );
    (cluster, policies)
}

async fn validated(policies: &Policies<Memory>, data: Value) -> (Result<(), Status>, Told) {
    let mut told = Told::default();
    let ask = Ask::config_map();
    let (attributes, object) = (ask.attributes(), config_map(&data));
    let answer = sendable(policies.validate(&attributes, &object, &mut told)).await;
    (answer, told)
}

async fn mutated(policies: &Policies<Memory>, data: Value) -> Result<Value, Status> {
    let (mut object, mut rounds) = (config_map(&data), Rounds::default());
    let ask = Ask::config_map();
    loop {
        let attributes = ask.attributes();
        sendable(policies.mutate(&attributes, &mut object, &mut rounds)).await?;
        if !rounds.again() {
            return Ok(object);
        }
    }
}

#[tokio::test]
async fn a_binding_says_what_is_done_about_a_failure() {
    let validations = json!([{"expression": "object.data.size != 'large'", "reason": "Forbidden"}]);
    let (cluster, policies) = with(vec![
        policy("Validating", "size", json!({"validations": validations})),
        binding("Validating", "denies", "size", json!({})),
        binding("Validating", "tells", "size", json!({"validationActions": ["Warn", "Audit"]})),
        binding(
            "Validating",
            "elsewhere",
            "size",
            json!({"matchResources": {
            "namespaceSelector": {"matchLabels": {"name": "b"}}}, "validationActions": ["Warn"]}),
        ),
        binding("Validating", "of none", "none", json!({})),
    ])
    .await;
    assert_eq!(validated(&policies, json!({"size": "small"})).await, (Ok(()), Told::default()));
    let (answer, told) = validated(&policies, json!({"size": "large"})).await;
    let status = answer.unwrap_err();
    let denied = "ValidatingAdmissionPolicy 'size' with binding 'denies' denied request: failed expression: \
                  object.data.size != 'large'";
    assert_eq!(
        (status.code(), status.message.clone()),
        (403, format!("configmaps \"x\" is forbidden: {denied}"))
    );
    assert_eq!(status.details.causes[0].message, denied);
    assert_eq!(
        told.warnings,
        ["Validation failed for ValidatingAdmissionPolicy 'size' with binding 'tells': failed expression: \
          object.data.size != 'large'"]
    );
    let (key, value) = &told.annotations[0];
    assert_eq!(key, "validation.policy.admission.k8s.io/validation_failure");
    let value: Value = serde_json::from_str(value).unwrap();
    assert_eq!((&value[0]["binding"], &value[0]["expressionIndex"]), (&json!("tells"), &json!(0)));
    cluster.end().await;
}

#[tokio::test]
async fn expressions_know_the_namespace_and_the_request() {
    let expression = "namespaceObject.metadata.labels.name == 'a' && request.namespace == 'a' && \
        request.operation == 'CREATE' && oldObject == null && request.name == 'x'";
    let validations = json!([{"expression": expression, "message": "no"}]);
    let annotations = json!([{"key": "who", "valueExpression": "request.userInfo.username"}]);
    let spec = json!({"validations": validations, "auditAnnotations": annotations});
    let (cluster, policies) =
        with(vec![policy("Validating", "p", spec), binding("Validating", "b", "p", json!({}))]).await;
    let (answer, told) = validated(&policies, json!({})).await;
    assert_eq!(answer, Ok(()));
    assert_eq!(told.annotations, [("p/who".to_owned(), "u".to_owned())]);
    cluster.end().await;
}

#[tokio::test]
async fn parameters_are_objects_that_a_binding_names() {
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "int(object.data.size) <= int(params.data.most)",
            "messageExpression": "'more than ' + params.data.most + ' of ' + params.metadata.name"}]});
    let param = |name: &str, most: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"most": most},
            "metadata": {"name": name, "namespace": "a", "labels": {"limit": "yes"}}})
    };
    let named =
        |name: &str, action: &str| json!({"paramRef": {"name": name, "parameterNotFoundAction": action}});
    let chosen = json!({"paramRef": {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}});
    let message = async |binding_spec: Value, size: &str| {
        let (cluster, policies) = with(vec![
            policy("Validating", "p", spec.clone()),
            binding("Validating", "b", "p", binding_spec),
            param("five", "5"),
            param("nine", "9"),
        ])
        .await;
        let answer = validated(&policies, json!({"size": size})).await.0;
        cluster.end().await;
        let message = answer.err().map(|status| status.message).unwrap_or_default();
        message.split_once("denied request: ").map(|(_, why)| why.to_owned()).unwrap_or(message)
    };
    assert_eq!(message(named("five", "Deny"), "6").await, "more than 5 of five");
    assert_eq!(message(named("nine", "Deny"), "6").await, "");
    assert_eq!(message(chosen, "6").await, "more than 5 of five");
    assert_eq!(message(named("none", "Allow"), "6").await, "");
    assert_eq!(
        message(named("none", "Deny"), "6").await,
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
}

#[tokio::test]
async fn parameters_of_an_unknown_kind_refuse_what_fits() {
    let param_kind = json!({"apiVersion": "example.com/v1", "kind": "Limit"});
    let spec = |failure: &str| json!({"paramKind": param_kind, "validations": [{"expression": "true"}], "failurePolicy": failure});
    let parameter = json!({"paramRef": {"name": "n", "parameterNotFoundAction": "Deny"}});
    for (failure, expected) in [
        (
            "Fail",
            "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: \
             failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'",
        ),
        ("Ignore", ""),
    ] {
        let (cluster, policies) = with(vec![
            policy("Validating", "p", spec(failure)),
            binding("Validating", "b", "p", parameter.clone()),
        ])
        .await;
        let answer = validated(&policies, json!({})).await.0;
        assert_eq!(answer.err().map(|status| status.message).unwrap_or_default(), expected);
        cluster.end().await;
    }
}

#[tokio::test]
async fn policies_change_objects_and_are_asked_again() {
    let append = |name: &str| {
        let source =
            format!("[JSONPatch{{op: 'replace', path: '/data/seen', value: object.data.seen + '{name}'}}]");
        json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": source}}])
    };
    let label = json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": "Object{metadata: Object.metadata{labels: {'seen': object.data.seen}}}"}}]);
    let (cluster, policies) = with(vec![
        policy("Mutating", "a", json!({"mutations": append("a"), "reinvocationPolicy": "IfNeeded"})),
        policy("Mutating", "b", json!({"mutations": append("b")})),
        policy("Mutating", "c", json!({"mutations": label})),
        policy("Mutating", "unbound", json!({"mutations": append("x")})),
        binding("Mutating", "a", "a", json!({})),
        binding("Mutating", "b", "b", json!({})),
        binding("Mutating", "c", "c", json!({})),
    ])
    .await;
    let object = mutated(&policies, json!({"seen": ""})).await.unwrap();
    assert_eq!(object["data"]["seen"], "aba");
    assert_eq!(object["metadata"]["labels"], json!({"seen": "ab"}));
    cluster.end().await;
}

#[tokio::test]
async fn a_change_that_cannot_be_made_refuses_unless_it_may_fail() {
    let mutations = json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": "Object{spec: Object.spec{replicas: 1}}"}}]);
    for (failure, expected) in [
        (
            "Fail",
            "policy 'p' with binding 'b' denied request: error applying patch: failed to convert patch object to typed \
             object: .spec: field not declared in schema",
        ),
        ("Ignore", ""),
    ] {
        let (cluster, policies) = with(vec![
            policy("Mutating", "p", json!({"mutations": mutations, "failurePolicy": failure})),
            binding("Mutating", "b", "p", json!({})),
        ])
        .await;
        let answer = mutated(&policies, json!({})).await;
        let status = answer.err();
        if let Some(status) = &status {
            assert_eq!((status.code(), &status.to_value()["reason"]), (403, &json!("Invalid")));
        }
        assert_eq!(status.map(|status| status.message).unwrap_or_default(), expected);
        cluster.end().await;
    }
}
