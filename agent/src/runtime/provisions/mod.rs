//! What pods get beside their containers, whichever runtime makes those: volumes, environments, files that containers share,
//! credentials for images; and what is remembered of pods. Must never make a sandbox or a container.
//!
//! [`ended`] keeps how containers ended, [`observe`] is how a pod looks to its plan, [`gather`] what a container is made from,
//! [`probe`] what probes and hooks do, [`resize`](self::resize) how bounds change, [`pulling`] when images are pulled, and with what.

mod ended;
mod files;
mod gather;
mod logs;
pub(super) mod observe;
pub(super) mod probe;
pub(super) mod pulling;
pub(super) mod resize;

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_containers::spec::{ContainerState, Resources};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector;
use parking_lot::Mutex;

pub(super) use self::gather::{Gathered, make_last_word, not_configured, not_created};

use self::ended::Ended;
use super::{RuntimeError, SandboxError};
use crate::clock::{Clock, after};
use crate::containers::NodeFacts;
use crate::containers::mounts::MountedVolume;
use crate::error_story::story;
use crate::pods::spec;
use crate::references::References;
use crate::tell::Teller;
use crate::volumes::Volumes;

/// Where what pods get comes from.
pub struct Supplies {
    /// Their directories.
    pub volumes: Arc<Volumes>,
    /// What they name.
    pub references: References,
    /// For their environment.
    pub services: reflector::Store<Service>,
    /// What they are told of the node.
    pub node: Arc<NodeFacts>,
    /// The cluster's resolvers.
    pub cluster_dns: Vec<IpAddr>,
    /// The machine's resolvers.
    pub resolv_conf: PathBuf,
    /// The time.
    pub clock: Clock,
    /// Who takes events.
    pub teller: Arc<dyn Teller>,
}

/// What is known of a pod beside what its sandbox and its directory say.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// Its own.
    pub(super) addresses: Vec<IpAddr>,
    /// Something of it is there.
    pub(super) is_left: bool,
    /// It has its network, and its files are in place.
    pub(super) is_whole: bool,
    /// When containers are killed that were asked to stop, by their ids.
    pub(super) killed_at: BTreeMap<String, Timestamp>,
    /// What its volumes hold is not the newest.
    pub(super) stale: bool,
    /// How often the node's network had changed when the pod was to get its own last.
    pub(super) network_tried: Option<u64>,
    /// What bounds the pod and, by their ids, its containers, where that has changed since they were made and the runtime does not
    /// tell it.
    pub(super) bounds: Option<Resources>,
    /// Of the containers.
    pub(super) resized: BTreeMap<String, Resources>,
}

/// What the pods of a node get, and what is remembered of them.
pub(super) struct Provisions {
    pub(super) supplies: Supplies,
    ended: Ended,
    memory: Mutex<HashMap<String, Memory>>,
}

impl Provisions {
    /// Takes over what is there.
    pub(super) fn open(supplies: Supplies) -> Result<Self, RuntimeError> {
        let ended = Ended::open(supplies.node.root.join("ended")).map_err(|error| failed(&error))?;
        let mut memory: HashMap<String, Memory> = HashMap::new();
        for uid in supplies.volumes.there().map_err(|error| failed(&error))? {
            memory.entry(uid).or_default().is_left = true;
        }
        Ok(Self { supplies, ended, memory: Mutex::new(memory) })
    }

    pub(super) fn remember<T>(&self, uid: &str, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(self.memory.lock().entry(uid.to_owned()).or_default())
    }

    pub(super) fn recall(&self, uid: &str) -> Memory {
        self.memory.lock().get(uid).cloned().unwrap_or_default()
    }

    /// The uids of all pods of which something is known.
    pub(super) fn known(&self) -> Vec<String> {
        self.memory.lock().keys().cloned().collect()
    }

    /// A container was asked to stop: the sooner end counts.
    pub(super) fn stops(&self, pod: &Pod, id: &str, grace: Duration) {
        let killed_at = after(self.supplies.clock.now(), grace);
        self.remember(spec::uid(pod), |memory| {
            let known = memory.killed_at.entry(id.to_owned()).or_insert(killed_at);
            *known = killed_at.min(*known);
        });
    }

    /// The containers of a pod that are there, and those that are told of though they are not.
    pub(super) fn with_ended(&self, uid: &str, there: Vec<ContainerState>) -> Vec<ContainerState> {
        let both = self.ended.of(uid).into_iter().chain(there);
        let all: BTreeMap<String, ContainerState> =
            both.map(|state| (state.spec.id.clone(), state)).collect();
        all.into_values().collect()
    }

    /// Writes down how containers ended that are about to be removed.
    pub(super) fn keep_ended(&self, uid: &str, states: Vec<ContainerState>) -> Result<(), RuntimeError> {
        let now = i64::try_from(self.supplies.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        self.ended.keep(uid, states, now).map_err(|error| failed(&error))
    }

    /// The volumes of a pod, ready.
    pub(super) async fn volumes(&self, pod: &Pod) -> Result<BTreeMap<String, MountedVolume>, SandboxError> {
        let volumes = self.supplies.volumes.ready(pod, &self.supplies.node).await;
        volumes.map_err(|error| SandboxError::Volumes(story(&error)))
    }

    /// Volumes whose objects have changed get what these hold now. Those of a pod that ends stay as they are.
    pub(super) async fn refresh(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        if !self.recall(uid).stale || !is_kept_up(pod) {
            return;
        }
        match self.supplies.volumes.ready(pod, &self.supplies.node).await {
            Ok(_) => self.remember(uid, |memory| memory.stale = false),
            // It is tried again with the next observation: what is there stays as it is.
            Err(error) => tracing::warn!(pod = %spec::title(pod), %error, "volumes are not the newest"),
        }
    }

    /// Waits until what volumes hold is not the newest any more, and remembers that.
    pub(super) async fn volumes_changed(&self, pod: &Pod) {
        // What nobody acts on would be told for ever, as a token that is due.
        if !is_kept_up(pod) {
            std::future::pending::<()>().await;
        }
        let uid = spec::uid(pod);
        self.supplies.volumes.changed(uid).await;
        self.remember(uid, |memory| memory.stale = true);
    }

    /// Nothing of the pod's is left, but for what is told of it.
    pub(super) async fn tear_down(&self, pod: &Pod) -> Result<(), RuntimeError> {
        let uid = spec::uid(pod);
        self.supplies.volumes.tear_down(uid).await.map_err(|error| failed(&error))?;
        self.remember(uid, |memory| memory.is_left = false);
        Ok(())
    }

    /// Forgets a pod, with its logs.
    pub(super) async fn forget(&self, pod: &Pod) {
        let logs = self.log_directory(pod);
        let uid = spec::uid(pod);
        self.ended.forget(uid);
        self.memory.lock().remove(uid);
        if let Err(error) = tokio::fs::remove_dir_all(&logs).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %logs.display(), %error, "logs are not removed");
        }
    }

    /// Where the logs of a pod's containers are.
    pub(super) fn log_directory(&self, pod: &Pod) -> PathBuf {
        self.supplies.node.pod_logs(pod)
    }
}

/// Whether what a pod's volumes hold follows its objects.
fn is_kept_up(pod: &Pod) -> bool {
    spec::spec(pod).is_some() && !spec::is_deleted(pod)
}

pub(super) fn failed(error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError(story(error))
}
