//! A node that runs containers, put together: what its pods need is opened, and the tasks beside its workers run. Must never
//! decide anything.
//!
//! | task | works on | ends |
//! |---|---|---|
//! | watches of nodes, pods, services, slices, namespaces | one each, for all who follow them | at the stop |
//! | links | the node's network, from the watch of nodes | at the stop; links stay |
//! | plugins | instead of it, where CNI plugins are configured: their configuration | at the stop; networks stay |
//! | proxy | services, policies and ports of hosts in the packet filter | at the stop; its tables stay |
//! | names | the cluster's names, from the watches; its sockets | at the stop |
//! | images | what nobody uses, when the disk fills | at the stop |
//! | eviction | what the node is short of, and who has to leave | at the stop |
//! | references | one watch for each object that pods name | at the stop |
//! | files | pods of a directory | at the stop; the pods stay |
//! | mirrors | pods that stand for those of files | at the stop; they stay |
//! | drivers | sockets of drivers of volumes | at the stop |
//! | node's drivers | the CSINode object and what they say of the node | at the stop |
//! | local paths | directories of volumes of this node | at the stop |
//! | node API | its port; owns its connections | at the stop, with its streams |
//! | containers | the shims' connections | at the stop; containers run on |
//! | CRI | the socket of `--cri-socket`, and a port for its streams | at the stop, with its streams |
//!
//! With `--runtime=cri` links, images and containers are another's; instead there is
//!
//! | task | works on | ends |
//! |---|---|---|
//! | watch of the runtime | what it has, and whether it is ready | at the stop |
//! | rotation of logs | those of containers that run | at the stop |
//! | stops, forwarded ports | one each, at the runtime | at the stop, when they are asked for again |

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_api::ip::Cidr;
use barque_containers::Containers;
use barque_csi::Drivers;
use barque_images::{ImageStore, Options, Registries};
use barque_network::Network;
use barque_proxy::{PolicyStreams, Streams};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::agent::{AgentError, Beside, Process};
use crate::clock::Clock;
use crate::config::{ContainerConfig, ContainerRuntime, ValidConfig};
use crate::containers::NodeFacts;
use crate::eviction::signals::Pressures;
use crate::eviction::task::EvictionTask;
use crate::fan_out::{Events, FanOut};
use crate::image_collection::{self, ImageKeeper};
use crate::links::Links;
use crate::machine::{machine, storage_bytes};
use crate::names_and_services::{Names, start_names, start_proxy};
use crate::node::csi_node::CsiNodeTask;
use crate::node::identity::Identity;
use crate::node::watch::follow;
use crate::node_api::containers::PodStreams;
use crate::node_api::reviews::KubeReviews;
use crate::node_api::server::{NodeApi, NodeApiError, NodeApiListener, Parts as NodeApiParts};
use crate::pod_network::{PluginPlaces, PluginsTask, PodNetwork};
use crate::pods::allocation::Allocations;
use crate::pods::dispatch::Dispatcher;
use crate::pods::index::Index;
use crate::references::References;
use crate::runtime::cri::images::NoLayers;
use crate::runtime::cri::{CriRuntime, LogRotation};
use crate::runtime::embedded::EmbeddedRuntime;
use crate::runtime::embedded::images::{Images, VolumeImages};
use crate::runtime::embedded::served::{CriServer, ServedError};
use crate::runtime::provisions::Supplies;
use crate::runtime::{Runtime, RuntimeError, cri, embedded};
use crate::static_pods::events::merged;
use crate::static_pods::files::{Described, Files};
use crate::static_pods::mirrors::{MirrorTask, Mirrors};
use crate::tell::Teller;
use crate::volumes::local_path::LocalPathTask;
use crate::volumes::{ImageLayers, NodeDrivers, Volumes};

/// Where registries are told of, unless a flag says it.
const REGISTRIES: &str = "/etc/barque/registries.yaml";

/// Where drivers of volumes put their sockets, below the agent's directory.
const PLUGINS: &str = "plugins_registry";

