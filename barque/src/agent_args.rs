//! The flags of `barque agent`: the kubelet's names where they mean the same, each also as `BARQUE_AGENT_*` in the
//! environment.
//!
//! Turns words into a configuration; what they must be is the agent's to say.

use std::path::{Path, PathBuf};

use barque_agent::config::{
    Config, ConfigError, ContainerConfig, ContainerFlags, EVICTION_HARD, EvictionFlags, ImageCollectionFlags,
    LOGIND_CONF_DIR, ShutdownFlags, ValidConfig,
};
use barque_agent::node_api::config::NodeApiConfig;
use barque_cluster::node_join::{NodeCluster, NodeFiles};
use clap::{ArgAction, Args, Subcommand};

use crate::agent_join::{Join, JoinArgs, JoinArgsError};
use crate::agent_leave::LeaveArgs;
use crate::component_args::Output;
use crate::log::{self, LogFormat, LogLevel};
use crate::server_args::machine_name;

/// What runs no containers.
const HOLLOW: &str = "hollow";

/// Keeps a node, or many hollow ones, with the kubelet's flags.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AgentArgs {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    /// A file of YAML with flags, by their names without dashes; what is typed and the environment count more.
    #[arg(long, env = "BARQUE_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else there is.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Tries what a node that runs containers needs of this machine, and says what is missing; leaves nothing behind.
    ///
    /// Exit codes: 0 when everything is there, 1 when something is missing.
    Check(Box<CheckArgs>),
    /// Takes away what a node has left behind that no agent keeps any more: containers, links, rules, volumes.
    ///
    /// Images and logs stay. Refuses while an agent runs. Exit codes: 0 when nothing is left, 1 when something is.
    Cleanup(Box<CleanupArgs>),
    /// Takes the node of this machine out of its cluster: no more pods, those on it go elsewhere, and what it left is taken away.
    ///
    /// The agent must run meanwhile, so that it ends pods; that of `barque service` is stopped then, any other one is for you to
    /// stop, after which this is done again.
    Leave(Box<LeaveArgs>),
}

/// What the machine can do.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A table for people, or JSON for programs.
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
    #[command(flatten)]
    containers: ContainerArgs,
}

impl CheckArgs {
    /// What the node will be, checked.
    pub(crate) fn into_config(self) -> Result<ContainerConfig, ConfigError> {
        self.containers.into_flags().validate()
    }
}

/// What is taken away.
#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    #[command(flatten)]
    containers: ContainerArgs,
}

impl CleanupArgs {
    /// Where the node was, checked.
    pub(crate) fn into_config(self) -> Result<ContainerConfig, ConfigError> {
        self.containers.into_flags().validate()
    }
}

