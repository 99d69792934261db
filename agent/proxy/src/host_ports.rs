//! Ports of this node that are pods'. Must never know a service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base;
use crate::names::{name, of_socket};
use crate::nft::rule::End;
use crate::nft::{Chain, Family, Rule, Value, Verdict, port_key, socket_key};
use crate::services::{Dispatch, Protocol};
use crate::shadow::Fragment;

/// A port of the node that a container asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// What it speaks.
    pub protocol: Protocol,
    /// At the node; none means every address of it.
    pub host_address: Option<IpAddr>,
    /// At the node.
    pub host_port: u16,
    /// In the pod.
    pub container_port: u16,
}

/// The chains and elements of a pod's host ports, for one family.
#[must_use]
pub fn plan(pod: &str, addresses: &[IpAddr], ports: &[HostPort], family: Family) -> Fragment {
    let mut fragment = Fragment::default();
    let Some(address) = addresses.iter().find(|address| Family::of(**address) == family) else {
        return fragment;
    };
    for port in ports.iter().filter(|port| port.host_address.is_none_or(|host| Family::of(host) == family)) {
        let path = format!("{pod}/{}/{}", port.protocol.word(), port.host_port);
        let chain = match port.host_address {
            None => name("host-port", &path),
            Some(host) => of_socket("host-port", &path, host, port.host_port),
        };
        let rules = vec![
            Rule::new(family).address(End::Source, *address).jump(base::MARK).comment("to itself"),
            Rule::new(family).dnat(port.protocol.number(), *address, port.container_port),
        ];
        fragment.chains.insert(chain.clone(), Arc::new(Chain { base: None, comment: None, rules }));
        let value =
            Value { verdict: Some(Verdict::Goto(chain)), comment: Some(pod.to_owned()), ..Value::default() };
        let place = match port.host_address {
            None => (base::HOST_PORTS.into(), port_key(port.protocol.number(), port.host_port)),
            Some(host) => {
                (base::HOST_IP_PORTS.into(), socket_key(host, port.protocol.number(), port.host_port))
            }
        };
        fragment.elements.insert(place, value);
    }
    fragment
}

/// Who may answer at the ports that have no connections.
#[must_use]
pub fn dispatches(addresses: &[IpAddr], ports: &[HostPort]) -> Vec<Dispatch> {
    let ours = |port: &HostPort| -> BTreeSet<_> {
        let fits = |one: &&IpAddr| port.host_address.is_none_or(|host| Family::of(host) == Family::of(**one));
        addresses.iter().filter(fits).map(|address| (*address, port.container_port)).collect()
    };
    let dispatch = |port: &HostPort| Dispatch {
        protocol: port.protocol,
        addresses: port.host_address.map(|host| (host, port.host_port)).into_iter().collect(),
        node_port: port.host_address.is_none().then_some(port.host_port),
        endpoints: ours(port),
    };
    ports.iter().filter(|port| port.protocol != Protocol::Tcp).map(dispatch).collect()
}

/// Addresses that mean every address of the node.
pub(crate) fn host_address(text: Option<&str>) -> Result<Option<IpAddr>, Arc<str>> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => Ok(None),
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(text.into()),
        },
    }
}
