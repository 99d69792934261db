//! Every collection that is served, with every verb that discovery tells: what is created can be read in all forms, followed,
//! changed in all ways and deleted.

mod actions;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::cluster::Cluster;
use barque_api::kind::GroupVersionKind;
use barque_api::protobuf;
use barque_api::resources::{Builtin, Resource, Verb};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

const NAMESPACE: &str = "surface";

/// A client of one server.
struct Api(Client);

impl Api {
    async fn of(cluster: &Cluster, server: usize) -> Self {
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(server)).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Self(Client::try_from(config).unwrap())
    }

    /// Sends a body, and answers the code and the answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content: &str,
        accept: &str,
        body: Vec<u8>,
    ) -> (u16, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .header("accept", accept)
            .body(kube::client::Body::from(body))
            .unwrap();
        let response = self.0.send(request).await.unwrap();
        let code = response.status().as_u16();
        (code, response.into_body().collect_bytes().await.unwrap().to_vec())
    }

    async fn json(&self, method: Method, path: &str, content: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (code, answer) = self.send(method.clone(), path, content, "application/json", body).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        if code >= 300 {
            return Err(format!("{method} {path}: {code} {text}"));
        }
        serde_json::from_slice(&answer).map_err(|error| format!("{method} {path}: {error}: {text}"))
    }
}

fn objects() -> Vec<Value> {
    let text = include_str!("surface/objects.yaml");
    // A signed request for a certificate, as PEM in base64.
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "somebody");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
    let text = text.replace("NAMESPACE", NAMESPACE).replace("REQUEST", &request);
    serde_saphyr::from_multiple(&text).unwrap()
}

fn collection_path(resource: &Resource) -> String {
    let version = resource.name.group_version();
    let root = if version.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
    match resource.namespaced {
        true => format!("{root}/namespaces/{NAMESPACE}/{}", resource.name.resource),
        false => format!("{root}/{}", resource.name.resource),
    }
}

