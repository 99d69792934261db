//! Services and their endpoints, as lean as the rules need them. Must never hold what no rule reads.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::nft::{Block, Family};

/// What runs over IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// From the word of the API; one that is missing is TCP.
    #[must_use]
    pub fn of(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// Its number in IP's header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// For names of chains.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Which endpoints traffic may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// Any.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

/// Clients stay with an endpoint for this long after their last connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affinity(pub Duration);

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// At most one of each family.
    pub cluster_ips: Vec<IpAddr>,
    /// Further addresses of its own.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of its load balancer that the node itself must serve.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the addresses of its load balancer; all, if empty.
    pub source_ranges: Vec<Block>,
    /// For clients with cluster addresses.
    pub internal: TrafficPolicy,
    /// For clients from outside.
    pub external: TrafficPolicy,
    /// Whether clients stay with an endpoint.
    pub affinity: Option<Affinity>,
    /// Where load balancers ask whether this node has endpoints.
    pub health_port: Option<u16>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Empty, if it is the only one.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// At the service's addresses.
    pub port: u16,
    /// At the nodes' addresses.
    pub node_port: Option<u16>,
}

/// A slice of the endpoints of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Of the service: `namespace/name`.
    pub service: Arc<str>,
    /// All its endpoints have addresses of this family.
    pub family: Family,
    /// Ports by name.
    pub ports: Vec<SlicePort>,
    /// Who is behind it.
    pub endpoints: Vec<Endpoint>,
}

/// A port of a slice's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service's port.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// At the endpoints.
    pub port: u16,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: IpAddr,
    /// The node it is on.
    pub node: Option<Arc<str>>,
    /// Takes connections and is not ending.
    pub ready: bool,
    /// Takes connections.
    pub serving: bool,
    /// Is ending.
    pub terminating: bool,
    /// Zones that should use it.
    pub zones: Vec<Arc<str>>,
    /// Nodes that should use it.
    pub nodes: Vec<Arc<str>>,
}

/// The slices of one service by their names.
pub type Slices = BTreeMap<Arc<str>, Slice>;
