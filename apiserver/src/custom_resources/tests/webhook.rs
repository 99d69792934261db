//! Versions that a webhook converts, over real TLS.

use serde_json::json;

use super::*;
use crate::authorization::User;
use crate::clock;
use crate::registry::decode::FieldValidation;
use crate::registry::pipeline::{Patch, PatchKind, Request};
use crate::test_webhook::Server;

/// A webhook: `v1` has `spec.size`, `v2` has `spec.width`.
fn convert(path: &str, request: &Value) -> Option<Value> {
    assert_eq!(path, "convert");
    let to = request["desiredAPIVersion"].clone();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = to.clone();
        let (from, into) = if to == "example.com/v2" { ("size", "width") } else { ("width", "size") };
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && let Some(size) = spec.remove(from)
        {
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

/// Applies `spec` to the foo `one`.
async fn apply(
    cluster: &Cluster,
    version: &str,
    manager: &str,
    spec: Value,
    force: bool,
) -> Result<Value, Status> {
    let (served, user) = (cluster.endpoint(&foos(version)).unwrap().served, User::default());
    let request = Request {
        user: &user,
        served: &served,
        namespace: "a",
        name: "one",
        subresource: "",
        dry_run: false,
        manager,
        validation: FieldValidation::Strict,
        options: &Value::Null,
        now: clock::now(),
    };
    let mut body = foo("one", spec);
    body["apiVersion"] = json!(format!("example.com/{version}"));
    let patch = Patch { kind: PatchKind::Apply { force }, body, duplicates: Vec::new() };
    let answer = cluster.pipeline.patch(&request, &patch, &mut crate::admission::Told::default()).await?;
    Ok(answer.object)
}

#[tokio::test]
async fn owners_who_wrote_in_different_versions_are_told_of_each_others_fields() {
    let cluster = Cluster::new();
    let client = webhook(&cluster).await;
    cluster.define(converted(&client)).await;
    apply(&cluster, "v1", "first", json!({"size": 3}), false).await.unwrap();
    let status = apply(&cluster, "v2", "second", json!({"width": 4}), false).await.unwrap_err();
    assert_eq!(status.reason.code(), 409);
    assert!(status.message.contains("conflict with \"first\": .spec.size"), "{status}");
    let taken = apply(&cluster, "v2", "second", json!({"width": 4}), true).await.unwrap();
    let owners = taken["metadata"]["managedFields"].as_array().unwrap();
    let owners: Vec<_> = owners.iter().map(|one| (&one["manager"], &one["fieldsV1"])).collect();
    assert_eq!(owners, [(&json!("second"), &json!({"f:spec": {"f:width": {}}}))]);
    // Who applies in another version than before still lets go of what is not applied any more.
    let left = apply(&cluster, "v1", "second", json!({}), false).await.unwrap();
    assert_eq!(left.pointer("/spec/size"), None, "{left}");
    // A plain write in one version takes what was applied in the other.
    apply(&cluster, "v1", "first", json!({"size": 3}), false).await.unwrap();
    let mut wide = cluster.client.get(&foos("v1"), "a", "one").await.unwrap().unwrap();
    wide["apiVersion"] = json!("example.com/v2");
    wide["spec"] = json!({"width": 7});
    let written = cluster.client.update(&foos("v2"), "a", "one", "", wide).await.unwrap();
    let owners = written["metadata"]["managedFields"].as_array().unwrap();
    let owners: Vec<_> = owners.iter().map(|one| (&one["operation"], &one["fieldsV1"]["f:spec"])).collect();
    assert!(owners.contains(&(&json!("Update"), &json!({"f:width": {}}))), "{owners:?}");
    assert!(
        !owners.iter().any(|(operation, spec)| **operation == "Apply" && spec.get("f:size").is_some()),
        "{owners:?}"
    );
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
