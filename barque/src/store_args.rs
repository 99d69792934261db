//! The command line of `barque store`: etcd's flags under etcd's names, each also an environment variable.
//!
//! Only words; what they mean is checked by the store's configuration.

use std::path::PathBuf;

use barque_store::config::{
    DEFAULT_AUTO_COMPACTION_MODE, DEFAULT_CLIENT_URL, DEFAULT_ELECTION_TIMEOUT_MS,
    DEFAULT_HEARTBEAT_INTERVAL_MS, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_TXN_OPS, DEFAULT_NAME,
    DEFAULT_PEER_URL, DEFAULT_SNAPSHOT_COUNT, DEFAULT_TOKEN, MemberConfig, TlsFiles,
};
use clap::{ArgAction, Args};

use crate::logging::LogFormat;

const MEMBER: &str = "Member";
const CLUSTER: &str = "Cluster";
const LIMITS: &str = "Limits and timing";
const TLS: &str = "TLS";
const LOG: &str = "Log";

macro_rules! env {
    ($name:literal) => {
        concat!("BARQUE_STORE_", $name)
    };
}

/// Flags of `barque store`.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Human name of this member.
    #[arg(long, env = env!("NAME"), default_value = DEFAULT_NAME, help_heading = MEMBER)]
    name: String,

    /// Directory of the member's data; <name>.barque when not set.
    #[arg(long, env = env!("DATA_DIR"), value_name = "DIR", help_heading = MEMBER)]
    data_dir: Option<PathBuf>,

    /// URLs to listen on for clients.
    #[arg(long, env = env!("LISTEN_CLIENT_URLS"), value_name = "URLS", value_delimiter = ',', default_value = DEFAULT_CLIENT_URL, help_heading = MEMBER)]
    listen_client_urls: Vec<String>,

    /// URLs by which clients reach this member; required when --listen-client-urls is set.
    #[arg(long, env = env!("ADVERTISE_CLIENT_URLS"), value_name = "URLS", value_delimiter = ',', help_heading = MEMBER)]
    advertise_client_urls: Option<Vec<String>>,

    /// URLs to listen on for the other members.
    #[arg(long, env = env!("LISTEN_PEER_URLS"), value_name = "URLS", value_delimiter = ',', default_value = DEFAULT_PEER_URL, help_heading = MEMBER)]
    listen_peer_urls: Vec<String>,

    /// URLs by which the other members reach this one.
    #[arg(long, env = env!("INITIAL_ADVERTISE_PEER_URLS"), value_name = "URLS", value_delimiter = ',', default_value = DEFAULT_PEER_URL, help_heading = CLUSTER)]
    initial_advertise_peer_urls: Vec<String>,

    /// Further URLs for /metrics and the health endpoints alone.
    #[arg(long, env = env!("LISTEN_METRICS_URLS"), value_name = "URLS", value_delimiter = ',', help_heading = MEMBER)]
    listen_metrics_urls: Vec<String>,

    /// The members of the cluster, NAME=URL for each peer URL, separated by commas.
    #[arg(long, env = env!("INITIAL_CLUSTER"), value_name = "MEMBERS", help_heading = CLUSTER)]
    initial_cluster: Option<String>,

    /// Whether the cluster begins now (new) or this member was added to it (existing).
    #[arg(long, env = env!("INITIAL_CLUSTER_STATE"), value_name = "new|existing", default_value = "new", help_heading = CLUSTER)]
    initial_cluster_state: String,

    /// Keeps clusters apart that have the same addresses.
    #[arg(long, env = env!("INITIAL_CLUSTER_TOKEN"), value_name = "TOKEN", default_value = DEFAULT_TOKEN, help_heading = CLUSTER)]
    initial_cluster_token: String,

    /// Bytes of live keys and values allowed; 0 for 2 GiB, negative for no limit.
    #[arg(long, env = env!("QUOTA_BACKEND_BYTES"), value_name = "BYTES", default_value_t = 0, allow_negative_numbers = true, help_heading = LIMITS)]
    quota_backend_bytes: i64,

    /// The largest request, in bytes.
    #[arg(long, env = env!("MAX_REQUEST_BYTES"), value_name = "BYTES", default_value_t = DEFAULT_MAX_REQUEST_BYTES, help_heading = LIMITS)]
    max_request_bytes: u64,

    /// The most operations in a transaction.
    #[arg(long, env = env!("MAX_TXN_OPS"), value_name = "N", default_value_t = DEFAULT_MAX_TXN_OPS, help_heading = LIMITS)]
    max_txn_ops: u64,

    /// What history automatic compaction keeps: that of a time (periodic) or so many revisions (revision).
    #[arg(long, env = env!("AUTO_COMPACTION_MODE"), value_name = "periodic|revision", default_value = DEFAULT_AUTO_COMPACTION_MODE, help_heading = LIMITS)]
    auto_compaction_mode: String,

    /// How much history to keep: a time such as 30m or 5h (a plain number is hours), or revisions; 0 is all.
    /// 1h when neither this nor the mode is set.
    #[arg(long, env = env!("AUTO_COMPACTION_RETENTION"), value_name = "RETENTION", help_heading = LIMITS)]
    auto_compaction_retention: Option<String>,

    /// Time between heartbeats of a leader, in milliseconds.
    #[arg(long, env = env!("HEARTBEAT_INTERVAL"), value_name = "MS", default_value_t = DEFAULT_HEARTBEAT_INTERVAL_MS, help_heading = LIMITS)]
    heartbeat_interval: u64,

    /// Silence of the leader after which a member stands for election, in milliseconds.
    #[arg(long, env = env!("ELECTION_TIMEOUT"), value_name = "MS", default_value_t = DEFAULT_ELECTION_TIMEOUT_MS, help_heading = LIMITS)]
    election_timeout: u64,

    /// Log entries between two snapshots, at least.
    #[arg(long, env = env!("SNAPSHOT_COUNT"), value_name = "N", default_value_t = DEFAULT_SNAPSHOT_COUNT, help_heading = LIMITS)]
    snapshot_count: u64,

    /// Certificate for clients, PEM. Read again when it changes.
    #[arg(long, env = env!("CERT_FILE"), value_name = "FILE", help_heading = TLS)]
    cert_file: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long, env = env!("KEY_FILE"), value_name = "FILE", help_heading = TLS)]
    key_file: Option<PathBuf>,

    /// Authorities whose client certificates are accepted, PEM.
    #[arg(long, env = env!("TRUSTED_CA_FILE"), value_name = "FILE", help_heading = TLS)]
    trusted_ca_file: Option<PathBuf>,

    /// Accept only clients with a certificate.
    #[arg(long, env = env!("CLIENT_CERT_AUTH"), num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = ArgAction::Set, help_heading = TLS)]
    client_cert_auth: bool,

    /// Certificate for the other members, PEM. Read again when it changes.
    #[arg(long, env = env!("PEER_CERT_FILE"), value_name = "FILE", help_heading = TLS)]
    peer_cert_file: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(long, env = env!("PEER_KEY_FILE"), value_name = "FILE", help_heading = TLS)]
    peer_key_file: Option<PathBuf>,

    /// Authorities of the other members' certificates, PEM.
    #[arg(long, env = env!("PEER_TRUSTED_CA_FILE"), value_name = "FILE", help_heading = TLS)]
    peer_trusted_ca_file: Option<PathBuf>,

    /// Accept only members with a certificate.
    #[arg(long, env = env!("PEER_CLIENT_CERT_AUTH"), num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = ArgAction::Set, help_heading = TLS)]
    peer_client_cert_auth: bool,

    /// debug, info, warn or error, or directives such as info,barque_store=debug.
    #[arg(long, env = env!("LOG_LEVEL"), value_name = "LEVEL", default_value = "info", help_heading = LOG)]
    pub(crate) log_level: String,

    /// How a line of the log looks.
    #[arg(long, env = env!("LOG_FORMAT"), value_enum, default_value_t = LogFormat::Text, help_heading = LOG)]
    pub(crate) log_format: LogFormat,
}

