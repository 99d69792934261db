//! One API server: its parts put together, started and stopped in the right order. Must never decide how a request is
//! answered.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barque_api::openapi::v3;
use barque_store::config::TlsFiles;
use barque_store::tls::{ServerTls, TlsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::policies::Policies;
use crate::admission::webhooks::Webhooks;
use crate::admission::{Admission, Authorize, DefaultTolerations};
use crate::aggregation::Aggregation;
use crate::audit::{Log, LogConfig, Policy};
use crate::authentication::{self, Authenticator};
use crate::authorization::chain::{AllowedPaths, Authorizer as _};
use crate::config::ValidConfig;
use crate::flow_control::bodies::BodyRoom;
use crate::flow_control::limits::{self, Limits};
use crate::http::auditing::Auditor;
use crate::http::body;
use crate::http::documents;
use crate::http::handler::{ApiHandler, Parts};
use crate::http::serve::{AnyCertificate, Connections};
use crate::metrics::{Measured, Metrics, PartMetrics};
use crate::registry::allocation::ServiceAllocator;
use crate::registry::allocation::repair::Repair;
use crate::registry::allocation::settings::ServiceNetwork;
use crate::registry::collections::{Collections, Settings};
use crate::registry::own_client::OwnClient;
use crate::registry::pipeline::Pipeline;
use crate::registry::uid::new_uid;
use crate::resource_metrics::ResourceMetrics;
use crate::rights::Authorization;
use crate::storage::{Storage, compactor};
use crate::streaming::Streaming;
use crate::streaming::dial::AgentFlags;
use crate::webhook_client::WebhookClient;
use crate::{bootstrap, custom_resources, flow_control, keeper};

/// How long requests may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 100_000;

/// Bodies of requests that are in memory at once.
const BODIES_BYTES: usize = 256 << 20;

/// How a server serves.
#[derive(Clone)]
pub struct ServerSettings {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Its certificate and key.
    pub tls: TlsFiles,
    /// By which address members of the cluster reach it.
    pub advertise: IpAddr,
    /// Where clients inside of the cluster find it, without the port.
    pub hostname: String,
    /// Paths that everybody may use.
    pub always_allowed: AllowedPaths,
    /// How users are known.
    pub authentication: authentication::Settings,
    /// The certificate and key that servers of other groups are shown.
    pub proxy_client: TlsFiles,
    /// From which networks and ports services are served.
    pub services: ServiceNetwork,
    /// How many requests are worked on at once, and how long others wait.
    pub limits: limits::Settings,
    /// How long a request that follows nothing may take.
    pub request_timeout: Duration,
    /// What is written down of requests, and where.
    pub audit: Option<(Policy, LogConfig)>,
    /// How long pods stay on lost nodes that do not say it.
    pub tolerations: DefaultTolerations,
    /// How agents of nodes are reached.
    pub agents: AgentFlags,
    /// How often old states of the store are forgotten; nothing for never.
    pub compaction_interval: Option<Duration>,
    /// What every cluster has from its start; the port is that of `bind`, or the one that the system chose.
    pub start: bootstrap::Settings,
    /// Metrics of the other parts of this process.
    pub parts: PartMetrics,
}

/// The name of a server's lease: the same after a restart, and another one for another server.
fn lease_name(hostname: &str, port: u16) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hash = v3::hash(format!("{}/{hostname}:{port}", machine.trim()).as_bytes()).to_lowercase();
    format!("apiserver-{}", &hash[..26])
}

