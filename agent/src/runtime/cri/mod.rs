//! The runtime of containerd, CRI-O or whoever else serves the Container Runtime Interface, with the network that it makes itself
//! (CNI); volumes, environments and all else are the agent's, as with its own runtime. Must never decide what should run, nor keep
//! what cannot be found again: an agent that comes back knows its pods by their labels.
//!
//! What there is of a pod is asked for whenever its worker observes it; [`watch`](self::watch) finds out when that is worth while.

mod container_config;
pub(crate) mod image_collection;
pub(crate) mod images;
pub(in crate::runtime) mod labels;
mod lifecycle;
mod log_rotation;
mod resize;
mod sandbox_config;
mod seen;
mod streaming;
mod streams;
mod usage;
mod view;
mod watch;

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::Cidr;
use barque_containers::Hierarchies;
use barque_containers::spec::{ContainerState, Phase, Resources, SandboxState};
use barque_cri::{Client, CriError, Endpoint, v1};
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use tokio::sync::watch as latest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::log_rotation::LogRotation;

use self::image_collection::CriImages;
use self::labels::{POD_NAME, POD_NAMESPACE};
use self::log_rotation::Rotator;
use self::sandbox_config::CgroupDriver;
use self::seen::{LastKnown, Seen};
use self::view::Listed;
use self::watch::{Watch, list, problem, solved};
use super::provisions::observe::{Known, observed};
use super::provisions::probe::{self, Inside, NotRun, Said};
use super::provisions::resize::resize;
use super::provisions::{Provisions, Supplies, failed};
use super::{PullError, Runtime, RuntimeError, SandboxError, StartError, changes};
use crate::pods::observed::Observed;
use crate::pods::probes::ProbeKind;
use crate::pods::spec;

/// A runtime that answers, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Found {
    client: Client,
    /// As `containerd`.
    pub name: String,
    /// As `1.6.20`.
    pub version: String,
    /// It can mount read-only all the way down.
    pub recursive_read_only: bool,
}

impl Found {
    /// Its images.
    pub(crate) fn images(&self) -> CriImages {
        CriImages::new(self.client.clone())
    }

    /// As nodes tell it.
    #[must_use]
    pub fn version(&self) -> String {
        format!("{}://{}", self.name, self.version)
    }
}

/// Asks a runtime who it is.
///
/// # Errors
/// When nobody answers, or not in version 1 of the interface.
pub async fn find(endpoint: Endpoint) -> Result<Found, CriError> {
    let client = Client::new(endpoint)?;
    let version = client.version(v1::VersionRequest { version: "v1".to_owned() }).await?;
    let status = client.status(v1::StatusRequest { verbose: false }).await?;
    let default = status.runtime_handlers.into_iter().find(|handler| handler.name.is_empty());
    Ok(Found {
        client,
        name: version.runtime_name,
        version: version.runtime_version,
        recursive_read_only: default
            .and_then(|handler| handler.features)
            .is_some_and(|features| features.recursive_read_only_mounts),
    })
}

/// What the runtime of a node is made of.
pub struct Parts {
    /// Who makes containers.
    pub runtime: Found,
    /// What pods get beside them.
    pub supplies: Supplies,
    /// The control group below which those of pods are; empty is the root.
    pub cgroup_root: String,
    /// When logs are rotated.
    pub logs: LogRotation,
    /// Who is told of the pods' networks.
    pub networks: latest::Sender<Vec<Cidr>>,
    /// The end: containers run on.
    pub stop: CancellationToken,
}

/// What the runtime has of one pod.
#[derive(Debug, Clone, Default)]
struct PodState {
    sandbox: Option<SandboxState>,
    addresses: Vec<IpAddr>,
    containers: Vec<ContainerState>,
}

