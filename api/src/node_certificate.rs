//! What may stand in the certificate that a node's agent shows: the node's own name and addresses, and nothing by which somebody else
//! is reached. Agents ask by these rules, and controllers approve by them. Decisions; must never take a node's word for what others
//! are called.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use crate::ip::{Cidr, parse_cidr};

/// The annotation by which a node says that its agent shows a certificate of the cluster's authority; only the node itself can
/// write it, and administrators.
pub const ANNOTATION: &str = "barque.dev/serving-certificate";
/// What it says then.
pub const OF_CLUSTER: &str = "cluster";
/// Who signs such certificates.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// The namespace of the maps below.
pub const NAMESPACE: &str = "kube-system";
/// The map with the masters: the URL of each one's API server by its name.
pub const MASTERS: &str = "barque-masters";
/// The map with what the API server of each master is called: an [`entry`](Reserved::entry) by its name.
pub const SERVER_NAMES: &str = "barque-server-names";
/// What names end with that are made of nodes' names for their certificates; no resolver knows them.
const OWN_ZONE: &str = ".node.barque.internal";

/// The user that a node is.
#[must_use]
pub fn user(node: &str) -> String {
    format!("system:node:{node}")
}

/// A name that a node has whatever else it is called: also one that shares all others with a master has something to be called.
#[must_use]
pub fn own_name(node: &str) -> String {
    format!("{node}{OWN_ZONE}")
}

/// The node whose [`own_name`] this is.
#[must_use]
pub fn node_of(own_name: &str) -> Option<&str> {
    own_name.strip_suffix(OWN_ZONE)
}

/// The addresses of a node, of the types and texts that its status has.
#[must_use]
pub fn addresses<'a>(said: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeSet<IpAddr> {
    let said = said.into_iter().filter(|(kind, _)| matches!(*kind, "InternalIP" | "ExternalIP"));
    said.filter_map(|(_, text)| text.parse().ok()).map(|address: IpAddr| address.to_canonical()).collect()
}

/// What only API servers and services are called: who has a certificate for that could stand in for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    names: BTreeSet<String>,
    networks: Vec<Cidr>,
}

impl Reserved {
    /// What a master writes down: the names and addresses of its API server, and the networks of services, with commas between.
    #[must_use]
    pub fn entry(names: &[String], addresses: &[IpAddr], networks: &str) -> String {
        let addresses = addresses.iter().map(ToString::to_string);
        let networks = networks.split(',').map(|network| network.trim().to_owned());
        let all: BTreeSet<String> = names.iter().cloned().chain(addresses).chain(networks).collect();
        all.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(",")
    }

    /// From the entries of all masters.
    ///
    /// # Errors
    /// The name of a master that has no entry.
    pub fn of<'a>(
        masters: impl IntoIterator<Item = &'a str>,
        entries: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        if let Some(silent) = masters.into_iter().find(|master| !entries.contains_key(*master)) {
            return Err(silent.to_owned());
        }
        let mut reserved = Self::default();
        for word in entries.values().flat_map(|entry| entry.split(',')).filter(|word| !word.is_empty()) {
            match (word.parse::<IpAddr>(), parse_cidr(word)) {
                (Ok(address), _) => reserved.networks.push(single(address)),
                (_, Some(network)) => reserved.networks.push(network),
                _ => drop(reserved.names.insert(word.to_ascii_lowercase())),
            }
        }
        Ok(reserved)
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Names in the form in which services have them belong to services.
    fn has_name(&self, name: &str) -> bool {
        self.names.contains(name) || name == "localhost" || name.split('.').any(|label| label == "svc")
    }
}

