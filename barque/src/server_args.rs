//! The flags of `barque server`, each also as `BARQUE_SERVER_*` in the environment.
//!
//! Turns words into a plan of a master; what its parts must be told follows in `server_parts`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use barque_apiserver::config::outward_address;
use barque_cluster::settings::{ClusterSettings, SettingsError, nth_service_address};
use barque_cluster::token::{Token, TokenError};
use clap::{Args, ValueEnum};
use http::Uri;

use crate::cluster_args::ServerCommand;
use crate::log::{self, LogFormat, LogLevel};
use crate::part_choice::{Part, Parts, PartsError, choose};

/// The cluster's resolver, counted from the first address of services.
const DNS: u32 = 10;

/// Runs a master: a member of the store, an API server, the controllers and the scheduler.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ServerCommand>,
    /// A file of YAML with flags, by their names without dashes; what is typed and the environment count more.
    #[arg(long, env = "BARQUE_SERVER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// This master's name, unique in the cluster [default: the machine's name].
    #[arg(long, env = "BARQUE_SERVER_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Directory for everything that the master keeps: certificates, the store's data, kubeconfigs, tokens.
    #[arg(
        long,
        env = "BARQUE_SERVER_DATA_DIR",
        default_value = "/var/lib/barque/server",
        value_name = "DIR"
    )]
    data_dir: PathBuf,
    /// Directory of manifests that the cluster is to have, in YAML or JSON [default: `manifests` in the data directory].
    #[arg(long, env = "BARQUE_SERVER_MANIFESTS", value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// The address by which masters and nodes reach this one [default: that of the default route's interface].
    #[arg(long, env = "BARQUE_SERVER_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    advertise_address: Option<IpAddr>,
    /// The address to listen on [default: all; the advertised one if that is of the loopback].
    #[arg(long, env = "BARQUE_SERVER_BIND_ADDRESS", value_name = "ADDRESS")]
    bind_address: Option<IpAddr>,
    /// The port of the API.
    #[arg(long, env = "BARQUE_SERVER_SECURE_PORT", default_value_t = 6443, value_name = "PORT")]
    secure_port: u16,
    /// The port at which the store serves clients, such as kvctl.
    #[arg(long, env = "BARQUE_SERVER_STORE_CLIENT_PORT", default_value_t = 2379, value_name = "PORT")]
    store_client_port: u16,
    /// The port at which members of the store speak to each other.
    #[arg(long, env = "BARQUE_SERVER_STORE_PEER_PORT", default_value_t = 2380, value_name = "PORT")]
    store_peer_port: u16,

    /// The URL of a master whose cluster this one joins, such as https://10.0.0.1:6443 [default: a cluster of its own].
    #[arg(long, env = "BARQUE_SERVER_JOIN", value_name = "URL")]
    join: Option<Uri>,
    /// With --join, the token: what the file `token` in that master's data directory says.
    #[arg(long, env = "BARQUE_SERVER_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// With --join, a file with the token.
    #[arg(long, env = "BARQUE_SERVER_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// A snapshot of another cluster, saved by `kvctl snapshot save`, that this cluster begins with; then its increments, comma
    /// separated. Once it has begun, the flag does nothing.
    #[arg(
        long,
        env = "BARQUE_SERVER_RESTORE",
        value_name = "FILES",
        value_delimiter = ',',
        conflicts_with = "join"
    )]
    restore: Vec<PathBuf>,

    /// The networks of all pods, comma separated; the first master decides.
    #[arg(
        long,
        env = "BARQUE_SERVER_CLUSTER_CIDR",
        default_value = "10.244.0.0/16",
        value_name = "NETWORKS"
    )]
    cluster_cidr: String,
    /// The networks of services, comma separated; the first master decides.
    #[arg(
        long,
        alias = "service-cidr",
        env = "BARQUE_SERVER_SERVICE_CLUSTER_IP_RANGE",
        default_value = "10.96.0.0/16",
        value_name = "NETWORKS"
    )]
    service_cluster_ip_range: String,
    /// What names of the cluster end with; the first master decides.
    #[arg(
        long,
        env = "BARQUE_SERVER_CLUSTER_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN"
    )]
    cluster_domain: String,
    /// The address of the cluster's resolver; the first master decides [default: the tenth of services].
    #[arg(long, env = "BARQUE_SERVER_CLUSTER_DNS", value_name = "ADDRESS")]
    cluster_dns: Option<IpAddr>,
    /// Where nodes have the volumes of the storage class `local-path`, which a new cluster begins with.
    #[arg(
        long,
        env = "BARQUE_SERVER_DEFAULT_LOCAL_STORAGE_PATH",
        default_value = "/var/lib/barque/volumes",
        value_name = "DIR"
    )]
    default_local_storage_path: PathBuf,
    /// Further names and addresses in the API server's certificate, comma separated.
    #[arg(long, env = "BARQUE_SERVER_TLS_SAN", value_name = "NAMES", value_delimiter = ',')]
    tls_san: Vec<String>,
    /// How soon pods of a dead node run elsewhere: after about five minutes, as Kubernetes does it, or after about 30 s.
    #[arg(long, env = "BARQUE_SERVER_NODE_FAILOVER", default_value = "upstream", value_name = "PROFILE")]
    node_failover: Failover,

    /// The parts of the master that run, comma separated [default: all]. Store and API server are always among them.
    #[arg(long, env = "BARQUE_SERVER_ONLY", value_name = "PARTS", value_delimiter = ',')]
    only: Vec<Part>,
    /// Parts of the master that do not run, comma separated: controllers, scheduler or manifests, as when others stand in for them.
    #[arg(long, env = "BARQUE_SERVER_WITHOUT", value_name = "PARTS", value_delimiter = ',')]
    without: Vec<Part>,

    /// A further flag of `barque store`, such as quota-backend-bytes=8589934592; may be given several times.
    #[arg(long, value_name = "FLAG=VALUE")]
    store_arg: Vec<String>,
    /// A further flag of `barque apiserver`; may be given several times.
    #[arg(long, value_name = "FLAG=VALUE")]
    apiserver_arg: Vec<String>,
    /// A further flag of `barque controller-manager`; may be given several times.
    #[arg(long, value_name = "FLAG=VALUE")]
    controller_manager_arg: Vec<String>,
    /// A further flag of `barque scheduler`; may be given several times.
    #[arg(long, value_name = "FLAG=VALUE")]
    scheduler_arg: Vec<String>,

    /// The least important messages that are logged.
    #[arg(long, env = "BARQUE_SERVER_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(long, env = "BARQUE_SERVER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

