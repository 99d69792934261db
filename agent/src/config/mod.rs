//! What an agent is told at its start, checked. Must never read a file, the environment or the clock.

mod containers;
mod eviction;
mod images;
mod shutdown;

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use barque_api::ip::{Cidr, parse_cidr};
use barque_api::names;
use barque_api::quantity::Quantity;
use barque_api::time::GoDuration;
use barque_client::servers::{Servers, Source};
use k8s_openapi::api::core::v1::{NodeSystemInfo, Taint};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::node::identity::Identity;
use crate::node::plan::Rhythm;
use crate::node_api::config::NodeApiConfigError;
use crate::node_shutdown::task::ShutdownConfig;

pub use self::containers::{ContainerConfig, ContainerFlags, ContainerRuntime};
pub use self::eviction::{EVICTION_HARD, EvictionFlags};
pub use self::images::ImageCollectionFlags;
pub use self::shutdown::{LOGIND_CONF_DIR, ShutdownFlags};

/// Pods of a node, unless it is told otherwise.
const PODS: u32 = 110;
/// What `--pod-cidr` is cut into for hollow nodes.
const NODE_PREFIX: u8 = 24;

/// What was said, as the kubelet's flags say it.
#[derive(Debug, Clone)]
pub struct Config {
    /// A kubeconfig; nothing is what a pod finds.
    pub kubeconfig: Option<PathBuf>,
    /// A file with URLs of API servers, one a line, which is followed; with a kubeconfig only, and `master` counts more.
    pub servers_file: Option<PathBuf>,
    /// URLs of API servers, the preferred one first; empty is the one of the kubeconfig.
    pub master: Vec<String>,
    /// The node's name; nothing is the machine's.
    pub hostname_override: Option<String>,
    /// The node's addresses; nothing is that of the default route.
    pub node_ip: Vec<String>,
    /// `key=value`.
    pub node_labels: Vec<String>,
    /// `key=value:Effect`.
    pub register_with_taints: Vec<String>,
    /// The longest time between two reports of a node's status.
    pub node_status_update_frequency: String,
    /// How long a node's lease lasts.
    pub node_lease_duration_seconds: u32,
    /// Pods of each node.
    pub max_pods: Option<u32>,
    /// Where pods get their addresses; nothing is what the cluster says.
    pub pod_cidr: Option<String>,
    /// What runs containers: `embedded`, `cri` or `hollow`.
    pub runtime: String,
    /// What only matters where containers are run.
    pub containers: ContainerFlags,
    /// How long pods have when the machine shuts down.
    pub shutdown: ShutdownFlags,
    /// How many hollow nodes there are; nothing is one, with the plain name.
    pub hollow_nodes: Option<u32>,
    /// `resource=quantity`.
    pub hollow_capacity: Vec<String>,
    /// Where health is served.
    pub healthz_bind_address: String,
    /// The port; 0 is nowhere.
    pub healthz_port: u16,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Containers cannot be run that way.
    #[error("--runtime: {0:?} is none of \"embedded\", \"cri\" and \"hollow\"")]
    Runtime(String),
    /// The node API cannot be served that way.
    #[error(transparent)]
    NodeApi(#[from] NodeApiConfigError),
    /// It only makes sense for hollow nodes.
    #[error("{0} is for --runtime=hollow")]
    Hollow(&'static str),
    /// A value is not what it should be.
    #[error("{flag}: {value:?} {problem}")]
    Value {
        /// Of this flag.
        flag: &'static str,
        /// What was said.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two say different things.
    #[error("--max-pods says {max_pods} and --hollow-capacity says pods={capacity}; give one of them")]
    Pods {
        /// One.
        max_pods: u32,
        /// The other.
        capacity: String,
    },
    /// There are more nodes than networks.
    #[error(
        "--pod-cidr: {cidr} has room for {room} networks of /{NODE_PREFIX}, and there are {nodes} hollow nodes"
    )]
    Networks {
        /// What was said.
        cidr: String,
        /// How many there are.
        room: u64,
        /// How many are needed.
        nodes: u32,
    },
}

/// What the machine says of itself.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its name.
    pub hostname: String,
    /// The address by which others reach it.
    pub address: IpAddr,
    /// What nodes tell of it.
    pub info: NodeSystemInfo,
    /// What it has, as nodes count it: thousandths of cores, and units of all else.
    pub resources: BTreeMap<String, i64>,
}

