//! What was decided, performed over the API: so many requests at once, and no more. Must never change what it was not shown: each
//! write names the uid, or the version that it read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use barque_client::events::{Kind, Note, Recorder};
use barque_scheduler::pod::PodName;
use barque_scheduler::snapshot::{ClaimPlan, Pod};
use barque_scheduler::volume::{ClaimKey, SELECTED_NODE};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::status;
use crate::verdict::{ActError, Verdict, judge};

/// Requests at once.
const REQUESTS: usize = 128;
/// Victims of one pod that are told at once.
const VICTIMS: usize = 16;
/// Between two questions about a binding of which nobody knows whether it happened; it doubles up to the longest.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The longest such pause.
const ASK_AGAIN_LONGEST: Duration = Duration::from_secs(5);
/// Who writes, as `managedFields` tells.
const MANAGER: &str = "kube-scheduler";
/// Set on a volume that was not bound to its claim by a user.
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Why a pod is not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The pod is not as it was when it was decided on; the watch will tell, or has.
    Outdated(String),
    /// It is the same as before, and not bound.
    Failed(String),
}

/// The pods to evict for one.
#[derive(Clone, Debug)]
pub(crate) struct Eviction {
    pub(crate) preemptor: Arc<Pod>,
    pub(crate) scheduler_name: Box<str>,
    pub(crate) node: Box<str>,
    pub(crate) victims: Vec<Arc<Pod>>,
}

/// Performs.
#[derive(Clone)]
pub(crate) struct Actor {
    client: Client,
    requests: Arc<Semaphore>,
}

impl Actor {
    /// Over a client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, requests: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// No further request begins. Those under way are waited for by their tasks.
    pub(crate) fn stop(&self) {
        self.requests.close();
    }

    /// One request, when it is its turn.
    async fn request<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, ActError> {
        let Ok(_permit) = self.requests.acquire().await else { return Err(ActError::Stopped) };
        Ok(request.await?)
    }

    fn pods(&self, name: &PodName) -> Api<core::Pod> {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    /// Binds a pod.
    pub(crate) async fn bind(&self, pod: &Pod, node: &str) -> Result<(), Failure> {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name.name, "namespace": pod.name.namespace, "uid": &*pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let pods = self.pods(&pod.name);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let sent = pods.create_subresource::<_, Value>("binding", &pod.name.name, &params, &binding);
        let Err(error) = self.request(sent).await else { return Ok(()) };
        let told = format!("running Bind plugin \"DefaultBinder\": {error}");
        match judge(&error) {
            Verdict::Outdated => Err(Failure::Outdated(told)),
            Verdict::Refused => Err(Failure::Failed(told)),
            Verdict::Unknown => self.look_whether_bound(pod, node, told).await,
        }
    }

    /// Asks until somebody says whether a pod is bound: what it may take there must not be given away.
    async fn look_whether_bound(&self, pod: &Pod, node: &str, told: String) -> Result<(), Failure> {
        let pods = self.pods(&pod.name);
        let mut pause = ASK_AGAIN;
        loop {
            match self.request(pods.get_opt(&pod.name.name)).await {
                Ok(Some(seen)) if seen.metadata.uid.as_deref() == Some(&*pod.uid) => {
                    let bound = seen.spec.and_then(|spec| spec.node_name).filter(|name| !name.is_empty());
                    return match bound {
                        Some(name) if name == node => Ok(()),
                        Some(_) => Err(Failure::Outdated(told)),
                        None => Err(Failure::Failed(told)),
                    };
                }
                Ok(_) | Err(ActError::Stopped) => return Err(Failure::Outdated(told)),
                Err(error) => {
                    tracing::warn!(pod = %pod.name.name, %error, "nobody says whether a pod is bound");
                    sleep(pause).await;
                    pause = (pause * 2).min(ASK_AGAIN_LONGEST);
                }
            }
        }
    }

    /// Writes into claims and volumes what a pod's placement means for them. Who makes and binds volumes does the rest.
    pub(crate) async fn write_claims(&self, plan: &ClaimPlan, node: &str) -> Result<(), ActError> {
        for (key, volume) in &plan.bind {
            self.promise(key, volume).await?;
        }
        for key in &plan.provision {
            self.select_node(key, node).await?;
        }
        Ok(())
    }

    fn claims(&self, key: &ClaimKey) -> Api<core::PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// A volume is to be that of a claim.
    async fn promise(&self, key: &ClaimKey, volume: &str) -> Result<(), ActError> {
        let claim = self.request(self.claims(key).get(&key.name)).await?;
        let volumes = Api::<core::PersistentVolume>::all(self.client.clone());
        let mut object = self.request(volumes.get(volume)).await?;
        let Some(spec) = object.spec.as_mut() else { return Ok(()) };
        let old = spec.claim_ref.as_ref();
        let mine = |old: &core::ObjectReference| {
            old.name.as_deref() == Some(&*key.name) && old.namespace.as_deref() == Some(&*key.namespace)
        };
        if old.is_some_and(|old| mine(old) && old.uid == claim.metadata.uid) {
            return Ok(());
        }
        // One that a user named for this claim is bound by the user; one that somebody took meanwhile is refused by its version,
        // or here.
        if let Some(old) = old.filter(|old| !mine(old)) {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let claim = format!("{}/{}", text(&old.namespace), text(&old.name));
            return Err(ActError::Taken { volume: volume.to_owned(), claim });
        }
        if old.is_none() {
            let notes = object.metadata.annotations.get_or_insert_with(BTreeMap::new);
            notes.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        spec.claim_ref = Some(core::ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("PersistentVolumeClaim".to_owned()),
            namespace: claim.metadata.namespace,
            name: claim.metadata.name,
            uid: claim.metadata.uid,
            resource_version: claim.metadata.resource_version,
            field_path: None,
        });
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.request(volumes.replace(volume, &params, &object)).await.map(drop)
    }

    /// A volume is to be made for a claim, for a node.
    async fn select_node(&self, key: &ClaimKey, node: &str) -> Result<(), ActError> {
        let claims = self.claims(key);
        let mut claim = self.request(claims.get(&key.name)).await?;
        let notes = claim.metadata.annotations.get_or_insert_with(BTreeMap::new);
        if notes.get(SELECTED_NODE).is_some_and(|selected| selected == node) {
            return Ok(());
        }
        notes.insert(SELECTED_NODE.to_owned(), node.to_owned());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.request(claims.replace(&key.name, &params, &claim)).await.map(drop)
    }

    /// Tells a pod's status something. A pod that is gone, or another one by now, needs not know it.
    pub(crate) async fn tell(&self, pod: &PodName, patch: &Value) {
        if let Err(error) = self.patch_status(pod, patch).await
            && judge(&error) != Verdict::Outdated
        {
            tracing::warn!(namespace = %pod.namespace, pod = %pod.name, %error, "a pod's status was not written");
        }
    }

    async fn patch_status(&self, pod: &PodName, patch: &Value) -> Result<(), ActError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let pods = self.pods(pod);
        let patch = Patch::Strategic(patch);
        self.request(pods.patch_status(&pod.name, &params, &patch)).await.map(drop)
    }