/// Everything with one collection. Answers what was checked.
async fn exercise(api: &Api, other: &Api, resource: &Resource, sample: &Value) -> Result<usize, String> {
    const JSON: &str = "application/json";
    let path = collection_path(resource);
    let mut object = sample.clone();
    if object.get("metadata").is_none() {
        object["metadata"] =
            json!({"name": format!("one-{}-{}", resource.name.version, resource.name.group.len())});
    }
    object["metadata"]["labels"] = json!({"surface": "yes"});
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let own = format!("{path}/{name}");
    let created = api.json(Method::POST, &path, JSON, &object).await?;
    let version = created["metadata"]["resourceVersion"].as_str().ok_or("it has no version")?.to_owned();
    let expect = |what: &str, good: bool, seen: &Value| {
        if good { Ok(()) } else { Err(format!("{path}: {what}: {seen}")) }
    };
    expect("uid", created["metadata"]["uid"].is_string(), &created)?;
    expect("time", created["metadata"]["creationTimestamp"].is_string(), &created)?;
    expect("kind", created["kind"] == *resource.kind, &created)?;

    // Read, on the other server too, in all forms.
    let got = other.json(Method::GET, &own, JSON, &Value::Null).await?;
    expect("the other server's", got["metadata"]["uid"] == created["metadata"]["uid"], &got)?;
    let selected = format!("{path}?labelSelector=surface%3Dyes");
    let list = other.json(Method::GET, &selected, JSON, &Value::Null).await?;
    expect("list", list["items"].as_array().is_some_and(|items| items.len() == 1), &list)?;
    expect("list kind", list["kind"] == resource.list_kind(), &list)?;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (code, bytes) = api.send(Method::GET, &selected, JSON, table, Vec::new()).await;
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    expect(
        "table",
        code == 200 && told["kind"] == "Table" && told["rows"][0]["object"]["metadata"]["name"] == *name,
        &told,
    )?;
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (code, bytes) = api.send(Method::GET, &selected, JSON, metadata, Vec::new()).await;
    let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    expect("metadata", code == 200 && told["items"][0].get("spec").is_none(), &told)?;
    let kind = resource.group_version_kind();
    if protobuf::Messages::builtin().of_kind(&kind).is_some() {
        let accept = "application/vnd.kubernetes.protobuf";
        let (code, bytes) = api.send(Method::GET, &own, JSON, accept, Vec::new()).await;
        let read = protobuf::decode_object(&bytes, None).map_err(|error| format!("{own}: {code} {error}"))?;
        expect("protobuf", read["metadata"]["uid"] == created["metadata"]["uid"], &read)?;
    }

    // Changed in all ways. A label is what every kind lets change.
    let replaced = loop {
        // Controllers of the server may change it too.
        let mut newest = api.json(Method::GET, &own, JSON, &Value::Null).await?;
        newest["metadata"]["labels"]["way"] = "put".into();
        match api.json(Method::PUT, &own, JSON, &newest).await {
            Err(why) if why.contains(" 409 ") => {}
            replaced => break replaced?,
        }
    };
    expect("update", replaced["metadata"]["labels"]["way"] == "put", &replaced)?;
    let label = |way: &str| json!({"metadata": {"labels": {"way": way}}});
    let mut ways = vec![
        ("application/merge-patch+json", label("merge"), "merge", ""),
        (
            "application/json-patch+json",
            json!([{"op": "replace", "path": "/metadata/labels/way", "value": "json"}]),
            "json",
            "",
        ),
        ("application/strategic-merge-patch+json", label("strategic"), "strategic", ""),
    ];
    let applied = json!({
        "apiVersion": kind.group_version().to_string(), "kind": &*kind.kind,
        "metadata": {"name": name, "labels": {"way": "apply"}},
    });
    ways.push(("application/apply-patch+yaml", applied, "apply", "?fieldManager=surface&force=true"));
    for (content, patch, way, query) in ways {
        let patched = other.json(Method::PATCH, &format!("{own}{query}"), content, &patch).await?;
        expect(way, patched["metadata"]["labels"]["way"] == way, &patched)?;
    }
    let stale = api.json(Method::PUT, &own, JSON, &got).await;
    expect("a stale update", stale.as_ref().is_err_and(|why| why.contains(" 409 ")), &json!(stale.ok()))?;

    for below in &resource.subresources {
        subresource(api, resource, &own, &below.name, &below.verbs).await?;
    }

    // Everything that happened since can be followed.
    let watch =
        format!("{path}?watch=true&resourceVersion={version}&labelSelector=surface%3Dyes&timeoutSeconds=5");
    let request = Request::get(&watch).body(Vec::new()).unwrap();
    let mut events =
        other.0.request_stream(request).await.map_err(|error| format!("{watch}: {error}"))?.lines();
    let first = events.try_next().await.map_err(|error| format!("{watch}: {error}"))?.unwrap_or_default();
    let first: Value = serde_json::from_str(&first).unwrap_or_default();
    expect("watch", first["type"] == "MODIFIED" && first["object"]["metadata"]["name"] == *name, &first)?;
    drop(events);

    // Without anybody who works on it, nothing may hold it.
    let background = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background",
        "gracePeriodSeconds": 0});
    api.json(Method::PATCH, &own, "application/merge-patch+json", &json!({"metadata": {"finalizers": null}}))
        .await?;
    let many = resource.can(Verb::DeleteCollection);
    if many {
        api.json(Method::DELETE, &selected, JSON, &background).await?;
    } else {
        api.json(Method::DELETE, &own, JSON, &background).await?;
    }
    let gone = other.json(Method::GET, &own, JSON, &Value::Null).await;
    // What is in them goes first.
    let goes_later = ["Namespace", "CustomResourceDefinition"].contains(&&*resource.kind);
    expect(
        "after the deletion",
        goes_later || gone.as_ref().is_err_and(|why| why.contains(" 404 ")),
        &json!(gone.ok()),
    )?;
    Ok(resource.verbs.len())
}