/// A configuration that can be started.
#[derive(Debug, Clone)]
pub struct ValidConfig {
    pub(crate) servers: Servers,
    pub(crate) rhythm: Rhythm,
    pub(crate) healthz: Option<SocketAddr>,
    name: Option<String>,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    capacity: BTreeMap<String, resource::Quantity>,
    /// How many nodes; nothing is one with the plain name.
    nodes: Option<u32>,
    pod_cidr: Option<Cidr>,
    max_pods: u32,
    /// What an agent that runs containers is told.
    pub(crate) containers: Option<ContainerConfig>,
    /// What is done when the machine shuts down; nothing is nothing.
    pub(crate) shutdown: Option<ShutdownConfig>,
}

fn value(flag: &'static str, value: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value { flag, value: value.to_owned(), problem: problem.into() }
}

impl Config {
    /// Checked.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let containers = match self.runtime.as_str() {
            "hollow" => None,
            "embedded" | "cri" if self.hollow_nodes.is_some() => {
                return Err(ConfigError::Hollow("--hollow-nodes"));
            }
            "embedded" => Some(self.containers.clone().validate()?),
            "cri" => Some(self.containers.clone().validate_for_cri()?),
            _ => return Err(ConfigError::Runtime(self.runtime)),
        };
        let urls = self.master.iter().map(|text| {
            let uri: Option<http::Uri> = text.parse().ok();
            let whole = uri.filter(|uri| uri.scheme().is_some() && uri.authority().is_some());
            whole.ok_or_else(|| value("--master", text, "is not a URL"))
        });
        let servers = Servers {
            urls: urls.collect::<Result<_, _>>()?,
            source: match (self.kubeconfig.clone(), self.servers_file.clone()) {
                (Some(kubeconfig), Some(servers)) => Source::Joined { kubeconfig, servers },
                (Some(kubeconfig), None) => Source::Kubeconfig(kubeconfig),
                (None, _) => Source::InCluster,
            },
        };
        if let Some(name) = &self.hostname_override {
            check_name("--hostname-override", name)?;
        }
        if self.hollow_nodes == Some(0) {
            return Err(value("--hollow-nodes", "0", "must be at least 1"));
        }
        let ip = |text: &String| text.parse().map_err(|_| value("--node-ip", text, "is not an IP address"));
        let healthz: IpAddr = self.healthz_bind_address.parse().map_err(|_| {
            value("--healthz-bind-address", &self.healthz_bind_address, "is not an IP address")
        })?;
        let lease = self.node_lease_duration_seconds;
        if lease == 0 {
            return Err(value("--node-lease-duration-seconds", "0", "must be greater than 0"));
        }
        let report = status_frequency(&self.node_status_update_frequency)?;
        Ok(ValidConfig {
            servers,
            rhythm: Rhythm { report, lease: Duration::from_secs(lease.into()) },
            healthz: (self.healthz_port != 0).then(|| SocketAddr::new(healthz, self.healthz_port)),
            addresses: self.node_ip.iter().map(ip).collect::<Result<_, _>>()?,
            labels: self.node_labels.iter().map(|text| label(text)).collect::<Result<_, _>>()?,
            taints: self.register_with_taints.iter().map(|text| taint(text)).collect::<Result<_, _>>()?,
            capacity: self.capacity()?,
            pod_cidr: self.networks()?,
            max_pods: self.max_pods.unwrap_or(PODS),
            name: self.hostname_override,
            nodes: self.hollow_nodes,
            containers,
            shutdown: self.shutdown.validate()?,
        })
    }

    fn capacity(&self) -> Result<BTreeMap<String, resource::Quantity>, ConfigError> {
        const FLAG: &str = "--hollow-capacity";
        let mut capacity = BTreeMap::new();
        for text in &self.hollow_capacity {
            let Some((name, quantity)) = text.split_once('=') else {
                return Err(value(FLAG, text, "is not of the form resource=quantity"));
            };
            let parsed = Quantity::parse(quantity).map_err(|error| value(FLAG, text, error.to_string()))?;
            if parsed.milli_value() < 0 {
                return Err(value(FLAG, text, "must not be negative"));
            }
            capacity.insert(name.to_owned(), resource::Quantity(quantity.to_owned()));
        }
        match (self.max_pods, capacity.get("pods")) {
            (Some(max_pods), Some(pods)) if pods.0 != max_pods.to_string() => {
                return Err(ConfigError::Pods { max_pods, capacity: pods.0.clone() });
            }
            (_, Some(_)) => {}
            (max_pods, None) => {
                let pods = resource::Quantity(max_pods.unwrap_or(PODS).to_string());
                capacity.insert("pods".to_owned(), pods);
            }
        }
        Ok(capacity)
    }

    fn networks(&self) -> Result<Option<Cidr>, ConfigError> {
        let Some(text) = &self.pod_cidr else { return Ok(None) };
        let cidr = parse_cidr(text).filter(|cidr| cidr.network() == *cidr);
        let Some(cidr) = cidr else {
            return Err(value("--pod-cidr", text, "is not a network such as 10.244.0.0/16"));
        };
        if let Some(nodes) = self.hollow_nodes {
            if !cidr.address.is_ipv4() {
                return Err(value("--pod-cidr", text, "must be of IPv4 to be split among hollow nodes"));
            }
            let room = NODE_PREFIX.checked_sub(cidr.prefix).map_or(0, |bits| 1_u64 << bits);
            if room < u64::from(nodes) {
                return Err(ConfigError::Networks { cidr: text.clone(), room, nodes });
            }
        }
        Ok(Some(cidr))
    }
}

