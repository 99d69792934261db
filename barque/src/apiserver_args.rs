//! The flags of `barque apiserver`: kube-apiserver's names, each also as `BARQUE_APISERVER_*` in the environment.
//!
//! Turns words into a configuration; what they must be is the server's to say.

use std::path::PathBuf;

use barque_apiserver::admission::DefaultTolerations;
use barque_apiserver::config::{AuditFlags, Config, ConfigError, ValidConfig};
use barque_apiserver::streaming::dial::{AgentFlags, AgentIdentity};
use clap::{Args, ValueEnum};

use crate::authentication_args::AuthenticationArgs;
use crate::log::{self, LogFormat, LogLevel};

/// Serves the Kubernetes API over a store, with kube-apiserver's flags.
#[derive(Debug, Args)]
pub(crate) struct ApiserverArgs {
    /// The address to listen on; 0.0.0.0 and :: are all there are.
    #[arg(long, env = "BARQUE_APISERVER_BIND_ADDRESS", default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind_address: String,
    /// The port to listen on, with TLS; 0 lets the system choose.
    #[arg(long, env = "BARQUE_APISERVER_SECURE_PORT", default_value_t = 6443, value_name = "PORT")]
    secure_port: u16,
    /// The address by which members of the cluster reach this server [default: --bind-address, or that of the default
    /// route's interface].
    #[arg(long, env = "BARQUE_APISERVER_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    advertise_address: Option<String>,
    /// The name or address of this server in addresses that it hands out [default: --advertise-address].
    #[arg(long, env = "BARQUE_APISERVER_EXTERNAL_HOSTNAME", value_name = "NAME")]
    external_hostname: Option<String>,
    /// Certificate and chain that clients are shown, PEM. Read again when it changes [default: one that signs itself,
    /// in --cert-dir].
    #[arg(long, env = "BARQUE_APISERVER_TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Key of --tls-cert-file, PEM.
    #[arg(long, env = "BARQUE_APISERVER_TLS_PRIVATE_KEY_FILE", value_name = "FILE")]
    tls_private_key_file: Option<PathBuf>,

