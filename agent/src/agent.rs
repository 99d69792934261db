//! The agent as a process: its nodes, their tasks, the watches that all share, and the end. Owns every task. Must never
//! decide anything.
//!
//! | task | works on | ends |
//! |---|---|---|
//! | watch of nodes | tells each node's task of its node | at the stop |
//! | one for each node | registration, status, lease | at the stop |
//! | writer of events, one for each node | its queue | at the stop |
//! | shutdown | D-Bus: holds a shutdown of the machine up until pods have ended; where that is wanted | at the stop |
//! | dispatcher of pods | the watch of pods; owns one worker for each pod | at the stop, with its workers |
//! | health | its port; owns its connections | at the stop |
//!
//! A node that runs containers has more of them: see [`container_node`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use barque_client::events::{Reporter, recorder};
use barque_client::servers::{ConnectError, connect_counted};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{ConfigError, ValidConfig};
use crate::container_node::{self, ContainerNodeError};
use crate::eviction::signals::Pressures;
use crate::limit::limited;
use crate::machine::machine;
use crate::metrics::Metrics;
use crate::node::identity::Identity;
use crate::node::task::NodeTask;
use crate::node::watch::{Seen, follow};
use crate::node_shutdown::task::ShutdownTask;
use crate::pod_api::KubePods;
use crate::pods::allocation::Allocations;
use crate::pods::dispatch::{Dispatcher, Host};
use crate::pods::index::Index;
use crate::pods::worker::Place;
use crate::runtime::Runtime;
use crate::runtime::hollow::{self, HollowRuntime};
use crate::serve;
use crate::static_pods::mirrors::Mirrors;
use crate::tell::Teller;

/// Requests under way at once, of all nodes of the process.
const REQUESTS: usize = 100;
/// Of these, so many for events at most: people can wait for what others wait for too, and half of all that is written when
/// many pods start is events.
const EVENT_REQUESTS: usize = 8;

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The machine does not fit the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no way to the API servers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The port of health.
    #[error("{0} cannot be listened on")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// What runs containers does not begin.
    #[error(transparent)]
    Node(#[from] ContainerNodeError),
}

/// Runs until the token is cancelled. Nodes and pods are left as they are then: the cluster finds out by the leases, and an
/// agent that comes back goes on.
///
/// `begun` is called when all of it runs.
///
/// # Errors
/// When it cannot begin.
pub async fn run(
    config: ValidConfig,
    begun: impl FnOnce() + Send,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    if config.containers.is_some() {
        container_node::may_run_containers()?;
    }
    let metrics = Metrics::new();
    let client = connect_counted(config.servers.clone(), metrics.requests()).await?;
    let client = limited(client, REQUESTS);
    let for_events = limited(client.clone(), EVENT_REQUESTS);
    let (tasks, shutting_down) = (TaskTracker::new(), watch::Sender::new(false));
    let process = Process { client, for_events, metrics, tasks, shutting_down, stop };
    if let Some(address) = config.healthz {
        let bound = serve::bind(address).await.map_err(|error| AgentError::Listen(address, error))?;
        let (listener, address) = bound;
        tracing::info!(%address, "serving health and metrics");
        process.tasks.spawn(serve::run(listener, process.metrics.clone(), process.stop.clone()));
    }
    let beginning = match config.containers.clone() {
        None => hollow(&config, &process),
        Some(containers) => Box::pin(container_node::begin(&config, containers, &process)).await,
    };
    if let Err(error) = beginning {
        // What was started ends before it is told why there is nothing to do.
        process.stop.cancel();
        process.drain().await;
        return Err(error);
    }
    begun();
    process.stop.cancelled().await;
    process.drain().await;
    Ok(())
}

/// What all of an agent's tasks share.
pub(crate) struct Process {
    /// By which it speaks.
    pub(crate) client: Client,
    /// By which events are written.
    pub(crate) for_events: Client,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Everything that runs.
    pub(crate) tasks: TaskTracker,
    /// Whether the machine goes down.
    pub(crate) shutting_down: watch::Sender<bool>,
    /// The end.
    pub(crate) stop: CancellationToken,
}

/// What a node's pods depend on beside the API.
pub(crate) struct Beside {
    /// The mirrors of those that files describe.
    pub(crate) mirrors: Mirrors,
    /// What the node is short of.
    pub(crate) pressures: watch::Receiver<Pressures>,
    /// What pods were granted while they ran.
    pub(crate) allocations: Allocations,
}

