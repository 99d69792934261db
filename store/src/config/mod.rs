//! What a member is told when it starts: the raw words, and what they mean once they were checked.
//!
//! Pure: never reads a file, the environment, the clock or the network. Where the words come from (flags,
//! environment) is the binary's business.

mod go_duration;
mod initial_cluster;
mod retention;
mod schedule;
mod url;
mod valid;

use std::path::PathBuf;

use thiserror::Error;

pub use self::initial_cluster::{InitialMember, parse as parse_initial_cluster};
pub use self::retention::AutoCompaction;
pub use self::schedule::Schedule;
pub use self::url::{Scheme, Url, UrlError};
pub use self::valid::{Backups, Bootstrap, ClusterState, ValidConfig};

/// `--name`.
pub const DEFAULT_NAME: &str = "default";
/// `--listen-client-urls` and `--advertise-client-urls`.
pub const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
/// `--listen-peer-urls` and `--initial-advertise-peer-urls`.
pub const DEFAULT_PEER_URL: &str = "http://localhost:2380";
/// `--initial-cluster-token`.
pub const DEFAULT_TOKEN: &str = "etcd-cluster";
/// `--quota-backend-bytes` when it is 0: 2 GiB.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
/// A quota above this gets a warning: 8 GiB.
pub const QUOTA_WARNING_BYTES: u64 = 8 << 30;
/// `--max-request-bytes`: 1.5 MiB.
pub const DEFAULT_MAX_REQUEST_BYTES: u64 = 1_572_864;
/// The largest `--max-request-bytes`: a request is one entry of the log and one message between members.
pub const MAX_REQUEST_BYTES: u64 = 512 << 20;
/// `--max-request-bytes` above this gets a warning: 10 MiB.
pub const REQUEST_WARNING_BYTES: u64 = 10 << 20;
/// `--max-txn-ops`.
pub const DEFAULT_MAX_TXN_OPS: u64 = 128;
/// `--heartbeat-interval`.
pub const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 100;
/// `--election-timeout`.
pub const DEFAULT_ELECTION_TIMEOUT_MS: u64 = 1000;
/// The longest `--election-timeout`.
pub const MAX_ELECTION_TIMEOUT_MS: u64 = 50_000;
/// `--snapshot-count`.
pub const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;
/// `--snapshot-retention`.
pub const DEFAULT_SNAPSHOT_RETENTION: u32 = 5;
/// `--auth-token`.
pub const DEFAULT_AUTH_TOKEN: &str = "simple";
/// `--auth-token-ttl`, also when it is 0.
pub const DEFAULT_AUTH_TOKEN_TTL_S: u64 = 300;
/// `--auto-compaction-mode`.
pub const DEFAULT_AUTO_COMPACTION_MODE: &str = "periodic";
/// `--auto-compaction-retention` in periodic mode. etcd's is 0, which is off.
pub const DEFAULT_AUTO_COMPACTION_RETENTION: &str = "1h";

/// `--corrupt-check-time`. etcd's is 0, which is off.
pub const DEFAULT_CORRUPT_CHECK_TIME: &str = "5m";

