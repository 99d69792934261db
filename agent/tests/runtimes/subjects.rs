//! The runtimes that are tested, as an agent opens them, one after the other over the same directories.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use barque_agent::clock::Clock;
use barque_agent::containers::NodeFacts;
use barque_agent::node_api::containers::PodStreams;
use barque_agent::pod_network::{PluginPlaces, PodNetwork};
use barque_agent::references::References;
use barque_agent::runtime::Runtime;
use barque_agent::runtime::cri::Found;
use barque_agent::runtime::cri::{self, CriRuntime, LogRotation};
use barque_agent::runtime::embedded::{self, EmbeddedRuntime};
use barque_agent::runtime::hollow::HollowRuntime;
use barque_agent::runtime::provisions::Supplies;
use barque_agent::tell::Teller;
use barque_agent::volumes::{ImageLayers, NodeDrivers, Volumes};
use barque_api::ip::{Cidr, parse_cidr};
use barque_client::events::Note;
use barque_containers::Containers;
use barque_csi::Drivers;
use barque_images::{ImageStore, LogProgress, Options};
use barque_network::{Backend, Network};
use futures::future::BoxFuture;
use http::{Request, Response};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Client;
use kube::client::Body;
use kube::runtime::reflector;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::containerd::Containerd;
use super::{ground, images};

/// A runtime that is tested.
pub(crate) trait Subject: Sized {
    /// Its type.
    type Runtime: Runtime;

    /// Begins with nothing.
    fn begin() -> impl Future<Output = Self>;

    /// The one that runs.
    fn runtime(&self) -> &Self::Runtime;

    /// Lets the agent end, with everything else going on, and another one begin.
    fn restart(&mut self) -> impl Future<Output = ()>;

    /// Whether what runs is there without the agent.
    fn outlives_the_agent(&self) -> bool;

    /// What helps to understand a failure.
    fn told(&self) -> String {
        String::new()
    }

    /// Ends it.
    fn end(self) -> impl Future<Output = ()>;
}

/// One with real containers.
pub(crate) trait Real: Subject<Runtime: PodStreams> {}

impl<S: Subject<Runtime: PodStreams>> Real for S {}

struct Nobody;

impl Teller for Nobody {
    fn tell(&self, _: ObjectReference, _: Note) {}
}

impl ImageLayers for Nobody {
    fn layers<'a>(
        &'a self,
        _: &'a Pod,
        _: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, String>> {
        Box::pin(std::future::ready(Err("no test has such a volume".to_owned())))
    }
}

/// The networks of pods.
fn networks() -> Vec<Cidr> {
    vec![parse_cidr("10.244.1.0/24").unwrap()]
}

/// Pods of tests name nothing that a server would have to know.
fn client() -> Client {
    let service = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, kube::Error>(Response::builder().status(404).body(Body::empty()).unwrap())
    });
    Client::new(service, "default")
}

pub(crate) fn supplies(directory: &Path, stop: &CancellationToken) -> Supplies {
    let root = directory.join("root");
    std::fs::create_dir_all(&root).unwrap();
    let (client, clock) = (client(), Clock::system());
    let references = References::new(client.clone(), stop.clone());
    let drivers = NodeDrivers { node: "node".to_owned(), drivers: Drivers::default() };
    let volumes =
        Volumes::new(root.clone(), client, references.clone(), Arc::new(Nobody), drivers, clock.clone());
    let node = NodeFacts {
        name: "node".to_owned(),
        hostname: "node".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        host_ips: vec![ground::ADDRESS.parse().unwrap()],
        memory_capacity: 1 << 30,
        root,
        logs: directory.join("logs"),
        ..NodeFacts::default()
    };
    let resolv_conf = directory.join("resolv.conf");
    std::fs::write(&resolv_conf, "search example.org\n").unwrap();
    Supplies {
        volumes: Arc::new(volumes),
        references,
        services: reflector::store().0,
        node: Arc::new(node),
        cluster_dns: vec!["10.0.0.10".parse().unwrap()],
        resolv_conf,
        clock,
        teller: Arc::new(Nobody),
    }
}

/// The runtime without containers.
pub(crate) struct Hollow(HollowRuntime);

impl Hollow {
    fn open() -> HollowRuntime {
        let runtime = HollowRuntime::new(Clock::system(), Arc::new(Nobody));
        runtime.set_pod_networks(&networks());
        runtime
    }
}

impl Subject for Hollow {
    type Runtime = HollowRuntime;

    async fn begin() -> Self {
        Self(Self::open())
    }

    fn runtime(&self) -> &HollowRuntime {
        &self.0
    }

    async fn restart(&mut self) {
        self.0 = Self::open();
    }

    fn outlives_the_agent(&self) -> bool {
        false
    }

    async fn end(self) {}
}

/// The agent's own.
pub(crate) struct Embedded {
    directory: PathBuf,
    open: Option<OpenEmbedded>,
}

struct OpenEmbedded {
    runtime: Arc<EmbeddedRuntime>,
    containers: Containers,
    stop: CancellationToken,
}

