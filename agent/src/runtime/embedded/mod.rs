//! The runtime of the agent itself: sandboxes and containers by `barque-containers`, images by `barque-images`, links by
//! `barque-network`, with the pod's volumes. Must never decide what should run, nor keep what cannot be found again: an agent
//! that comes back adopts what is there.

pub(crate) mod images;
mod resize;
mod sandbox;
pub mod served;
mod start;
mod streams;
mod usage;

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::Cidr;
use barque_containers::Containers;
use barque_containers::spec::ContainerState;
use barque_images::ImageStore;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use tokio::sync::watch;

use self::images::Images;
use super::provisions::observe::{Known, observed};
use super::provisions::probe::{self, Inside, NotRun, Said};
use super::provisions::resize::resize;
use super::provisions::{Provisions, Supplies, failed};
use super::{PullError, Runtime, RuntimeError, SandboxError, StartError, changes};
use crate::error_story::story;
use crate::pod_network::PodNetwork;
use crate::pods::observed::Observed;
use crate::pods::probes::ProbeKind;
use crate::pods::spec;

/// The runtime's name and version, as nodes tell them.
#[must_use]
pub fn version() -> String {
    concat!("barque://", env!("CARGO_PKG_VERSION")).to_owned()
}

/// What the ids of its containers begin with.
const SCHEME: &str = "barque://";

/// What the runtime of a node is made of.
pub struct Parts {
    /// Sandboxes and containers.
    pub containers: Containers,
    /// The pods' networks.
    pub network: Arc<PodNetwork>,
    /// What they run.
    pub images: ImageStore,
    /// What they get beside.
    pub supplies: Supplies,
    /// Changes when [`PodNetwork::problem`] may say something else.
    pub network_changed: watch::Receiver<u64>,
    /// Who is told of the pods' networks.
    pub networks: watch::Sender<Vec<Cidr>>,
}

/// The runtime of one node.
pub struct EmbeddedRuntime {
    containers: Containers,
    network: Arc<PodNetwork>,
    images: Images,
    provisions: Provisions,
    network_changed: watch::Receiver<u64>,
    networks: watch::Sender<Vec<Cidr>>,
}

impl EmbeddedRuntime {
    /// Takes over what is there.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn adopt(parts: Parts) -> Result<Self, RuntimeError> {
        let Parts { containers, network, images, supplies, network_changed, networks } = parts;
        let images = Images::new(images, supplies.references.clone());
        let provisions = Provisions::open(supplies)?;
        for pod in network.adopt().await.map_err(|error| failed(&error))? {
            provisions.remember(&pod.pod_id, |known| {
                (known.is_left, known.is_whole, known.addresses) = (true, pod.connected, pod.addresses);
            });
        }
        for state in containers.sandboxes().map_err(|error| failed(&error))? {
            provisions.remember(&state.spec.id, |known| {
                known.is_left = true;
                known.is_whole |= state.network_namespace.is_none();
                // What its objects have become meanwhile is looked at.
                known.stale = true;
            });
        }
        Ok(Self { containers, network, images, provisions, network_changed, networks })
    }

    /// The containers of a pod that are there, and those that are told of though they are not.
    fn states(&self, pod: &Pod) -> Vec<ContainerState> {
        let uid = spec::uid(pod);
        let there = match self.containers.containers(uid) {
            Ok(states) => states,
            Err(barque_containers::Error::NotFound(_)) => Vec::new(),
            Err(error) => {
                tracing::warn!(pod = %spec::title(pod), %error, "containers cannot be looked at");
                Vec::new()
            }
        };
        self.provisions.with_ended(uid, there)
    }

    /// The newest container of a name.
    fn newest(&self, pod: &Pod, name: &str) -> Option<ContainerState> {
        let all = self.states(pod).into_iter().filter(|state| state.spec.name == name);
        all.max_by_key(|state| state.spec.attempt)
    }

    fn known(&self, pod: &Pod) -> Known {
        let memory = self.provisions.recall(spec::uid(pod));
        let state = self.containers.sandbox(spec::uid(pod)).ok();
        Known {
            scheme: SCHEME.to_owned(),
            bounds: state.as_ref().map(|state| state.spec.resources.clone()),
            state,
            is_left: memory.is_left,
            addresses: memory.addresses,
            is_whole: memory.is_whole,
            killed_at: memory.killed_at,
        }
    }

    /// The pod's addresses, those of the node in its network.
    fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        if spec::uses_host_network(pod) {
            self.provisions.supplies.node.host_ips.clone()
        } else {
            self.provisions.recall(spec::uid(pod)).addresses
        }
    }
}