/// What an agent is started with.
#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    join: JoinArgs,
    /// Who the agent is and where the API servers are [default: the service account of the pod that it runs in].
    #[arg(long, env = "BARQUE_AGENT_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where joining keeps the URLs of API servers.
    #[arg(skip)]
    servers_file: Option<PathBuf>,
    /// URLs of API servers, comma separated, the preferred one first [default: the one of --kubeconfig].
    #[arg(long, env = "BARQUE_AGENT_MASTER", value_name = "URLS", value_delimiter = ',')]
    master: Vec<String>,
    /// The node's name; with --hollow-nodes, what all names begin with [default: the machine's name].
    #[arg(long, env = "BARQUE_AGENT_HOSTNAME_OVERRIDE", value_name = "NAME")]
    hostname_override: Option<String>,
    /// Addresses of the node, comma separated, the preferred one first [default: that of the default route's interface].
    #[arg(long, env = "BARQUE_AGENT_NODE_IP", value_name = "ADDRESSES", value_delimiter = ',')]
    node_ip: Vec<String>,
    /// Labels with which the node is registered, key=value, comma separated.
    #[arg(long, env = "BARQUE_AGENT_NODE_LABELS", value_name = "LABELS", value_delimiter = ',')]
    node_labels: Vec<String>,
    /// Taints with which the node is registered, key=value:Effect, comma separated.
    #[arg(long, env = "BARQUE_AGENT_REGISTER_WITH_TAINTS", value_name = "TAINTS", value_delimiter = ',')]
    register_with_taints: Vec<String>,
    /// The longest time between two reports of the node's status; a change is reported at once.
    #[arg(
        long,
        env = "BARQUE_AGENT_NODE_STATUS_UPDATE_FREQUENCY",
        default_value = "5m0s",
        value_name = "TIME"
    )]
    node_status_update_frequency: String,
    /// How long the node's lease lasts, in seconds; it is renewed four times in that time.
    #[arg(
        long,
        env = "BARQUE_AGENT_NODE_LEASE_DURATION_SECONDS",
        default_value_t = 40,
        value_name = "SECONDS"
    )]
    node_lease_duration_seconds: u32,
    /// How many pods the node takes [default: 110].
    #[arg(long, env = "BARQUE_AGENT_MAX_PODS", value_name = "COUNT")]
    max_pods: Option<u32>,
    /// The network that pods get addresses from; with --hollow-nodes each node gets a /24 of it [default: what the
    /// node's spec.podCIDR says, which something in the cluster must set].
    #[arg(long, env = "BARQUE_AGENT_POD_CIDR", value_name = "NETWORK")]
    pod_cidr: Option<String>,
    /// What runs containers: `embedded`, the agent itself; `cri`, another runtime such as containerd, with its own network; or
    /// `hollow`, which runs none: pods have addresses, states and times, as annotations say, but no processes.
    #[arg(long, env = "BARQUE_AGENT_RUNTIME", default_value = "embedded", value_name = "RUNTIME")]
    runtime: String,
    /// Keeps so many nodes, named NAME-0 and so on, instead of one.
    #[arg(long, env = "BARQUE_AGENT_HOLLOW_NODES", value_name = "COUNT")]
    hollow_nodes: Option<u32>,
    /// What each hollow node has, resource=quantity, comma separated; `pods` is by default what --max-pods says.
    #[arg(
        long,
        env = "BARQUE_AGENT_HOLLOW_CAPACITY",
        default_value = "cpu=32,memory=256Gi,ephemeral-storage=1Ti",
        value_name = "RESOURCES",
        value_delimiter = ','
    )]
    hollow_capacity: Vec<String>,
    /// The address of /healthz and /metrics.
    #[arg(
        long,
        env = "BARQUE_AGENT_HEALTHZ_BIND_ADDRESS",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    healthz_bind_address: String,
    /// The port of /healthz and /metrics, without TLS; 0 is none.
    #[arg(long, env = "BARQUE_AGENT_HEALTHZ_PORT", default_value_t = 10248, value_name = "PORT")]
    healthz_port: u16,

    #[command(flatten)]
    containers: ContainerArgs,
    #[command(flatten)]
    shutdown: ShutdownArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// What becomes of pods when the machine shuts down.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shutdown of the machine")]
struct ShutdownArgs {
    /// A shutdown or restart of the machine, by systemd, waits so long for its pods to end; 0 is not at all. systemd-logind is
    /// told to allow that.
    #[arg(long, env = "BARQUE_AGENT_SHUTDOWN_GRACE_PERIOD", default_value = "0s", value_name = "DURATION")]
    shutdown_grace_period: String,
    /// The part of it that is kept for critical pods (of priority 2000000000 and more), which end after all others.
    #[arg(
        long,
        env = "BARQUE_AGENT_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS",
        default_value = "0s",
        value_name = "DURATION"
    )]
    shutdown_grace_period_critical_pods: String,
    /// Instead of both, how long pods of each priority and more have, priority=duration, comma separated; the least end first.
    #[arg(
        long,
        env = "BARQUE_AGENT_SHUTDOWN_GRACE_PERIOD_BY_POD_PRIORITY",
        default_value = "",
        hide_default_value = true,
        value_name = "DURATIONS"
    )]
    shutdown_grace_period_by_pod_priority: String,
    /// Where systemd-logind is told to wait longer for pods, if it would not.
    #[arg(long, env = "BARQUE_AGENT_LOGIND_CONF_DIR", default_value = LOGIND_CONF_DIR, value_name = "DIRECTORY")]
    logind_conf_dir: PathBuf,
}

impl ShutdownArgs {
    fn into_flags(self) -> ShutdownFlags {
        ShutdownFlags {
            grace_period: self.shutdown_grace_period,
            grace_period_critical_pods: self.shutdown_grace_period_critical_pods,
            grace_period_by_pod_priority: self.shutdown_grace_period_by_pod_priority,
            logind_conf_dir: self.logind_conf_dir,
        }
    }
}

