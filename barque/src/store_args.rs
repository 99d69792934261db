//! The flags of `barque store`: etcd's names, each also as `BARQUE_STORE_*` in the environment.
//!
//! Turns words into a configuration; what they must be is the store's to say.

use std::path::{Path, PathBuf};

use barque_store::config::{ConfigError, MemberConfig, TlsFiles, ValidConfig};
use barque_store::member::backups::prepare_directory;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::log::{self, LogFormat, LogLevel};

/// Runs a member of the key/value store, with etcd's flags.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Human name of this member, unique in the cluster.
    #[arg(long, env = "BARQUE_STORE_NAME", default_value = "default", value_name = "NAME")]
    name: String,
    /// Directory for everything that the member writes [default: ${name}.barque].
    #[arg(long, env = "BARQUE_STORE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// URLs to listen to for clients, comma separated; hosts are addresses or localhost.
    #[arg(
        long,
        env = "BARQUE_STORE_LISTEN_CLIENT_URLS",
        default_value = "http://localhost:2379",
        value_name = "URLS",
        value_delimiter = ','
    )]
    listen_client_urls: Vec<String>,
    /// URLs by which clients reach this member [default: http://localhost:2379; required when
    /// --listen-client-urls is set].
    #[arg(long, env = "BARQUE_STORE_ADVERTISE_CLIENT_URLS", value_name = "URLS", value_delimiter = ',')]
    advertise_client_urls: Option<Vec<String>>,
    /// URLs to listen to for the other members.
    #[arg(
        long,
        env = "BARQUE_STORE_LISTEN_PEER_URLS",
        default_value = "http://localhost:2380",
        value_name = "URLS",
        value_delimiter = ','
    )]
    listen_peer_urls: Vec<String>,
    /// URLs by which the other members reach this one.
    #[arg(
        long,
        env = "BARQUE_STORE_INITIAL_ADVERTISE_PEER_URLS",
        default_value = "http://localhost:2380",
        value_name = "URLS",
        value_delimiter = ','
    )]
    initial_advertise_peer_urls: Vec<String>,
    /// Further URLs for /metrics, /health, /livez and /readyz only.
    #[arg(long, env = "BARQUE_STORE_LISTEN_METRICS_URLS", value_name = "URLS", value_delimiter = ',')]
    listen_metrics_urls: Vec<String>,

    /// All members of the cluster as it begins: a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,...
    /// [default: this member alone].
    #[arg(long, env = "BARQUE_STORE_INITIAL_CLUSTER", value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// `new` to begin a cluster, `existing` to join one that has added this member.
    #[arg(long, env = "BARQUE_STORE_INITIAL_CLUSTER_STATE", default_value = "new", value_name = "STATE")]
    initial_cluster_state: String,
    /// Keeps clusters apart that have equal addresses.
    #[arg(
        long,
        env = "BARQUE_STORE_INITIAL_CLUSTER_TOKEN",
        default_value = "etcd-cluster",
        value_name = "TOKEN"
    )]
    initial_cluster_token: String,

    /// Live bytes at which writes are refused; 0 is 2 GiB, negative is no limit.
    #[arg(
        long,
        env = "BARQUE_STORE_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        value_name = "BYTES",
        allow_negative_numbers = true
    )]
    quota_backend_bytes: i64,
    /// The longest request, in bytes.
    #[arg(long, env = "BARQUE_STORE_MAX_REQUEST_BYTES", default_value_t = 1_572_864, value_name = "BYTES")]
    max_request_bytes: u64,
    /// The most operations in one transaction.
    #[arg(long, env = "BARQUE_STORE_MAX_TXN_OPS", default_value_t = 128, value_name = "COUNT")]
    max_txn_ops: u64,
    /// Kind of the tokens that users get for their passwords: `simple`.
    #[arg(long, env = "BARQUE_STORE_AUTH_TOKEN", default_value = "simple", value_name = "KIND")]
    auth_token: String,
    /// How long a token is good after it was made or used last, in seconds; 0 is 300.
    #[arg(long, env = "BARQUE_STORE_AUTH_TOKEN_TTL", default_value_t = 300, value_name = "SECONDS")]
    auth_token_ttl: u64,
    /// How history is compacted without being asked: `periodic` or `revision`.
    #[arg(long, env = "BARQUE_STORE_AUTO_COMPACTION_MODE", default_value = "periodic", value_name = "MODE")]
    auto_compaction_mode: String,
    /// How much history is kept: a time such as 30m (a plain number is hours) in periodic mode, a number of
    /// revisions in revision mode; 0 is all of it [default: 1h in periodic mode, 0 in revision mode].
    #[arg(
        long,
        env = "BARQUE_STORE_AUTO_COMPACTION_RETENTION",
        value_name = "RETENTION",
        allow_hyphen_values = true
    )]
    auto_compaction_retention: Option<String>,
    /// How often the leader compares the data of all members, and shuts out a minority that differs: a time such
    /// as 5m; 0 is never.
    #[arg(
        long,
        alias = "experimental-corrupt-check-time",
        env = "BARQUE_STORE_CORRUPT_CHECK_TIME",
        default_value = "5m",
        value_name = "TIME"
    )]
    corrupt_check_time: String,
    /// Time between two heartbeats of the leader, in milliseconds.
    #[arg(long, env = "BARQUE_STORE_HEARTBEAT_INTERVAL", default_value_t = 100, value_name = "MS")]
    heartbeat_interval: u64,
    /// Time without a heartbeat after which a new leader is elected, in milliseconds; at least 5 heartbeats.
    #[arg(long, env = "BARQUE_STORE_ELECTION_TIMEOUT", default_value_t = 1000, value_name = "MS")]
    election_timeout: u64,
    /// Applied entries between two snapshots.
    #[arg(long, env = "BARQUE_STORE_SNAPSHOT_COUNT", default_value_t = 10_000, value_name = "COUNT")]
    snapshot_count: u64,
    /// When this member takes a snapshot into --snapshot-dir by itself: five fields as in cron (UTC), a name such as
    /// @hourly or @daily, or "@every 6h"; empty is never.
    #[arg(long, env = "BARQUE_STORE_SNAPSHOT_SCHEDULE", default_value = "", value_name = "SCHEDULE")]
    snapshot_schedule: String,
    /// How many good snapshots of --snapshot-schedule are kept.
    #[arg(long, env = "BARQUE_STORE_SNAPSHOT_RETENTION", default_value_t = 5, value_name = "COUNT")]
    snapshot_retention: u32,
    /// Directory for the snapshots of --snapshot-schedule [default: `backups` in the data directory].
    #[arg(long, env = "BARQUE_STORE_SNAPSHOT_DIR", value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,

    /// Certificate and chain that clients are shown, PEM. Read again when it changes.
    #[arg(long, env = "BARQUE_STORE_CERT_FILE", value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// Key of --cert-file, PEM.
    #[arg(long, env = "BARQUE_STORE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Authorities of clients' certificates, PEM. Clients must then show one.
    #[arg(long, env = "BARQUE_STORE_TRUSTED_CA_FILE", value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate.
    #[arg(long, env = "BARQUE_STORE_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", action = ArgAction::Set,
          value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    client_cert_auth: bool,
    /// Certificate and chain that this member shows the others, PEM. Read again when it changes.
    #[arg(long, env = "BARQUE_STORE_PEER_CERT_FILE", value_name = "FILE")]
    peer_cert_file: Option<PathBuf>,
    /// Key of --peer-cert-file, PEM.
    #[arg(long, env = "BARQUE_STORE_PEER_KEY_FILE", value_name = "FILE")]
    peer_key_file: Option<PathBuf>,
    /// Authorities of the members' certificates, PEM. Members must then show one.
    #[arg(long, env = "BARQUE_STORE_PEER_TRUSTED_CA_FILE", value_name = "FILE")]
    peer_trusted_ca_file: Option<PathBuf>,
    /// Members must show a certificate.
    #[arg(long, env = "BARQUE_STORE_PEER_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", action = ArgAction::Set,
          value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    peer_client_cert_auth: bool,

    /// Do not sync the log: a power cut loses acknowledged writes and may spoil the data. For tests.
    #[arg(long, env = "BARQUE_STORE_UNSAFE_NO_FSYNC", num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true", action = ArgAction::Set,
          value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    unsafe_no_fsync: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogArgs {
    /// The least important messages that are logged.
    #[arg(long, env = "BARQUE_STORE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(long, env = "BARQUE_STORE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

impl LogArgs {
    /// From here on, messages are written.
    pub(crate) fn start(self) {
        log::start(self.log_level, self.log_format);
    }
}

impl StoreArgs {
    /// The configuration, checked. A member whose data directory has nothing in it must also find itself in
    /// `--initial-cluster`; later the directory tells who it is.
    pub(crate) fn into_config(self) -> Result<ValidConfig, ConfigError> {
        let config = MemberConfig {
            name: self.name,
            data_dir: self.data_dir,
            listen_client_urls: self.listen_client_urls,
            advertise_client_urls: self.advertise_client_urls,
            listen_peer_urls: self.listen_peer_urls,
            initial_advertise_peer_urls: self.initial_advertise_peer_urls,
            listen_metrics_urls: self.listen_metrics_urls,
            initial_cluster: self.initial_cluster,
            initial_cluster_state: self.initial_cluster_state,
            initial_cluster_token: self.initial_cluster_token,
            quota_backend_bytes: self.quota_backend_bytes,
            max_request_bytes: self.max_request_bytes,
            max_txn_ops: self.max_txn_ops,
            auth_token: self.auth_token,
            auth_token_ttl_s: self.auth_token_ttl,
            auto_compaction_mode: self.auto_compaction_mode,
            auto_compaction_retention: self.auto_compaction_retention,
            corrupt_check_time: self.corrupt_check_time,
            heartbeat_interval_ms: self.heartbeat_interval,
            election_timeout_ms: self.election_timeout,
            snapshot_count: self.snapshot_count,
            snapshot_schedule: self.snapshot_schedule,
            snapshot_retention: self.snapshot_retention,
            snapshot_dir: self.snapshot_dir,
            unsafe_no_fsync: self.unsafe_no_fsync,
            client_tls: TlsFiles {
                cert_file: self.cert_file,
                key_file: self.key_file,
                trusted_ca_file: self.trusted_ca_file,
                client_cert_auth: self.client_cert_auth,
            },
            peer_tls: TlsFiles {
                cert_file: self.peer_cert_file,
                key_file: self.peer_key_file,
                trusted_ca_file: self.peer_trusted_ca_file,
                client_cert_auth: self.peer_client_cert_auth,
            },
        };
        let config = config.validate()?;
        if is_empty(&config.data_dir) {
            config.bootstrap()?;
        }
        // One inside the data directory is the member's to make, once it has locked that.
        if let Some(backups) = config.backups.as_ref().filter(|it| !it.dir.starts_with(&config.data_dir)) {
            prepare_directory(&backups.dir)?;
        }
        Ok(config)
    }
}

/// Whether nothing is there yet. A directory that cannot be read is not empty: its error comes when it is opened.
fn is_empty(directory: &Path) -> bool {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        store: StoreArgs,
    }

    fn parse(words: &[&str]) -> StoreArgs {
        Cli::try_parse_from([&["store"], words].concat()).unwrap().store
    }

    #[test]
    fn the_flags_defaults_are_the_stores_defaults() {
        let config = parse(&["--data-dir=/nowhere"]).into_config().unwrap();
        let expected = MemberConfig { data_dir: Some("/nowhere".into()), ..MemberConfig::default() };
        assert_eq!(config, expected.validate().unwrap());
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let flag = arg.get_long().unwrap();
            let expected = format!("BARQUE_STORE_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
        }
    }

    #[test]
    fn what_etcd_is_started_with_starts_a_member() {
        let args = parse(&[
            "--name=a",
            "--data-dir",
            "/nowhere",
            "--listen-client-urls=http://127.0.0.1:2379,http://[::1]:2379",
            "--advertise-client-urls=http://10.0.0.1:2379",
            "--initial-advertise-peer-urls",
            "http://10.0.0.1:2380",
            "--initial-cluster=a=http://10.0.0.1:2380,b=http://10.0.0.2:2380",
            "--quota-backend-bytes=-1",
            "--auto-compaction-retention=5m",
            "--trusted-ca-file=ca.pem",
            "--client-cert-auth",
            "--peer-client-cert-auth=false",
            "--log-level=panic",
        ]);
        let config = args.into_config().unwrap();
        assert_eq!(config.listen_client_urls.len(), 2);
        assert_eq!(config.initial_cluster.len(), 2);
        assert_eq!(config.quota_bytes, None);
        assert!(config.client_tls.client_cert_auth && !config.peer_tls.client_cert_auth);
        assert_eq!(
            config.auto_compaction,
            barque_store::config::AutoCompaction::Periodic(std::time::Duration::from_secs(300))
        );
    }
}