impl Inside for EmbeddedRuntime {
    async fn run(
        &self,
        pod: &Pod,
        container: &str,
        command: Vec<String>,
        patience: Duration,
    ) -> Result<Said, NotRun> {
        let Some(newest) = self.newest(pod, container) else {
            return Err(NotRun::Failed("the container does not run".to_owned()));
        };
        match self.containers.exec_sync(&newest.spec.id, command, Some(patience)).await {
            Ok(output) => {
                let mut text = output.stdout;
                text.extend(output.stderr);
                Ok(Said { code: output.code, text })
            }
            Err(barque_containers::Error::TimedOut(_)) => Err(NotRun::TimedOut),
            Err(error) => Err(NotRun::Failed(story(&error))),
        }
    }

    async fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        Self::addresses(self, pod)
    }
}

impl Runtime for EmbeddedRuntime {
    fn set_pod_networks(&self, networks: &[Cidr]) {
        self.networks.send_if_modified(|known| {
            let differs = known != networks;
            if differs {
                networks.clone_into(known);
            }
            differs
        });
    }

    fn network_changes(&self) -> BoxStream<'static, ()> {
        changes(self.network_changed.clone())
    }

    fn network_problem(&self) -> Option<String> {
        self.network.problem()
    }

    async fn left_behind(&self) -> Vec<Pod> {
        let states = self.containers.sandboxes().unwrap_or_default();
        let label = |uid: &str, name: &str| {
            let state = states.iter().find(|state| state.spec.id == uid)?;
            state.spec.labels.get(&format!("io.kubernetes.pod.{name}")).cloned()
        };
        let pod = |uid: String| Pod {
            metadata: ObjectMeta {
                name: label(&uid, "name"),
                namespace: label(&uid, "namespace"),
                uid: Some(uid),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        };
        self.provisions.known().into_iter().map(pod).collect()
    }

    async fn observe(&self, pod: &Pod) -> Observed {
        self.provisions.refresh(pod).await;
        observed(&self.known(pod), &self.states(pod))
    }

    async fn changed(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        let containers = async {
            let told = match self.containers.changes(uid) {
                Ok(mut changes) => changes.changed().await.is_ok(),
                Err(_) => false,
            };
            if !told {
                // It is gone, which whoever took it away knows.
                std::future::pending::<()>().await;
            }
        };
        let mut network = self.network_changed.clone();
        let memory = self.provisions.recall(uid);
        let waits = !memory.is_whole && !spec::uses_host_network(pod);
        // What has changed since it was tried, not since the agent began: that would be told at once, again and again.
        let tried = memory.network_tried.unwrap_or_else(|| *network.borrow());
        let network = async {
            if !waits || network.wait_for(|count| *count != tried).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = containers => {}
            () = network => {}
            () = self.provisions.volumes_changed(pod) => {}
        }
    }

    async fn create_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        self.make_sandbox(pod).await
    }

    async fn has_image(&self, pod: &Pod, container: &str) -> Result<bool, PullError> {
        self.images.is_here(pod, container).await
    }

    async fn pull(&self, pod: &Pod, container: &str) -> Result<String, PullError> {
        self.images.pull(pod, container, &*self.provisions.supplies.teller).await
    }

    async fn start(&self, pod: &Pod, container: &str, attempt: u32) -> Result<(), StartError> {
        self.start_container(pod, container, attempt).await
    }

    async fn post_start(&self, pod: &Pod, container: &str) -> Result<(), String> {
        probe::hook(self, pod, container, probe::Hook::PostStart).await
    }

    async fn pre_stop(&self, pod: &Pod, container: &str) -> Result<(), String> {
        probe::hook(self, pod, container, probe::Hook::PreStop).await
    }

    async fn stop(&self, pod: &Pod, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        let Some(newest) = self.newest(pod, container) else { return Ok(()) };
        let id = newest.spec.id;
        self.provisions.stops(pod, &id, grace);
        self.containers.stop(&id, grace).await.map_err(|error| failed(&error))
    }

    async fn resize(&self, pod: &Pod, containers: &[String], shrinks: bool) -> Result<(), RuntimeError> {
        resize(self, pod, containers, shrinks).await
    }

    async fn remove_sandbox(&self, pod: &Pod) -> Result<(), RuntimeError> {
        self.take_sandbox_away(pod).await?;
        self.provisions.tear_down(pod).await
    }

    async fn forget(&self, pod: &Pod) {
        self.provisions.forget(pod).await;
    }

    async fn probe(&self, pod: &Pod, container: &str, kind: ProbeKind) -> Result<(), String> {
        probe::probe(self, pod, container, kind).await
    }
}
