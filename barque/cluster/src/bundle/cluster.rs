//! Pieces of a bundle from API servers and from whoever serves metrics. Must never read a secret.

use std::time::Duration;

use futures::future::join_all;
use http::Request;
use kube::Client;
use serde_json::Value;

use super::objects::{Shape, told};
use crate::discovery;
use crate::settings::{MASTERS, NAME};

/// An answer that takes longer is done without.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many objects are asked for at once.
const PAGE: usize = 500;
/// And so many of a collection are told.
const MOST: usize = 5000;

/// What is collected: the file, the path of the collection, what is told of each.
const COLLECTIONS: [(&str, &str, Shape); 21] = [
    ("nodes", "/api/v1/nodes", Shape::Node),
    ("namespaces", "/api/v1/namespaces", Shape::Metadata),
    ("pods", "/api/v1/pods", Shape::Pod),
    ("events", "/api/v1/events", Shape::Event),
    ("services", "/api/v1/services", Shape::Metadata),
    ("persistentvolumes", "/api/v1/persistentvolumes", Shape::Workload),
    ("persistentvolumeclaims", "/api/v1/persistentvolumeclaims", Shape::Workload),
    ("replicationcontrollers", "/api/v1/replicationcontrollers", Shape::Workload),
    ("leases", "/apis/coordination.k8s.io/v1/leases", Shape::Lease),
    ("deployments", "/apis/apps/v1/deployments", Shape::Workload),
    ("replicasets", "/apis/apps/v1/replicasets", Shape::Workload),
    ("statefulsets", "/apis/apps/v1/statefulsets", Shape::Workload),
    ("daemonsets", "/apis/apps/v1/daemonsets", Shape::Workload),
    ("jobs", "/apis/batch/v1/jobs", Shape::Workload),
    ("cronjobs", "/apis/batch/v1/cronjobs", Shape::Workload),
    ("poddisruptionbudgets", "/apis/policy/v1/poddisruptionbudgets", Shape::Workload),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices", Shape::Metadata),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies", Shape::Metadata),
    ("storageclasses", "/apis/storage.k8s.io/v1/storageclasses", Shape::Metadata),
    ("apiservices", "/apis/apiregistration.k8s.io/v1/apiservices", Shape::Workload),
    ("customresourcedefinitions", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Shape::Workload),
];

/// An API server, or why there is none.
pub type Source = Result<Client, String>;

/// Something that is served as text.
#[derive(Clone)]
pub struct TextSource {
    /// The file in the bundle.
    pub name: &'static str,
    /// Who serves it.
    pub client: Source,
    /// Its path.
    pub path: &'static str,
}

/// Objects of a collection.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    /// That there are more of them.
    pub(super) cut_off: Option<String>,
}

/// All collections.
pub(super) async fn objects(source: &Source) -> Vec<(String, Result<Listed, String>)> {
    let mut all = Vec::new();
    for (name, path, shape) in COLLECTIONS {
        let listed = match source {
            Ok(client) => list(client, path, shape).await,
            Err(why) => Err(why.clone()),
        };
        all.push((format!("objects/{name}.json"), listed));
        if all.last().is_some_and(|(_, listed)| listed.is_err()) && name == "nodes" {
            // Who does not list nodes in time lists nothing else either.
            break;
        }
    }
    for name in [NAME, MASTERS] {
        let path = format!("/api/v1/namespaces/{}/configmaps/{name}", crate::settings::NAMESPACE);
        let map = match source {
            Ok(client) => get(client, &path).await,
            Err(why) => Err(why.clone()),
        };
        let listed = map.map(|map| Listed { items: vec![told(Shape::Own, &map)], cut_off: None });
        all.push((format!("objects/{name}.json"), listed));
    }
    all
}

async fn get(client: &Client, path: &str) -> Result<Value, String> {
    let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    let asking = tokio::time::timeout(PATIENCE, client.request::<Value>(request)).await;
    let answer = asking.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    answer.map_err(|error| discovery::told(&error))
}

async fn list(client: &Client, path: &str, shape: Shape) -> Result<Listed, String> {
    let (mut items, mut from) = (Vec::new(), String::new());
    while items.len() < MOST {
        let page = get(client, &format!("{path}?limit={PAGE}{from}")).await?;
        items.extend(page["items"].as_array().into_iter().flatten().map(|object| told(shape, object)));
        match page["metadata"]["continue"].as_str() {
            None | Some("") => return Ok(Listed { items, cut_off: None }),
            Some(next) => from = format!("&continue={next}"),
        }
    }
    let cut_off = Some(format!("the first {} objects are told, and there are more", items.len()));
    Ok(Listed { items, cut_off })
}

/// What is served as text, all at once.
pub(super) async fn texts(sources: Vec<TextSource>) -> Vec<(String, Result<String, String>)> {
    let asking = sources.into_iter().map(|source| async move {
        let text = async {
            let client = source.client?;
            let request = Request::get(source.path).body(Vec::new()).map_err(|error| error.to_string())?;
            let asking = tokio::time::timeout(PATIENCE, client.request_text(request)).await;
            let answer = asking.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
            answer.map_err(|error| discovery::told(&error))
        };
        (source.name.to_owned(), text.await)
    });
    join_all(asking).await
}
