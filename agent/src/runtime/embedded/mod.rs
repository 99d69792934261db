//! The runtime of the agent itself: sandboxes and containers by `barque-containers`, images by `barque-images`, links by
//! `barque-network`, with the pod's volumes. Must never decide what should run, nor keep what cannot be found again: an agent
//! that comes back adopts what is there.

mod ended;
pub(crate) mod images;
mod observe;
mod probe;
mod sandbox;
mod start;
mod streams;
mod usage;

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::Cidr;
use barque_containers::Containers;
use barque_containers::spec::ContainerState;
use barque_images::ImageStore;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::runtime::reflector;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::ended::Ended;
use self::images::Images;
use self::observe::{Known, observed};
use super::{PullError, Runtime, RuntimeError, SandboxError, StartError};
use crate::clock::{Clock, after};
use crate::containers::NodeFacts;
use crate::pod_network::PodNetwork;
use crate::pods::observed::Observed;
use crate::pods::probes::ProbeKind;
use crate::pods::spec;
use crate::references::References;
use crate::tell::Teller;
use crate::volumes::Volumes;

/// The runtime's name and version, as nodes tell them.
#[must_use]
pub fn version() -> String {
    concat!("barque://", env!("CARGO_PKG_VERSION")).to_owned()
}

/// What the runtime of a node is made of.
pub struct Parts {
    /// Sandboxes and containers.
    pub containers: Containers,
    /// The pods' networks.
    pub network: Arc<PodNetwork>,
    /// What they run.
    pub images: ImageStore,
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
    /// Changes when [`PodNetwork::problem`] may say something else.
    pub network_changed: watch::Receiver<u64>,
    /// Who is told of the pods' networks.
    pub networks: watch::Sender<Vec<Cidr>>,
}

/// What is known of a pod beside what its sandbox and its directory say.
#[derive(Debug, Clone, Default)]
struct Memory {
    addresses: Vec<IpAddr>,
    /// Something of it is there.
    is_left: bool,
    /// It has its network, and its files are in place.
    is_whole: bool,
    killed_at: BTreeMap<String, Timestamp>,
    /// What its volumes hold is not the newest.
    stale: bool,
    /// How often the node's network had changed when the pod was to get its own last.
    network_tried: Option<u64>,
}

/// The runtime of one node.
pub struct EmbeddedRuntime {
    parts: Parts,
    images: Images,
    ended: Ended,
    memory: Mutex<HashMap<String, Memory>>,
}

impl EmbeddedRuntime {
    /// Takes over what is there.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn adopt(parts: Parts) -> Result<Self, RuntimeError> {
        let wrong = |error: &dyn std::fmt::Display| RuntimeError(error.to_string());
        let mut memory: HashMap<String, Memory> = HashMap::new();
        for uid in parts.volumes.there().map_err(|error| wrong(&error))? {
            memory.entry(uid).or_default().is_left = true;
        }
        for pod in parts.network.adopt().await.map_err(|error| wrong(&error))? {
            let known = memory.entry(pod.pod_id).or_default();
            (known.is_left, known.is_whole, known.addresses) = (true, pod.connected, pod.addresses);
        }
        for state in parts.containers.sandboxes().map_err(|error| wrong(&error))? {
            let known = memory.entry(state.spec.id.clone()).or_default();
            known.is_left = true;
            known.is_whole |= state.network_namespace.is_none();
            // What its objects have become meanwhile is looked at.
            known.stale = true;
        }
        let ended = Ended::open(parts.node.root.join("ended")).map_err(|error| wrong(&error))?;
        let images = Images::new(parts.images.clone(), parts.references.clone());
        Ok(Self { parts, images, ended, memory: Mutex::new(memory) })
    }

    fn remember<T>(&self, pod: &Pod, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(self.memory.lock().entry(spec::uid(pod).to_owned()).or_default())
    }

    fn recall(&self, pod: &Pod) -> Memory {
        self.memory.lock().get(spec::uid(pod)).cloned().unwrap_or_default()
    }

    /// The containers of a pod that are there, and those that are told of though they are not.
    fn states(&self, pod: &Pod) -> Vec<ContainerState> {
        let uid = spec::uid(pod);
        let mut all: BTreeMap<String, ContainerState> = BTreeMap::new();
        for state in self.ended.of(uid) {
            all.insert(state.spec.id.clone(), state);
        }
        match self.parts.containers.containers(uid) {
            Ok(states) => all.extend(states.into_iter().map(|state| (state.spec.id.clone(), state))),
            Err(barque_containers::Error::NotFound(_)) => {}
            Err(error) => tracing::warn!(pod = %spec::title(pod), %error, "containers cannot be looked at"),
        }
        all.into_values().collect()
    }

    /// The newest container of a name.
    fn newest(&self, pod: &Pod, name: &str) -> Option<ContainerState> {
        let all = self.states(pod).into_iter().filter(|state| state.spec.name == name);
        all.max_by_key(|state| state.spec.attempt)
    }

    fn known(&self, pod: &Pod) -> Known {
        let memory = self.recall(pod);
        Known {
            state: self.parts.containers.sandbox(spec::uid(pod)).ok(),
            is_left: memory.is_left,
            addresses: memory.addresses,
            is_whole: memory.is_whole,
            killed_at: memory.killed_at,
        }
    }

    /// The pod's addresses, those of the node in its network.
    fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        if spec::uses_host_network(pod) {
            self.parts.node.host_ips.clone()
        } else {
            self.recall(pod).addresses
        }
    }

    /// Volumes whose objects have changed get what these hold now. Those of a pod that ends stay as they are.
    async fn refresh(&self, pod: &Pod) {
        if !self.recall(pod).stale || !is_kept_up(pod) {
            return;
        }
        match self.parts.volumes.ready(pod, &self.parts.node).await {
            Ok(_) => self.remember(pod, |memory| memory.stale = false),
            // It is tried again with the next observation: what is there stays as it is.
            Err(error) => tracing::warn!(pod = %spec::title(pod), %error, "volumes are not the newest"),
        }
    }
}