fn check_name(flag: &'static str, name: &str) -> Result<(), ConfigError> {
    match names::dns_subdomain(name).into_iter().next() {
        Some(problem) => Err(value(flag, name, problem)),
        None => Ok(()),
    }
}

/// A time as Go writes it; nothing for one before nothing.
fn go_duration(flag: &'static str, text: &str) -> Result<Option<Duration>, ConfigError> {
    let nanos = GoDuration::parse(text).map_err(|error| value(flag, text, error.to_string()))?.nanos();
    Ok(u64::try_from(nanos).ok().map(Duration::from_nanos))
}

fn not_negative(flag: &'static str, text: &str) -> Result<Duration, ConfigError> {
    go_duration(flag, text)?.ok_or_else(|| value(flag, text, "must not be negative"))
}

fn status_frequency(text: &str) -> Result<Duration, ConfigError> {
    const FLAG: &str = "--node-status-update-frequency";
    let positive = go_duration(FLAG, text)?.filter(|duration| !duration.is_zero());
    positive.ok_or_else(|| value(FLAG, text, "must be greater than 0"))
}

fn label(text: &str) -> Result<(String, String), ConfigError> {
    const FLAG: &str = "--node-labels";
    let (key, label) = text.split_once('=').unwrap_or((text, ""));
    let problem = names::label_key(key).into_iter().chain(names::label_value(label)).next();
    problem.map_or(Ok((key.to_owned(), label.to_owned())), |problem| Err(value(FLAG, text, problem)))
}

fn taint(text: &str) -> Result<Taint, ConfigError> {
    const FLAG: &str = "--register-with-taints";
    let parts = text.rsplit_once(':');
    let known = |effect: &str| matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute");
    let Some((what, effect)) = parts.filter(|(_, effect)| known(effect)) else {
        let problem = "is not of the form key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute";
        return Err(value(FLAG, text, problem));
    };
    let (key, said) = what.split_once('=').unwrap_or((what, ""));
    if let Some(problem) = names::label_key(key).into_iter().chain(names::label_value(said)).next() {
        return Err(value(FLAG, text, problem));
    }
    let said = Some(said.to_owned()).filter(|said| !said.is_empty());
    Ok(Taint { key: key.to_owned(), value: said, effect: effect.to_owned(), time_added: None })
}

