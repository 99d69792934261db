//! What an agent that runs containers is told beside what every agent is, checked. Must never look at the machine.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use barque_api::ip::{Cidr, parse_cidr};
use barque_api::names;
use barque_api::quantity::Quantity;

use barque_cri::{Endpoint, EndpointError};
use barque_images::CollectPolicy;

use super::eviction::EvictionFlags;
use super::images::ImageCollectionFlags;
use super::{ConfigError, go_duration, value};
use crate::eviction::thresholds::EvictionConfig;
use crate::node_api::config::{NodeApiConfig, ValidNodeApi};
use crate::runtime::cri::LogRotation;

/// What was said, as the kubelet's flags say it.
#[derive(Debug, Clone, Default)]
pub struct ContainerFlags {
    /// Where another runtime listens, when one runs the containers.
    pub container_runtime_endpoint: String,
    /// Where the agent's own containers are served to those who speak CRI; nothing is nowhere.
    pub cri_socket: Option<PathBuf>,
    /// `--pod-manifest-path`
    pub pod_manifest_path: Option<PathBuf>,
    /// Where images, volumes and what is known of pods are kept.
    pub root_dir: PathBuf,
    /// Where sockets, namespaces and what else ends with the machine's run are.
    pub run_dir: PathBuf,
    /// Where logs of containers are.
    pub pod_logs_dir: PathBuf,
    /// Below which control group those of pods are.
    pub cgroup_root: String,
    /// Addresses of the cluster's resolvers; empty is none.
    pub cluster_dns: Vec<String>,
    /// What the cluster's names end with.
    pub cluster_domain: String,
    /// Where all pods are; what goes to others leaves under the node's address. Nothing is the node's own pods.
    pub cluster_cidr: Option<String>,
    /// The resolvers of the machine.
    pub resolv_conf: PathBuf,
    /// Pods whose containers say nothing have the runtime's filter of system calls.
    pub seccomp_default: bool,
    /// A log is begun anew when it has become so large.
    pub container_log_max_size: String,
    /// So many logs of a container are kept.
    pub container_log_max_files: u32,
    /// How often another runtime's logs are looked at.
    pub container_log_monitor_interval: String,
    /// Processes of a pod; 0 or less is as many as there can be.
    pub pod_max_pids: i64,
    /// Mirrors and credentials of registries, in the form of k3s' `registries.yaml`.
    pub registry_config: Option<PathBuf>,
    /// Where CNI plugins are configured; without a file there the built-in network is used.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are.
    pub cni_bin_dir: Vec<PathBuf>,
    /// What is kept from pods, `resource=quantity`.
    pub system_reserved: Vec<String>,
    /// The same, for the agent itself.
    pub kube_reserved: Vec<String>,
    /// When images go.
    pub images: ImageCollectionFlags,
    /// What is done when something is short.
    pub eviction: EvictionFlags,
    /// How the node API is served.
    pub node_api: NodeApiConfig,
}

/// Who runs a node's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerRuntime {
    /// The agent itself.
    Embedded,
    /// Whoever listens there.
    Cri {
        /// There.
        endpoint: Endpoint,
        /// When its logs are rotated.
        logs: LogRotation,
    },
}

/// What an agent that runs containers is told.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Who runs them.
    pub runtime: ContainerRuntime,
    /// Where the agent's own are served to those who speak CRI.
    pub cri_socket: Option<PathBuf>,
    /// Where files describe pods; nothing for no such pods.
    pub pod_manifest_path: Option<PathBuf>,
    /// Where images, volumes and what is known of pods are kept.
    pub root_dir: PathBuf,
    /// Where sockets, namespaces and what else ends with the machine's run are.
    pub run_dir: PathBuf,
    /// Where logs of containers are.
    pub pod_logs_dir: PathBuf,
    /// Below which control group those of pods are; empty is the root.
    pub cgroup_root: String,
    /// Addresses of the cluster's resolvers.
    pub cluster_dns: Vec<IpAddr>,
    /// What the cluster's names end with.
    pub cluster_domain: String,
    /// Where all pods are.
    pub cluster_cidrs: Vec<Cidr>,
    /// The resolvers of the machine.
    pub resolv_conf: PathBuf,
    /// Pods whose containers say nothing have the runtime's filter of system calls.
    pub seccomp_default: bool,
    /// Bytes of a log.
    pub log_size: u64,
    /// Logs of a container.
    pub log_files: u32,
    /// Processes of a pod.
    pub pod_pids: Option<i64>,
    /// Mirrors and credentials of registries.
    pub registry_config: Option<PathBuf>,
    /// Where CNI plugins are configured.
    pub cni_conf_dir: PathBuf,
    /// Where CNI plugins are.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// What is kept from pods, as nodes count it: thousandths of cores, and units of all else.
    pub reserved: BTreeMap<String, i64>,
    /// When images go.
    pub images: CollectPolicy,
    /// What is done when something is short.
    pub eviction: EvictionConfig,
    /// How the node API is served.
    pub node_api: ValidNodeApi,
}

