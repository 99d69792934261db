//! A definition from its beginning to its end, and its objects with it.

use barque_api::resources::Verb;
use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::custom_resources::CLEANUP;
use crate::http::documents::{Asked, Documents};
use crate::http::parameters::Parameters;
use crate::metrics::PartMetrics;
use crate::registry::selection::{Wanted, selection};
use crate::storage::{Page, Storage as _};

impl Cluster {
    /// What the server tells of itself.
    async fn document(&self, path: &str) -> Value {
        let (parameters, headers) = (Parameters::of(""), http::HeaderMap::new());
        let asked = Asked {
            path,
            parameters: &parameters,
            headers: &headers,
            address: "127.0.0.1:6443",
            parts: &PartMetrics::default(),
        };
        let elsewhere = Arc::default();
        let answer = Documents::default().answer(asked, &self.collections.catalog(), &elsewhere);
        let answer = answer.unwrap().unwrap();
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn a_definition_is_served_once_it_is_established() {
    let cluster = Cluster::new();
    let made = cluster.client.create(&definitions(), "", definition()).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["names"]["listKind"], "FooList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let named = "foos.example.com";
    let done = cluster
        .until(named, |one| one.is_some_and(|one| conditions::holds(one, "Established")))
        .await
        .unwrap();
    assert_eq!(done["status"]["acceptedNames"], done["spec"]["names"]);
    assert_eq!(done["metadata"]["generation"], 1);
    let endpoint = cluster.endpoint(&foos("v1")).expect("it was served before it was said to be");
    let resource = &endpoint.served.resource;
    assert_eq!((&*resource.kind, &*resource.singular, resource.namespaced), ("Foo", "foo", true));
    assert_eq!((&*resource.short_names[0], &*resource.categories[0]), ("fo", "all"));
    assert!(resource.can(Verb::Create) && resource.subresource("scale").is_some());

    let resources = cluster.document("/apis/example.com/v1").await;
    let told = &resources["resources"][0];
    assert_eq!((&told["name"], &told["shortNames"]), (&json!("foos"), &json!(["fo"])));
    let openapi = cluster.document("/openapi/v3/apis/example.com/v1").await;
    let schema = &openapi["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["minimum"], 1);

    let listed = cluster.list(&foos("v1"), View::Object).await.unwrap();
    assert_eq!((&listed["kind"], &listed["items"]), (&json!("FooList"), &json!([])));
    cluster.end().await;
}

#[tokio::test]
async fn objects_are_held_to_their_definition() {
    let cluster = Cluster::new();
    cluster.define(definition()).await;
    let (client, foos) = (&cluster.client, foos("v1"));
    let status = client.create(&foos, "a", foo("one", json!({"size": 0}))).await.unwrap_err();
    assert_eq!(status.reason.code(), 422);
    assert_eq!(
        status.message,
        "Foo.example.com \"one\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or \
         equal to 1"
    );
    let made = client.create(&foos, "a", foo("one", json!({"size": 2, "unknown": true}))).await.unwrap();
    assert_eq!(made["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);

    let mut changed = made.clone();
    changed["spec"]["size"] = json!(3);
    changed["status"] = json!({"phase": "Lost"});
    let changed = client.update(&foos, "a", "one", "", changed).await.unwrap();
    assert_eq!((&changed["metadata"]["generation"], changed.get("status")), (&json!(2), None));
    let mut told = changed.clone();
    told["spec"]["size"] = json!(9);
    told["metadata"]["labels"] = json!({"l": "1"});
    told["status"] = json!({"phase": "Done"});
    let told = client.update(&foos, "a", "one", "status", told).await.unwrap();
    assert_eq!((&told["spec"]["size"], &told["status"]["phase"]), (&json!(3), &json!("Done")));
    assert_eq!((&told["metadata"]["generation"], told["metadata"].get("labels")), (&json!(2), None));
    let mut labelled = told.clone();
    labelled["metadata"]["labels"] = json!({"l": "1"});
    let labelled = client.update(&foos, "a", "one", "", labelled).await.unwrap();
    assert_eq!(labelled["metadata"]["generation"], 2, "metadata is none of the generation's business");
    let status = client.update(&foos, "a", "one", "", made).await.unwrap_err();
    assert_eq!(status.reason.code(), 409);
    let negative = json!({"size": 1, "replicas": -1});
    let status = client.create(&foos, "a", foo("two", negative)).await.unwrap_err();
    assert!(status.message.ends_with(".spec.replicas: Invalid value: -1: should be a non-negative integer"));

    let table = cluster.list(&foos, View::Table).await.unwrap();
    let heads: Vec<_> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(heads, ["Name", "Size", "Color"]);
    assert_eq!(table["rows"][0]["cells"], json!(["one", 3, "red"]));
    cluster.end().await;
}

#[tokio::test]
async fn selectors_ask_for_fields_that_the_definition_offers() {
    let cluster = Cluster::new();
    cluster.define(definition()).await;
    let foos = foos("v1");
    for (name, color) in [("one", "red"), ("two", "blue")] {
        cluster.client.create(&foos, "a", foo(name, json!({"color": color}))).await.unwrap();
    }
    let endpoint = cluster.endpoint(&foos).unwrap();
    let collection = endpoint.collection.unwrap();
    let wanted = |fields| Wanted { fields, ..Wanted::default() };
    let blue = selection(wanted("spec.color=blue"), &endpoint.served, &collection).unwrap();
    let found = collection.cache.list(&ListQuery::default(), &blue).await.unwrap();
    assert_eq!(found.objects.len(), 1);
    let refused = selection(wanted("spec.size=1"), &endpoint.served, &collection).map(|_| ()).unwrap_err();
    assert_eq!(refused.message, "field label not supported: spec.size");
    cluster.end().await;
}

#[tokio::test]
async fn a_definition_goes_after_its_last_object() {
    let cluster = Cluster::new();
    cluster.define(definition()).await;
    let (client, foos, named) = (&cluster.client, foos("v1"), "foos.example.com");
    client.create(&foos, "a", foo("plain", json!({}))).await.unwrap();
    let mut held = foo("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/mine"]);
    client.create(&foos, "b", held).await.unwrap();

    client.delete(&definitions(), "", named).await.unwrap();
    let reason = |one: Option<&Value>| {
        one.and_then(|one| conditions::find(one, "Terminating"))
            .map(|one| one["reason"].as_str().unwrap_or_default().to_owned())
    };
    let going = cluster
        .until(named, |one| reason(one).as_deref() == Some("InstanceDeletionInProgress"))
        .await
        .unwrap();
    assert_eq!(going["metadata"]["finalizers"], json!([CLEANUP]));
    let served = cluster.endpoint(&foos).unwrap().served;
    assert!(!served.resource.can(Verb::Create) && served.resource.can(Verb::Delete));

    // Somebody's finalizer holds the second one, and with it the definition.
    let collection = cluster.collections.collection(&foos.group_resource()).unwrap();
    let query = WatchQuery { bookmarks: false, ..WatchQuery::default() };
    let mut watcher = collection.cache.watch(&query, &Selection::default(), None).await.unwrap();
    let marked = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Told::Object { object, .. }) = watcher.next().await {
                let object = parse(&object).unwrap();
                if object["metadata"]["name"] == "held" && !object["metadata"]["deletionTimestamp"].is_null()
                {
                    return object;
                }
            }
        }
    });
    let mut marked = marked.await.unwrap();
    assert!(client.get(&definitions(), "", named).await.unwrap().is_some());
    marked["metadata"]["finalizers"] = json!([]);
    client.update(&foos, "b", "held", "", marked).await.unwrap();

