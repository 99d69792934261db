//! Definitions and their objects through the whole way of writes, over a store in memory.

mod life;
mod versions;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupVersionResource;
use barque_api::status::Status;
use barque_api::time::Time;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{conditions, controller, definitions};
use crate::http::negotiation::{Encoding, Form, View};
use crate::http::views::Teller;
use crate::registry::allocation::settings::ServiceNetwork;
use crate::registry::collections::{Collections, Endpoint, parse};
use crate::registry::own_client::OwnClient;
use crate::registry::pipeline::Pipeline;
use crate::storage::memory::Memory;
use crate::table::IncludeObject;
use crate::test_parts;
use crate::watch_cache::query::{ListQuery, WatchQuery};
use crate::watch_cache::registry::Selection;
use crate::watch_cache::watcher::Told;
use crate::webhook_client::WebhookClient;

/// Nothing in these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// One server's parts that have to do with definitions.
struct Cluster {
    collections: Collections<Memory>,
    client: OwnClient<Memory>,
    pipeline: Pipeline<Memory>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Cluster {
    fn new() -> Self {
        Self::over(Memory::new())
    }

    fn over(storage: Memory) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = test_parts::in_memory(storage);
        let collections = Collections::start(settings, &tasks, &stop);
        let network = ServiceNetwork::parse("10.0.0.0/24", "30000-30010").unwrap();
        let pipeline = test_parts::pipeline(&collections, &network, &tasks, &stop);
        let client = OwnClient::new(pipeline.clone());
        let webhooks = WebhookClient::new(collections.clone());
        let _definitions = controller::start(&client, &collections, &webhooks, &tasks, &stop);
        Self { collections, client, pipeline, tasks, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("all tasks end");
    }

    /// A new definition that is served.
    async fn define(&self, definition: Value) -> Value {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        self.client.create(&definitions(), "", definition).await.unwrap();
        self.until(&name, |one| one.is_some_and(|one| conditions::holds(one, "Established"))).await.unwrap()
    }

    /// Waits for events until a definition is like this; nothing stands for one that is gone.
    async fn until(&self, name: &str, wanted: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let collection = self.collections.collection(&definitions().group_resource()).unwrap();
        let query = WatchQuery {
            send_initial_events: Some(true),
            resource_version_match: "NotOlderThan".to_owned(),
            bookmarks: true,
            ..WatchQuery::default()
        };
        let mut watcher = collection.cache.watch(&query, &Selection::default(), None).await.unwrap();
        let mut now = None;
        let mut in_step = false;
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                match watcher.next().await.expect("the watch goes on") {
                    Told::Object { kind, object, .. } => {
                        let value = parse(&object).unwrap();
                        if value["metadata"]["name"] == name {
                            let is_gone = kind == crate::watch_cache::event::Kind::Deleted;
                            now = (!is_gone).then_some(value);
                        }
                    }
                    Told::Bookmark { initial_events_end, .. } => in_step |= initial_events_end,
                    Told::Error(status) => panic!("{status}"),
                }
                if in_step && wanted(now.as_ref()) {
                    return now.clone();
                }
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{name} is not as wanted in time"))
    }

    fn endpoint(&self, resource: &GroupVersionResource) -> Option<Endpoint<Memory>> {
        self.collections.catalog().named(resource).cloned()
    }

    fn teller(&self, resource: &GroupVersionResource, view: View) -> Teller {
        Teller {
            served: self.endpoint(resource).unwrap().served,
            form: Form { encoding: Encoding::Json, view },
            include: IncludeObject::None,
            now: Time::parse("2030-01-01T00:00:00Z").unwrap(),
        }
    }

    /// A list as a client is answered.
    async fn list(&self, resource: &GroupVersionResource, view: View) -> Result<Value, Status> {
        let teller = self.teller(resource, view);
        let collection = self.endpoint(resource).unwrap().collection.unwrap();
        let list = collection.cache.list(&ListQuery::default(), &Selection::default()).await?;
        let response = teller.list(list).await?;
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        Ok(serde_json::from_slice(&body).unwrap())
    }
}

fn foos(version: &str) -> GroupVersionResource {
    GroupVersionResource::new("example.com", version, "foos")
}

fn foo(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

/// A definition of foos in one version.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "color": {"type": "string", "default": "red"},
                        "replicas": {"type": "integer"},
                    }},
                    "status": {"type": "object", "properties": {
                        "phase": {"type": "string"}, "replicas": {"type": "integer"},
                    }},
                }}},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                }},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                ],
            }],
        },
    })
}