impl Process {
    async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A task that ends at the stop by itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Who takes events of a node; their writer runs.
    pub(crate) fn teller(&self, node: &str) -> Arc<dyn Teller> {
        let reporter = Reporter { controller: "kubelet".to_owned(), instance: node.to_owned() };
        let (recorder, writer) = recorder(self.for_events.clone(), reporter);
        self.spawn(writer.run(self.stop.clone()));
        Arc::new(recorder)
    }

    /// A node that is kept: its task runs, and tells the sender what the cluster knows.
    pub(crate) fn node<R: Runtime>(
        &self,
        config: &ValidConfig,
        identity: Identity,
        runtime: Arc<R>,
        teller: Arc<dyn Teller>,
        clock: Clock,
        beside: Beside,
    ) -> (watch::Sender<Seen>, Host<R, KubePods>) {
        self.metrics.node(&identity.name);
        let (sender, seen) = watch::channel(Seen::Unknown);
        let (known, node) = watch::channel(Arc::new(identity.node()));
        let place = Place {
            runtime: runtime.clone(),
            api: KubePods::new(self.client.clone(), beside.mirrors),
            teller: teller.clone(),
            clock: clock.clone(),
            host: identity.addresses.clone(),
            metrics: self.metrics.clone(),
        };
        let client = self.client.clone();
        let rhythm = config.rhythm;
        let of_node = beside.pressures.clone();
        let task = NodeTask {
            client,
            identity,
            rhythm,
            clock,
            teller,
            runtime,
            seen,
            known,
            pressures: of_node,
            shutting_down: self.shutting_down.subscribe(),
        };
        self.spawn(task.run(self.stop.clone()));
        (
            sender,
            Host {
                place: Arc::new(place),
                node,
                pressures: beside.pressures,
                shutting_down: self.shutting_down.subscribe(),
                allocations: beside.allocations,
            },
        )
    }
}

impl Process {
    /// Has a shutdown of the machine wait for these pods, where that is wanted.
    pub(crate) fn follow_shutdowns(
        &self,
        config: &ValidConfig,
        pods: Index,
        nodes: Vec<(Node, Arc<dyn Teller>)>,
    ) {
        if let Some(config) = config.shutdown.clone() {
            let task = ShutdownTask { config, pods, nodes, shutting_down: self.shutting_down.clone() };
            self.spawn(task.run(self.stop.clone()));
        }
    }
}

/// Hollow nodes, one or many.
fn hollow(config: &ValidConfig, process: &Process) -> Result<(), AgentError> {
    let identities = config.identities(&machine(hollow::version()))?;
    let single = match &identities[..] {
        [one] => Some(one.name.clone()),
        _ => None,
    };
    let (mut hosts, mut senders, mut nodes) = (HashMap::new(), HashMap::new(), Vec::new());
    for identity in identities {
        let clock = Clock::system();
        let name = identity.name.clone();
        let teller = process.teller(&name);
        nodes.push((identity.node(), teller.clone()));
        let runtime = Arc::new(HollowRuntime::new(clock.clone(), teller.clone()));
        // What does not use anything is short of nothing.
        let (_, pressures) = watch::channel(Pressures::new());
        let beside = Beside { mirrors: Mirrors::default(), pressures, allocations: Allocations::default() };
        let (sender, host) = process.node(config, identity, runtime, teller, clock, beside);
        senders.insert(name.clone(), sender);
        hosts.insert(name, host);
    }

    let (of_nodes, of_pods) = match &single {
        Some(name) => (format!("metadata.name={name}"), format!("spec.nodeName={name}")),
        None => (String::new(), "spec.nodeName!=".to_owned()),
    };
    let fields = |selector: &str| match selector {
        "" => watcher::Config::default(),
        selector => watcher::Config::default().fields(selector),
    };
    let seen = watcher(Api::all(process.client.clone()), fields(&of_nodes)).default_backoff();
    process.spawn({
        let stop = process.stop.clone();
        async move { follow(senders, Box::pin(seen), stop).await }
    });
    let pods = watcher(Api::all(process.client.clone()), fields(&of_pods)).default_backoff();
    let count = hosts.len();
    let index = Index::default();
    process.follow_shutdowns(config, index.clone(), nodes);
    let dispatcher = Dispatcher::new(hosts, index, process.stop.clone());
    process.spawn(async move { dispatcher.run(Box::pin(pods)).await });
    tracing::info!(nodes = count, runtime = hollow::version(), "keeping nodes");
    Ok(())
}
