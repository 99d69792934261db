//! The flags of `barque apiserver`: kube-apiserver's names, each also as `BARQUE_APISERVER_*` in the environment.
//!
//! Turns words into a configuration; what they must be is the server's to say.

use std::path::PathBuf;

use barque_apiserver::config::{Config, ConfigError, ValidConfig};
use clap::Args;

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
    /// Paths that everybody may use, comma separated; a star at the end stands for anything.
    #[arg(
        long,
        env = "BARQUE_APISERVER_AUTHORIZATION_ALWAYS_ALLOW_PATHS",
        default_value = "/healthz,/readyz,/livez",
        value_name = "PATHS",
        value_delimiter = ','
    )]
    authorization_always_allow_paths: Vec<String>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
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
            encryption_provider_config: self.encryption_provider_config,
            event_ttl: self.event_ttl,
            cert_dir: self.cert_dir,
            authentication: self.authentication.into_flags(),
            proxy_client_cert_file: self.proxy_client_cert_file,
            proxy_client_key_file: self.proxy_client_key_file,
            service_cluster_ip_range: self.service_cluster_ip_range,
            authorization_always_allow_paths: self.authorization_always_allow_paths,
        }
        .validate()
    }
}