/// The words a member was started with, each named by the flag of etcd that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// `--name`: the member's human name, unique in the cluster.
    pub name: String,
    /// `--data-dir`; `None` is `${name}.barque`.
    pub data_dir: Option<PathBuf>,
    /// `--listen-client-urls`.
    pub listen_client_urls: Vec<String>,
    /// `--advertise-client-urls`; `None` only together with the default `listen_client_urls`.
    pub advertise_client_urls: Option<Vec<String>>,
    /// `--listen-peer-urls`.
    pub listen_peer_urls: Vec<String>,
    /// `--initial-advertise-peer-urls`.
    pub initial_advertise_peer_urls: Vec<String>,
    /// `--listen-metrics-urls`: further ports for health and metrics only.
    pub listen_metrics_urls: Vec<String>,
    /// `--initial-cluster`: `a=http://10.0.0.1:2380,b=...`; `None` is this member alone.
    pub initial_cluster: Option<String>,
    /// `--initial-cluster-state`: `new` or `existing`.
    pub initial_cluster_state: String,
    /// `--initial-cluster-token`: keeps clusters apart that have equal addresses.
    pub initial_cluster_token: String,
    /// `--quota-backend-bytes`: 0 is [`DEFAULT_QUOTA_BYTES`], negative is no limit.
    pub quota_backend_bytes: i64,
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--max-txn-ops`.
    pub max_txn_ops: u64,
    /// `--auth-token`: `simple` is the only kind.
    pub auth_token: String,
    /// `--auth-token-ttl`: seconds; 0 is [`DEFAULT_AUTH_TOKEN_TTL_S`].
    pub auth_token_ttl_s: u64,
    /// `--auto-compaction-mode`: `periodic` or `revision`.
    pub auto_compaction_mode: String,
    /// `--auto-compaction-retention`; `None` is one hour in periodic mode and off in revision mode.
    pub auto_compaction_retention: Option<String>,
    /// `--corrupt-check-time`: a time such as `5m`; `0` or `0s` is never.
    pub corrupt_check_time: String,
    /// `--heartbeat-interval`.
    pub heartbeat_interval_ms: u64,
    /// `--election-timeout`.
    pub election_timeout_ms: u64,
    /// `--snapshot-count`: applied entries between two snapshots.
    pub snapshot_count: u64,
    /// `--snapshot-schedule`: five fields as cron has them, a name such as `@daily`, or `@every 6h`; empty for never.
    pub snapshot_schedule: String,
    /// `--snapshot-retention`: how many good ones are kept.
    pub snapshot_retention: u32,
    /// `--snapshot-dir`; `None` is `backups` in the data directory.
    pub snapshot_dir: Option<PathBuf>,
    /// `--unsafe-no-fsync`: the log is not synced; for tests.
    pub unsafe_no_fsync: bool,
    /// `--cert-file` and its like, for clients.
    pub client_tls: TlsFiles,
    /// `--peer-cert-file` and its like, for the other members.
    pub peer_tls: TlsFiles,
}

/// The files of one side's TLS, as they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `--cert-file`: the certificate and its chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// `--key-file`: the certificate's key, PEM.
    pub key_file: Option<PathBuf>,
    /// `--trusted-ca-file`: the authorities of the certificates that callers show, PEM.
    pub trusted_ca_file: Option<PathBuf>,
    /// `--client-cert-auth`: callers must show a certificate. As in etcd a `trusted_ca_file` asks for the same.
    pub client_cert_auth: bool,
}

impl Default for MemberConfig {
    /// etcd's defaults, except for automatic compaction, which is on.
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.into(),
            data_dir: None,
            listen_client_urls: vec![DEFAULT_CLIENT_URL.into()],
            advertise_client_urls: None,
            listen_peer_urls: vec![DEFAULT_PEER_URL.into()],
            initial_advertise_peer_urls: vec![DEFAULT_PEER_URL.into()],
            listen_metrics_urls: Vec::new(),
            initial_cluster: None,
            initial_cluster_state: "new".into(),
            initial_cluster_token: DEFAULT_TOKEN.into(),
            quota_backend_bytes: 0,
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
            max_txn_ops: DEFAULT_MAX_TXN_OPS,
            auth_token: DEFAULT_AUTH_TOKEN.into(),
            auth_token_ttl_s: DEFAULT_AUTH_TOKEN_TTL_S,
            auto_compaction_mode: DEFAULT_AUTO_COMPACTION_MODE.into(),
            auto_compaction_retention: None,
            corrupt_check_time: DEFAULT_CORRUPT_CHECK_TIME.into(),
            heartbeat_interval_ms: DEFAULT_HEARTBEAT_INTERVAL_MS,
            election_timeout_ms: DEFAULT_ELECTION_TIMEOUT_MS,
            snapshot_count: DEFAULT_SNAPSHOT_COUNT,
            snapshot_schedule: String::new(),
            snapshot_retention: DEFAULT_SNAPSHOT_RETENTION,
            snapshot_dir: None,
            unsafe_no_fsync: false,
            client_tls: TlsFiles::default(),
            peer_tls: TlsFiles::default(),
        }
    }
}

/// Why a configuration cannot start a member. The text names the flag and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The name cannot stand in `--initial-cluster`.
    #[error("--name={0:?} must not be empty and must not contain '=' or ','")]
    Name(String),
    /// A list of URLs is empty.
    #[error("{flag} needs at least one URL, such as {example}")]
    NoUrl {
        /// The flag.
        flag: &'static str,
        /// What would do.
        example: &'static str,
    },
    /// One URL of a list is wrong.
    #[error("{flag}={url}: {source}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// The URL as it was written.
        url: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// One address is to be bound twice.
    #[error("{flag}={url}: {other} already listens there; give each its own port")]
    ListenTwice {
        /// The flag that comes second.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// The flag that comes first.
        other: &'static str,
    },
    /// Clients would not learn where the member is.
    #[error(
        "--advertise-client-urls is required when --listen-client-urls is set: name the URLs by which clients \
         reach this member"
    )]
    NoAdvertiseClientUrls,
    /// An https URL without a certificate.
    #[error("{flag}={url} is https: {cert_flag} and {key_flag} must name the certificate and its key")]
    HttpsWithoutCert {
        /// The flag of the URL.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// Which flag names the certificate.
        cert_flag: &'static str,
        /// Which flag names the key.
        key_flag: &'static str,
    },
    /// A certificate without its key.
    #[error("{cert_flag} is set and {key_flag} is not: both are needed")]
    CertWithoutKey {
        /// Which flag names the certificate.
        cert_flag: &'static str,
        /// Which flag names the key.
        key_flag: &'static str,
    },
    /// A key without its certificate.
    #[error("{key_flag} is set and {cert_flag} is not: both are needed")]
    KeyWithoutCert {
        /// Which flag names the certificate.
        cert_flag: &'static str,
        /// Which flag names the key.
        key_flag: &'static str,
    },
    /// Certificates are asked for and nothing tells which are good.
    #[error("{auth_flag} needs {ca_flag}: the authorities whose certificates are accepted")]
    AuthWithoutCa {
        /// Which flag asks for certificates.
        auth_flag: &'static str,
        /// Which flag names the authorities.
        ca_flag: &'static str,
    },
    /// Members over https that could not know each other.
    #[error(
        "--initial-cluster: {url} is https: --peer-trusted-ca-file must name the authorities of the members' certificates"
    )]
    HttpsPeerWithoutCa {
        /// The other member's URL.
        url: Url,
    },
    /// A piece of `--initial-cluster` is not `name=url`.
    #[error("--initial-cluster: {0:?} must read name=url, such as a=http://10.0.0.1:2380")]
    InitialClusterSyntax(String),
    /// One URL belongs to two members.
    #[error("--initial-cluster: {0} occurs twice: each URL belongs to one member")]
    InitialClusterTwice(Url),
    /// This member is missing.
    #[error("--initial-cluster does not name this member: it must contain {name}={url} (--name is {name:?})")]
    NotInInitialCluster {
        /// `--name`.
        name: String,
        /// A URL of `--initial-advertise-peer-urls`.
        url: String,
    },
    /// This member has other URLs.
    #[error(
        "--initial-cluster has {listed} for {name} and --initial-advertise-peer-urls has {advertised}: they must be equal"
    )]
    PeerUrlsDiffer {
        /// `--name`.
        name: String,
        /// In `--initial-cluster`.
        listed: String,
        /// In `--initial-advertise-peer-urls`.
        advertised: String,
    },
    /// Neither `new` nor `existing`.
    #[error("--initial-cluster-state={0:?} must be new or existing")]
    ClusterState(String),
    /// A number is outside its bounds.
    #[error("{flag}={value} must be {right}")]
    Number {
        /// The flag.
        flag: &'static str,
        /// What it was.
        value: u64,
        /// What it may be, with the unit.
        right: &'static str,
    },
    /// The two timings do not go together.
    #[error(
        "--election-timeout={election_ms} (ms) must be at least 5 times --heartbeat-interval={heartbeat_ms} (ms), \
         that is {least_ms} or more"
    )]
    ElectionTooShort {
        /// What it was.
        election_ms: u64,
        /// The other flag.
        heartbeat_ms: u64,
        /// What would be right.
        least_ms: u64,
    },
    /// Not a schedule.
    #[error(
        "--snapshot-schedule={text:?}: {why}; write five fields as in cron (minute, hour, day, month, weekday; UTC), \
         a name such as @hourly or @daily, or an interval such as \"@every 6h\""
    )]
    SnapshotSchedule {
        /// What it was.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Snapshots cannot be written there.
    #[error("--snapshot-dir={}: {why}; name a directory in which this member may write", dir.display())]
    SnapshotDir {
        /// The directory.
        dir: PathBuf,
        /// What was tried, and why it failed.
        why: String,
    },
    /// Another kind of token.
    #[error(
        "--auth-token={0:?} must be simple, the default: tokens that every member knows, also after a restart; \
         tokens of other kinds, such as jwt, are not supported"
    )]
    AuthToken(String),
    /// Neither `periodic` nor `revision`.
    #[error("--auto-compaction-mode={0:?} must be periodic or revision")]
    CompactionMode(String),
    /// Not a time.
    #[error(
        "--auto-compaction-retention={0:?} must be a time such as 30m or 1h, a number of hours, or 0 for no \
         compaction"
    )]
    RetentionTime(String),
    /// Not a time.
    #[error("--corrupt-check-time={0:?} must be a time such as 30s or 5m, or 0 for no check")]
    CorruptCheckTime(String),
    /// Not a number of revisions.
    #[error(
        "--auto-compaction-retention={0:?} must be a number of revisions such as 1000 with \
         --auto-compaction-mode=revision, or 0 for no compaction"
    )]
    RetentionRevisions(String),
}

#[cfg(test)]
mod tests;