fn single(address: IpAddr) -> Cidr {
    let address = address.to_canonical();
    Cidr { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}

/// Why a node does not get the certificate that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is somebody else's.
    #[error("{0:?} is not what the node is called")]
    OtherName(String),
    /// It is, or could be, that of an API server or a service.
    #[error("{0:?} is a name of API servers or services")]
    ReservedName(String),
    /// The node does not have it.
    #[error("the node's object does not have the address {0}")]
    OtherAddress(IpAddr),
    /// It is that of an API server or a service.
    #[error("{0} is an address of API servers or services")]
    ReservedAddress(IpAddr),
    /// It is none of a machine.
    #[error("{0} is not the address of a machine")]
    NoMachine(IpAddr),
    /// Another node has it.
    #[error(
        "node {holder} has the address {address} too, and is heard of: which of them is right is not known"
    )]
    Shared {
        /// The address.
        address: IpAddr,
        /// The other node.
        holder: String,
    },
}

/// Whether a node of this name may be called so.
fn name(node: &str, name: &str, reserved: &Reserved) -> Result<(), Refusal> {
    if name == own_name(node) {
        return Ok(());
    }
    // A name that looks like an address may be taken for one.
    if name != node || name.parse::<IpAddr>().is_ok() || name.ends_with(OWN_ZONE) {
        return Err(Refusal::OtherName(name.to_owned()));
    }
    if reserved.has_name(name) { Err(Refusal::ReservedName(name.to_owned())) } else { Ok(()) }
}

/// Whether a node with these addresses may be reached at that one.
fn address(has: &BTreeSet<IpAddr>, address: IpAddr, reserved: &Reserved) -> Result<(), Refusal> {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if !has.contains(&address) {
        Err(Refusal::OtherAddress(address))
    } else if address.is_unspecified() || address.is_multicast() || broadcast {
        Err(Refusal::NoMachine(address))
    } else if reserved.has_address(address) {
        Err(Refusal::ReservedAddress(address))
    } else {
        Ok(())
    }
}

/// Whether a node gets a certificate for these names and addresses: `has` is what its object says that it has, and `holder` knows
/// which other node has an address.
///
/// # Errors
/// The first that it may not be called.
pub fn judge(
    node: &str,
    has: &BTreeSet<IpAddr>,
    names: &[String],
    addresses: &[IpAddr],
    reserved: &Reserved,
    holder: impl Fn(IpAddr) -> Option<String>,
) -> Result<(), Refusal> {
    names.iter().try_for_each(|one| name(node, one, reserved))?;
    addresses.iter().map(IpAddr::to_canonical).try_for_each(|one| {
        address(has, one, reserved)?;
        holder(one).map_or(Ok(()), |holder| Err(Refusal::Shared { address: one, holder }))
    })
}