    /// Evicts pods for another one.
    ///
    /// # Errors
    /// When one of them could not be told to go.
    pub(crate) async fn evict(&self, eviction: &Eviction, recorder: &Recorder) -> Result<(), ActError> {
        let leaving = eviction.victims.iter().filter(|victim| !victim.terminating);
        let all: Vec<_> = leaving.map(|victim| self.evict_one(eviction, victim, recorder)).collect();
        futures::stream::iter(all).buffer_unordered(VICTIMS).try_collect::<()>().await
    }

    async fn evict_one(
        &self,
        eviction: &Eviction,
        victim: &Pod,
        recorder: &Recorder,
    ) -> Result<(), ActError> {
        match self.tell_to_leave(eviction, victim).await {
            Ok(()) => {}
            // It has gone, or somebody else wrote at the same time.
            Err(error) if judge(&error) == Verdict::Outdated => {
                let found = self.request(self.pods(&victim.name).get_opt(&victim.name.name)).await?;
                return if leaves(found.as_ref(), &victim.uid) { Ok(()) } else { Err(error) };
            }
            Err(error) => return Err(error),
        }
        let Eviction { preemptor, node, .. } = eviction;
        let text = format!("Preempted by pod {} on node {node}", preemptor.uid);
        tracing::info!(victim = %victim.name.name, preemptor = %preemptor.name.name, %node, "preempted");
        recorder.publish(reference(victim), note(Kind::Normal, "Preempted", "Preempting", text));
        Ok(())
    }

    async fn tell_to_leave(&self, eviction: &Eviction, victim: &Pod) -> Result<(), ActError> {
        let patch = status::disrupted(&victim.uid, &eviction.scheduler_name, Timestamp::now());
        self.patch_status(&victim.name, &patch).await?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(victim.uid.to_string()), resource_version: None }),
            ..DeleteParams::default()
        };
        let pods = self.pods(&victim.name);
        self.request(pods.delete(&victim.name.name, &params)).await.map(drop)
    }
}

/// Whether a pod needs not be told to leave any more: it is not there, is another one, or has been told.
fn leaves(found: Option<&core::Pod>, uid: &str) -> bool {
    found.is_none_or(|pod| {
        pod.metadata.uid.as_deref() != Some(uid) || pod.metadata.deletion_timestamp.is_some()
    })
}

/// A pod, for events about it.
pub(crate) fn reference(pod: &Pod) -> core::ObjectReference {
    core::ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.name.namespace.to_string()),
        name: Some(pod.name.name.to_string()),
        uid: Some(pod.uid.to_string()),
        ..core::ObjectReference::default()
    }
}

/// What is told of a pod.
pub(crate) fn note(kind: Kind, reason: &str, action: &str, text: String) -> Note {
    Note { kind, reason: reason.to_owned(), action: action.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_told_again_until_it_leaves() {
        let pod =
            |metadata: Value| -> core::Pod { serde_json::from_value(json!({"metadata": metadata})).unwrap() };
        assert!(leaves(None, "u"));
        assert!(leaves(Some(&pod(json!({"uid": "v"}))), "u"));
        assert!(leaves(Some(&pod(json!({"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}))), "u"));
        // Its status was written by another at the same time.
        assert!(!leaves(Some(&pod(json!({"uid": "u"}))), "u"));
    }
}
