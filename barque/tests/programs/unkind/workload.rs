//! What users ask for while everything goes wrong, and how to see that they got exactly that.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// Objects of kinds that the workload has.
pub(crate) trait Kept:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static> Kept
    for K
{
}

/// Makes an object.
pub(crate) async fn create<K: Kept>(api: &Api<K>, object: Value) -> K {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Waits until all objects that are selected, by name, are as they should be.
pub(crate) async fn until_all<K: Kept>(
    api: &Api<K>,
    labels: &str,
    what: &str,
    fits: impl Fn(&BTreeMap<String, Value>) -> bool,
) -> BTreeMap<String, Value> {
    let config = if labels.is_empty() {
        watcher::Config::default()
    } else {
        watcher::Config::default().labels(labels)
    };
    follow(api, config, what, fits).await
}

/// Waits until one object is as it should be.
pub(crate) async fn until<K: Kept>(
    api: &Api<K>,
    name: &str,
    what: &str,
    fits: impl Fn(&Value) -> bool,
) -> Value {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut found = follow(api, config, what, |all| all.get(name).is_some_and(&fits)).await;
    found.remove(name).unwrap()
}

/// Waits until an object of this name is not there any more.
pub(crate) async fn until_gone<K: Kept>(api: &Api<K>, name: &str, what: &str) {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    follow(api, config, what, BTreeMap::is_empty).await;
}

async fn follow<K: Kept>(
    api: &Api<K>,
    config: watcher::Config,
    what: &str,
    fits: impl Fn(&BTreeMap<String, Value>) -> bool,
) -> BTreeMap<String, Value> {
    let mut changes = Box::pin(watcher(api.clone(), config));
    let (mut all, mut complete) = (BTreeMap::new(), false);
    let search = async {
        loop {
            match changes.next().await.unwrap().unwrap() {
                Event::Init => {
                    all.clear();
                    complete = false;
                }
                Event::InitApply(mut object) | Event::Apply(mut object) => {
                    // Long, and none of anybody's business here.
                    object.meta_mut().managed_fields = None;
                    all.insert(object.name_any(), serde_json::to_value(&object).unwrap());
                }
                Event::Delete(object) => {
                    all.remove(&object.name_any());
                }
                Event::InitDone => complete = true,
            }
            if complete && fits(&all) {
                return;
            }
        }
    };
    if timeout(PATIENCE, search).await.is_err() {
        panic!("it does not come to be that {what}: {:#}", json!(all));
    }
    all
}

fn template(labels: &Value, more: &Value) -> Value {
    let leaves =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
    let mut spec = json!({
        "containers": [{"name": "c", "image": "i1", "resources": {"requests": {"cpu": "100m"}}}],
        "tolerations": [leaves("node.kubernetes.io/unreachable"), leaves("node.kubernetes.io/not-ready")],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"labels": labels}, "spec": spec})
}

/// The spec of what keeps pods of an application.
pub(crate) fn keeps(app: &str, more: &Value) -> Value {
    let labels = json!({"app": app});
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": template(&labels, &json!({}))});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": app}, "spec": spec})
}

/// A Job.
pub(crate) fn job(name: &str, more: &Value) -> Value {
    let mut spec = json!({"template": template(&json!({"app": name}), &json!({"restartPolicy": "Never"}))});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"metadata": {"name": name}, "spec": spec})
}

/// The value of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let list = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Whether a pod runs and is ready, and stays.
pub(crate) fn serves(pod: &Value) -> bool {
    condition(pod, "Ready")["status"] == "True" && pod["metadata"].get("deletionTimestamp").is_none()
}

/// Whether an object's status is of its spec as it is now.
pub(crate) fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// What all objects say at a place.
pub(crate) fn texts(all: &BTreeMap<String, Value>, pointer: &str) -> BTreeSet<String> {
    all.values().filter_map(|object| object.pointer(pointer)?.as_str().map(str::to_owned)).collect()
}
