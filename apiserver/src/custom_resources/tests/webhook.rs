//! Versions that a webhook converts, over real TLS.

use serde_json::json;

use super::*;
use crate::test_webhook::Server;

/// A webhook: `v1` has `spec.size`, `v2` has `spec.width`.
fn convert(path: &str, request: &Value) -> Option<Value> {
    assert_eq!(path, "convert");
    let to = request["desiredAPIVersion"].clone();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = to.clone();
        let (from, into) = if to == "example.com/v2" { ("size", "width") } else { ("width", "size") };
        let spec = object["spec"].as_object_mut().unwrap();
        if let Some(size) = spec.remove(from) {
            spec.insert(into.to_owned(), size);
        }
        object
    });
    let objects: Vec<Value> = objects.collect();
    Some(json!({"result": {"status": "Success"}, "convertedObjects": objects}))
}

async fn webhook(cluster: &Cluster) -> Value {
    Server::start(convert, &cluster.tasks, &cluster.stop).await.client("convert")
}

fn converted(client: &Value) -> Value {
    let mut definition = definition();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"width": {"type": "integer", "maximum": 9}});
    for version in [&mut second, &mut definition["spec"]["versions"][0]] {
        version["selectableFields"] = json!([]);
        version["subresources"] = Value::Null;
    }
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": client,
    }});
    definition
}

#[tokio::test]
async fn a_webhook_converts_what_is_read_and_written_in_another_version() {
    let cluster = Cluster::new();
    let client = webhook(&cluster).await;
    cluster.define(converted(&client)).await;
    let mut object = foo("one", json!({"width": 2}));
    object["apiVersion"] = json!("example.com/v2");
    let made = cluster.client.create(&foos("v2"), "a", object.clone()).await.unwrap();
    assert_eq!(made["spec"], json!({"width": 2}));
    let stored = cluster.client.get(&foos("v1"), "a", "one").await.unwrap().unwrap();
    assert_eq!((&stored["apiVersion"], &stored["spec"]), (&json!("example.com/v1"), &json!({"size": 2})));
    cluster.client.create(&foos("v1"), "a", foo("two", json!({"size": 3}))).await.unwrap();

    let listed = cluster.list(&foos("v2"), View::Object).await.unwrap();
    let specs: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| one["spec"].clone()).collect();
    assert_eq!(specs, [json!({"width": 2}), json!({"width": 3})]);

    let mut changed = made;
    changed["spec"]["width"] = json!(4);
    let changed = cluster.client.update(&foos("v2"), "a", "one", "", changed).await.unwrap();
    assert_eq!((&changed["spec"]["width"], &changed["metadata"]["generation"]), (&json!(4), &json!(2)));
    object["metadata"]["name"] = json!("wide");
    object["spec"]["width"] = json!(10);
    let status = cluster.client.create(&foos("v2"), "a", object).await.unwrap_err();
    assert!(status.message.contains("spec.width in body should be less than or equal to 9"), "{status}");
    cluster.end().await;
}

#[tokio::test]
async fn a_webhook_with_another_certificate_is_not_believed() {
    let cluster = Cluster::new();
    let mut client = webhook(&cluster).await;
    client["caBundle"] = webhook(&cluster).await["caBundle"].clone();
    cluster.define(converted(&client)).await;
    cluster.client.create(&foos("v1"), "a", foo("one", json!({"size": 3}))).await.unwrap();
    let status = cluster.list(&foos("v2"), View::Object).await.unwrap_err();
    assert_eq!(status.reason.code(), 500);
    assert!(
        status
            .message
            .contains("conversion webhook for example.com/v1, Kind=Foo failed: Post \"https://127.0.0.1:"),
        "{status}"
    );
    assert!(cluster.list(&foos("v1"), View::Object).await.is_ok());
    cluster.end().await;
}