/// A server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The audit log cannot be written.
    #[error("--audit-log-path={} cannot be written", file.display())]
    Audit {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that serves.
pub struct Running {
    /// Where it listens, with the port that the system chose, if it was left to it.
    pub address: SocketAddr,
    kept: keeper::Kept,
    connections: Connections,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Waits until everything is there that every cluster has from its start.
    pub async fn wait_until_kept(&self) {
        self.kept.wait().await;
    }

    /// Stops accepting, ends watches, lets requests finish, then ends everything else.
    pub async fn stop(self) {
        if !self.connections.shutdown(DRAIN).await {
            tracing::warn!("some requests were cut off");
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks do not end");
        }
    }
}

/// Serves as the flags say until `stop`, then drains.
///
/// # Errors
/// When the server cannot start.
pub async fn run(config: ValidConfig, stop: CancellationToken) -> Result<(), ServerError> {
    let storage = config.storage.clone();
    let running = start_on(config, storage).await?;
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

/// Starts a server as the flags say, over this store instead of the one that they name.
///
/// # Errors
/// When the server cannot start.
pub async fn start_on<S: Storage>(config: ValidConfig, storage: S) -> Result<Running, ServerError> {
    let settings = ServerSettings {
        bind: config.bind,
        tls: config.tls,
        advertise: config.advertise,
        hostname: config.hostname,
        always_allowed: config.always_allowed,
        authentication: config.authentication,
        proxy_client: config.proxy_client,
        request_timeout: config.request_timeout,
        audit: config.audit,
        limits: config.limits,
        compaction_interval: config.compaction_interval,
        services: config.services,
        start: config.start,
        tolerations: config.tolerations,
        agents: config.agents,
        parts: config.parts,
    };
    let kept =
        Settings { storage, root: config.root, encryption: config.encryption, event_ttl: config.event_ttl };
    let running = start(&settings, kept).await?;
    tracing::info!(address = %running.address, version = documents::VERSION, "serving");
    Ok(running)
}

/// Starts a server.
///
/// # Errors
/// When its port cannot be had, or its certificate cannot be used.
pub async fn start<S: Storage>(settings: &ServerSettings, kept: Settings<S>) -> Result<Running, ServerError> {
    let provider = rustls::crypto::ring::default_provider();
    let known = settings.authentication.clone();
    // Clients are told the names of authorities: when those are others, they are told those.
    let authority = known.client_ca.as_ref().and_then(|known| known.file().map(Path::to_owned));
    let files = TlsFiles { trusted_ca_file: authority, ..settings.tls.clone() };
    let tls = ServerTls::with_verifier(&files, move || {
        let authorities =
            known.client_ca.iter().chain(known.front_proxy.iter().map(|proxy| &proxy.authorities));
        let names = authorities.flat_map(|one| one.names()).collect();
        Arc::new(AnyCertificate::new(&provider, names))
    })?;
    let failed = |source| ServerError::Listen { address: settings.bind, source };
    let listener = TcpListener::bind(settings.bind).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let metrics = Arc::new(Metrics::new());
    metrics.identify(&documents::version());
    let kept = Settings {
        storage: Measured::new(kept.storage, &kept.root, Arc::clone(&metrics.storage)),
        root: kept.root,
        encryption: kept.encryption,
        event_ttl: kept.event_ttl,
    };
    if let Some(interval) = settings.compaction_interval {
        tasks.spawn(compactor::run(kept.storage.clone(), interval, stop.clone()));
    }
    let collections = Collections::start(kept, &tasks, &stop);
    let counted = collections.clone();
    metrics.look_before_scrape(move |metrics| {
        let catalog = counted.catalog();
        let open = catalog.endpoints.iter().filter_map(|one| one.collection.as_ref());
        metrics.caches.look(open.map(|one| (one.resource.clone(), one.cache.counts())));
    });
    let limits = Limits::new(settings.limits, Arc::clone(&metrics));
    let limits_in_step = flow_control::follower::start(&limits, &collections, &tasks, &stop);
    let services = ServiceAllocator::new(collections.clone(), &settings.services);
    tasks.spawn(Repair::new(services.clone()).run(stop.clone()));
    let authorization = Authorization::start(&collections, settings.always_allowed.clone(), &tasks, &stop);
    let asked = authorization.clone();
    let authorize: Authorize = Arc::new(move |user, action, fields| asked.decide(user, action, fields));
    let policies = Policies::start(&collections, &authorize, &metrics.admission, &tasks, &stop);
    let hooks = Webhooks::start(&collections, &authorize, &metrics.admission, &tasks, &stop);
    let admission = Admission::new(collections.clone(), authorize, Arc::clone(&metrics.admission))
        .with_tolerations(settings.tolerations)
        .with_users_rules(policies, hooks);
    let pipeline = Pipeline {
        collections: collections.clone(),
        admission,
        authorization: authorization.clone(),
        services,
    };
    let server = keeper::Server {
        name: lease_name(&settings.hostname, address.port()),
        holder: new_uid(),
        address: settings.advertise,
        port: address.port(),
    };
    let start = bootstrap::Settings { secure_port: address.port(), ..settings.start.clone() };
    let client = OwnClient::new(pipeline.clone());
    let kept = keeper::start(&client, &collections, start, server, &tasks, &stop);
    let connections = Connections::counting(metrics.tls_handshake_errors.clone());
    let drain = connections.draining();
    let aggregation =
        Aggregation::start(&client, &collections, &settings.proxy_client, drain, &tasks, &stop)?;
    let webhooks = WebhookClient::new(collections.clone());
    let definitions = custom_resources::controller::start(&client, &collections, &webhooks, &tasks, &stop);
    let authenticator = Authenticator::new(settings.authentication.clone(), collections);
    let auditor = match &settings.audit {
        None => None,
        Some((policy, log)) => {
            let log = Log::start(log, &tasks, stop.clone())
                .map_err(|source| ServerError::Audit { file: log.path.clone(), source })?;
            Some(Auditor::new(policy.clone(), log, tasks.clone(), Arc::clone(&metrics)))
        }
    };
    let streaming = Streaming::new(settings.agents.clone(), tasks.clone(), connections.draining())?;
    let handler = ApiHandler::new(Parts {
        pipeline,
        authenticator,
        authorization,
        aggregation,
        auditor,
        limits,
        limits_in_step,
        request_timeout: settings.request_timeout,
        room: BodyRoom::new(BODIES_BYTES, u32::try_from(body::MOST_BYTES).unwrap_or(u32::MAX)),
        metrics,
        part_metrics: settings.parts.clone(),
        kept: kept.clone(),
        resource_metrics: ResourceMetrics::new(streaming.clone()),
        streaming,
        definitions,
        address: format!("{}:{}", settings.hostname, address.port()),
        stop: connections.draining(),
        tasks: tasks.clone(),
    });
    connections.serve(listener, Arc::new(move || tls.current()), handler, CONNECTIONS);
    Ok(Running { address, kept, connections, tasks, stop })
}
