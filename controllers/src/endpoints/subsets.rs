//! Subsets of `Endpoints` in their one form: addresses with the same ports together, each once, in order. A data structure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// How many addresses there may be.
const CAPACITY: usize = 1000;

/// The address and the uid of what it refers to.
type AddressKey = (String, String);
/// Ports in order; their protocol and name make them what they are.
type PortKey = (i32, String, String, Option<String>);

/// The addresses of a subset, whether each is ready, and whether the subset has ports.
type Together = (bool, Vec<(AddressKey, bool)>);

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
    (address.ip.clone(), uid.unwrap_or_default())
}

/// The same in one form. An address that is ready in one subset and not in another, for the same port, is not ready.
pub(crate) fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    // Nothing stands for an address without ports.
    let mut of_port: BTreeMap<Option<PortKey>, BTreeMap<AddressKey, bool>> = BTreeMap::new();
    for subset in subsets {
        let ports: Vec<_> = subset.ports.iter().flatten().map(|port| Some(port_key(port))).collect();
        let ports = if ports.is_empty() { vec![None] } else { ports };
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready) {
            let key = address_key(address);
            addresses.entry(key.clone()).or_insert_with(|| told(address));
            for port in &ports {
                let at = of_port.entry(port.clone()).or_default().entry(key.clone()).or_insert(ready);
                *at &= ready;
            }
        }
    }
    // Those without ports stay by themselves: with ports they would say something else.
    let mut together: BTreeMap<Together, Vec<EndpointPort>> = BTreeMap::new();
    for (port, of) in of_port {
        let ports = together.entry((port.is_some(), of.into_iter().collect())).or_default();
        ports.extend(port.map(port_of));
    }
    let list = |keys: &[(AddressKey, bool)], wanted: bool| {
        let those = keys.iter().filter(|(_, ready)| *ready == wanted);
        let found: Vec<_> = those.filter_map(|(key, _)| addresses.get(key).cloned()).collect();
        (!found.is_empty()).then_some(found)
    };
    let subset = |((_, keys), ports): (Together, Vec<EndpointPort>)| EndpointSubset {
        addresses: list(&keys, true),
        not_ready_addresses: list(&keys, false),
        ports: (!ports.is_empty()).then_some(ports),
    };
    together.into_iter().map(subset).collect()
}

/// What counts of an address: not the version of what it refers to.
fn told(address: &EndpointAddress) -> EndpointAddress {
    let mut address = address.clone();
    if let Some(target) = &mut address.target_ref {
        target.resource_version = None;
    }
    address
}

fn port_key(port: &EndpointPort) -> PortKey {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    (port.port, protocol, port.name.clone().unwrap_or_default(), port.app_protocol.clone())
}

fn port_of((port, protocol, name, app_protocol): PortKey) -> EndpointPort {
    EndpointPort {
        port,
        protocol: Some(protocol),
        name: Some(name).filter(|name| !name.is_empty()),
        app_protocol,
    }
}

/// Leaves no more addresses than there may be, those that are ready first, of each subset its part; whether there were more.
pub(super) fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let other: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + other <= CAPACITY {
        return false;
    }
    let of_ready = ready > CAPACITY;
    let (most, all) = if of_ready { (CAPACITY, ready) } else { (CAPACITY - ready, other) };
    let mut left = most;
    for subset in subsets {
        let list = if of_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let part = (count(list) * most).div_ceil(all.max(1)).min(left);
        if let Some(addresses) = list {
            addresses.truncate(part);
            left -= addresses.len();
        }
        if list.as_ref().is_some_and(Vec::is_empty) {
            *list = None;
        }
        if of_ready {
            subset.not_ready_addresses = None;
        }
    }
    true
}
