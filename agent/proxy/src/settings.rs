//! What a proxy is told at its start, and what it knows of its node. Must never change while it runs, but for the node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::nft::{Block, Family};
use crate::services::Protocol;

/// Which addresses of the node have node ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// Those that the node tells the cluster, as kube-proxy's `primary`.
    #[default]
    Primary,
    /// Every address of the machine except loopback.
    All,
}

/// How a proxy works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the tables; `barque`, but in tests.
    pub table: String,
    /// All pods' addresses. Nothing between them is masqueraded.
    pub cluster_cidrs: Vec<Block>,
    /// All cluster addresses of services. Packets to one that no service has are dropped; empty leaves them alone.
    pub service_cidrs: Vec<Block>,
    /// Which addresses have node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether pods' packets to the outside get the node's address, for each family; off where pods' addresses are routed.
    pub masquerade_outside: Vec<Family>,
    /// Whether everything to cluster addresses is masqueraded.
    pub masquerade_all: bool,
    /// The bit of the mark that asks for masquerading; kube-proxy's and the kubelet's is 14.
    pub masquerade_bit: u8,
    /// Whether policies are enforced.
    pub policies: bool,
    /// Addresses of services that this machine answers itself: no translation, no connection tracking.
    pub local_addresses: Vec<(IpAddr, u16, Protocol)>,
    /// Time between two transactions at least.
    pub min_sync_period: Duration,
    /// Time between two complete passes, which only repair.
    pub full_sync_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            table: "barque".to_owned(),
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            node_port_addresses: NodePortAddresses::default(),
            masquerade_outside: Family::ALL.to_vec(),
            masquerade_all: false,
            masquerade_bit: 14,
            policies: true,
            local_addresses: Vec::new(),
            min_sync_period: Duration::from_secs(1),
            full_sync_period: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// The bit as the mark has it.
    pub(crate) const fn mark(&self) -> u32 {
        1 << (self.masquerade_bit % 32)
    }
}

/// What a proxy knows of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: Arc<str>,
    /// By its label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The addresses of its pods.
    pub pod_cidrs: Vec<Block>,
}
