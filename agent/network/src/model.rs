//! The part of a node's network that matters here, as values: what there is, and what there should be. Must never touch
//! the kernel.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use barque_api::ip::Cidr;
use serde::{Deserialize, Serialize};

use crate::names::Mac;

/// How packets reach pods of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// Inside UDP packets between the nodes, which needs nothing of the network but that nodes reach each other.
    #[default]
    Vxlan,
    /// By routes over the nodes' own addresses; all nodes must share a link.
    HostGateway,
    /// Not by the node: somebody else has routes to the pod networks.
    None,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Its addresses, the one it is known by first.
    pub addresses: Vec<IpAddr>,
    /// Its pod networks.
    pub pod_networks: Vec<Cidr>,
}

/// What a pod got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    /// The pod's addresses, one per family, in the order of the node's pod networks.
    pub addresses: Vec<IpAddr>,
    /// The gateways of the pod's default routes, one per family.
    pub gateways: Vec<IpAddr>,
    /// The largest packet that the pod's interface takes, in bytes; none if a plugin did not say.
    pub mtu: Option<u32>,
    /// The name of the pod's interface.
    pub interface: String,
}

/// A link of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: Kind,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) alias: Option<String>,
    pub(crate) addresses: BTreeSet<Cidr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Veth,
    Vxlan(Tunnel),
    Other,
}

/// The parameters of a VXLAN device that cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) vni: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<IpAddr>,
    pub(crate) learning: bool,
}

/// A route with the crate's protocol number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) destination: Cidr,
    pub(crate) path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    /// Packets are dropped.
    Blackhole,
    /// The destination is on the link; the node speaks to it with this address.
    Direct { device: String, source: Option<IpAddr> },
    /// By a gateway; if `onlink` it need not be in a network of the device.
    Gateway { device: String, gateway: IpAddr, onlink: bool },
}

impl Path {
    pub(crate) fn device(&self) -> Option<&str> {
        match self {
            Self::Blackhole => None,
            Self::Direct { device, .. } | Self::Gateway { device, .. } => Some(device),
        }
    }
}

/// A permanent neighbour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Neighbour {
    pub(crate) device: String,
    pub(crate) address: IpAddr,
    pub(crate) mac: Mac,
}

/// A permanent entry of the overlay's forwarding database: to which node frames for this address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Forward {
    pub(crate) mac: Mac,
    pub(crate) remote: IpAddr,
}

/// What there is. Only what may be the crate's own, and links.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Observed {
    pub(crate) links: BTreeMap<String, Link>,
    /// With the crate's protocol number.
    pub(crate) routes: BTreeSet<Route>,
    /// Permanent, of the overlay and of pods' links.
    pub(crate) neighbours: BTreeSet<Neighbour>,
    /// Of the overlay.
    pub(crate) forwards: BTreeSet<Forward>,
}

/// The interface that has the node's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) name: String,
    pub(crate) mtu: u32,
}

/// What a node should have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Desired {
    pub(crate) backend: Backend,
    /// The node's addresses, the one that other nodes know first.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) outer: Option<Outer>,
    pub(crate) mtu: u32,
    pub(crate) pod_networks: Vec<Cidr>,
    pub(crate) peers: Vec<Peer>,
    /// By the names of their links.
    pub(crate) pods: BTreeMap<String, Pod>,
}

/// A pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) mac: Mac,
    /// What the link is called for people.
    pub(crate) alias: String,
}

/// One step, with all that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    DeleteRoute(Route),
    DeleteNeighbour(Neighbour),
    DeleteForward(Forward),
    DeleteLink(String),
    CreateOverlay { tunnel: Tunnel, mac: Mac, mtu: u32 },
    SetMtu { name: String, mtu: u32 },
    SetAlias { name: String, alias: String },
    SetUp(String),
    DeleteAddress { name: String, address: Cidr },
    AddAddress { name: String, address: Cidr },
    AddForward(Forward),
    AddNeighbour(Neighbour),
    AddRoute(Route),
}

/// The network of one address.
pub(crate) fn single(address: IpAddr) -> Cidr {
    Cidr { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}