impl ValidConfig {
    /// Whom the agent speaks to, and as who.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The nodes that the process keeps, on this machine.
    ///
    /// # Errors
    /// When the machine's name cannot be that of a node.
    pub fn identities(&self, machine: &Machine) -> Result<Vec<Identity>, ConfigError> {
        let base = self.name.clone().unwrap_or_else(|| machine.hostname.to_lowercase());
        check_name("--hostname-override", &base)?;
        let instance_type = if self.containers.is_some() { "barque" } else { "hollow" };
        let (capacity, allocatable) = self.resources(machine);
        let one = |name: String, cidr: Option<Cidr>| Identity {
            name,
            labels: self.labels.clone(),
            instance_type: instance_type.to_owned(),
            taints: self.taints.clone(),
            capacity: capacity.clone(),
            allocatable: allocatable.clone(),
            addresses: if self.addresses.is_empty() { vec![machine.address] } else { self.addresses.clone() },
            pod_cidrs: cidr.iter().map(ToString::to_string).collect(),
            node_api_port: self.containers.as_ref().map(|containers| containers.node_api.port()),
            info: machine.info.clone(),
        };
        let Some(nodes) = self.nodes else { return Ok(vec![one(base, self.pod_cidr)]) };
        Ok((0..nodes)
            .map(|number| one(format!("{base}-{number}"), self.pod_cidr.and_then(|cidr| part(cidr, number))))
            .collect())
    }
}

/// What a node has, or pods may have of it.
type Resources = BTreeMap<String, resource::Quantity>;

impl ValidConfig {
    /// What a node has, and what pods may have of it.
    fn resources(&self, machine: &Machine) -> (Resources, Resources) {
        let Some(containers) = &self.containers else {
            return (self.capacity.clone(), self.capacity.clone());
        };
        let text = |name: &str, amount: i64| {
            let text = match name {
                "cpu" if amount % 1000 != 0 => format!("{amount}m"),
                "cpu" => (amount / 1000).to_string(),
                "memory" | "ephemeral-storage" => format!("{}Ki", amount / 1024),
                _ => amount.to_string(),
            };
            (name.to_owned(), resource::Quantity(text))
        };
        let mut all = machine.resources.clone();
        all.insert("pods".to_owned(), self.max_pods.into());
        let left = |(name, amount): (&String, &i64)| {
            let reserved = containers.reserved.get(name).copied().unwrap_or_default();
            text(name, (amount - reserved).max(0))
        };
        let allocatable = all.iter().map(left).collect();
        (all.iter().map(|(name, amount)| text(name, *amount)).collect(), allocatable)
    }
}