/// What only matters where containers are run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Containers")]
struct ContainerArgs {
    /// With --runtime=cri, the socket of the runtime.
    #[arg(
        long,
        env = "BARQUE_AGENT_CONTAINER_RUNTIME_ENDPOINT",
        default_value = "unix:///run/containerd/containerd.sock",
        value_name = "SOCKET"
    )]
    container_runtime_endpoint: String,
    /// Pods that files of this directory describe are run, also without an API server [default: none].
    #[arg(long, env = "BARQUE_AGENT_POD_MANIFEST_PATH", value_name = "DIRECTORY")]
    pod_manifest_path: Option<PathBuf>,
    /// With --runtime=embedded, a socket at which `crictl` and others who speak CRI find what runs [default: none].
    #[arg(long, env = "BARQUE_AGENT_CRI_SOCKET", value_name = "PATH")]
    cri_socket: Option<PathBuf>,
    /// Where images, volumes and what is known of pods are kept.
    #[arg(
        long,
        env = "BARQUE_AGENT_ROOT_DIR",
        default_value = "/var/lib/barque/agent",
        value_name = "DIRECTORY"
    )]
    root_dir: PathBuf,
    /// Where sockets, namespaces and what else ends with the machine's run are.
    #[arg(long, env = "BARQUE_AGENT_RUN_DIR", default_value = "/run/barque/agent", value_name = "DIRECTORY")]
    run_dir: PathBuf,
    /// Where logs of containers are.
    #[arg(
        long,
        env = "BARQUE_AGENT_POD_LOGS_DIR",
        default_value = "/var/log/pods",
        value_name = "DIRECTORY"
    )]
    pod_logs_dir: PathBuf,
    /// The control group below which those of pods are [default: the root].
    #[arg(
        long,
        env = "BARQUE_AGENT_CGROUP_ROOT",
        default_value = "",
        hide_default_value = true,
        value_name = "PATH"
    )]
    cgroup_root: String,
    /// Addresses of the cluster's resolvers, which pods ask, comma separated.
    #[arg(long, env = "BARQUE_AGENT_CLUSTER_DNS", value_name = "ADDRESSES", value_delimiter = ',')]
    cluster_dns: Vec<String>,
    /// What the cluster's names end with.
    #[arg(long, env = "BARQUE_AGENT_CLUSTER_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    cluster_domain: String,
    /// The networks of all pods, comma separated; what pods send to others leaves under the node's address [default: the
    /// node's own pods].
    #[arg(long, env = "BARQUE_AGENT_CLUSTER_CIDR", value_name = "NETWORKS")]
    cluster_cidr: Option<String>,
    /// The resolvers of the machine, for names outside of the cluster.
    #[arg(long, env = "BARQUE_AGENT_RESOLV_CONF", default_value = "/etc/resolv.conf", value_name = "FILE")]
    resolv_conf: PathBuf,
    /// Pods that say nothing of system calls have them filtered by the runtime's default.
    #[arg(long, env = "BARQUE_AGENT_SECCOMP_DEFAULT")]
    seccomp_default: bool,
    /// A container's log is begun anew when it has become so large.
    #[arg(long, env = "BARQUE_AGENT_CONTAINER_LOG_MAX_SIZE", default_value = "10Mi", value_name = "SIZE")]
    container_log_max_size: String,
    /// So many logs of a container are kept.
    #[arg(long, env = "BARQUE_AGENT_CONTAINER_LOG_MAX_FILES", default_value_t = 5, value_name = "COUNT")]
    container_log_max_files: u32,
    /// With --runtime=cri, how often the sizes of logs are looked at; other runtimes leave them to the agent.
    #[arg(
        long,
        env = "BARQUE_AGENT_CONTAINER_LOG_MONITOR_INTERVAL",
        default_value = "10s",
        value_name = "DURATION"
    )]
    container_log_monitor_interval: String,
    /// Processes and threads of a pod; -1 is as many as the machine takes.
    #[arg(long, env = "BARQUE_AGENT_POD_MAX_PIDS", default_value_t = -1, value_name = "COUNT", allow_hyphen_values = true)]
    pod_max_pids: i64,
    /// Mirrors, credentials and certificates of registries, in the form of k3s' registries.yaml
    /// [default: /etc/barque/registries.yaml, if it is there].
    #[arg(long, alias = "private-registry", env = "BARQUE_AGENT_REGISTRY_CONFIG", value_name = "FILE")]
    registry_config: Option<PathBuf>,
    /// Where CNI plugins are configured. With a configuration there when the agent starts, its first one gives pods their networks
    /// instead of the built-in network.
    #[arg(
        long,
        env = "BARQUE_AGENT_CNI_CONF_DIR",
        default_value = "/etc/cni/net.d",
        value_name = "DIRECTORY"
    )]
    cni_conf_dir: PathBuf,
    /// Where CNI plugins are, comma separated.
    #[arg(
        long,
        env = "BARQUE_AGENT_CNI_BIN_DIR",
        default_value = "/opt/cni/bin,/usr/lib/cni",
        value_name = "DIRECTORIES",
        value_delimiter = ','
    )]
    cni_bin_dir: Vec<PathBuf>,
    /// What is kept from pods for the system, resource=quantity, comma separated.
    #[arg(long, env = "BARQUE_AGENT_SYSTEM_RESERVED", value_name = "RESOURCES", value_delimiter = ',')]
    system_reserved: Vec<String>,
    /// The same, for the agent itself.
    #[arg(long, env = "BARQUE_AGENT_KUBE_RESERVED", value_name = "RESOURCES", value_delimiter = ',')]
    kube_reserved: Vec<String>,
    #[command(flatten)]
    images: ImageCollectionArgs,
    #[command(flatten)]
    eviction: EvictionArgs,
    #[command(flatten)]
    node_api: NodeApiArgs,
}