/// The status and the scale, where there are any.
async fn subresource(
    api: &Api,
    resource: &Resource,
    own: &str,
    name: &str,
    verbs: &[Verb],
) -> Result<(), String> {
    const JSON: &str = "application/json";
    let path = format!("{own}/{name}");
    if !["status", "scale", "approval", "ephemeralcontainers", "resize"].contains(&name) {
        return Ok(());
    }
    assert!(verbs.contains(&Verb::Get) && verbs.contains(&Verb::Update) && verbs.contains(&Verb::Patch));
    let got = api.json(Method::GET, &path, JSON, &Value::Null).await?;
    let expected = if name == "scale" { "Scale" } else { &*resource.kind };
    if got["kind"] != *expected {
        return Err(format!("{path}: {got}"));
    }
    let mut unguarded = got.clone();
    if let Some(metadata) = unguarded["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let put = api.json(Method::PUT, &path, JSON, &unguarded).await;
    // Some kinds want to know which version is replaced.
    if put.as_ref().is_err_and(|why| why.contains("must be specified for an update")) {
        api.json(Method::PUT, &path, JSON, &got).await?;
    } else {
        put?;
    }
    api.json(Method::PATCH, &path, "application/merge-patch+json", &json!({"metadata": {}})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_collection_does_what_discovery_says() {
    let cluster = Cluster::start(2);
    let (api, other) = (Api::of(&cluster, 0).await, Api::of(&cluster, 1).await);
    cluster.wait_until_ready(&api.0, &other.0).await;
    api.json(
        Method::POST,
        "/api/v1/namespaces",
        "application/json",
        &json!({"metadata": {"name": NAMESPACE}}),
    )
    .await
    .unwrap();
    // Pods run as this one; it is made by a controller.
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    api.json(Method::POST, &path, "application/json", &json!({"metadata": {"name": "default"}}))
        .await
        .unwrap();
    let objects = objects();
    let mut wrong = String::new();
    let mut checked = BTreeSet::new();
    for resource in Builtin::table().all().iter().filter(|one| one.can(Verb::Create) && one.can(Verb::List)) {
        let kind: GroupVersionKind = resource.group_version_kind();
        let sample = objects.iter().find(|object| {
            object["kind"] == *kind.kind && object["apiVersion"] == kind.group_version().to_string()
        });
        let sample = sample.unwrap_or_else(|| panic!("objects.yaml has no {kind:?}"));
        match exercise(&api, &other, resource, sample).await {
            Ok(_) => {
                checked.insert(resource.name.to_string());
            }
            Err(why) => writeln!(wrong, "{}: {why}\n", resource.name).unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{} were right\n{wrong}", checked.len());
    assert_eq!(actions::exercise(&api, &other).await, Vec::<String>::new());

    // Discovery tells the table, no more and no less.
    let mut told = BTreeSet::new();
    for root in ["/api", "/apis"] {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let (_, bytes) = api.send(Method::GET, root, "application/json", accept, Vec::new()).await;
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        for group in document["items"].as_array().unwrap() {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in group["versions"].as_array().unwrap() {
                for resource in version["resources"].as_array().unwrap() {
                    let below = resource["subresources"].as_array().map_or(0, Vec::len);
                    told.insert((
                        name.to_owned(),
                        version["version"].as_str().unwrap().to_owned(),
                        resource["resource"].as_str().unwrap().to_owned(),
                        below,
                    ));
                }
            }
        }
    }
    let table: BTreeSet<_> = Builtin::table()
        .all()
        .iter()
        .map(|one| {
            let name = &one.name;
            (
                name.group.to_string(),
                name.version.to_string(),
                name.resource.to_string(),
                one.subresources.len(),
            )
        })
        .collect();
    assert_eq!(told, table);
}