impl ContainerFlags {
    /// Checked, for an agent whose containers another runtime runs.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate_for_cri(self) -> Result<ContainerConfig, ConfigError> {
        const FLAG: &str = "--container-runtime-endpoint";
        if let Some(socket) = &self.cri_socket {
            let problem = "serves the agent's own containers, and --runtime=cri has none";
            return Err(value("--cri-socket", &socket.to_string_lossy(), problem));
        }
        let text = &self.container_runtime_endpoint;
        let endpoint = text.parse().map_err(|error: EndpointError| value(FLAG, text, error.to_string()))?;
        let period = monitor_interval(&self.container_log_monitor_interval)?;
        let config = self.validate()?;
        let logs = LogRotation { file_bytes: config.log_size, files: config.log_files, period };
        Ok(ContainerConfig { runtime: ContainerRuntime::Cri { endpoint, logs }, ..config })
    }

    /// Checked, for an agent that runs containers itself.
    ///
    /// # Errors
    /// With a sentence about the flag that is wrong.
    pub fn validate(self) -> Result<ContainerConfig, ConfigError> {
        for (flag, path) in [
            ("--root-dir", &self.root_dir),
            ("--run-dir", &self.run_dir),
            ("--pod-logs-dir", &self.pod_logs_dir),
            ("--resolv-conf", &self.resolv_conf),
            ("--cni-conf-dir", &self.cni_conf_dir),
        ]
        .into_iter()
        .chain(self.cni_bin_dir.iter().map(|path| ("--cni-bin-dir", path)))
        {
            if !path.is_absolute() {
                return Err(value(flag, &path.to_string_lossy(), "must be an absolute path"));
            }
        }
        if let Some(path) = self.pod_manifest_path.as_ref().filter(|path| !path.is_absolute()) {
            return Err(value("--pod-manifest-path", &path.to_string_lossy(), "must be an absolute path"));
        }
        if let Some(socket) = self.cri_socket.as_ref().filter(|socket| !socket.is_absolute()) {
            return Err(value("--cri-socket", &socket.to_string_lossy(), "must be an absolute path"));
        }
        let cgroup_root = self.cgroup_root.trim_matches('/').to_owned();
        if cgroup_root.split('/').any(|part| part == "..") {
            return Err(value("--cgroup-root", &self.cgroup_root, "must not lead upwards"));
        }
        let dns = self
            .cluster_dns
            .iter()
            .map(|text| text.parse().map_err(|_| value("--cluster-dns", text, "is not an IP address")));
        let domain = self.cluster_domain.trim_end_matches('.').to_owned();
        if let Some(problem) = names::dns_subdomain(&domain).into_iter().next() {
            return Err(value("--cluster-domain", &self.cluster_domain, problem));
        }
        let cidrs = self.cluster_cidr.iter().flat_map(|list| list.split(',')).map(|text| {
            let cidr = parse_cidr(text).filter(|cidr| cidr.network() == *cidr);
            cidr.ok_or_else(|| value("--cluster-cidr", text, "is not a network such as 10.244.0.0/16"))
        });
        let size = &self.container_log_max_size;
        let log_size = Quantity::parse(size).map(|size| size.value());
        let log_size = log_size.ok().and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
        let Some(log_size) = log_size else {
            return Err(value("--container-log-max-size", size, "is not a size such as 10Mi"));
        };
        if self.container_log_max_files < 2 {
            let files = self.container_log_max_files.to_string();
            return Err(value("--container-log-max-files", &files, "must be 2 or more"));
        }
        let mut reserved = BTreeMap::new();
        for (flag, list) in
            [("--system-reserved", &self.system_reserved), ("--kube-reserved", &self.kube_reserved)]
        {
            for text in list {
                let (name, amount) = amount(flag, text)?;
                *reserved.entry(name).or_default() += amount;
            }
        }
        Ok(ContainerConfig {
            runtime: ContainerRuntime::Embedded,
            cri_socket: self.cri_socket,
            pod_manifest_path: self.pod_manifest_path,
            root_dir: self.root_dir,
            run_dir: self.run_dir,
            pod_logs_dir: self.pod_logs_dir,
            cgroup_root,
            cluster_dns: dns.collect::<Result<_, _>>()?,
            cluster_domain: domain,
            cluster_cidrs: cidrs.collect::<Result<_, _>>()?,
            resolv_conf: self.resolv_conf,
            seccomp_default: self.seccomp_default,
            log_size,
            log_files: self.container_log_max_files,
            pod_pids: Some(self.pod_max_pids).filter(|pids| *pids > 0),
            registry_config: self.registry_config,
            cni_conf_dir: self.cni_conf_dir,
            cni_bin_dirs: self.cni_bin_dir,
            reserved,
            images: self.images.validate()?,
            eviction: self.eviction.validate()?,
            node_api: self.node_api.validate()?,
        })
    }
}

