//! References against a fake API server that lists and watches single objects.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::testing::Server;
use super::{Kind, ReferenceError, References, named};

fn world() -> (Server, References, CancellationToken) {
    let (server, stop) = (Server::default(), CancellationToken::new());
    let references = References::new(server.client(), stop.clone());
    (server, references, stop)
}

fn map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value}})
}

fn pod(uid: &str, maps: &[&str]) -> Pod {
    let volumes: Vec<_> =
        maps.iter().map(|name| json!({"name": name, "configMap": {"name": name}})).collect();
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": uid, "uid": uid},
        "spec": {"containers": [], "volumes": volumes}}))
    .unwrap()
}

async fn value(references: &References, name: &str) -> Option<String> {
    let map = references.config_map("ns", name).await.unwrap();
    map.map(|map| map.data.clone().unwrap_or_default()["k"].clone())
}

#[test]
fn a_pod_names_what_its_containers_volumes_and_images_need() {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": {
        "imagePullSecrets": [{"name": "pull"}],
        "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "env"}}]}],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "late"}}]}],
        "volumes": [{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "configMap": {"name": "m"}},
            {"name": "c", "projected": {"sources": [{"secret": {"name": "ps"}}, {"configMap": {"name": "pm"}}]}}]}}))
    .unwrap();
    let found: Vec<_> = named(&pod).into_iter().map(|it| format!("{} {}", it.kind, it.name)).collect();
    assert_eq!(
        found,
        [
            "configmap late",
            "configmap m",
            "configmap pm",
            "secret env",
            "secret ps",
            "secret pull",
            "secret s"
        ]
    );
}

#[tokio::test]
async fn objects_are_followed_by_name_while_a_pod_names_them() {
    let (server, references, stop) = world();
    server.put("configmaps/m", map("one"));
    assert_eq!(
        references.config_map("ns", "m").await.unwrap_err(),
        ReferenceError::NotRegistered { namespace: "ns".into(), name: "m".into() }
    );
    let mut changed = references.hold(&pod("a", &["m", "none"]));
    references.hold(&pod("b", &["m"]));
    assert_eq!(value(&references, "m").await.as_deref(), Some("one"));
    assert_eq!(value(&references, "none").await, None);
    assert_eq!(references.followed(), 2);
    assert_eq!(server.asked("list configmaps/m"), 1, "one watch for two");

    // First words are no changes; what comes then is told to the pods that name the object.
    assert!(!changed.has_changed().unwrap());
    server.put("configmaps/m", map("two"));
    changed.changed().await.unwrap();
    assert_eq!(value(&references, "m").await.as_deref(), Some("two"));

    // One pod less, and one name less.
    references.release("b");
    references.hold(&pod("a", &["none"]));
    assert_eq!(references.followed(), 1);
    assert!(references.config_map("ns", "m").await.is_err());
    server.unwatched("configmaps/m").await;
    references.release("a");
    assert_eq!(references.followed(), 0);
    stop.cancel();
    references.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_quoted_and_asked_again() {
    let (server, references, stop) = world();
    server.refuse(true);
    let mut changed = references.hold(&pod("a", &["m"]));
    let error = references.config_map("ns", "m").await.unwrap_err();
    assert!(
        matches!(&error, ReferenceError::Refused(why) if why.contains("no relationship found")),
        "{error}"
    );
    server.refuse(false);
    server.put("configmaps/m", map("one"));
    changed.changed().await.unwrap();
    while references.config_map("ns", "m").await.is_err() {
        changed.changed().await.unwrap();
    }
    assert_eq!(value(&references, "m").await.as_deref(), Some("one"));
    stop.cancel();
    references.drained().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_word_that_comes_too_late_is_told() {
    let (server, stop) = (Server::default(), CancellationToken::new());
    let (open, gate) = tokio::sync::watch::channel(false);
    let references = References::new(server.client_behind(gate), stop.clone());
    server.put("configmaps/m", map("one"));
    let mut changed = references.hold(&pod("a", &["m"]));
    let error = references.config_map("ns", "m").await.unwrap_err();
    assert_eq!(error, ReferenceError::Slow(Kind::ConfigMap));
    assert_eq!(error.to_string(), "failed to sync configmap cache: timed out waiting for the condition");
    open.send(true).unwrap();
    changed.changed().await.unwrap();
    assert_eq!(value(&references, "m").await.as_deref(), Some("one"));
    stop.cancel();
    references.drained().await;
}