/// The runtime of one node.
pub struct CriRuntime {
    client: Client,
    scheme: String,
    driver: CgroupDriver,
    cgroup_root: String,
    /// Where pods are bounded; not where systemd does.
    hierarchies: Option<Hierarchies>,
    provisions: Provisions,
    seen: Arc<Seen>,
    last: LastKnown<PodState>,
    problem: latest::Receiver<Option<String>>,
    networks: latest::Sender<Vec<Cidr>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl CriRuntime {
    /// Takes over what is there, and looks at it from now on.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn adopt(parts: Parts) -> Result<Self, RuntimeError> {
        let Parts { runtime, supplies, cgroup_root, logs, networks, stop } = parts;
        let client = runtime.client;
        let driver = match client.runtime_config(v1::RuntimeConfigRequest {}).await {
            Ok(config) => match config.linux.map(|linux| linux.cgroup_driver()) {
                Some(v1::CgroupDriver::Systemd) => CgroupDriver::Systemd,
                _ => CgroupDriver::Cgroupfs,
            },
            // Older than the call; what they do unless they are told otherwise.
            Err(CriError::Unimplemented { .. }) => CgroupDriver::Cgroupfs,
            Err(error) => return Err(failed(&error)),
        };
        let hierarchies = match driver {
            CgroupDriver::Cgroupfs => Some(Hierarchies::find().map_err(|error| failed(&error))?),
            CgroupDriver::Systemd => None,
        };
        let provisions = Provisions::open(supplies)?;
        let there = list(&client, None).await.map_err(|error| failed(&error))?.by_pod();
        for uid in there.keys() {
            provisions.remember(uid, |known| {
                // What its objects have become meanwhile is looked at.
                (known.is_left, known.stale) = (true, true);
            });
        }
        let status = client.status(v1::StatusRequest { verbose: false }).await;
        let first = problem(&status.map_err(|error| failed(&error))?);
        let (told, problem) = latest::channel(first);
        let of_pods = networks.subscribe();
        let runtime = Self {
            scheme: format!("{}://", runtime.name),
            client: client.clone(),
            driver,
            cgroup_root,
            hierarchies,
            provisions,
            seen: Arc::default(),
            last: LastKnown::default(),
            problem,
            networks,
            tasks: TaskTracker::new(),
            stop,
        };
        for (uid, listed) in there {
            let state = runtime.details(&uid, listed).await.map_err(|error| failed(&error))?;
            runtime.last.put(&uid, state);
        }
        let rotator = Rotator::new(client.clone(), logs);
        let watch = Watch { client, seen: runtime.seen.clone(), problem: told, networks: of_pods };
        let stop = runtime.stop.clone();
        runtime.tasks.spawn(async move { stop.run_until_cancelled_owned(watch.run()).await });
        let stop = runtime.stop.clone();
        runtime.tasks.spawn(async move { stop.run_until_cancelled_owned(rotator.run()).await });
        Ok(runtime)
    }