    /// Directory for the certificate that signs itself.
    #[arg(
        long,
        env = "BARQUE_APISERVER_CERT_DIR",
        default_value = "/var/run/kubernetes",
        value_name = "DIR"
    )]
    cert_dir: PathBuf,

    #[command(flatten)]
    authentication: AuthenticationArgs,

    /// Certificate that servers of other groups (APIService) are shown, PEM. By it they know that this server may say who
    /// asks. Read again when it changes.
    #[arg(long, env = "BARQUE_APISERVER_PROXY_CLIENT_CERT_FILE", value_name = "FILE")]
    proxy_client_cert_file: Option<PathBuf>,
    /// Key of --proxy-client-cert-file, PEM.
    #[arg(long, env = "BARQUE_APISERVER_PROXY_CLIENT_KEY_FILE", value_name = "FILE")]
    proxy_client_key_file: Option<PathBuf>,

    #[command(flatten)]
    audit: AuditArgs,

    /// Requests that are worked on at once, together with --max-mutating-requests-inflight; priority levels share them.
    #[arg(long, env = "BARQUE_APISERVER_MAX_REQUESTS_INFLIGHT", default_value_t = 400, value_name = "COUNT")]
    max_requests_inflight: u32,
    /// Added to --max-requests-inflight.
    #[arg(
        long,
        env = "BARQUE_APISERVER_MAX_MUTATING_REQUESTS_INFLIGHT",
        default_value_t = 200,
        value_name = "COUNT"
    )]
    max_mutating_requests_inflight: u32,
    /// How long a request may take that is no watch and no stream; `timeout` of a request may say less.
    #[arg(long, env = "BARQUE_APISERVER_REQUEST_TIMEOUT", default_value = "1m0s", value_name = "TIME")]
    request_timeout: String,

    /// URLs of the store's members, comma separated.
    #[arg(
        long,
        env = "BARQUE_APISERVER_ETCD_SERVERS",
        default_value = "http://127.0.0.1:2379",
        value_name = "URLS",
        value_delimiter = ','
    )]
    etcd_servers: Vec<String>,
    /// Authorities of the store's certificates, PEM.
    #[arg(long, env = "BARQUE_APISERVER_ETCD_CAFILE", value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// Certificate that the store is shown, PEM.
    #[arg(long, env = "BARQUE_APISERVER_ETCD_CERTFILE", value_name = "FILE")]
    etcd_certfile: Option<PathBuf>,
    /// Key of --etcd-certfile, PEM.
    #[arg(long, env = "BARQUE_APISERVER_ETCD_KEYFILE", value_name = "FILE")]
    etcd_keyfile: Option<PathBuf>,
    /// What all keys in the store begin with.
    #[arg(long, env = "BARQUE_APISERVER_ETCD_PREFIX", default_value = "/registry", value_name = "PREFIX")]
    etcd_prefix: String,
    /// How often old states of the store are forgotten, by one server for all; 0 is never.
    #[arg(
        long,
        env = "BARQUE_APISERVER_ETCD_COMPACTION_INTERVAL",
        default_value = "5m0s",
        value_name = "TIME"
    )]
    etcd_compaction_interval: String,
    /// An EncryptionConfiguration: what is encrypted in the store, and with which keys.
    #[arg(long, env = "BARQUE_APISERVER_ENCRYPTION_PROVIDER_CONFIG", value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// How long events are kept.
    #[arg(long, env = "BARQUE_APISERVER_EVENT_TTL", default_value = "1h0m0s", value_name = "TIME")]
    event_ttl: String,

    /// The network of services' addresses, or one of each family with a comma between.
    #[arg(
        long,
        env = "BARQUE_APISERVER_SERVICE_CLUSTER_IP_RANGE",
        default_value = "10.96.0.0/16",
        value_name = "NETWORKS"
    )]
    service_cluster_ip_range: String,
    /// The ports of nodes on which services can be reached.
    #[arg(
        long,
        env = "BARQUE_APISERVER_SERVICE_NODE_PORT_RANGE",
        default_value = "30000-32767",
        value_name = "PORTS"
    )]
    service_node_port_range: String,
    /// How many seconds pods stay on a node that is not ready, if they do not say it.
    #[arg(
        long,
        env = "BARQUE_APISERVER_DEFAULT_NOT_READY_TOLERATION_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    default_not_ready_toleration_seconds: u32,
    /// The same on a node that is not heard of. With it at 10 and the controller manager's --node-failover=fast, pods leave a
    /// dead node after about 30 s.
    #[arg(
        long,
        env = "BARQUE_APISERVER_DEFAULT_UNREACHABLE_TOLERATION_SECONDS",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    default_unreachable_toleration_seconds: u32,
    /// Paths that everybody may use, comma separated; a star at the end stands for anything.
    #[arg(
        long,
        env = "BARQUE_APISERVER_AUTHORIZATION_ALWAYS_ALLOW_PATHS",
        default_value = "/healthz,/readyz,/livez",
        value_name = "PATHS",
        value_delimiter = ','
    )]
    authorization_always_allow_paths: Vec<String>,

    /// Which addresses of nodes their agents are reached by, the best first.
    #[arg(
        long,
        env = "BARQUE_APISERVER_KUBELET_PREFERRED_ADDRESS_TYPES",
        default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP",
        value_name = "TYPES",
        value_delimiter = ','
    )]
    kubelet_preferred_address_types: Vec<String>,
    /// Certificate that agents of nodes are shown, PEM.
    #[arg(long, env = "BARQUE_APISERVER_KUBELET_CLIENT_CERTIFICATE", value_name = "FILE")]
    kubelet_client_certificate: Option<PathBuf>,
    /// Key of --kubelet-client-certificate, PEM.
    #[arg(long, env = "BARQUE_APISERVER_KUBELET_CLIENT_KEY", value_name = "FILE")]
    kubelet_client_key: Option<PathBuf>,
    /// Authorities of the certificates of agents, PEM; without it they are not verified.
    #[arg(long, env = "BARQUE_APISERVER_KUBELET_CERTIFICATE_AUTHORITY", value_name = "FILE")]
    kubelet_certificate_authority: Option<PathBuf>,
    /// What they must be for.
    #[arg(
        long,
        env = "BARQUE_APISERVER_KUBELET_CERTIFICATE_IDENTITY",
        default_value = "address",
        value_name = "IDENTITY"
    )]
    kubelet_certificate_identity: Identity,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What certificates of agents must be for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Identity {
    /// The name or address that is connected to, as with kube-apiserver.
    Address,
    /// The user system:node:NAME, where NAME's object has the annotation barque.dev/serving-certificate=cluster, as agents that
    /// joined write it; agents of other nodes are not verified.
    Node,
}