    assert_eq!(cluster.until(named, |one| one.is_none()).await, None);
    let page = Page { prefix: Bytes::from("/registry/example.com/"), ..Page::default() };
    assert_eq!(cluster.collections.storage().list(&page).await.unwrap().entries, []);

    // The name is free again, and what is defined anew begins empty.
    cluster.define(definition()).await;
    let listed = cluster.list(&foos, View::Object).await.unwrap();
    assert_eq!(listed["items"], json!([]));
    cluster.end().await;
}

#[tokio::test]
async fn of_two_definitions_with_one_name_the_first_has_it_until_it_goes() {
    let cluster = Cluster::new();
    cluster.define(definition()).await;
    let mut second = definition();
    second["metadata"]["name"] = json!("bars.example.com");
    second["spec"]["names"] = json!({"plural": "bars", "kind": "Bar", "shortNames": ["fo"]});
    cluster.client.create(&definitions(), "", second).await.unwrap();
    let told = cluster
        .until("bars.example.com", |one| {
            one.is_some_and(|one| conditions::find(one, "NamesAccepted").is_some())
        })
        .await
        .unwrap();
    let condition = conditions::find(&told, "NamesAccepted").unwrap();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("ShortNamesConflict")));
    let bars = GroupVersionResource::new("example.com", "v1", "bars");
    assert!(cluster.endpoint(&bars).is_none());

    cluster.client.delete(&definitions(), "", "foos.example.com").await.unwrap();
    cluster
        .until("bars.example.com", |one| one.is_some_and(|one| conditions::holds(one, "Established")))
        .await;
    assert!(cluster.endpoint(&bars).is_some());
    cluster.end().await;
}

#[tokio::test]
async fn what_is_no_definition_is_refused() {
    let cluster = Cluster::new();
    let mut bad = definition();
    bad["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = json!("");
    let status = cluster.client.create(&definitions(), "", bad).await.unwrap_err();
    assert_eq!(
        status.message,
        "CustomResourceDefinition.apiextensions.k8s.io \"foos.example.com\" is invalid: \
         spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields"
    );
    cluster.end().await;
}
