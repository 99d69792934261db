//! How a server is told to serve: the words of its flags, checked before anything is started. What is wrong is said with the
//! flag's name. Must never open a port.

mod audit;
mod authentication;
mod oidc;
mod serving_certificate;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_api::time::GoDuration;
use barque_store::config::TlsFiles;

use crate::admission::DefaultTolerations;
use crate::audit::{LogConfig, Policy};
use crate::authentication::Settings;
use crate::authorization::chain::{AllowedPathError, AllowedPaths};
use crate::bootstrap;
use crate::flow_control::limits;
use crate::metrics::PartMetrics;
use crate::registry::allocation::settings::{NetworkError, ServiceNetwork};
use crate::storage::encryption::Encryption;
use crate::storage::etcd::{EtcdConfig, EtcdConfigError, EtcdStorage};
use crate::streaming::dial::{AgentFlags, AgentIdentity};

pub use self::audit::AuditFlags;
pub use self::authentication::AuthenticationFlags;
pub use self::oidc::OidcFlags;

/// The flags, as they came.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--bind-address`
    pub bind_address: String,
    /// `--secure-port`
    pub secure_port: u16,
    /// `--advertise-address`
    pub advertise_address: Option<String>,
    /// `--external-hostname`
    pub external_hostname: Option<String>,
    /// `--tls-cert-file`
    pub tls_cert_file: Option<PathBuf>,
    /// `--tls-private-key-file`
    pub tls_private_key_file: Option<PathBuf>,
    /// `--etcd-servers`
    pub etcd_servers: Vec<String>,
    /// `--etcd-cafile`
    pub etcd_cafile: Option<PathBuf>,
    /// `--etcd-certfile`
    pub etcd_certfile: Option<PathBuf>,
    /// `--etcd-keyfile`
    pub etcd_keyfile: Option<PathBuf>,
    /// `--etcd-prefix`
    pub etcd_prefix: String,
    /// `--etcd-compaction-interval`
    pub etcd_compaction_interval: String,
    /// `--encryption-provider-config`
    pub encryption_provider_config: Option<PathBuf>,
    /// `--event-ttl`
    pub event_ttl: String,
    /// How users are known.
    pub authentication: AuthenticationFlags,
    /// `--proxy-client-cert-file`
    pub proxy_client_cert_file: Option<PathBuf>,
    /// `--proxy-client-key-file`
    pub proxy_client_key_file: Option<PathBuf>,
    /// What is written down of requests.
    pub audit: AuditFlags,
    /// `--max-requests-inflight`
    pub max_requests_inflight: u32,
    /// `--max-mutating-requests-inflight`
    pub max_mutating_requests_inflight: u32,
    /// `--request-timeout`
    pub request_timeout: String,
    /// `--cert-dir`
    pub cert_dir: PathBuf,
    /// `--service-cluster-ip-range`: one network, or one of each family with a comma between.
    pub service_cluster_ip_range: String,
    /// `--service-node-port-range`: two ports with a dash between.
    pub service_node_port_range: String,
    /// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`
    pub default_tolerations: DefaultTolerations,
    /// `--authorization-always-allow-paths`
    pub authorization_always_allow_paths: Vec<String>,
    /// `--kubelet-...`
    pub agents: AgentFlags,
}

