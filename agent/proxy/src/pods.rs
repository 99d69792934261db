//! Pods and namespaces as rules need them. Must never hold what no rule reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt as _;

use crate::host_ports::{HostPort, host_address};
use crate::services::{Protocol, key};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A pod with addresses of its own that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// At most one of each family, or none yet.
    pub addresses: Vec<IpAddr>,
    /// The node it is on.
    pub node: Option<Arc<str>>,
    /// Ports with names.
    pub ports: Vec<NamedPort>,
    /// Ports at the node.
    pub host_ports: Vec<HostPort>,
}

/// A port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// In the pod.
    pub port: u16,
}

/// The pod, if rules concern it: those in the node's own network, and those that have ended, have no address of their own.
#[must_use]
pub fn pod(object: &core::Pod) -> Option<Pod> {
    let spec = object.spec.as_ref()?;
    let status = object.status.as_ref();
    let ended = status
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    if ended || spec.host_network == Some(true) {
        return None;
    }
    let mut addresses: Vec<IpAddr> = status
        .iter()
        .flat_map(|status| {
            status.pod_ips.iter().flatten().map(|one| one.ip.as_str()).chain(status.pod_ip.as_deref())
        })
        .filter_map(|text| text.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let sidecars =
        spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let all = containers.flat_map(|container| container.ports.iter().flatten());
    let mut ports = Vec::new();
    let mut host_ports = Vec::new();
    for port in all {
        let Some(protocol) = Protocol::of(port.protocol.as_deref()) else { continue };
        let Ok(container_port) = u16::try_from(port.container_port) else { continue };
        if let Some(name) = &port.name {
            ports.push(NamedPort { name: name.clone(), protocol, port: container_port });
        }
        let host_port = port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if let (Some(host_port), Ok(host_address)) = (host_port, host_address(port.host_ip.as_deref())) {
            host_ports.push(HostPort { protocol, host_address, host_port, container_port });
        }
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    Some(Pod {
        name: key(Some(namespace), object.metadata.name.as_deref()?),
        namespace: namespace.into(),
        labels: object.labels().clone(),
        addresses,
        node: spec.node_name.as_deref().map(Arc::from),
        ports,
        host_ports,
    })
}