impl StoreArgs {
    /// The words, for the store to check.
    pub(crate) fn config(self: Box<Self>) -> MemberConfig {
        MemberConfig {
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
            auto_compaction_mode: self.auto_compaction_mode,
            auto_compaction_retention: self.auto_compaction_retention,
            heartbeat_interval_ms: self.heartbeat_interval,
            election_timeout_ms: self.election_timeout,
            snapshot_count: self.snapshot_count,
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: StoreArgs,
    }

    fn parse(words: &[&str]) -> Result<MemberConfig, String> {
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"store").chain(words));
        line.map(|line| Box::new(line.args).config()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_it_is_the_default() {
        assert_eq!(parse(&[]).unwrap(), MemberConfig::default());
    }

    #[test]
    fn flags_are_etcds() {
        let config = parse(&[
            "--name=a",
            "--listen-client-urls=http://127.0.0.1:1,http://127.0.0.1:2",
            "--client-cert-auth",
            "--peer-client-cert-auth=true",
            "--quota-backend-bytes=-1",
            "--heartbeat-interval",
            "50",
        ])
        .unwrap();
        assert_eq!(config.listen_client_urls.len(), 2);
        assert!(config.client_tls.client_cert_auth && config.peer_tls.client_cert_auth);
        assert_eq!((config.quota_backend_bytes, config.heartbeat_interval_ms), (-1, 50));
    }

    #[test]
    fn a_wrong_word_names_the_flag() {
        for (words, flag) in [
            (&["--heartbeat-interval=soon"][..], "--heartbeat-interval"),
            (&["--max-txn-ops=-3"], "--max-txn-ops"),
            (&["--client-cert-auth=maybe"], "--client-cert-auth"),
            (&["--enable-pprof"], "--enable-pprof"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(flag), "{error}");
        }
    }
}