fn monitor_interval(text: &str) -> Result<Duration, ConfigError> {
    const FLAG: &str = "--container-log-monitor-interval";
    let period = go_duration(FLAG, text)?.filter(|period| *period >= Duration::from_secs(1));
    period.ok_or_else(|| value(FLAG, text, "must be at least 1s"))
}

fn amount(flag: &'static str, text: &str) -> Result<(String, i64), ConfigError> {
    let Some((name, quantity)) = text.split_once('=') else {
        return Err(value(flag, text, "is not of the form resource=quantity"));
    };
    if !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pid") {
        return Err(value(flag, text, "names none of cpu, memory, ephemeral-storage and pid"));
    }
    let parsed = Quantity::parse(quantity).map_err(|error| value(flag, text, error.to_string()))?;
    let amount = if name == "cpu" { parsed.milli_value() } else { parsed.value() };
    if amount < 0 {
        return Err(value(flag, text, "must not be negative"));
    }
    Ok((name.to_owned(), amount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> ContainerFlags {
        ContainerFlags {
            root_dir: "/r".into(),
            run_dir: "/s".into(),
            pod_logs_dir: "/l".into(),
            cluster_domain: "cluster.local.".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            cni_conf_dir: "/n".into(),
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            container_log_monitor_interval: "10s".into(),
            ..ContainerFlags::default()
        }
    }

    fn check(change: impl FnOnce(&mut ContainerFlags), expected: &str) {
        let mut flags = flags();
        change(&mut flags);
        let error = flags.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(|flags| flags.root_dir = "r".into(), "--root-dir: \"r\" must be an absolute path");
        check(|flags| flags.cni_bin_dir = vec!["/b".into(), "c".into()], "--cni-bin-dir: \"c\" must be");
        check(|flags| flags.pod_manifest_path = Some("m".into()), "--pod-manifest-path: \"m\" must be");
        check(|flags| flags.cri_socket = Some("s".into()), "--cri-socket: \"s\" must be an absolute path");
        check(|flags| flags.cgroup_root = "/a/../b".into(), "--cgroup-root");
        check(|flags| flags.cluster_dns = vec!["dns".into()], "--cluster-dns: \"dns\" is not an IP address");
        check(|flags| flags.cluster_domain = "A_".into(), "--cluster-domain");
        check(|flags| flags.cluster_cidr = Some("10.0.0.1/8".into()), "--cluster-cidr");
        check(|flags| flags.container_log_max_size = "0".into(), "is not a size such as 10Mi");
        check(|flags| flags.container_log_max_files = 1, "must be 2 or more");
        check(|flags| flags.system_reserved = vec!["gpu=1".into()], "names none of cpu");
        check(|flags| flags.kube_reserved = vec!["cpu=-1".into()], "must not be negative");
    }

    #[test]
    fn another_runtime_is_named_by_its_socket() {
        let named = |endpoint: &str| {
            let flags = ContainerFlags { container_runtime_endpoint: endpoint.into(), ..flags() };
            flags.validate_for_cri().map(|config| config.runtime).map_err(|error| error.to_string())
        };
        let endpoint = "unix:///run/c.sock".parse().unwrap();
        let logs = LogRotation { file_bytes: 10 << 20, files: 5, period: Duration::from_secs(10) };
        assert_eq!(named("unix:///run/c.sock"), Ok(ContainerRuntime::Cri { endpoint, logs }));
        let hasty = ContainerFlags { container_log_monitor_interval: "100ms".into(), ..flags() };
        let hasty = ContainerFlags { container_runtime_endpoint: "/run/c.sock".into(), ..hasty };
        assert!(hasty.validate_for_cri().unwrap_err().to_string().contains("must be at least 1s"));
        assert_eq!(
            named("tcp://c"),
            Err("--container-runtime-endpoint: \"tcp://c\" is not a socket such as \
                 unix:///run/containerd/containerd.sock"
                .to_owned())
        );
        assert_eq!(flags().validate().unwrap().runtime, ContainerRuntime::Embedded);
        let both = ContainerFlags {
            container_runtime_endpoint: "/run/c.sock".into(),
            cri_socket: Some("/s".into()),
            ..flags()
        };
        assert!(both.validate_for_cri().unwrap_err().to_string().contains("--cri-socket"));
    }

    #[test]
    fn what_is_kept_from_pods_adds_up() {
        let mut flags = flags();
        flags.system_reserved = vec!["cpu=100m".into(), "memory=1Mi".into()];
        flags.kube_reserved = vec!["cpu=1".into()];
        flags.cgroup_root = "/a/b/".into();
        let config = flags.validate().unwrap();
        let reserved = [("cpu".to_owned(), 1100), ("memory".to_owned(), 1 << 20)];
        assert_eq!((config.reserved, config.cgroup_root.as_str()), (reserved.into(), "a/b"));
        assert_eq!((config.log_size, config.pod_pids), (10 << 20, None));
    }
}
