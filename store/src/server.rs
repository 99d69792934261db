//! A member as a process: ports, member, services; from the first line of the log to the last.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use barque_proto::server::peer::peer_server::PeerServer;

use crate::command::{AlarmKind, KeyRange, Range};
use crate::config::{Bootstrap, ClusterState, ConfigError, ValidConfig};
use crate::error::StoreError;
use crate::http::{Endpoints, HealthSource, Versions};
use crate::ids::{ClusterId, MemberId};
use crate::lease::lessor::min_ttl_s;
use crate::listen::{ListenError, Listeners};
use crate::member::Member;
use crate::member::join::Named;
use crate::member::machine::ThisMachine;
use crate::member::snapshots::SnapshotRule;
use crate::member::start::{self as member_start, MemberSettings, StartError, Started};
use crate::metrics::Metrics;
use crate::raft::node::RaftTiming;
use crate::raft::traffic::CountedService;
use crate::rpc::backend::{ActiveAlarm, Backend as _, Limits};
use crate::rpc::permit::LoginSettings;
use crate::rpc::{self, Watches};
use crate::serve::{ConnectionLimit, Front, HANDSHAKE_DEADLINE, HttpOnly, Server};
use crate::storage::data_dir::has_identity;
use crate::tls::{ClientTls, TlsError};
use crate::watch::WatchConfig;

/// The largest message between members: one entry of the largest request, or a batch of a MiB.
const PEER_MESSAGE_BYTES: usize = 64 << 20;
/// Log kept behind a snapshot for members that lag: so much for each entry of `--snapshot-count` ...
const KEEP_LOG_BYTES_PER_ENTRY: u64 = 4 << 10;
/// ... within these bounds.
const KEEP_LOG_BYTES: std::ops::RangeInclusive<u64> = 256 << 10..=64 << 20;
/// Connections of clients; more wait in the kernel's queue.
const CLIENT_CONNECTIONS: usize = 100_000;
/// Connections of other members: three each, and some of probes.
const PEER_CONNECTIONS: usize = 1_000;
/// Connections for metrics and health.
const METRICS_CONNECTIONS: usize = 100;
/// How long requests may take to finish when the member stops.
const DRAIN: Duration = Duration::from_secs(1);

/// A member cannot run, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A flag is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificates for connections to other members cannot be used.
    #[error("connections to other members cannot use TLS")]
    PeerTls(#[from] TlsError),
    /// The member cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It had to stop.
    #[error("the member stopped: {0}")]
    Failed(String),
}

/// Runs a member until `stop`, then hands leadership over, drains and stops.
///
/// # Errors
/// When it cannot start, or cannot go on: its disk failed, or it was removed.
pub async fn run(config: ValidConfig, stop: CancellationToken) -> Result<(), ServerError> {
    match start(config, &stop).await? {
        Some(running) => running.serve_until(&stop).await,
        None => Ok(()),
    }
}

/// A member that serves.
pub struct Running {
    member: Member,
    metrics: Arc<Metrics>,
    clients: Server,
    peers: Server,
}

/// Starts a member, and serves; nothing when `stop` came first.
///
/// # Errors
/// When it cannot start.
pub async fn start(config: ValidConfig, stop: &CancellationToken) -> Result<Option<Running>, ServerError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let metrics = Arc::new(Metrics::new());
    let settings = settings(&config, &metrics)?;
    let listeners = Listeners::bind(&config)?;
    let Started { member, peer_service } = tokio::select! {
        started = member_start::start(&settings) => started?,
        () = stop.cancelled() => return Ok(None),
    };
    let limits = settings.limits;
    tracing::info!(
        max_request_bytes = limits.max_request_bytes,
        max_txn_ops = limits.max_txn_ops,
        version = rpc::VERSION,
        "serving"
    );
    let identity = member.identity();
    metrics.server.identity(rpc::VERSION, rpc::CLUSTER_VERSION, identity.member);

    let versions = Versions { server: rpc::VERSION, cluster: CLUSTER_VERSION, storage: rpc::STORAGE_VERSION };
    let endpoints =
        Endpoints::new(Health(member.clone()), Arc::clone(&metrics), versions, config.request_timeout());
    let peers = Server::new(HANDSHAKE_DEADLINE);
    let peer_service = PeerServer::new(peer_service).max_decoding_message_size(PEER_MESSAGE_BYTES);
    let peer_routes = Routes::new(CountedService::new(peer_service, Arc::clone(member.peers())));
    let front = Front::new(peer_routes, endpoints.clone(), metrics.grpc.clone(), Arc::default());
    let limit = ConnectionLimit::new(PEER_CONNECTIONS);
    for listener in listeners.peer {
        tracing::info!(url = %listener.url, "serving members");
        peers.serve(listener, front.clone(), limit.clone());
    }
    tokio::select! {
        taken = member.take_part(&settings) => taken?,
        () = stop.cancelled() => {
            member.stop().await;
            peers.shutdown(Duration::ZERO).await;
            return Ok(None);
        }
    }

    let clients = Server::new(HANDSHAKE_DEADLINE);
    let watches = Watches {
        hub: Arc::clone(member.hub()),
        history: Arc::clone(member.published()) as _,
        config: WatchConfig { fragment_bytes: limits.max_request_bytes, ..WatchConfig::default() },
    };
    let routes = rpc::routes(&member, watches);
    let activity = Arc::clone(member.activity());
    let front = Front::new(routes, endpoints.clone(), metrics.grpc.clone(), activity);
    let limit = ConnectionLimit::new(CLIENT_CONNECTIONS);
    for listener in listeners.client {
        tracing::info!(url = %listener.url, address = %listener.address, "serving clients");
        clients.serve(listener, front.clone(), limit.clone());
    }
    let limit = ConnectionLimit::new(METRICS_CONNECTIONS);
    for listener in listeners.metrics {
        clients.serve(listener, HttpOnly(endpoints.clone()), limit.clone());
    }
    Ok(Some(Running { member, metrics, clients, peers }))
}

