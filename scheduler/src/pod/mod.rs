//! A pod as the scheduler sees it: what it asks, compiled once. Pure; must never know nodes or other pods.
//!
//! A pod is taken apart by what its parts are compared with: [`NodeAsk`] with one node alone, [`PlacementTerms`] and
//! [`Identity`] with the pods that are placed, [`PodVolumes`] with volumes. Pods of one workload share the parts, so what
//! is known of one of them is known of all.

mod node_affinity;
mod requests;
mod terms;
mod volumes;
mod workloads;

use std::sync::Arc;

use barque_api::quantity::QuantityError;
use k8s_openapi::api::core::v1 as core;

pub use node_affinity::{NodeTerm, NodeTerms, PreferredNodes, RequiredNodes};
pub use requests::Amounts;
pub use terms::{
    AffinityTerm, DefaultConstraint, DefaultSpread, HOSTNAME, Identity, PlacementTerms, PodTerm,
    SpreadConstraint, WeightedTerm, ZONE,
};
pub use volumes::{ClaimName, Disk, PodVolumes};
pub use workloads::{OwnerKind, Workloads};

use crate::label_set::SelectorError;
use crate::taint::Toleration;

/// A pod that cannot be read. Objects that an API server validated can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// It has no name, namespace or specification.
    #[error("the pod has no {0}")]
    Incomplete(&'static str),
    /// It asks for an amount that is none.
    #[error("a requested amount cannot be read")]
    Amount(#[from] QuantityError),
    /// It has a selector that is none.
    #[error("a selector cannot be read")]
    Selector(#[from] SelectorError),
}

/// A port on the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address; `0.0.0.0` stands for all.
    pub ip: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// From 1.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods cannot have them on one node.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let everywhere = |port: &Self| &*port.ip == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || everywhere(self) || everywhere(other))
    }
}

/// What a pod asks of a node alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeAsk {
    /// Higher ones go first.
    pub priority: i32,
    /// What is taken from the node.
    pub requests: Amounts,
    /// CPU that the pod is scored with, in thousandths of a core.
    pub scored_cpu_milli: i64,
    /// Memory that the pod is scored with, in bytes.
    pub scored_memory: i64,
    /// The one node that will do, if it says so.
    pub node_name: Option<Box<str>>,
    /// What it puts up with.
    pub tolerations: Box<[Toleration]>,
    /// Where it may run.
    pub required_nodes: RequiredNodes,
    /// Where it would rather run.
    pub preferred_nodes: PreferredNodes,
    /// Ports of the node.
    pub ports: Box<[HostPort]>,
    /// Images with their tags, one for each container.
    pub images: Box<[Box<str>]>,
}

/// A pod by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodName {
    /// Where it lives.
    pub namespace: Box<str>,
    /// Its name there.
    pub name: Box<str>,
}

/// A pod, compiled.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Which pod of this name; unique over time.
    pub uid: Arc<str>,
    /// Which pod.
    pub name: PodName,
    /// What it asks of a node alone.
    pub ask: NodeAsk,
    /// What it asks of pods beside it.
    pub terms: PlacementTerms,
    /// What other pods' terms see of it.
    pub identity: Identity,
    /// Its volumes.
    pub volumes: PodVolumes,
    /// What must be lifted before it is placed.
    pub gates: Box<[Box<str>]>,
    /// Who places it.
    pub scheduler_name: Box<str>,
    /// Where it runs, once it is bound.
    pub node: Option<Box<str>>,
    /// Where room is being made for it.
    pub nominated_node: Option<Box<str>>,
    /// Whether it may evict others.
    pub preempts: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It has ended, and takes nothing from its node any more.
    pub ended: bool,
    /// When it started, or was made, in microseconds since 1970.
    pub started_us: i64,
}

/// What a pod's compilation depends on besides the pod.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Services and controllers.
    pub workloads: &'a Workloads,
    /// Constraints of pods that have none.
    pub default_spread: &'a DefaultSpread,
}

impl PodSpec {
    /// Compiles a pod.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(pod: &core::Pod, surroundings: Surroundings<'_>) -> Result<Self, PodError> {
        let spec = pod.spec.as_ref().ok_or(PodError::Incomplete("specification"))?;
        let name = pod.metadata.name.as_deref().ok_or(PodError::Incomplete("name"))?;
        let namespace = pod.metadata.namespace.as_deref().ok_or(PodError::Incomplete("namespace"))?;
        let status = pod.status.as_ref();
        let (requests, scored_cpu_milli, scored_memory) = requests::of_pod(pod)?;
        let identity = Identity {
            namespace: namespace.into(),
            labels: crate::label_set::LabelSet::of(pod.metadata.labels.as_ref()),
        };
        let Surroundings { workloads, default_spread } = surroundings;
        let terms = terms::of_pod(pod, spec, &identity, workloads, default_spread)?;
        let node = spec.node_name.as_deref().filter(|node| !node.is_empty());
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let preferred = affinity
            .and_then(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.as_deref());
        let ask = NodeAsk {
            priority: spec.priority.unwrap_or(0),
            requests,
            scored_cpu_milli,
            scored_memory,
            node_name: node.map(Into::into),
            tolerations: spec.tolerations.iter().flatten().map(Toleration::of).collect(),
            required_nodes: RequiredNodes::of(spec),
            preferred_nodes: PreferredNodes::of(preferred.unwrap_or_default()),
            ports: host_ports(spec),
            images: images(spec),
        };
        let started = status.and_then(|status| status.start_time.as_ref());
        let started = started.or(pod.metadata.creation_timestamp.as_ref());
        let phase = status.and_then(|status| status.phase.as_deref());
        let nominated = status.and_then(|status| status.nominated_node_name.as_deref());
        Ok(Self {
            uid: pod.metadata.uid.as_deref().unwrap_or(name).into(),
            name: PodName { namespace: namespace.into(), name: name.into() },
            ask,
            terms,
            identity,
            volumes: PodVolumes::of(name, spec),
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str().into()).collect(),
            scheduler_name: spec.scheduler_name.as_deref().unwrap_or("default-scheduler").into(),
            node: node.map(Into::into),
            nominated_node: nominated.filter(|node| !node.is_empty()).map(Into::into),
            preempts: spec.preemption_policy.as_deref() != Some("Never"),
            terminating: pod.metadata.deletion_timestamp.is_some(),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            started_us: started.map_or(i64::MAX, |time| time.0.as_microsecond()),
        })
    }
}

fn host_ports(spec: &core::PodSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| Some((port, port.host_port.filter(|port| *port > 0)?)));
    ports
        .map(|(port, number)| HostPort {
            ip: port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0").into(),
            protocol: port.protocol.as_deref().filter(|it| !it.is_empty()).unwrap_or("TCP").into(),
            port: number,
        })
        .collect()
}

fn images(spec: &core::PodSpec) -> Box<[Box<str>]> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.map(|container| tagged(container.image.as_deref().unwrap_or_default()).into()).collect()
}

/// A name of an image with its tag, as nodes tell theirs.
fn tagged(image: &str) -> String {
    let has_tag = match (image.rfind(':'), image.rfind('/')) {
        (Some(colon), Some(slash)) => colon > slash,
        (colon, _) => colon.is_some(),
    };
    if has_tag { image.to_owned() } else { format!("{image}:latest") }
}

#[cfg(test)]
mod tests;
