//! The pods of this node by their names, for those who ask by name. Must never be ahead of the pods' workers.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::plan::Refusal;
use super::worker::Wanted;
use crate::node_api::containers::KnownPods;

/// Namespace and name.
type Name = (String, String);

fn name(pod: &Pod) -> Name {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

/// A worker as others see it.
#[derive(Debug, Clone)]
struct Handle {
    /// What it is told.
    wanted: Arc<watch::Sender<Wanted>>,
    /// Nothing of its pod is left.
    ended: watch::Receiver<bool>,
}

/// The pods that have workers. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Index {
    pods: Arc<RwLock<HashMap<Name, Arc<Pod>>>>,
    /// All pods that there are have been told once.
    is_complete: Arc<watch::Sender<bool>>,
    /// The workers, by uid.
    workers: Arc<RwLock<HashMap<String, Handle>>>,
}

impl Index {
    /// This is the newest of it.
    pub(super) fn set(&self, pod: &Arc<Pod>) {
        self.pods.write().insert(name(pod), pod.clone());
    }

    /// A pod of this uid has a worker.
    pub(super) fn works(&self, uid: &str, wanted: &Arc<watch::Sender<Wanted>>, ended: watch::Receiver<bool>) {
        self.workers.write().insert(uid.to_owned(), Handle { wanted: wanted.clone(), ended });
    }

    /// The node keeps a pod no longer: its worker ends it, and tells why. Says whether it has one, which had no such reason before.
    pub(crate) fn end(&self, uid: &str, refusal: Refusal) -> bool {
        let Some(worker) = self.workers.read().get(uid).cloned() else { return false };
        worker.wanted.send_if_modified(|wanted| {
            let is_new = wanted.refusal.is_none();
            wanted.refusal.get_or_insert_with(|| Arc::new(refusal));
            is_new
        })
    }

    /// Waits until nothing of a pod is left, and that was told, or could not be.
    pub(crate) async fn ended(&self, uid: &str) {
        let Some(mut worker) = self.workers.read().get(uid).cloned() else { return };
        // A worker that is gone works no more.
        let _ = worker.ended.wait_for(|ended| *ended).await;
    }

    /// All pods that there are have been told.
    pub(super) fn complete(&self) {
        self.is_complete.send_replace(true);
    }

    /// Whether they have.
    pub(super) fn is_complete(&self) -> bool {
        *self.is_complete.borrow()
    }

    /// Waits until all pods that there are have been told once: who is not found then is not there.
    pub async fn completed(&self) {
        // The sender lives as long as this does.
        let _ = self.is_complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// It has no worker any more, unless another one of its name has.
    pub(super) fn remove(&self, uid: &str) {
        self.pods.write().retain(|_, pod| pod.metadata.uid.as_deref() != Some(uid));
        self.workers.write().remove(uid);
    }
}

impl KnownPods for Index {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.read().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.read().values().cloned().collect()
    }
}