/// When images go that nobody uses.
#[derive(Debug, Args)]
#[command(next_help_heading = "Images")]
struct ImageCollectionArgs {
    /// Images that nobody uses go when so much of their disk is used, in percent.
    #[arg(long, env = "BARQUE_AGENT_IMAGE_GC_HIGH_THRESHOLD", default_value_t = 85, value_name = "PERCENT")]
    image_gc_high_threshold: u8,
    /// Until so much of it is.
    #[arg(long, env = "BARQUE_AGENT_IMAGE_GC_LOW_THRESHOLD", default_value_t = 80, value_name = "PERCENT")]
    image_gc_low_threshold: u8,
    /// Those that came less long ago stay.
    #[arg(
        long,
        env = "BARQUE_AGENT_MINIMUM_IMAGE_TTL_DURATION",
        default_value = "2m0s",
        value_name = "DURATION"
    )]
    minimum_image_ttl_duration: String,
    /// Those that nobody used for longer go at any rate; 0 is never.
    #[arg(long, env = "BARQUE_AGENT_IMAGE_MAXIMUM_GC_AGE", default_value = "0s", value_name = "DURATION")]
    image_maximum_gc_age: String,
}

impl ImageCollectionArgs {
    fn into_flags(self) -> ImageCollectionFlags {
        ImageCollectionFlags {
            high_threshold: self.image_gc_high_threshold,
            low_threshold: self.image_gc_low_threshold,
            minimum_age: self.minimum_image_ttl_duration,
            maximum_age: self.image_maximum_gc_age,
        }
    }
}

