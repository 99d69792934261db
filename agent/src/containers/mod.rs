//! What a container is made of, decided as the kubelet decides it: environment, command, rights, bounds, mounts. Decisions only;
//! must never read a file, ask a server or look at a clock.
//!
//! [`sandbox_spec`] and [`container_spec`] put together what the other modules decide: [`env`](mod@env) the environment,
//! [`identity`] as whom it runs, [`rights`] what it may do, [`bounds`] what it may use, [`mounts`] what it sees.

pub mod bounds;
mod container;
pub mod env;
pub mod expansion;
pub mod fields;
pub mod files;
pub mod hostname;
pub mod identity;
pub mod mounts;
pub mod qos;
pub mod rights;
mod sandbox;
pub mod sysctls;

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub use container::{Inputs, container_spec, own_command};
pub use sandbox::{labels, sandbox_spec};

use crate::pods::spec;

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// The digest of its configuration.
    pub id: String,
    /// The directories of its layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// What runs, unless the pod says it.
    pub entrypoint: Vec<String>,
    /// The words for it, unless the pod says them.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it begins; empty is the root.
    pub working_dir: String,
    /// As whom it runs: `name`, `1000`, `name:group`; empty is root.
    pub user: String,
    /// How it is asked to stop; empty is `SIGTERM`.
    pub stop_signal: String,
    /// Paths that the image would like to have on a volume; nothing comes of them.
    pub volumes: Vec<String>,
}

/// What a container is told of its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// The name of the node's object.
    pub name: String,
    /// The labels of the node's object.
    pub labels: BTreeMap<String, String>,
    /// The name of the machine.
    pub hostname: String,
    /// As `cluster.local`.
    pub cluster_domain: String,
    /// Its addresses, the preferred one first.
    pub host_ips: Vec<IpAddr>,
    /// What pods can have of it.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Its whole memory, in bytes.
    pub memory_capacity: i64,
    /// Processes of a pod at most.
    pub pod_pids_limit: Option<i64>,
    /// Containers that name no profile get the one that runtimes bring along.
    pub seccomp_default: bool,
    /// The kernel knows mounts that are read-only all the way down.
    pub recursive_read_only: bool,
    /// Kernel parameters that are allowed though they are not safe; a `*` at the end stands for any rest.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// The agent's directory: pods are below `pods`, profiles below `seccomp`.
    pub root: PathBuf,
    /// Where logs of pods are, as `/var/log/pods`.
    pub logs: PathBuf,
}

impl NodeFacts {
    /// Where the logs of a pod's containers are.
    #[must_use]
    pub fn pod_logs(&self, pod: &Pod) -> PathBuf {
        self.logs.join(format!("{}_{}_{}", namespace(pod), name(pod), spec::uid(pod)))
    }
}

/// Why a container cannot be made, in the kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerError {
    /// What it names is not there or does not fit.
    #[error("{0}")]
    Config(String),
    /// It cannot be put together.
    #[error("{0}")]
    Create(String),
}

impl ContainerError {
    /// Why the container waits, in one word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "CreateContainerConfigError",
            Self::Create(_) => "CreateContainerError",
        }
    }
}

/// The container of this name, whatever it is for. An ephemeral one is read as any other: it has the same fields, but for the
/// container that it looks at.
#[must_use]
pub fn find(pod: &Pod, name: &str) -> Option<Container> {
    let spec = spec::spec(pod)?;
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers);
    if let Some(found) = plain.into_iter().find(|container| container.name == name) {
        return Some(found.clone());
    }
    spec.ephemeral_containers.iter().flatten().find(|container| container.name == name).and_then(of_ephemeral)
}

fn of_ephemeral(container: &EphemeralContainer) -> Option<Container> {
    serde_json::from_value(serde_json::to_value(container).ok()?).ok()
}

/// All containers of a pod: init, main, ephemeral.
#[must_use]
pub fn all(pod: &Pod) -> Vec<Container> {
    let Some(spec) = spec::spec(pod) else { return Vec::new() };
    let ephemeral = spec.ephemeral_containers.iter().flatten().filter_map(of_ephemeral);
    spec.init_containers.iter().flatten().chain(&spec.containers).cloned().chain(ephemeral).collect()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