/// The network of this number, of those that a greater one is cut into.
fn part(cidr: Cidr, number: u32) -> Option<Cidr> {
    let IpAddr::V4(first) = cidr.address else { return None };
    let address = first.to_bits().checked_add(number.checked_mul(1 << (32 - NODE_PREFIX))?)?;
    Some(Cidr { address: IpAddr::V4(address.into()), prefix: NODE_PREFIX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            kubeconfig: None,
            servers_file: None,
            master: Vec::new(),
            hostname_override: Some("n".into()),
            node_ip: Vec::new(),
            node_labels: Vec::new(),
            register_with_taints: Vec::new(),
            node_status_update_frequency: "5m".into(),
            node_lease_duration_seconds: 40,
            max_pods: None,
            pod_cidr: None,
            runtime: "hollow".into(),
            containers: ContainerFlags::default(),
            shutdown: ShutdownFlags::default(),
            hollow_nodes: None,
            hollow_capacity: vec!["cpu=32".into()],
            healthz_bind_address: "127.0.0.1".into(),
            healthz_port: 10248,
        }
    }

    fn machine() -> Machine {
        Machine {
            hostname: "Box".into(),
            address: "10.0.0.1".parse().unwrap(),
            info: NodeSystemInfo::default(),
            resources: [("cpu".to_owned(), 2500), ("memory".to_owned(), 4 << 30)].into(),
        }
    }

    fn nodes(change: impl FnOnce(&mut Config)) -> Vec<Identity> {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap().identities(&machine()).unwrap()
    }

    #[test]
    fn nodes_are_as_many_and_as_large_as_they_shall_be() {
        let one = nodes(|config| {
            config.node_labels = vec!["zone=a".into()];
            config.register_with_taints = vec!["k=v:NoSchedule".into(), "x:NoExecute".into()];
            config.pod_cidr = Some("10.244.0.0/16".into());
        });
        assert_eq!(
            (one.len(), one[0].name.as_str(), &one[0].pod_cidrs[..]),
            (1, "n", &["10.244.0.0/16".to_owned()][..])
        );
        assert_eq!((one[0].capacity["cpu"].0.as_str(), one[0].capacity["pods"].0.as_str()), ("32", "110"));
        assert_eq!(one[0].taints[0].value.as_deref(), Some("v"));
        let many = nodes(|config| {
            (config.hostname_override, config.hollow_nodes, config.max_pods) = (None, Some(3), Some(7));
            config.pod_cidr = Some("10.244.0.0/16".into());
        });
        let told: Vec<_> = many.iter().map(|node| format!("{} {}", node.name, node.pod_cidrs[0])).collect();
        assert_eq!(told, ["box-0 10.244.0.0/24", "box-1 10.244.1.0/24", "box-2 10.244.2.0/24"]);
        assert_eq!(many[2].capacity["pods"].0, "7");
    }

    #[test]
    fn a_node_has_what_the_machine_has_and_pods_what_is_not_reserved() {
        let one = nodes(|config| {
            config.runtime = "embedded".into();
            config.containers = ContainerFlags {
                root_dir: "/r".into(),
                run_dir: "/s".into(),
                pod_logs_dir: "/l".into(),
                resolv_conf: "/c".into(),
                cni_conf_dir: "/n".into(),
                cluster_domain: "cluster.local".into(),
                container_log_max_size: "10Mi".into(),
                container_log_max_files: 5,
                system_reserved: vec!["cpu=500m".into(), "memory=1Gi".into()],
                ..ContainerFlags::default()
            };
        });
        let of = |list: &Resources| list.iter().map(|(k, v)| format!("{k} {}", v.0)).collect::<Vec<_>>();
        assert_eq!(of(&one[0].capacity), ["cpu 2500m", "memory 4194304Ki", "pods 110"]);
        assert_eq!(of(&one[0].allocatable), ["cpu 2", "memory 3145728Ki", "pods 110"]);
    }

    fn check(change: impl FnOnce(&mut Config), expected: &str) {
        let mut config = config();
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(
            |config| config.runtime = "runc".into(),
            "--runtime: \"runc\" is none of \"embedded\", \"cri\" and \"hollow\"",
        );
        check(
            |config| (config.runtime, config.hollow_nodes) = ("embedded".into(), Some(2)),
            "--hollow-nodes is for --runtime=hollow",
        );
        check(|config| config.master = vec!["box".into()], "--master: \"box\" is not a URL");
        check(|config| config.hostname_override = Some("A_b".into()), "--hostname-override: \"A_b\"");
        check(|config| config.hollow_nodes = Some(0), "must be at least 1");
        check(|config| config.node_ip = vec!["x".into()], "--node-ip: \"x\" is not an IP address");
        check(|config| config.node_labels = vec!["a b=c".into()], "--node-labels: \"a b=c\"");
        check(
            |config| config.register_with_taints = vec!["a=b".into()],
            "is not of the form key=value:Effect",
        );
        check(|config| config.node_status_update_frequency = "5".into(), "missing unit in duration");
        check(|config| config.node_lease_duration_seconds = 0, "must be greater than 0");
        check(|config| config.hollow_capacity = vec!["cpu".into()], "is not of the form resource=quantity");
        check(|config| config.hollow_capacity = vec!["cpu=x".into()], "--hollow-capacity: \"cpu=x\"");
        check(
            |config| (config.hollow_capacity, config.max_pods) = (vec!["pods=5".into()], Some(6)),
            "--max-pods says 6 and --hollow-capacity says pods=5",
        );
        check(|config| config.pod_cidr = Some("10.244.0.1/16".into()), "--pod-cidr");
        check(
            |config| (config.pod_cidr, config.hollow_nodes) = (Some("10.244.0.0/23".into()), Some(3)),
            "10.244.0.0/23 has room for 2 networks of /24, and there are 3 hollow nodes",
        );
        check(|config| config.healthz_bind_address = "here".into(), "--healthz-bind-address");
    }
}