/// How soon pods of a dead node run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Failover {
    /// As Kubernetes does it.
    Upstream,
    /// After about 30 s.
    Fast,
}

/// Further flags of the parts, as they were said.
#[derive(Clone, Debug, Default)]
pub(crate) struct MoreFlags {
    pub(crate) store: Vec<String>,
    pub(crate) apiserver: Vec<String>,
    pub(crate) controller_manager: Vec<String>,
    pub(crate) scheduler: Vec<String>,
}

/// A master as it should be.
#[derive(Clone, Debug)]
pub(crate) struct MasterPlan {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    /// Where the manifests are that it brings into the cluster.
    pub(crate) manifests: PathBuf,
    pub(crate) advertise: IpAddr,
    pub(crate) bind: IpAddr,
    pub(crate) store_peer_port: u16,
    /// Whose cluster it joins, if it is in none yet.
    pub(crate) join: Option<(Uri, Token)>,
    /// What a new cluster begins with: a snapshot, then increments. None of them is a cluster without objects.
    pub(crate) restore: Vec<PathBuf>,
    /// Where nodes have the volumes of the storage class that a new cluster begins with.
    pub(crate) local_storage: PathBuf,
    /// What a new cluster is told.
    pub(crate) settings: ClusterSettings,
    pub(crate) other_names: Vec<String>,
    pub(crate) failover: Failover,
    pub(crate) parts: Parts,
    pub(crate) more: MoreFlags,
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerArgsError {
    #[error("--advertise-address must be given: this machine has no route by which an address could be told")]
    NoAddress,
    #[error("--advertise-address={0} must be an address of this machine, not that of all of them")]
    Unspecified(IpAddr),
    #[error(
        "--name={0:?} must be lower-case letters, digits, dots and dashes, as names of machines are; it stands in certificates"
    )]
    Name(String),
    #[error("--join={0} must be the URL of a master, such as https://10.0.0.1:6443")]
    Join(Uri),
    #[error("--join needs --token or --token-file: the file `token` in that master's data directory")]
    NoToken,
    #[error("--token and --token-file are for joining: --join says whose cluster")]
    NoJoin,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("--token-file={}: {error}", path.display())]
    TokenFile { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Parts(#[from] PartsError),
}

/// A token that was said, or that stands in a file.
pub(crate) fn read_token(token: Option<&str>, file: Option<&Path>) -> Result<Option<Token>, ServerArgsError> {
    let text = match (token, file) {
        (Some(token), _) => token.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|error| ServerArgsError::TokenFile { path: path.to_owned(), error })?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.parse()?))
}

