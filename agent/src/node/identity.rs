//! What a node is, as its agent was told and as the machine is: name, labels, taints, resources, addresses. Shapes only.

use core::net::IpAddr;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;

/// The version of Kubernetes that the agent stands for.
pub const VERSION: &str = concat!("v1.37.0+barque", ".", env!("CARGO_PKG_VERSION"));

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The node's name.
    pub name: String,
    /// Labels beside those that every node has.
    pub labels: BTreeMap<String, String>,
    /// What `node.kubernetes.io/instance-type` says.
    pub instance_type: String,
    /// With what it is registered, not what it may have later.
    pub taints: Vec<Taint>,
    /// The resources that it has.
    pub capacity: BTreeMap<String, Quantity>,
    /// Those that pods may have.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Its addresses, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// The networks of its pods, if its agent was told; else the cluster says.
    pub pod_cidrs: Vec<String>,
    /// The port of its node API, if it has one.
    pub node_api_port: Option<u16>,
    /// What `nodeInfo` says.
    pub info: NodeSystemInfo,
}

impl Identity {
    /// The labels that every node has.
    #[must_use]
    pub fn default_labels(&self) -> BTreeMap<String, String> {
        let (os, arch) = (&self.info.operating_system, &self.info.architecture);
        [
            ("kubernetes.io/hostname", &self.name),
            ("kubernetes.io/os", os),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", os),
            ("beta.kubernetes.io/arch", arch),
            ("node.kubernetes.io/instance-type", &self.instance_type),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
    }

    /// The node as it is registered.
    #[must_use]
    pub fn node(&self) -> Node {
        let mut labels = self.default_labels();
        labels.extend(self.labels.clone());
        let cidrs = Some(self.pod_cidrs.clone()).filter(|cidrs| !cidrs.is_empty());
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: self.pod_cidrs.first().cloned(),
                pod_cidrs: cidrs,
                taints: Some(self.taints.clone()).filter(|taints| !taints.is_empty()),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                capacity: Some(self.capacity.clone()),
                allocatable: Some(self.allocatable.clone()),
                addresses: Some(self.node_addresses()),
                node_info: Some(self.info.clone()),
                daemon_endpoints: self.node_api_port.map(|port| NodeDaemonEndpoints {
                    kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }),
                }),
                ..NodeStatus::default()
            }),
        }
    }

    /// The addresses as the node tells them.
    #[must_use]
    pub fn node_addresses(&self) -> Vec<NodeAddress> {
        let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
        let mut all: Vec<_> = self.addresses.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
        all.push(address("Hostname", self.name.clone()));
        all
    }
}

/// An architecture in the words of Go.
#[must_use]
pub fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