/// Whether what a pod's volumes hold follows its objects.
fn is_kept_up(pod: &Pod) -> bool {
    spec::spec(pod).is_some() && !spec::is_deleted(pod)
}

fn failed(error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError(story(error))
}

/// An error with its causes.
fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Runtime for EmbeddedRuntime {
    fn set_pod_networks(&self, networks: &[Cidr]) {
        self.parts.networks.send_if_modified(|known| {
            let differs = known != networks;
            if differs {
                networks.clone_into(known);
            }
            differs
        });
    }

    fn network_problem(&self) -> Option<String> {
        self.parts.network.problem()
    }

    async fn left_behind(&self) -> Vec<Pod> {
        let states = self.parts.containers.sandboxes().unwrap_or_default();
        let label = |uid: &str, name: &str| {
            let state = states.iter().find(|state| state.spec.id == uid)?;
            state.spec.labels.get(&format!("io.kubernetes.pod.{name}")).cloned()
        };
        let uids: HashSet<String> = self.memory.lock().keys().cloned().collect();
        let pod = |uid: String| Pod {
            metadata: ObjectMeta {
                name: label(&uid, "name"),
                namespace: label(&uid, "namespace"),
                uid: Some(uid),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        uids.into_iter().map(pod).collect()
    }

    async fn observe(&self, pod: &Pod) -> Observed {
        self.refresh(pod).await;
        observed(&self.known(pod), &self.states(pod))
    }

    async fn changed(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        let containers = async {
            let told = match self.parts.containers.changes(uid) {
                Ok(mut changes) => changes.changed().await.is_ok(),
                Err(_) => false,
            };
            if !told {
                // It is gone, which whoever took it away knows.
                std::future::pending::<()>().await;
            }
        };
        let mut network = self.parts.network_changed.clone();
        let memory = self.recall(pod);
        let waits = !memory.is_whole && !spec::uses_host_network(pod);
        // What has changed since it was tried, not since the agent began: that would be told at once, again and again.
        let tried = memory.network_tried.unwrap_or_else(|| *network.borrow());
        let network = async {
            if !waits || network.wait_for(|count| *count != tried).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let volumes = async {
            // What nobody acts on would be told for ever, as a token that is due.
            if !is_kept_up(pod) {
                std::future::pending::<()>().await;
            }
            self.parts.volumes.changed(uid).await;
        };
        tokio::select! {
            () = containers => {}
            () = network => {}
            () = volumes => self.remember(pod, |memory| memory.stale = true),
        }
    }

    async fn create_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        self.make_sandbox(pod).await
    }

    async fn has_image(&self, pod: &Pod, container: &str) -> Result<bool, PullError> {
        self.images.is_here(pod, container).await
    }

    async fn pull(&self, pod: &Pod, container: &str) -> Result<String, PullError> {
        self.images.pull(pod, container, &*self.parts.teller).await
    }

    async fn start(&self, pod: &Pod, container: &str, attempt: u32) -> Result<(), StartError> {
        self.start_container(pod, container, attempt).await
    }

    async fn post_start(&self, pod: &Pod, container: &str) -> Result<(), String> {
        self.hook(pod, container, probe::Hook::PostStart).await
    }

    async fn pre_stop(&self, pod: &Pod, container: &str) -> Result<(), String> {
        self.hook(pod, container, probe::Hook::PreStop).await
    }

    async fn stop(&self, pod: &Pod, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        let Some(newest) = self.newest(pod, container) else { return Ok(()) };
        let killed_at = after(self.parts.clock.now(), grace);
        let id = newest.spec.id;
        self.remember(pod, |memory| {
            let known = memory.killed_at.entry(id.clone()).or_insert(killed_at);
            *known = killed_at.min(*known);
        });
        self.parts.containers.stop(&id, grace).await.map_err(|error| failed(&error))
    }

    async fn remove_sandbox(&self, pod: &Pod) -> Result<(), RuntimeError> {
        self.take_sandbox_away(pod).await?;
        self.parts.volumes.tear_down(spec::uid(pod)).await.map_err(|error| failed(&error))?;
        self.remember(pod, |memory| memory.is_left = false);
        Ok(())
    }

    async fn forget(&self, pod: &Pod) {
        let logs = self.log_directory(pod);
        let uid = spec::uid(pod).to_owned();
        self.ended.forget(&uid);
        self.memory.lock().remove(&uid);
        if let Err(error) = tokio::fs::remove_dir_all(&logs).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %logs.display(), %error, "logs are not removed");
        }
    }

    async fn probe(&self, pod: &Pod, container: &str, kind: ProbeKind) -> Result<(), String> {
        self.ask(pod, container, kind).await
    }
}