/// Why a node cannot run containers.
#[derive(Debug, thiserror::Error)]
pub enum ContainerNodeError {
    /// It has to do what only root may.
    #[error(
        "--runtime=embedded and --runtime=cri need root; --runtime=hollow runs no containers and needs nothing"
    )]
    NotRoot,
    /// Root without what root usually may.
    #[error("--runtime=embedded needs root with all its rights; this process lacks {0}")]
    Rights(String),
    /// A directory.
    #[error("{flag}: {path} cannot be made")]
    Directory {
        /// Who said it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A disk that is full.
    #[error("{flag}: nothing can be written into {path}")]
    Full {
        /// Who said it.
        flag: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `--registry-config`.
    #[error("--registry-config: {0} cannot be read")]
    RegistryConfig(PathBuf, #[source] std::io::Error),
    /// What is written there.
    #[error("--registry-config")]
    Registries(#[source] barque_images::Error),
    /// `--pod-manifest-path`
    #[error("--pod-manifest-path: {0} cannot be followed")]
    Manifests(PathBuf, #[source] std::io::Error),
    /// Where drivers of volumes tell that they are there.
    #[error("drivers of volumes cannot be looked for")]
    Drivers(#[source] std::io::Error),
    /// Another runtime.
    #[error("--container-runtime-endpoint")]
    Runtime(#[source] barque_cri::CriError),
    /// What runs, for those who speak CRI.
    #[error("CRI is not served")]
    Served(#[source] ServedError),
    /// The store of images.
    #[error("images cannot be kept")]
    Images(#[source] barque_images::Error),
    /// Sandboxes and containers.
    #[error("containers cannot be run")]
    Containers(#[source] barque_containers::Error),
    /// Links.
    #[error("pods can have no network")]
    Network(#[source] barque_network::NetworkError),
    /// What CNI plugins have made.
    #[error("networks of CNI plugins cannot be kept")]
    Plugins(#[source] barque_network::cni::CniError),
    /// The packet filter.
    #[error("services cannot be served")]
    Proxy(#[source] barque_proxy::ProxyError),
    /// The resolver.
    #[error("names cannot be answered")]
    Names(#[source] barque_dns::DnsError),
    /// What is there from before.
    #[error("what is there from before cannot be taken over")]
    Adopt(#[source] RuntimeError),
    /// The port of the node API.
    #[error("the node API does not begin")]
    NodeApi(#[source] NodeApiError),
}

/// What a node has that runs containers, whoever makes them.
struct Ground {
    config: ContainerConfig,
    identity: Identity,
    node: Arc<NodeFacts>,
    clock: Clock,
    teller: Arc<dyn Teller>,
    references: References,
    drivers: Drivers,
    network: Arc<Network>,
    listener: NodeApiListener,
    /// The watches that all share.
    watches: Watches,
    /// Those of its pods, once the runtime has them.
    volumes: Option<Arc<Volumes>>,
    /// Where images are, and who keeps them, once that is known.
    images: Option<(PathBuf, Arc<dyn ImageKeeper>)>,
}

/// The watches that all share.
#[derive(Default)]
struct Watches {
    nodes: FanOut<Node>,
    pods: FanOut<Pod>,
    services: FanOut<Service>,
    slices: FanOut<EndpointSlice>,
    namespaces: FanOut<Namespace>,
}

/// Whether this process may do what running containers needs.
///
/// # Errors
/// With what it lacks.
pub(crate) fn may_run_containers() -> Result<(), ContainerNodeError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ContainerNodeError::NotRoot);
    }
    match barque_containers::missing_rights() {
        Ok(missing) if !missing.is_empty() => Err(ContainerNodeError::Rights(missing.join(", "))),
        // Where the kernel does not tell, trying does.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Makes the node's directories, and finds out whether they can be written to.
async fn directories(config: &ContainerConfig) -> Result<(), ContainerNodeError> {
    for (flag, path) in [
        ("--root-dir", &config.root_dir),
        ("--run-dir", &config.run_dir),
        ("--pod-logs-dir", &config.pod_logs_dir),
    ] {
        let made = tokio::fs::create_dir_all(path).await;
        made.map_err(|source| ContainerNodeError::Directory { flag, path: path.clone(), source })?;
        let written = write_something(path).await;
        written.map_err(|source| ContainerNodeError::Full { flag, path: path.clone(), source })?;
    }
    Ok(())
}

/// Writes a file and removes it.
pub(crate) async fn write_something(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".barque-{}", std::process::id()));
    let written = tokio::fs::write(&path, [0; 4096]).await;
    let removed = tokio::fs::remove_file(&path).await;
    written.and(removed)
}

/// Opens everything, and starts the tasks.
pub(crate) async fn begin(
    config: &ValidConfig,
    containers: ContainerConfig,
    process: &Process,
) -> Result<(), AgentError> {
    // Before anything is changed: somebody who has the port may be another agent of this machine.
    let listener = NodeApiListener::bind(&containers.node_api).await.map_err(ContainerNodeError::NodeApi)?;
    directories(&containers).await?;
    let other = match &containers.runtime {
        ContainerRuntime::Embedded => None,
        ContainerRuntime::Cri { endpoint, logs } => {
            let found = cri::find(endpoint.clone()).await.map_err(ContainerNodeError::Runtime)?;
            Some((found, *logs))
        }
    };
    let version = other.as_ref().map_or_else(embedded::version, |(found, _)| found.version());
    let mut machine = machine(version.clone());
    if let Some(bytes) = storage_bytes(&containers.root_dir) {
        machine.resources.insert("ephemeral-storage".to_owned(), bytes);
    }
    // A machine is one node.
    let Some(identity) = config.identities(&machine)?.pop() else { return Ok(()) };
    let mut node = facts(&identity, &containers, machine.hostname, machine.resources.get("memory"));
    node.recursive_read_only = other.as_ref().is_none_or(|(found, _)| found.recursive_read_only);

    let references = References::new(process.client.clone(), process.stop.clone());
    process.spawn({
        let (stop, references) = (process.stop.clone(), references.clone());
        async move {
            stop.cancelled().await;
            references.drained().await;
        }
    });
    let drivers = Drivers::default();
    let registered = drivers.run(&containers.root_dir.join(PLUGINS), process.stop.clone());
    process.spawn(registered.map_err(ContainerNodeError::Drivers)?);
    let network = Network::open(barque_network::Settings {
        state_dir: containers.run_dir.join("network"),
        addresses: identity.addresses.clone(),
        mtu: None,
        backend: barque_network::Backend::default(),
    });
    let ground = Ground {
        teller: process.teller(&identity.name),
        config: containers,
        identity,
        node: Arc::new(node),
        clock: Clock::system(),
        references,
        drivers,
        listener,
        network: Arc::new(network.map_err(ContainerNodeError::Network)?),
        watches: Watches::default(),
        volumes: None,
        images: None,
    };
    match other {
        None => begin_embedded(config, ground, process).await?,
        Some((other, logs)) => begin_cri(config, ground, other, logs, process).await?,
    }
    tracing::info!(nodes = 1, runtime = version, "keeping nodes");
    Ok(())
}

/// The agent makes containers itself, with their images and links.
async fn begin_embedded(
    config: &ValidConfig,
    mut ground: Ground,
    process: &Process,
) -> Result<(), ContainerNodeError> {
    let images = images(&ground.config).await?;
    let of_volumes = VolumeImages {
        images: Images::new(images.clone(), ground.references.clone()),
        teller: ground.teller.clone(),
    };
    let of_containers = Containers::open(container_settings(&ground.config)).await;
    let of_containers = of_containers.map_err(ContainerNodeError::Containers)?;
    process.spawn({
        let (stop, containers) = (process.stop.clone(), of_containers.clone());
        async move {
            stop.cancelled().await;
            containers.close().await;
        }
    });
    let (network_changed, seen_network) = watch::channel(0);
    let (networks, own_networks) = watch::channel(Vec::new());
    let places = PluginPlaces {
        configurations: ground.config.cni_conf_dir.clone(),
        plugins: ground.config.cni_bin_dirs.clone(),
        root: ground.config.root_dir.clone(),
    };
    let pod_network = PodNetwork::open(places, ground.network.clone()).await;
    let pod_network = Arc::new(pod_network.map_err(ContainerNodeError::Plugins)?);
    match pod_network.plugins() {
        Some(plugins) => {
            let task = PluginsTask { plugins, changed: network_changed };
            process.spawn(task.run(process.stop.clone()));
        }
        None => {
            let links = Links {
                network: ground.network.clone(),
                node: ground.identity.name.clone(),
                networks: own_networks.clone(),
                nodes: ground.watches.nodes.follower(),
                changed: network_changed,
            };
            process.spawn(links.run(process.stop.clone()));
        }
    }
    let runtime = EmbeddedRuntime::adopt(embedded::Parts {
        containers: of_containers,
        network: pod_network,
        images: images.clone(),
        supplies: ground.supplies(Arc::new(of_volumes), process),
        network_changed: seen_network,
        networks,
    });
    let runtime = Arc::new(runtime.await.map_err(ContainerNodeError::Adopt)?);
    if let Some(path) = &ground.config.cri_socket {
        let server = CriServer::bind(path, runtime.clone()).await.map_err(ContainerNodeError::Served)?;
        tracing::info!(path = %path.display(), "serving CRI");
        process.spawn(server.run(process.stop.clone()));
    }
    ground.keep_images(images_directory(&ground.config.root_dir), Arc::new(images), process);
    serve(config, ground, runtime, own_networks, process).await
}

/// Another runtime makes containers, with their network; it keeps its images, until it is told that nobody uses them.
async fn begin_cri(
    config: &ValidConfig,
    mut ground: Ground,
    other: cri::Found,
    logs: LogRotation,
    process: &Process,
) -> Result<(), ContainerNodeError> {
    let (networks, own_networks) = watch::channel(Vec::new());
    let images = other.images();
    let directory = images.directory().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the disk of the images is taken for that of --root-dir");
        None
    });
    let directory = directory.unwrap_or_else(|| ground.config.root_dir.clone());
    ground.keep_images(directory, Arc::new(images), process);
    let runtime = CriRuntime::adopt(cri::Parts {
        runtime: other,
        logs,
        supplies: ground.supplies(Arc::new(NoLayers), process),
        cgroup_root: ground.config.cgroup_root.clone(),
        networks,
        stop: process.stop.clone(),
    });
    let runtime = Arc::new(runtime.await.map_err(ContainerNodeError::Adopt)?);
    process.spawn({
        let (stop, runtime) = (process.stop.clone(), runtime.clone());
        async move {
            stop.cancelled().await;
            runtime.drained().await;
        }
    });
    serve(config, ground, runtime, own_networks, process).await
}

impl Ground {
    /// Images that nobody uses go when their disk fills.
    fn keep_images(&mut self, directory: PathBuf, keeper: Arc<dyn ImageKeeper>, process: &Process) {
        self.images = Some((directory, keeper.clone()));
        let (node, teller) = (self.identity.node(), self.teller.clone());
        let policy = self.config.images;
        process.spawn(image_collection::run(keeper, policy, node, teller, process.stop.clone()));
    }

    /// What pods get beside their containers.
    fn supplies(&mut self, images: Arc<dyn ImageLayers>, process: &Process) -> Supplies {
        let volumes = Arc::new(Volumes::new(
            self.config.root_dir.clone(),
            process.client.clone(),
            self.references.clone(),
            images,
            NodeDrivers { node: self.identity.name.clone(), drivers: self.drivers.clone() },
            self.clock.clone(),
        ));
        self.volumes = Some(volumes.clone());
        Supplies {
            volumes,
            references: self.references.clone(),
            services: kept(&mut self.watches.services, process),
            node: self.node.clone(),
            cluster_dns: self.config.cluster_dns.clone(),
            resolv_conf: self.config.resolv_conf.clone(),
            clock: self.clock.clone(),
            teller: self.teller.clone(),
        }
    }
}

/// Everything that is the same whoever makes containers.
async fn serve<R: Runtime + PodStreams>(
    config: &ValidConfig,
    ground: Ground,
    runtime: Arc<R>,
    own_networks: watch::Receiver<Vec<Cidr>>,
    process: &Process,
) -> Result<(), ContainerNodeError> {
    let Ground {
        config: containers,
        identity,
        node,
        clock,
        teller,
        drivers,
        network,
        listener,
        watches,
        volumes,
        images,
        ..
    } = ground;
    let Watches { mut nodes, mut pods, mut services, mut slices, mut namespaces } = watches;
    let follow_names =
        Names { services: services.follower(), slices: slices.follower(), namespaces: namespaces.follower() };
    start_names(&containers, &network, follow_names, process).await?;
    let streams = Streams {
        services: services.follower(),
        slices: slices.follower(),
        pods: pods.follower(),
        policies: Some(PolicyStreams {
            policies: watched::<NetworkPolicy>(&process.client),
            namespaces: namespaces.follower(),
        }),
    };
    start_proxy(&containers, &identity, own_networks, streams, process)?;
    process.spawn({
        let task = CsiNodeTask { client: process.client.clone(), node: identity.name.clone() };
        let (drivers, stop) = (drivers.follow(), process.stop.clone());
        async move { task.run(drivers, stop).await }
    });
    let (_, facts) = watch::channel(node.clone());
    process.spawn({
        let task = LocalPathTask { client: process.client.clone(), node: facts };
        let stop = process.stop.clone();
        async move { task.run(stop).await }
    });
    let index = Index::default();
    let parts = NodeApiParts {
        node: identity.name.clone(),
        addresses: identity.addresses.clone(),
        root: containers.root_dir.clone(),
        pods: Arc::new(index.clone()),
        streams: runtime.clone(),
        reviews: Arc::new(KubeReviews::new(process.client.clone())),
        metrics: process.metrics.clone(),
    };
    let api = NodeApi::on(listener, containers.node_api, parts).map_err(ContainerNodeError::NodeApi)?;
    tracing::info!(address = %api.address(), "serving the node API");
    process.spawn({
        let (stop, index) = (process.stop.clone(), index.clone());
        async move {
            // Until then nobody can be told that a pod is not there: who connects waits.
            if stop.run_until_cancelled(index.completed()).await.is_some() {
                api.run(stop).await;
            }
        }
    });

    let (pressures, of_pressures) = watch::channel(Pressures::new());
    if let Some((volumes, (directory, images))) = volumes.zip(images) {
        let task = EvictionTask {
            config: containers.eviction,
            facts: node.clone(),
            images: directory,
            pods: index.clone(),
            runtime: runtime.clone(),
            volumes,
            keeper: images,
            node: identity.node(),
            teller: teller.clone(),
            clock: clock.clone(),
            metrics: process.metrics.clone(),
            pressures,
        };
        process.spawn(task.run(process.stop.clone()));
    }
    process.follow_shutdowns(config, index.clone(), vec![(identity.node(), teller.clone())]);
    let name = identity.name.clone();
    let mirrors = Mirrors::default();
    let described = start_files(containers.pod_manifest_path, &name, &clock, process)?;
    let allocated = containers.root_dir.join("allocated");
    let allocations = Allocations::open(allocated.clone())
        .map_err(|source| ContainerNodeError::Directory { flag: "--root-dir", path: allocated, source })?;
    let beside = Beside { mirrors: mirrors.clone(), pressures: of_pressures, allocations };
    let (sender, host) = process.node(config, identity, runtime, teller, clock, beside);
    process.spawn({
        let (mirrors, described, node) = (mirrors.clone(), described.subscribe(), host.node.clone());
        let task = MirrorTask { client: process.client.clone(), mirrors, described, node };
        let stop = process.stop.clone();
        async move { task.run(stop).await }
    });
    let dispatcher = Dispatcher::new([(name.clone(), host)].into(), index, process.stop.clone());
    let (of_nodes, of_pods) = (nodes.follower(), pods.follower());
    let senders = HashMap::from([(name, sender)]);
    let stop = process.stop.clone();
    process.spawn(async move { follow(senders, of_nodes, stop).await });
    let all_pods = merged(of_pods, described.subscribe(), mirrors);
    process.spawn(async move { dispatcher.run(Box::pin(all_pods)).await });
    process.spawn(nodes.run(watched::<Node>(&process.client), process.stop.clone()));
    process.spawn(pods.run(watched::<Pod>(&process.client), process.stop.clone()));
    process.spawn(services.run(watched::<Service>(&process.client), process.stop.clone()));
    process.spawn(slices.run(watched::<EndpointSlice>(&process.client), process.stop.clone()));
    process.spawn(namespaces.run(watched::<Namespace>(&process.client), process.stop.clone()));
    Ok(())
}

/// The pods of files, whatever becomes of these.
fn start_files(
    directory: Option<PathBuf>,
    node: &str,
    clock: &Clock,
    process: &Process,
) -> Result<watch::Sender<Described>, ContainerNodeError> {
    let described = watch::Sender::new(Described::new());
    let Some(directory) = directory else { return Ok(described) };
    let opened = Files::open(directory.clone(), node.to_owned(), clock.clone());
    let mut files = opened.map_err(|error| ContainerNodeError::Manifests(directory.clone(), error))?;
    described.send_replace(files.read());
    let (told, stop) = (described.clone(), process.stop.clone());
    process.spawn(async move { files.run(told, stop).await });
    Ok(described)
}

/// All objects of a kind, without what nobody here reads.
fn watched<K>(client: &Client) -> Events<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + serde::de::DeserializeOwned
        + 'static,
{
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff();
    events.modify(|object| object.meta_mut().managed_fields = None).boxed()
}

/// The newest of all services.
fn kept(services: &mut FanOut<Service>, process: &Process) -> reflector::Store<Service> {
    let (reader, writer) = reflector::store();
    let mut events = services.follower().reflect(writer);
    let stop = process.stop.clone();
    process.spawn(async move { while let Some(Some(_)) = stop.run_until_cancelled(events.next()).await {} });
    reader
}

fn facts(identity: &Identity, config: &ContainerConfig, hostname: String, memory: Option<&i64>) -> NodeFacts {
    NodeFacts {
        name: identity.name.clone(),
        labels: identity.default_labels().into_iter().chain(identity.labels.clone()).collect(),
        hostname,
        cluster_domain: config.cluster_domain.clone(),
        host_ips: identity.addresses.clone(),
        allocatable: identity.allocatable.clone(),
        memory_capacity: memory.copied().unwrap_or_default(),
        pod_pids_limit: config.pod_pids,
        seccomp_default: config.seccomp_default,
        recursive_read_only: true,
        allowed_unsafe_sysctls: Vec::new(),
        root: config.root_dir.clone(),
        logs: config.pod_logs_dir.clone(),
    }
}

async fn images(config: &ContainerConfig) -> Result<ImageStore, ContainerNodeError> {
    let usual = Path::new(REGISTRIES);
    let path = config.registry_config.as_deref().or_else(|| usual.is_file().then_some(usual));
    let registries = match path {
        None => Registries::default(),
        Some(path) => {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.map_err(|error| ContainerNodeError::RegistryConfig(path.to_owned(), error))?;
            Registries::from_yaml(&text).map_err(ContainerNodeError::Registries)?
        }
    };
    let options = Options { registries, ..Options::default() };
    ImageStore::open(&images_directory(&config.root_dir), options).map_err(ContainerNodeError::Images)
}

/// Where the images of a node are.
fn images_directory(root: &Path) -> PathBuf {
    root.join("images")
}

fn container_settings(config: &ContainerConfig) -> barque_containers::Settings {
    // The program that runs is the one that its shims must be, also when another was put in its place.
    let shim = vec![OsString::from("/proc/self/exe"), OsString::from("shim")];
    barque_containers::Settings {
        state_dir: config.run_dir.join("containers"),
        data_dir: config.root_dir.join("containers"),
        shim,
        cgroup_root: config.cgroup_root.clone(),
        log_file_bytes: config.log_size,
        log_files: config.log_files,
    }
}