/// What is written down of requests.
#[derive(Debug, Args)]
struct AuditArgs {
    /// A Policy of audit.k8s.io/v1: what is told of which requests.
    #[arg(long, env = "BARQUE_APISERVER_AUDIT_POLICY_FILE", value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where it is told, a line of JSON each; - is standard output.
    #[arg(long, env = "BARQUE_APISERVER_AUDIT_LOG_PATH", value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// When the file is put aside, in MiB; 0 is never.
    #[arg(long, env = "BARQUE_APISERVER_AUDIT_LOG_MAXSIZE", default_value_t = 100, value_name = "MIB")]
    audit_log_maxsize: u64,
    /// How many files that were put aside are kept; 0 is all.
    #[arg(long, env = "BARQUE_APISERVER_AUDIT_LOG_MAXBACKUP", default_value_t = 0, value_name = "COUNT")]
    audit_log_maxbackup: usize,
    /// For how many days they are kept; 0 is for ever.
    #[arg(long, env = "BARQUE_APISERVER_AUDIT_LOG_MAXAGE", default_value_t = 0, value_name = "DAYS")]
    audit_log_maxage: u64,
}

impl AuditArgs {
    fn into_flags(self) -> AuditFlags {
        AuditFlags {
            audit_policy_file: self.audit_policy_file,
            audit_log_path: self.audit_log_path,
            audit_log_maxsize: self.audit_log_maxsize,
            audit_log_maxbackup: self.audit_log_maxbackup,
            audit_log_maxage: self.audit_log_maxage,
        }
    }
}

/// What is logged.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogArgs {
    /// The least important messages that are logged.
    #[arg(long, env = "BARQUE_APISERVER_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(
        long,
        alias = "logging-format",
        env = "BARQUE_APISERVER_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
}

impl LogArgs {
    /// From here on, messages are written.
    pub(crate) fn start(self) {
        log::start(self.log_level, self.log_format);
    }
}

impl ApiserverArgs {
    /// The configuration, checked.
    pub(crate) fn into_config(self) -> Result<ValidConfig, ConfigError> {
        Config {
            bind_address: self.bind_address,
            secure_port: self.secure_port,
            advertise_address: self.advertise_address,
            external_hostname: self.external_hostname,
            tls_cert_file: self.tls_cert_file,
            tls_private_key_file: self.tls_private_key_file,
            etcd_servers: self.etcd_servers,
            etcd_cafile: self.etcd_cafile,
            etcd_certfile: self.etcd_certfile,
            etcd_keyfile: self.etcd_keyfile,
            etcd_prefix: self.etcd_prefix,
            etcd_compaction_interval: self.etcd_compaction_interval,
            encryption_provider_config: self.encryption_provider_config,
            event_ttl: self.event_ttl,
            cert_dir: self.cert_dir,
            authentication: self.authentication.into_flags(),
            proxy_client_cert_file: self.proxy_client_cert_file,
            proxy_client_key_file: self.proxy_client_key_file,
            audit: self.audit.into_flags(),
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            request_timeout: self.request_timeout,
            service_cluster_ip_range: self.service_cluster_ip_range,
            service_node_port_range: self.service_node_port_range,
            default_tolerations: DefaultTolerations {
                not_ready_seconds: self.default_not_ready_toleration_seconds.into(),
                unreachable_seconds: self.default_unreachable_toleration_seconds.into(),
            },
            authorization_always_allow_paths: self.authorization_always_allow_paths,
            agents: AgentFlags {
                preferred_address_types: self.kubelet_preferred_address_types,
                client_certificate: self.kubelet_client_certificate,
                client_key: self.kubelet_client_key,
                certificate_authority: self.kubelet_certificate_authority,
                certificate_identity: match self.kubelet_certificate_identity {
                    Identity::Address => AgentIdentity::Address,
                    Identity::Node => AgentIdentity::Node,
                },
            },
        }
        .validate()
    }
}