/// The URL of a master that can be joined.
pub(crate) fn master_url(url: Uri) -> Result<Uri, ServerArgsError> {
    if url.scheme_str() == Some("https") && url.host().is_some() {
        Ok(url)
    } else {
        Err(ServerArgsError::Join(url))
    }
}

/// What the machine is called, as names of machines are written.
pub(crate) fn machine_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase()
}

impl ServerArgs {
    /// Where further flags stand.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// From here on, messages are written.
    pub(crate) fn start_log(&self) {
        log::start(self.log_level, self.log_format);
    }

    /// The plan, checked.
    pub(crate) fn into_plan(self) -> Result<MasterPlan, ServerArgsError> {
        let name = self.name.unwrap_or_else(machine_name);
        if !is_name(&name) {
            return Err(ServerArgsError::Name(name));
        }
        let everywhere = IpAddr::from([0, 0, 0, 0]);
        let advertise = self
            .advertise_address
            .or(self.bind_address.filter(|bind| !bind.is_unspecified()))
            .or_else(|| outward_address(everywhere))
            .ok_or(ServerArgsError::NoAddress)?;
        if advertise.is_unspecified() {
            return Err(ServerArgsError::Unspecified(advertise));
        }
        let bind = self.bind_address.unwrap_or(match advertise {
            address if address.is_loopback() => address,
            IpAddr::V4(_) => everywhere,
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        });
        let join = match (self.join, read_token(self.token.as_deref(), self.token_file.as_deref())?) {
            (Some(url), Some(token)) => Some((master_url(url)?, token)),
            (Some(_), None) => return Err(ServerArgsError::NoToken),
            (None, Some(_)) => return Err(ServerArgsError::NoJoin),
            (None, None) => None,
        };
        let further = [
            (Part::Controllers, "--controller-manager-arg", !self.controller_manager_arg.is_empty()),
            (Part::Scheduler, "--scheduler-arg", !self.scheduler_arg.is_empty()),
            (Part::Manifests, "--manifests", self.manifests.is_some()),
        ];
        let further = further.into_iter().filter(|(.., given)| *given);
        let further: Vec<_> = further.map(|(part, flag, _)| (part, flag)).collect();
        let parts = choose(&self.only, &self.without, &further)?;
        let dns = nth_service_address(&self.service_cluster_ip_range, DNS)?;
        Ok(MasterPlan {
            name,
            manifests: self.manifests.unwrap_or_else(|| self.data_dir.join("manifests")),
            data_dir: self.data_dir,
            advertise,
            bind,
            store_peer_port: self.store_peer_port,
            join,
            restore: self.restore,
            local_storage: self.default_local_storage_path,
            settings: ClusterSettings {
                cluster_cidr: self.cluster_cidr,
                service_cidr: self.service_cluster_ip_range,
                cluster_domain: self.cluster_domain,
                cluster_dns: self.cluster_dns.unwrap_or(dns),
                api_port: self.secure_port,
                store_client_port: self.store_client_port,
            },
            other_names: self.tls_san,
            failover: self.node_failover,
            parts,
            more: MoreFlags {
                store: self.store_arg,
                apiserver: self.apiserver_arg,
                controller_manager: self.controller_manager_arg,
                scheduler: self.scheduler_arg,
            },
        })
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 63 && name.bytes().all(plain) && ends(name.bytes().next()) && ends(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        server: ServerArgs,
    }

    fn plan(words: &[&str]) -> Result<MasterPlan, String> {
        let args = Cli::try_parse_from([&["server"], words].concat()).unwrap();
        args.server.into_plan().map_err(|error| error.to_string())
    }

    const TOKEN: &str =
        "barque10000000000000000000000000000000000000000000000000000000000000000.abcdef.0123456789abcdef";

    #[test]
    fn a_master_needs_no_flag_but_where_it_is() {
        let plan = plan(&["--name=m1", "--advertise-address=10.0.0.1"]).unwrap();
        assert_eq!((plan.bind, plan.settings.api_port), (IpAddr::from([0, 0, 0, 0]), 6443));
        assert_eq!(plan.settings.cluster_dns, IpAddr::from([10, 96, 0, 10]));
        assert!(plan.join.is_none());
    }

    #[test]
    fn one_of_the_loopback_stays_there() {
        assert_eq!(
            plan(&["--advertise-address=127.0.0.2", "--name=a"]).unwrap().bind,
            IpAddr::from([127, 0, 0, 2])
        );
    }

    #[test]
    fn mistakes_are_told_with_the_flag() {
        let token = format!("--token={TOKEN}");
        let cases: &[(&[&str], &str)] = &[
            (&["--name=M_1"], "--name=\"M_1\" must be lower-case"),
            (
                &["--advertise-address=0.0.0.0"],
                "--advertise-address=0.0.0.0 must be an address of this machine",
            ),
            (&["--join=https://10.0.0.1:6443"], "--join needs --token or --token-file"),
            (&[&token], "--join says whose cluster"),
            (&["--join=10.0.0.1", &token], "must be the URL of a master"),
            (&["--join=https://10.0.0.1:6443", "--token=abc"], "--token is not a token of a Barque cluster"),
            (
                &["--join=https://10.0.0.1:6443", "--token-file=/nowhere"],
                "--token-file=/nowhere: No such file",
            ),
            (&["--without=store"], "--without leaves out the store"),
            (&["--only=store,controllers"], "--only leaves out the API server"),
            (&["--without=scheduler", "--scheduler-arg=v=1"], "--scheduler-arg is for the part scheduler"),
            (&["--service-cluster-ip-range=10.96.0.0"], "--service-cluster-ip-range=\"10.96.0.0\""),
        ];
        for (words, sentence) in cases {
            let usual = ["--name=m1", "--advertise-address=10.0.0.1"];
            let missing = usual.iter().filter(|usual| {
                let flag = usual.split('=').next().unwrap();
                words.iter().all(|word| !word.starts_with(flag))
            });
            let error = plan(&missing.chain(words.iter()).copied().collect::<Vec<_>>()).unwrap_err();
            assert!(error.contains(sentence), "{words:?}: {error}");
        }
        let joins =
            plan(&["--name=m2", "--advertise-address=10.0.0.2", "--join=https://10.0.0.1:6443", &token]);
        assert!(joins.unwrap().join.is_some());
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        for arg in Cli::command().get_arguments().filter(|arg| arg.get_id() != "help") {
            let flag = arg.get_long().unwrap();
            let expected = format!("BARQUE_SERVER_{}", flag.replace('-', "_").to_uppercase());
            if !flag.ends_with("-arg") {
                assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
            }
        }
    }
}
