//! Follows persistent volumes and does what the plan says for those in directories of this node. Ends at the stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{Action, plan};
use crate::containers::NodeFacts;
use crate::volumes::remove::remove_tree;

/// The wait after something failed; what changes meanwhile is tried at once.
const RETRY: Duration = Duration::from_secs(30);

/// Keeps the directories of a node.
pub struct LocalPathTask {
    /// By which volumes are read and written.
    pub client: Client,
    /// The node.
    pub node: tokio::sync::watch::Receiver<Arc<NodeFacts>>,
}

impl LocalPathTask {
    /// Runs until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff());
        let mut failed: BTreeMap<String, PersistentVolume> = BTreeMap::new();
        let mut retry: Option<Instant> = None;
        loop {
            let due = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let volumes = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    Some(Ok(Event::Apply(volume) | Event::InitApply(volume))) => vec![volume],
                    Some(Ok(Event::Delete(volume))) => {
                        failed.remove(volume.metadata.name.as_deref().unwrap_or_default());
                        continue;
                    }
                    Some(Ok(Event::Init | Event::InitDone)) => continue,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "the watch of persistent volumes broke off");
                        continue;
                    }
                    None => return,
                },
                () = due => std::mem::take(&mut failed).into_values().collect(),
            };
            for volume in volumes {
                let name = volume.metadata.name.clone().unwrap_or_default();
                failed.remove(&name);
                let node = self.node.borrow_and_update().clone();
                if let Err(why) = act(&api, &volume, plan(&volume, &node)).await {
                    tracing::warn!(volume = name, why, "the directory of a volume could not be cared for");
                    failed.insert(name, volume);
                }
            }
            retry = (!failed.is_empty()).then(|| Instant::now() + RETRY);
        }
    }
}

async fn act(api: &Api<PersistentVolume>, volume: &PersistentVolume, action: Action) -> Result<(), String> {
    let finalizers = match action {
        Action::Nothing => return Ok(()),
        Action::Hold { finalizers } => finalizers,
        Action::Remove { directory, finalizers } => {
            if let Some(directory) = directory {
                let removed = tokio::task::spawn_blocking(move || remove_tree(&directory)).await;
                removed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            }
            finalizers
        }
    };
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    // Only what was looked at is changed; who was faster is seen next.
    let patch = json!({"metadata": {"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version,
        "finalizers": finalizers}});
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http::{Method, Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::super::FINALIZER;
    use super::*;

    #[tokio::test]
    async fn directories_go_with_their_volumes_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let (mine, other) = (root.path().join("pvc-1_ns_c"), root.path().join("pvc-2_ns_d"));
        for dir in [&mine, &other] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("f"), "x").unwrap();
        }
        let volume = |name: &str, path: &std::path::Path, metadata: Value| {
            let mut volume = json!({"metadata": metadata, "spec": {
                "local": {"path": path}, "persistentVolumeReclaimPolicy": "Delete",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]}}}});
            volume["metadata"]["name"] = json!(name);
            volume["metadata"]["resourceVersion"] = json!("7");
            volume["metadata"]["annotations"] =
                json!({"pv.kubernetes.io/provisioned-by": "barque.dev/local-path"});
            volume
        };
        let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [FINALIZER]});
        let items = json!([volume("pvc-1", &mine, gone), volume("pvc-2", &other, json!({}))]);
        let (told, mut asked) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (told, items) = (told.clone(), items.clone());
            Box::pin(async move {
                let (head, body) = request.into_parts();
                if head.uri.query().unwrap_or_default().contains("watch=true") {
                    return std::future::pending().await;
                }
                let answer = if head.method == Method::PATCH {
                    let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
                    let name = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
                    told.send((name, body["metadata"].clone())).unwrap();
                    json!({"metadata": {}})
                } else {
                    json!({"metadata": {"resourceVersion": "7"}, "items": items})
                };
                Ok::<_, kube::Error>(Response::new(Body::from(answer.to_string().into_bytes())))
            })
        });
        let facts = Arc::new(NodeFacts { name: "n".into(), ..NodeFacts::default() });
        let (_node, node) = tokio::sync::watch::channel(facts);
        let stop = CancellationToken::new();
        let task = LocalPathTask { client: Client::new(service, "default"), node };
        let running = tokio::spawn(task.run(stop.clone()));
        let mut seen = BTreeMap::new();
        for _ in 0..2 {
            let (name, metadata) = asked.recv().await.unwrap();
            assert_eq!(metadata["resourceVersion"], "7");
            seen.insert(name, metadata["finalizers"].clone());
        }
        let expected = [("pvc-1".to_owned(), json!([])), ("pvc-2".to_owned(), json!([FINALIZER]))];
        assert_eq!(seen, expected.into());
        assert!(!mine.exists() && other.join("f").exists());
        stop.cancel();
        running.await.unwrap();
    }
}
