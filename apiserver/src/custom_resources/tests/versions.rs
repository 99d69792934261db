//! Several versions of one kind, and definitions that change.

use serde_json::json;

use super::*;
use crate::http::watches::Frames;

/// Foos in two versions that differ in what they know; the first is stored.
fn two_versions() -> Value {
    let mut definition = definition();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"size": {"type": "integer"}, "shape": {"type": "string", "default": "round"}});
    second["selectableFields"] = json!([]);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition
}

#[tokio::test]
async fn versions_without_a_webhook_differ_in_what_they_know() {
    let cluster = Cluster::new();
    cluster.define(two_versions()).await;
    cluster.client.create(&foos("v1"), "a", foo("one", json!({"size": 2}))).await.unwrap();
    let first = cluster.list(&foos("v1"), View::Object).await.unwrap();
    assert_eq!(first["items"][0]["spec"], json!({"size": 2, "color": "red"}));
    let second = cluster.list(&foos("v2"), View::Object).await.unwrap();
    assert_eq!(second["items"][0]["apiVersion"], "example.com/v2");
    assert_eq!(second["items"][0]["spec"], json!({"size": 2}), "defaults are those of the stored version");

    let mut object = foo("two", json!({"size": 1}));
    object["apiVersion"] = json!("example.com/v2");
    let made = cluster.client.create(&foos("v2"), "a", object).await.unwrap();
    assert_eq!((&made["apiVersion"], &made["spec"]["size"]), (&json!("example.com/v2"), &json!(1)));
    let stored = cluster.client.get(&foos("v2"), "a", "two").await.unwrap().unwrap();
    assert_eq!(stored["apiVersion"], "example.com/v1");
    cluster.end().await;
}

#[tokio::test]
async fn what_a_definition_learns_later_holds_for_objects_that_were_there() {
    let cluster = Cluster::new();
    cluster.define(definition()).await;
    cluster.client.create(&foos("v1"), "a", foo("one", json!({"size": 2}))).await.unwrap();
    let before = cluster.endpoint(&foos("v1")).unwrap();
    let watch = WatchQuery { resource_version: "0".to_owned(), ..WatchQuery::default() };
    let cache = &before.collection.as_ref().unwrap().cache;
    let watcher = cache.watch(&watch, &Selection::default(), None).await.unwrap();
    let teller = cluster.teller(&foos("v1"), View::Object);
    let mut frames = Frames::new(watcher, teller, cluster.stop.clone());
    let frame: Value = serde_json::from_slice(&frames.next().await.unwrap()).unwrap();
    assert_eq!(frame["object"]["spec"], json!({"size": 2, "color": "red"}));

    let mut changed = cluster.client.get(&definitions(), "", "foos.example.com").await.unwrap().unwrap();
    let spec = &mut changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"] =
        json!({"color": {"type": "string"}, "shape": {"type": "string", "default": "round"}});
    let mut second = changed["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    changed["spec"]["versions"][0]["storage"] = json!(false);
    changed["spec"]["versions"].as_array_mut().unwrap().push(second);
    changed["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    let changed = cluster.client.update(&definitions(), "", "foos.example.com", "", changed).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));

    // A watch that tells objects as they were defined before is over.
    let ended = tokio::time::timeout(PATIENCE, async { while frames.next().await.is_some() {} });
    ended.await.unwrap();
    // The server is as far as the definition once it serves another catalog.
    let served = tokio::time::timeout(PATIENCE, async {
        while cluster.endpoint(&foos("v2")).is_none() {
            tokio::task::yield_now().await;
        }
    });
    served.await.unwrap();
    let first = cluster.list(&foos("v1"), View::Object).await.unwrap();
    assert_eq!(first["items"][0]["spec"], json!({"color": "red", "shape": "round"}));
    let table = cluster.list(&foos("v1"), View::Table).await.unwrap();
    assert_eq!(table["columnDefinitions"][1]["name"], "Age");
    let after = cluster.endpoint(&foos("v1")).unwrap();
    assert!(Arc::ptr_eq(before.collection.as_ref().unwrap(), after.collection.as_ref().unwrap()));
    cluster.end().await;
}

#[tokio::test]
async fn every_server_serves_what_is_defined_on_one_of_them() {
    let storage = Memory::new();
    let (first, second) = (Cluster::over(storage.clone()), Cluster::over(storage));
    first.define(definition()).await;
    let everywhere = tokio::time::timeout(PATIENCE, async {
        while second.endpoint(&foos("v1")).is_none() {
            tokio::task::yield_now().await;
        }
    });
    everywhere.await.unwrap();
    second.client.create(&foos("v1"), "a", foo("one", json!({}))).await.unwrap();
    first.client.delete(&definitions(), "", "foos.example.com").await.unwrap();
    assert_eq!(second.until("foos.example.com", |one| one.is_none()).await, None);
    first.end().await;
    second.end().await;
}