/// What is done when the node is short of something.
#[derive(Debug, Args)]
#[command(next_help_heading = "Eviction")]
struct EvictionArgs {
    /// Pods leave at once when less than this is left, signal<amount, comma separated; empty is never.
    #[arg(long, env = "BARQUE_AGENT_EVICTION_HARD", default_value = EVICTION_HARD, value_name = "THRESHOLDS")]
    eviction_hard: String,
    /// The same, when it stays so for the time of --eviction-soft-grace-period.
    #[arg(
        long,
        env = "BARQUE_AGENT_EVICTION_SOFT",
        default_value = "",
        hide_default_value = true,
        value_name = "THRESHOLDS"
    )]
    eviction_soft: String,
    /// How long each soft threshold may be met, signal=duration, comma separated.
    #[arg(
        long,
        env = "BARQUE_AGENT_EVICTION_SOFT_GRACE_PERIOD",
        default_value = "",
        hide_default_value = true,
        value_name = "DURATIONS"
    )]
    eviction_soft_grace_period: String,
    /// The longest time that pods have to end when a soft threshold is met.
    #[arg(
        long,
        env = "BARQUE_AGENT_EVICTION_MAX_POD_GRACE_PERIOD",
        default_value_t = 0,
        value_name = "SECONDS"
    )]
    eviction_max_pod_grace_period: u32,
    /// How long the node tells that it is short of something after it was.
    #[arg(
        long,
        env = "BARQUE_AGENT_EVICTION_PRESSURE_TRANSITION_PERIOD",
        default_value = "5m",
        value_name = "DURATION"
    )]
    eviction_pressure_transition_period: String,
    /// How much more than its threshold has to be there before it is good again, signal=amount, comma separated.
    #[arg(
        long,
        env = "BARQUE_AGENT_EVICTION_MINIMUM_RECLAIM",
        default_value = "",
        hide_default_value = true,
        value_name = "AMOUNTS"
    )]
    eviction_minimum_reclaim: String,
}

impl EvictionArgs {
    fn into_flags(self) -> EvictionFlags {
        EvictionFlags {
            hard: self.eviction_hard,
            soft: self.eviction_soft,
            soft_grace_period: self.eviction_soft_grace_period,
            max_pod_grace_period: self.eviction_max_pod_grace_period,
            pressure_transition_period: self.eviction_pressure_transition_period,
            minimum_reclaim: self.eviction_minimum_reclaim,
        }
    }
}

/// How the node API is served.
#[derive(Debug, Args)]
#[command(next_help_heading = "Node API")]
struct NodeApiArgs {
    /// The address of the node API: logs, exec, attach, port-forward, statistics.
    #[arg(long, env = "BARQUE_AGENT_ADDRESS", default_value = "0.0.0.0", value_name = "ADDRESS")]
    address: String,
    /// The port of the node API.
    #[arg(long, env = "BARQUE_AGENT_PORT", default_value_t = 10250, value_name = "PORT")]
    port: u16,
    /// The certificate of the node API [default: one that signs itself, below --root-dir; with --join one of the cluster's].
    #[arg(long, env = "BARQUE_AGENT_TLS_CERT_FILE", value_name = "FILE")]
    tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "BARQUE_AGENT_TLS_PRIVATE_KEY_FILE", value_name = "FILE")]
    tls_private_key_file: Option<PathBuf>,
    /// Who shows a certificate of these authorities is known by it.
    #[arg(long, env = "BARQUE_AGENT_CLIENT_CA_FILE", value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Who proves nothing is system:anonymous, and not refused at once.
    #[arg(long, env = "BARQUE_AGENT_ANONYMOUS_AUTH", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_name = "BOOL")]
    anonymous_auth: bool,
    /// API servers are asked whose a bearer token is.
    #[arg(long, env = "BARQUE_AGENT_AUTHENTICATION_TOKEN_WEBHOOK", num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", action = ArgAction::Set, value_name = "BOOL")]
    authentication_token_webhook: bool,
    /// Who may: `Webhook` asks the API servers, `AlwaysAllow` nobody.
    #[arg(long, env = "BARQUE_AGENT_AUTHORIZATION_MODE", default_value = "Webhook", value_name = "MODE")]
    authorization_mode: String,
}

impl NodeApiArgs {
    fn into_config(self) -> NodeApiConfig {
        NodeApiConfig {
            address: self.address,
            port: self.port,
            tls_cert_file: self.tls_cert_file,
            tls_private_key_file: self.tls_private_key_file,
            client_ca_file: self.client_ca_file,
            anonymous_auth: self.anonymous_auth,
            authentication_token_webhook: self.authentication_token_webhook,
            authorization_mode: self.authorization_mode,
        }
    }
}