    /// Ends when everything that it began has ended, after the stop.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// All that can be told of what was listed.
    async fn details(&self, uid: &str, listed: Listed) -> Result<PodState, CriError> {
        let mut state = PodState::default();
        if let Some(newest) = listed.sandboxes.first() {
            let request = v1::PodSandboxStatusRequest { pod_sandbox_id: newest.id.clone(), verbose: false };
            match self.client.pod_sandbox_status(request).await {
                Ok(told) => {
                    if let Some(status) = told.status {
                        state.addresses = view::addresses(&status);
                        state.sandbox = Some(view::sandbox(&status));
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in listed.containers {
            let request = v1::ContainerStatusRequest { container_id: container.id, verbose: false };
            match self.client.container_status(request).await {
                Ok(told) => {
                    if let Some(status) = told.status {
                        state.containers.push(with_last_word(status).await);
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let memory = self.provisions.recall(uid);
        for container in &mut state.containers {
            if let Some(resized) = memory.resized.get(&container.spec.id) {
                container.spec.resources.clone_from(resized);
            }
        }
        tracing::trace!(uid, ?state, "looked at");
        Ok(state)
    }

    /// What the runtime has of a pod; what it had last while it is away.
    async fn look(&self, uid: &str) -> PodState {
        match self.try_look(uid).await {
            Ok((_, state)) => state,
            Err(error) => {
                tracing::debug!(uid, %error, "the pod is as it was");
                self.last.get(uid).unwrap_or_default()
            }
        }
    }

    async fn try_look(&self, uid: &str) -> Result<(Listed, PodState), CriError> {
        let listed = list(&self.client, Some(uid)).await?;
        let state = self.details(uid, listed.clone()).await?;
        self.last.put(uid, state.clone());
        Ok((listed, state))
    }

    /// The newest container of a name.
    async fn newest(&self, pod: &Pod, name: &str) -> Option<ContainerState> {
        let containers = self.look(spec::uid(pod)).await.containers;
        let all = containers.into_iter().filter(|state| state.spec.name == name);
        all.max_by_key(|state| state.spec.attempt)
    }

    fn known(&self, pod: &Pod, state: &PodState) -> Known {
        let memory = self.provisions.recall(spec::uid(pod));
        Known {
            scheme: self.scheme.clone(),
            bounds: bounds_of_sandbox(memory.bounds, state),
            state: state.sandbox.clone(),
            is_left: memory.is_left,
            // One without a network is not whole.
            is_whole: spec::uses_host_network(pod) || !state.addresses.is_empty(),
            addresses: state.addresses.clone(),
            killed_at: memory.killed_at,
        }
    }

    /// The pod's addresses, those of the node in its network.
    fn addresses_of(&self, pod: &Pod, state: &PodState) -> Vec<IpAddr> {
        if spec::uses_host_network(pod) {
            self.provisions.supplies.node.host_ips.clone()
        } else {
            state.addresses.clone()
        }
    }
}

/// What the containers of a sandbox may use together, since that was changed or as it was made.
fn bounds_of_sandbox(changed: Option<Resources>, state: &PodState) -> Option<Resources> {
    let made = state.sandbox.as_ref()?.spec.resources.clone();
    changed.or_else(|| Some(made).filter(|made| made.cpu_shares.is_some()))
}

/// A container with what it left to say.
async fn with_last_word(status: v1::ContainerStatus) -> ContainerState {
    let mut word = String::new();
    if status.state() == v1::ContainerState::ContainerExited {
        let message = view::last_word(&status);
        let (log, failed) = (status.log_path.clone(), status.exit_code != 0);
        let read = move || barque_containers::last_word(message.as_ref(), log.as_ref(), failed);
        word = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    }
    view::container(&status, word)
}

/// Whole seconds, as CRI has them.
fn seconds(time: Duration) -> i64 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

impl Inside for CriRuntime {
    async fn run(
        &self,
        pod: &Pod,
        container: &str,
        command: Vec<String>,
        patience: Duration,
    ) -> Result<Said, NotRun> {
        let newest = self.newest(pod, container).await;
        let Some(newest) = newest.filter(|state| matches!(state.phase, Phase::Running { .. })) else {
            return Err(NotRun::Failed("the container does not run".to_owned()));
        };
        let request = v1::ExecSyncRequest {
            container_id: newest.spec.id,
            cmd: command,
            timeout: seconds(patience).max(1),
        };
        match self.client.exec_sync(request).await {
            Ok(said) => {
                let mut text = said.stdout;
                text.extend(said.stderr);
                Ok(Said { code: said.exit_code, text })
            }
            Err(CriError::TimedOut { .. }) => Err(NotRun::TimedOut),
            Err(error) => Err(NotRun::Failed(error.to_string())),
        }
    }

    async fn addresses(&self, pod: &Pod) -> Vec<IpAddr> {
        self.addresses_of(pod, &self.look(spec::uid(pod)).await)
    }
}

impl Runtime for CriRuntime {
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
        changes(self.problem.clone())
    }

    fn network_problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    async fn left_behind(&self) -> Vec<Pod> {
        let there = list(&self.client, None).await.map(Listed::by_pod);
        let there = there.unwrap_or_else(|error| {
            tracing::warn!(%error, "what is left of pods is not known by name");
            BTreeMap::new()
        });
        let uids: BTreeSet<String> = there.keys().cloned().chain(self.provisions.known()).collect();
        let pod = |uid: String| {
            let labels = there.get(&uid).map(|listed| {
                let sandboxes = listed.sandboxes.first().map(|sandbox| &sandbox.labels);
                sandboxes.or_else(|| listed.containers.first().map(|container| &container.labels))
            });
            let label = |name: &str| labels.flatten().and_then(|labels| labels.get(name)).cloned();
            Pod {
                metadata: ObjectMeta {
                    name: label(POD_NAME),
                    namespace: label(POD_NAMESPACE),
                    uid: Some(uid.clone()),
                    ..ObjectMeta::default()
                },
                ..Pod::default()
            }
        };
        uids.into_iter().map(pod).collect()
    }

    async fn observe(&self, pod: &Pod) -> Observed {
        self.provisions.refresh(pod).await;
        let uid = spec::uid(pod);
        let state = match self.try_look(uid).await {
            Ok((listed, state)) => {
                self.seen.told(uid, &listed);
                state
            }
            Err(error) => {
                tracing::debug!(pod = %spec::title(pod), %error, "the pod is as it was");
                self.last.get(uid).unwrap_or_default()
            }
        };
        let all = self.provisions.with_ended(uid, state.containers.clone());
        observed(&self.known(pod, &state), &all)
    }

    async fn changed(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        let network = async {
            if spec::uses_host_network(pod) {
                std::future::pending::<()>().await;
            }
            solved(self.problem.clone()).await;
        };
        tokio::select! {
            () = self.seen.news(uid) => {}
            () = network => {}
            () = self.provisions.volumes_changed(pod) => {}
        }
    }

    async fn create_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        Box::pin(self.make_sandbox(pod)).await
    }

    async fn has_image(&self, pod: &Pod, container: &str) -> Result<bool, PullError> {
        images::is_here(&self.client, pod, container).await
    }

    async fn pull(&self, pod: &Pod, container: &str) -> Result<String, PullError> {
        images::pull(&self.client, &self.provisions.supplies, pod, container).await
    }

    async fn start(&self, pod: &Pod, container: &str, attempt: u32) -> Result<(), StartError> {
        Box::pin(self.start_container(pod, container, attempt)).await
    }

    async fn post_start(&self, pod: &Pod, container: &str) -> Result<(), String> {
        probe::hook(self, pod, container, probe::Hook::PostStart).await
    }

    async fn pre_stop(&self, pod: &Pod, container: &str) -> Result<(), String> {
        probe::hook(self, pod, container, probe::Hook::PreStop).await
    }

    async fn stop(&self, pod: &Pod, container: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.stop_container(pod, container, grace).await
    }

    async fn resize(&self, pod: &Pod, containers: &[String], shrinks: bool) -> Result<(), RuntimeError> {
        resize(self, pod, containers, shrinks).await
    }

    async fn remove_sandbox(&self, pod: &Pod) -> Result<(), RuntimeError> {
        self.take_sandbox_away(pod).await?;
        self.provisions.tear_down(pod).await
    }

    async fn forget(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        self.seen.forget(uid);
        self.last.forget(uid);
        self.provisions.forget(pod).await;
    }

    async fn probe(&self, pod: &Pod, container: &str, kind: ProbeKind) -> Result<(), String> {
        probe::probe(self, pod, container, kind).await
    }
}