impl Embedded {
    async fn open(directory: &Path) -> OpenEmbedded {
        let stop = CancellationToken::new();
        let containers = Containers::open(barque_containers::Settings {
            state_dir: directory.join("run/containers"),
            data_dir: directory.join("root/containers"),
            shim: vec![std::env::current_exe().unwrap().into(), "shim".into()],
            cgroup_root: format!("{}/embedded", ground::control_group()),
            log_file_bytes: 10 << 20,
            log_files: 5,
        });
        let containers = containers.await.unwrap();
        let network = Network::open(barque_network::Settings {
            state_dir: directory.join("run/network"),
            addresses: vec![ground::ADDRESS.parse().unwrap()],
            mtu: None,
            backend: Backend::None,
        });
        let network = Arc::new(network.unwrap());
        let images = ImageStore::open(&directory.join("root/images"), Options::default()).unwrap();
        let places = PluginPlaces {
            configurations: directory.join("no-plugins"),
            plugins: Vec::new(),
            root: directory.join("root"),
        };
        let pod_network = PodNetwork::open(places, network.clone()).await.unwrap();
        let runtime = EmbeddedRuntime::adopt(embedded::Parts {
            containers: containers.clone(),
            network: Arc::new(pod_network),
            images,
            supplies: supplies(directory, &stop),
            network_changed: watch::channel(0).1,
            networks: watch::channel(Vec::new()).0,
        });
        let runtime = Arc::new(runtime.await.unwrap());
        network.set_node(&networks()).await.unwrap();
        OpenEmbedded { runtime, containers, stop }
    }

    /// The one that runs, for those who serve it.
    pub(crate) fn shared(&self) -> Arc<EmbeddedRuntime> {
        self.open.as_ref().unwrap().runtime.clone()
    }

    /// What belongs to it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    async fn close(&mut self) {
        let OpenEmbedded { runtime, containers, stop } = self.open.take().unwrap();
        stop.cancel();
        containers.close().await;
        drop((runtime, containers));
    }
}

impl Subject for Embedded {
    type Runtime = EmbeddedRuntime;

    async fn begin() -> Self {
        let directory = ground::directory().join("embedded");
        std::fs::create_dir_all(&directory).unwrap();
        let store = ImageStore::open(&directory.join("root/images"), Options::default()).unwrap();
        let archive = std::fs::File::open(images::write(&directory)).unwrap();
        store.load(archive, &LogProgress { image: images::BUSYBOX.to_owned() }).unwrap();
        drop(store);
        Self { open: Some(Self::open(&directory).await), directory }
    }

    fn runtime(&self) -> &EmbeddedRuntime {
        &self.open.as_ref().unwrap().runtime
    }

    async fn restart(&mut self) {
        self.close().await;
        self.open = Some(Self::open(&self.directory).await);
    }

    fn outlives_the_agent(&self) -> bool {
        true
    }

    async fn end(mut self) {
        self.close().await;
        let (state, data) = (self.directory.join("run/containers"), self.directory.join("root/containers"));
        let cleaned = barque_containers::cleanup(&state, &data).unwrap();
        assert_eq!(cleaned.left, Vec::<String>::new());
    }
}

/// Debian's containerd.
pub(crate) struct Cri {
    directory: PathBuf,
    containerd: Containerd,
    open: Option<(CriRuntime, CancellationToken)>,
}

impl Cri {
    async fn find(containerd: &Containerd) -> Found {
        cri::find(containerd.socket().into()).await.unwrap()
    }

    async fn open(directory: &Path, containerd: &Containerd) -> (CriRuntime, CancellationToken) {
        let stop = CancellationToken::new();
        let runtime = CriRuntime::adopt(cri::Parts {
            runtime: Self::find(containerd).await,
            supplies: supplies(directory, &stop),
            cgroup_root: format!("{}/cri", ground::control_group()),
            logs: LogRotation { file_bytes: 10 << 20, files: 5, period: Duration::from_secs(10) },
            networks: watch::channel(Vec::new()).0,
            stop: stop.clone(),
        });
        (runtime.await.unwrap(), stop)
    }

    async fn close(&mut self) {
        let (runtime, stop) = self.open.take().unwrap();
        stop.cancel();
        runtime.drained().await;
    }
}

impl Subject for Cri {
    type Runtime = CriRuntime;

    async fn begin() -> Self {
        let directory = ground::directory().join("cri");
        std::fs::create_dir_all(&directory).unwrap();
        let containerd = Containerd::start(&directory, Command::new("containerd"));
        let found = Self::find(&containerd).await;
        println!("the runtime is {}", found.version());
        let open = Self::open(&directory, &containerd).await;
        Self { open: Some(open), directory, containerd }
    }

    fn runtime(&self) -> &CriRuntime {
        &self.open.as_ref().unwrap().0
    }

    async fn restart(&mut self) {
        self.close().await;
        self.open = Some(Self::open(&self.directory, &self.containerd).await);
    }

    fn outlives_the_agent(&self) -> bool {
        true
    }

    fn told(&self) -> String {
        self.containerd.told()
    }

    async fn end(mut self) {
        self.close().await;
    }
}