impl ContainerArgs {
    fn into_flags(self) -> ContainerFlags {
        ContainerFlags {
            container_runtime_endpoint: self.container_runtime_endpoint,
            cri_socket: self.cri_socket,
            pod_manifest_path: self.pod_manifest_path,
            root_dir: self.root_dir,
            run_dir: self.run_dir,
            pod_logs_dir: self.pod_logs_dir,
            cgroup_root: self.cgroup_root,
            cluster_dns: self.cluster_dns,
            cluster_domain: self.cluster_domain,
            cluster_cidr: self.cluster_cidr,
            resolv_conf: self.resolv_conf,
            seccomp_default: self.seccomp_default,
            container_log_max_size: self.container_log_max_size,
            container_log_max_files: self.container_log_max_files,
            container_log_monitor_interval: self.container_log_monitor_interval,
            pod_max_pids: self.pod_max_pids,
            registry_config: self.registry_config,
            cni_conf_dir: self.cni_conf_dir,
            cni_bin_dir: self.cni_bin_dir,
            system_reserved: self.system_reserved,
            kube_reserved: self.kube_reserved,
            images: self.images.into_flags(),
            eviction: self.eviction.into_flags(),
            node_api: self.node_api.into_config(),
        }
    }
}

/// What is logged.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogArgs {
    /// The least important messages that are logged.
    #[arg(long, env = "BARQUE_AGENT_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    log_level: LogLevel,
    /// One line of text, or one JSON object, for each message.
    #[arg(
        long,
        alias = "logging-format",
        env = "BARQUE_AGENT_LOG_FORMAT",
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

impl AgentArgs {
    /// Where further flags stand.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Whose node the machine becomes; nothing when it is told by files.
    pub(crate) fn join(&self) -> Result<Option<Join>, JoinArgsError> {
        let join = self.run.join.read()?;
        match join {
            Some(_) if self.run.hollow_nodes.is_some() => Err(JoinArgsError::Hollow),
            Some(_) if self.run.kubeconfig.is_some() => Err(JoinArgsError::Kubeconfig),
            join => Ok(join),
        }
    }

    /// What the node is called.
    pub(crate) fn node_name(&self) -> String {
        self.run.hostname_override.clone().unwrap_or_else(machine_name)
    }

    /// Where what is kept of it is.
    pub(crate) fn root_dir(&self) -> &Path {
        &self.run.containers.root_dir
    }

    /// What the cluster says that is joined; what was said to the agent counts more, but for what is the cluster's own. Whether the
    /// agent serves by the certificate that the cluster gives.
    pub(crate) fn joined(&mut self, files: &NodeFiles, cluster: NodeCluster) -> bool {
        let run = &mut self.run;
        run.kubeconfig = Some(files.kubeconfig());
        run.servers_file = Some(files.servers());
        let containers = &mut run.containers;
        containers.cluster_domain = cluster.settings.cluster_domain;
        containers.cluster_cidr.get_or_insert(cluster.settings.cluster_cidr);
        if containers.cluster_dns.is_empty() {
            containers.cluster_dns.push(cluster.settings.cluster_dns.to_string());
        }
        let api = &mut containers.node_api;
        api.client_ca_file.get_or_insert_with(|| files.authority());
        // Hollow nodes serve nothing.
        let serves =
            run.runtime != HOLLOW && api.tls_cert_file.is_none() && api.tls_private_key_file.is_none();
        if serves {
            (api.tls_cert_file, api.tls_private_key_file) = (Some(files.serving()), Some(files.serving()));
        }
        serves
    }

    /// What is logged.
    pub(crate) fn log(&self) -> LogArgs {
        self.run.log
    }

    /// The configuration, checked.
    pub(crate) fn into_config(self) -> Result<ValidConfig, ConfigError> {
        self.run.into_config()
    }
}

impl RunArgs {
    fn into_config(self) -> Result<ValidConfig, ConfigError> {
        Config {
            kubeconfig: self.kubeconfig,
            servers_file: self.servers_file,
            master: self.master,
            hostname_override: self.hostname_override,
            node_ip: self.node_ip,
            node_labels: self.node_labels,
            register_with_taints: self.register_with_taints,
            node_status_update_frequency: self.node_status_update_frequency,
            node_lease_duration_seconds: self.node_lease_duration_seconds,
            max_pods: self.max_pods,
            pod_cidr: self.pod_cidr,
            runtime: self.runtime,
            containers: self.containers.into_flags(),
            shutdown: self.shutdown.into_flags(),
            hollow_nodes: self.hollow_nodes,
            hollow_capacity: self.hollow_capacity,
            healthz_bind_address: self.healthz_bind_address,
            healthz_port: self.healthz_port,
        }
        .validate()
    }
}