impl Running {
    /// The member, for who works on it in this process.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// What it counts, as `/metrics` tells it.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Serves until `stop`, then hands leadership over, drains and stops.
    ///
    /// # Errors
    /// When the member cannot go on.
    pub async fn serve_until(self, stop: &CancellationToken) -> Result<(), ServerError> {
        let Self { member, clients, peers, .. } = self;
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            reason = member.failed() => Some(reason),
        };
        // Leadership goes first: clients of this member are still answered while others elect.
        member.drain().await;
        if !clients.shutdown(DRAIN).await {
            tracing::warn!("some clients' requests were cut off");
        }
        member.stop().await;
        peers.shutdown(Duration::ZERO).await;
        match failed {
            None => Ok(()),
            Some(reason) => Err(ServerError::Failed(reason)),
        }
    }
}

/// What `/version` tells of the cluster, in full.
const CLUSTER_VERSION: &str = "3.6.0";

fn settings(config: &ValidConfig, metrics: &Arc<Metrics>) -> Result<MemberSettings, ServerError> {
    let bootstrap = match config.bootstrap() {
        Ok(bootstrap) => bootstrap,
        // What a member is called later on is in its data directory, and --initial-cluster may be out of date.
        Err(_) if has_identity(&config.data_dir) => {
            Bootstrap { cluster: ClusterId(0), member: MemberId(0), members: Vec::new() }
        }
        Err(error) => return Err(error.into()),
    };
    let https = config.initial_cluster.iter().flat_map(|member| &member.peer_urls).any(|url| url.is_https());
    let peer_tls = if https { Some(Arc::new(ClientTls::load(&config.peer_tls)?)) } else { None };
    let texts = |urls: &[crate::config::Url]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    let election_ms = u64::try_from(config.election_timeout.as_millis()).unwrap_or(u64::MAX);
    Ok(MemberSettings {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        peer_urls: texts(&config.advertise_peer_urls),
        client_urls: texts(&config.advertise_client_urls),
        initial_cluster: bootstrap
            .members
            .iter()
            .map(|(id, member)| {
                (*id, Named { name: member.name.clone(), peer_urls: texts(&member.peer_urls) })
            })
            .collect(),
        cluster_id: bootstrap.cluster,
        member_id: bootstrap.member,
        token: config.initial_cluster_token.clone(),
        new_cluster: config.cluster_state == ClusterState::New && !bootstrap.members.is_empty(),
        timing: RaftTiming {
            heartbeat_ms: u64::try_from(config.heartbeat_interval.as_millis()).unwrap_or(u64::MAX),
            election_ms,
        },
        limits: Limits {
            max_request_bytes: config.max_request_bytes,
            max_txn_ops: config.max_txn_ops,
            min_lease_ttl_s: min_ttl_s(election_ms),
        },
        logins: LoginSettings {
            token_ttl: config.auth_token_ttl,
            client_cert_auth: config.client_tls.client_cert_auth,
        },
        quota_bytes: config.quota_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        auto_compaction: config.auto_compaction,
        corrupt_check: config.corrupt_check,
        snapshots: SnapshotRule {
            entries: config.snapshot_count,
            keep_log_bytes: config
                .snapshot_count
                .saturating_mul(KEEP_LOG_BYTES_PER_ENTRY)
                .clamp(*KEEP_LOG_BYTES.start(), *KEEP_LOG_BYTES.end()),
        },
        backups: config.backups.clone(),
        unsafe_no_fsync: config.unsafe_no_fsync,
        metrics: Arc::clone(metrics),
        machine: Arc::new(ThisMachine::new(peer_tls)),
    })
}

/// A member as its health checks see it.
#[derive(Clone)]
struct Health(Member);

impl Health {
    fn read(&self) -> Result<(), String> {
        let key = KeyRange { key: bytes::Bytes::from_static(b"health"), ..KeyRange::default() };
        let range = Range { range: key, limit: 1, ..Range::default() };
        self.0
            .published()
            .peek()
            .view
            .range(&range)
            .map(|_| ())
            .map_err(|error| StoreError::from(error).message())
    }
}

impl HealthSource for Health {
    async fn serializable_read(&self) -> Result<(), String> {
        self.read()
    }

    async fn linearizable_read(&self) -> Result<(), String> {
        self.0.read_barrier().await.map_err(|error| error.message())?;
        self.read()
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        // Another member's data is no reason to send nobody here.
        let concerns = |alarm: &ActiveAlarm| alarm.kind != AlarmKind::Corrupt || self.0.is_corrupt();
        self.0.alarms().into_iter().filter(concerns).map(|alarm| alarm.kind).collect()
    }

    fn has_leader(&self) -> bool {
        self.0.leader().is_some()
    }

    fn is_learner(&self) -> bool {
        self.0.is_learner()
    }
}