/// What is wrong with a flag, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No address.
    #[error("--{flag}={value:?} is no IP address, such as 10.0.0.1")]
    Address {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// Clients cannot be told where this server is.
    #[error("--advertise-address must be given: this machine has no route by which an address could be told")]
    NoAdvertiseAddress,
    /// No time.
    #[error("--{flag}={value:?} is no time, such as 1h30m")]
    Time {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// Half of what an issuer needs.
    #[error("--oidc-issuer-url and --oidc-client-id must be given together, when any --oidc- flag is given")]
    HalfIssuer,
    /// A word that is none of those that there are.
    #[error("--{flag}={value:?}: {why}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        why: &'static str,
    },
    /// Half a pair.
    #[error("--{0} and --{1} must be given together")]
    HalfPair(&'static str, &'static str),
    /// Nobody signs what is to be verified.
    #[error(
        "--kubelet-certificate-identity=node needs --kubelet-certificate-authority, by which certificates are verified"
    )]
    IdentityOfNobody,
    /// No prefix.
    #[error("--etcd-prefix={0:?} must begin with a slash, such as /registry")]
    Prefix(String),
    /// The store's flags.
    #[error(transparent)]
    Etcd(#[from] EtcdConfigError),
    /// Keys of tokens, and nobody whose tokens they are.
    #[error(
        "--service-account-issuer must be given with keys of service accounts: it is what tokens say that made them"
    )]
    NoIssuer,
    /// Nobody would ever be answered.
    #[error("--max-requests-inflight and --max-mutating-requests-inflight must not both be 0")]
    NoSeats,
    /// A certificate that signs itself cannot be written.
    #[error("--cert-dir={}: {why}", directory.display())]
    CertDir {
        /// Its value.
        directory: PathBuf,
        /// Why.
        why: String,
    },
    /// The networks and ports of services.
    #[error(transparent)]
    Services(#[from] NetworkError),
    /// A path.
    #[error("--authorization-always-allow-paths: {0}")]
    AllowedPath(#[from] AllowedPathError),
    /// A file that cannot be read or understood.
    #[error("--{flag}={}: {why}", file.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// Its value.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// The flags, checked; what they name is opened where that shows whether they are right.
pub struct ValidConfig {
    /// Where to listen.
    pub bind: SocketAddr,
    /// By which address members of the cluster reach this server.
    pub advertise: IpAddr,
    /// How clients are told to reach it.
    pub hostname: String,
    /// Certificate and key.
    pub tls: TlsFiles,
    /// The store; nothing is connected yet.
    pub storage: EtcdStorage,
    /// What all keys begin with.
    pub root: String,
    /// How often old states of the store are forgotten; nothing for never.
    pub compaction_interval: Option<Duration>,
    /// What is encrypted.
    pub encryption: Encryption,
    /// How long events are kept.
    pub event_ttl: Duration,
    /// Paths that everybody may use.
    pub always_allowed: AllowedPaths,
    /// How users are known.
    pub authentication: Settings,
    /// The certificate and key that servers of other groups are shown.
    pub proxy_client: TlsFiles,
    /// How many requests are worked on at once, and how long others wait.
    pub limits: limits::Settings,
    /// How long a request that follows nothing may take.
    pub request_timeout: Duration,
    /// What is written down of requests, and where.
    pub audit: Option<(Policy, LogConfig)>,
    /// What every cluster has from its start.
    pub start: bootstrap::Settings,
    /// From which networks and ports services are served.
    pub services: ServiceNetwork,
    /// How long pods stay on lost nodes that do not say it.
    pub tolerations: DefaultTolerations,
    /// How agents of nodes are reached.
    pub agents: AgentFlags,
    /// Metrics of the other parts of this process; no flag has them.
    pub parts: PartMetrics,
}

impl Config {
    /// Checks everything.
    ///
    /// # Errors
    /// The first flag that is wrong.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let bind = address("bind-address", &self.bind_address)?;
        let advertise = match &self.advertise_address {
            Some(text) => address("advertise-address", text)?,
            None if !bind.is_unspecified() && !bind.is_loopback() => bind,
            // Others cannot come by the loopback; a server that listens nowhere else may still say so.
            None => outward_address(bind)
                .or_else(|| bind.is_loopback().then_some(bind))
                .ok_or(ConfigError::NoAdvertiseAddress)?,
        };
        if self.tls_cert_file.is_some() != self.tls_private_key_file.is_some() {
            return Err(ConfigError::HalfPair("tls-cert-file", "tls-private-key-file"));
        }
        if self.proxy_client_cert_file.is_some() != self.proxy_client_key_file.is_some() {
            return Err(ConfigError::HalfPair("proxy-client-cert-file", "proxy-client-key-file"));
        }
        if self.agents.client_certificate.is_some() != self.agents.client_key.is_some() {
            return Err(ConfigError::HalfPair("kubelet-client-certificate", "kubelet-client-key"));
        }
        if self.agents.certificate_identity == AgentIdentity::Node
            && self.agents.certificate_authority.is_none()
        {
            return Err(ConfigError::IdentityOfNobody);
        }
        if !self.etcd_prefix.starts_with('/') {
            return Err(ConfigError::Prefix(self.etcd_prefix));
        }
        let mut etcd = EtcdConfig::new(self.etcd_servers);
        etcd.tls = TlsFiles {
            cert_file: self.etcd_certfile,
            key_file: self.etcd_keyfile,
            trusted_ca_file: self.etcd_cafile,
            client_cert_auth: false,
        };
        let encryption = match &self.encryption_provider_config {
            None => Encryption::none(),
            Some(file) => encryption(file)?,
        };
        let paths: Vec<&str> = self.authorization_always_allow_paths.iter().map(String::as_str).collect();
        let tls = match (self.tls_cert_file, self.tls_private_key_file) {
            (Some(cert), Some(key)) => {
                TlsFiles { cert_file: Some(cert), key_file: Some(key), ..TlsFiles::default() }
            }
            _ => serving_certificate::self_signed(
                &self.cert_dir,
                &[advertise, bind],
                self.external_hostname.as_deref(),
            )
            .map_err(|why| ConfigError::CertDir { directory: self.cert_dir.clone(), why })?,
        };
        let seats = self.max_requests_inflight.saturating_add(self.max_mutating_requests_inflight);
        if seats == 0 {
            return Err(ConfigError::NoSeats);
        }
        let (authentication, told) = self.authentication.read()?;
        let services = ServiceNetwork::parse(&self.service_cluster_ip_range, &self.service_node_port_range)?;
        Ok(ValidConfig {
            bind: SocketAddr::new(bind, self.secure_port),
            advertise,
            hostname: self.external_hostname.unwrap_or_else(|| advertise.to_string()),
            tls,
            storage: EtcdStorage::new(&etcd)?,
            root: self.etcd_prefix,
            encryption,
            compaction_interval: match self.etcd_compaction_interval.as_str() {
                "0" | "0s" => None,
                text => Some(time("etcd-compaction-interval", text)?),
            },
            event_ttl: time("event-ttl", &self.event_ttl)?,
            always_allowed: AllowedPaths::of(&paths)?,
            authentication,
            proxy_client: TlsFiles {
                cert_file: self.proxy_client_cert_file,
                key_file: self.proxy_client_key_file,
                ..TlsFiles::default()
            },
            request_timeout: time("request-timeout", &self.request_timeout)?,
            audit: self.audit.read()?,
            limits: limits::Settings { seats, ..limits::Settings::default() },
            start: bootstrap::Settings {
                service_ranges: services.networks(),
                secure_port: self.secure_port,
                authentication: told,
            },
            services,
            tolerations: self.default_tolerations,
            agents: self.agents,
            parts: PartMetrics::default(),
        })
    }
}

fn address(flag: &'static str, value: &str) -> Result<IpAddr, ConfigError> {
    value.parse().map_err(|_| ConfigError::Address { flag, value: value.to_owned() })
}

fn time(flag: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let nanos = GoDuration::parse(value).ok().and_then(|time| u64::try_from(time.nanos()).ok());
    match nanos {
        Some(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
        _ => Err(ConfigError::Time { flag, value: value.to_owned() }),
    }
}

/// The address from which this machine would speak to others. Nothing is sent: only the way is looked up.
#[must_use]
pub fn outward_address(bind: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation; any that are not here will do.
    let (from, to) = match bind {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

/// A configuration file as a value.
///
/// # Errors
/// When it cannot be read, or is no YAML.
pub fn read_yaml(flag: &'static str, file: &Path) -> Result<serde_json::Value, ConfigError> {
    let wrong = |why: String| ConfigError::File { flag, file: file.to_owned(), why };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// The text of a file; empty where none is given.
fn read_text(flag: &'static str, file: Option<&Path>) -> Result<String, ConfigError> {
    let Some(file) = file else { return Ok(String::new()) };
    std::fs::read_to_string(file).map_err(|error| ConfigError::File {
        flag,
        file: file.to_owned(),
        why: error.to_string(),
    })
}

fn encryption(file: &Path) -> Result<Encryption, ConfigError> {
    const FLAG: &str = "encryption-provider-config";
    Encryption::new(&read_yaml(FLAG, file)?).map_err(|error| ConfigError::File {
        flag: FLAG,
        file: file.to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its certificate is that of files, which nobody reads here.
    fn config() -> Config {
        Config {
            bind_address: "127.0.0.1".into(),
            secure_port: 0,
            advertise_address: None,
            external_hostname: None,
            tls_cert_file: Some("/a.crt".into()),
            tls_private_key_file: Some("/a.key".into()),
            etcd_servers: vec!["http://127.0.0.1:2379".into()],
            etcd_cafile: None,
            etcd_certfile: None,
            etcd_keyfile: None,
            etcd_prefix: "/registry".into(),
            encryption_provider_config: None,
            etcd_compaction_interval: "5m0s".into(),
            event_ttl: "1h0m0s".into(),
            authentication: AuthenticationFlags::default(),
            proxy_client_cert_file: None,
            proxy_client_key_file: None,
            audit: AuditFlags::default(),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout: "1m0s".into(),
            cert_dir: "/nowhere".into(),
            service_cluster_ip_range: "10.96.0.0/16".into(),
            service_node_port_range: "30000-32767".into(),
            default_tolerations: DefaultTolerations::default(),
            authorization_always_allow_paths: vec!["/livez".into()],
            agents: AgentFlags::default(),
        }
    }

    #[test]
    fn what_is_not_given_follows_from_what_is() {
        let valid = config().validate().unwrap();
        assert_eq!((valid.hostname, valid.event_ttl.as_secs()), (valid.advertise.to_string(), 3600));
        let valid = Config { bind_address: "10.9.8.7".into(), ..config() }.validate().unwrap();
        assert_eq!(valid.advertise.to_string(), "10.9.8.7");
        let directory = tempfile::tempdir().unwrap();
        let (tls_cert_file, tls_private_key_file) = (None, None);
        let cert_dir = directory.path().to_owned();
        let valid = Config { tls_cert_file, tls_private_key_file, cert_dir, ..config() }.validate().unwrap();
        assert!(valid.tls.cert_file.unwrap().starts_with(directory.path()), "it signs itself, there");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_flag() {
        let range = |text: &str| Config { service_cluster_ip_range: text.into(), ..config() };
        let table: [(Config, &str); 14] = [
            (
                range("10.0.0.0"),
                "--service-cluster-ip-range=\"10.0.0.0\": it is no network; name a network such as",
            ),
            (
                range("10.0.0.0/16,10.1.0.0/16"),
                "--service-cluster-ip-range=\"10.0.0.0/16,10.1.0.0/16\": two networks",
            ),
            (
                Config { service_node_port_range: "many".into(), ..config() },
                "--service-node-port-range=\"many\" is no range of ports, such as 30000-32767",
            ),
            (
                Config { authorization_always_allow_paths: vec!["/a*b".into()], ..config() },
                "--authorization-always-allow-paths: only trailing * allowed in",
            ),
            (Config { bind_address: "here".into(), ..config() }, "--bind-address=\"here\" is no IP address"),
            (Config { event_ttl: "long".into(), ..config() }, "--event-ttl=\"long\" is no time"),
            (Config { request_timeout: "0s".into(), ..config() }, "--request-timeout=\"0s\" is no time"),
            (Config { etcd_prefix: "registry".into(), ..config() }, "--etcd-prefix=\"registry\" must begin"),
            (
                Config { proxy_client_key_file: Some("/a".into()), ..config() },
                "--proxy-client-cert-file and --proxy-client-key-file must be given together",
            ),
            (
                Config { tls_private_key_file: None, ..config() },
                "--tls-cert-file and --tls-private-key-file must be given together",
            ),
            (
                Config {
                    agents: AgentFlags { client_key: Some("/a".into()), ..AgentFlags::default() },
                    ..config()
                },
                "--kubelet-client-certificate and --kubelet-client-key must be given together",
            ),
            (
                Config {
                    agents: AgentFlags { certificate_identity: AgentIdentity::Node, ..AgentFlags::default() },
                    ..config()
                },
                "--kubelet-certificate-identity=node needs --kubelet-certificate-authority",
            ),
            (Config { etcd_servers: vec![], ..config() }, "--etcd-servers names no endpoint"),
            (
                Config { encryption_provider_config: Some("/nowhere".into()), ..config() },
                "--encryption-provider-config=/nowhere: No such file",
            ),
        ];
        for (config, told) in table {
            let error = config.validate().err().unwrap().to_string();
            assert!(error.starts_with(told), "{error}");
        }
    }
}