/// For which names and addresses a node asks: all that it may have.
#[must_use]
pub fn claims(node: &str, has: &BTreeSet<IpAddr>, reserved: &Reserved) -> (Vec<String>, Vec<IpAddr>) {
    let names = [node.to_owned(), own_name(node)].into_iter();
    let names = names.filter(|one| name(node, one, reserved).is_ok()).collect();
    let addresses = has.iter().copied().filter(|one| address(has, *one, reserved).is_ok()).collect();
    (names, addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn reserved() -> Reserved {
        let names = ["m1", "localhost", "kubernetes.default.svc", "API.example.com"].map(str::to_owned);
        let entry = Reserved::entry(&names, &[ip("10.0.0.1"), ip("127.0.0.1")], "10.96.0.0/16, fd00:1::/112");
        Reserved::of(["m1"], &BTreeMap::from([("m1".to_owned(), entry)])).unwrap()
    }

    #[test]
    fn a_node_is_called_what_nobody_else_is() {
        let has = addresses([
            ("InternalIP", "10.0.0.21"),
            ("ExternalIP", "::ffff:192.0.2.7"),
            ("InternalIP", "127.0.0.1"),
            ("InternalIP", "10.96.0.1"),
            ("InternalIP", "fd00:1::7"),
            ("InternalIP", "0.0.0.0"),
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "10.0.0.22"),
            ("Hostname", "10.0.0.99"),
        ]);
        let holder = |address: IpAddr| (address == ip("10.0.0.22")).then(|| "n2".to_owned());
        let judged = |node: &str, name: &str, address: &str| {
            let names: Vec<String> = Some(name.to_owned()).into_iter().filter(|it| !it.is_empty()).collect();
            let addresses: Vec<IpAddr> = address.parse().into_iter().collect();
            judge(node, &has, &names, &addresses, &reserved(), holder)
        };
        let other = |name: &str| Err(Refusal::OtherName(name.to_owned()));
        let service = |name: &str| Err(Refusal::ReservedName(name.to_owned()));
        let names = [
            ("n1", "n1", Ok(())),
            ("n1.example.com", "n1.example.com", Ok(())),
            ("n1", "n1.node.barque.internal", Ok(())),
            ("m1", "m1.node.barque.internal", Ok(())),
            ("n1", "n2", other("n2")),
            ("n1", "N1", other("N1")),
            ("n1", "*", other("*")),
            ("n1", "n1.", other("n1.")),
            ("n1", "m1", other("m1")),
            ("n1", "n2.node.barque.internal", other("n2.node.barque.internal")),
            ("n2.node.barque.internal", "n2.node.barque.internal", other("n2.node.barque.internal")),
            ("10.0.0.1", "10.0.0.1", other("10.0.0.1")),
            ("m1", "m1", service("m1")),
            ("api.example.com", "api.example.com", service("api.example.com")),
            ("localhost", "localhost", service("localhost")),
            (
                "web.shop.svc.cluster.local",
                "web.shop.svc.cluster.local",
                service("web.shop.svc.cluster.local"),
            ),
            ("web.shop.svc", "web.shop.svc", service("web.shop.svc")),
        ];
        for (node, name, expected) in names {
            assert_eq!(judged(node, name, ""), expected, "{node}: {name}");
        }
        let taken = Refusal::Shared { address: ip("10.0.0.22"), holder: "n2".to_owned() };
        let addresses = [
            ("10.0.0.21", Ok(())),
            ("192.0.2.7", Ok(())),
            ("::ffff:10.0.0.21", Ok(())),
            ("10.0.0.99", Err(Refusal::OtherAddress(ip("10.0.0.99")))),
            ("::ffff:10.0.0.1", Err(Refusal::ReservedAddress(ip("10.0.0.1")))),
            ("10.0.0.1", Err(Refusal::ReservedAddress(ip("10.0.0.1")))),
            ("127.0.0.1", Err(Refusal::ReservedAddress(ip("127.0.0.1")))),
            ("10.96.0.1", Err(Refusal::ReservedAddress(ip("10.96.0.1")))),
            ("fd00:1::7", Err(Refusal::ReservedAddress(ip("fd00:1::7")))),
            ("0.0.0.0", Err(Refusal::NoMachine(ip("0.0.0.0")))),
            ("10.0.0.22", Err(taken)),
        ];
        for (address, expected) in addresses {
            assert_eq!(judged("n1", "", address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_asked_for_is_what_may_be_had() {
        let has = addresses([("InternalIP", "10.0.0.21"), ("InternalIP", "10.0.0.1"), ("InternalIP", "::1")]);
        let table = [
            ("n1", &["n1", "n1.node.barque.internal"][..]),
            ("m1", &["m1.node.barque.internal"]),
            ("10.0.0.9", &["10.0.0.9.node.barque.internal"]),
        ];
        for (node, expected) in table {
            let (names, addresses) = claims(node, &has, &reserved());
            assert_eq!(names, expected);
            assert_eq!(addresses, [ip("10.0.0.21"), ip("::1")]);
            assert_eq!(judge(node, &has, &names, &addresses, &reserved(), |_| None), Ok(()));
        }
    }

    #[test]
    fn nothing_is_known_as_long_as_a_master_has_not_said_what_it_is_called() {
        let entries = BTreeMap::from([("m1".to_owned(), "m1,10.0.0.1".to_owned())]);
        assert_eq!(Reserved::of(["m1", "m2"], &entries), Err("m2".to_owned()));
        assert!(Reserved::of(["m1"], &entries).unwrap().has_address(ip("10.0.0.1")));
        assert_eq!(Reserved::of([], &BTreeMap::new()), Ok(Reserved::default()));
        assert_eq!(node_of(&own_name("n1.example.com")), Some("n1.example.com"));
        assert_eq!(node_of("n1"), None);
    }
}
