//! Which endpoints a port of a service uses from this node. Must never use one that does not serve.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Endpoint, Service, ServicePort, Slice, TrafficPolicy};
use crate::nft::Family;
use crate::settings::NodeFacts;

/// Endpoints by their address and port, sorted.
pub(super) type Addresses = Vec<(IpAddr, u16)>;

/// Endpoints as traffic uses them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// For traffic that may go anywhere.
    pub(super) cluster: Addresses,
    /// For traffic that must stay on the node.
    pub(super) local: Addresses,
    /// Whether there are any that take connections, here or elsewhere.
    pub(super) any: bool,
    /// Addresses of those that this node has, or may have.
    pub(super) here: BTreeSet<IpAddr>,
    /// How many ready ones this node has.
    pub(super) ready_here: usize,
}

/// Ready ones, or ending ones that still serve if none is ready; and of the ready ones those that the hints give this node or
/// its zone.
pub(super) fn choose<'a>(
    service: &Service,
    port: &ServicePort,
    family: Family,
    slices: impl Iterator<Item = &'a Slice>,
    node: &NodeFacts,
) -> Chosen {
    let mut all: Vec<(&Endpoint, u16)> = Vec::new();
    for slice in slices.filter(|slice| slice.family == family) {
        let numbers = slice.ports.iter().filter(|one| one.name == port.name && one.protocol == port.protocol);
        for number in numbers {
            all.extend(slice.endpoints.iter().map(|endpoint| (endpoint, number.port)));
        }
    }
    let here = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(&*node.name);
    let local: Vec<_> = all.iter().filter(|(endpoint, _)| here(endpoint)).copied().collect();
    let wants_local = service.internal == TrafficPolicy::Local || service.external == TrafficPolicy::Local;
    let cluster = usable(&all);
    let any = !cluster.is_empty();
    let maybe_here = |endpoint: &Endpoint| endpoint.node.is_none() || here(endpoint);
    Chosen {
        any,
        here: all
            .iter()
            .filter(|(endpoint, _)| maybe_here(endpoint))
            .map(|(endpoint, _)| endpoint.address)
            .collect(),
        ready_here: local.iter().filter(|(endpoint, _)| endpoint.ready).count(),
        cluster: addresses(near(cluster, node)),
        local: if wants_local { addresses(usable(&local)) } else { Vec::new() },
    }
}

/// The ready ones, or those that end but still serve.
fn usable<'a>(pool: &[(&'a Endpoint, u16)]) -> Vec<(&'a Endpoint, u16)> {
    let of = |wanted: fn(&Endpoint) -> bool| {
        pool.iter().filter(|(endpoint, _)| wanted(endpoint)).copied().collect::<Vec<_>>()
    };
    let ready = of(|endpoint| endpoint.ready);
    if ready.is_empty() { of(|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}

/// Hints are followed only if all ready endpoints have them and one of them means us, so that nobody is left alone.
fn near<'a>(endpoints: Vec<(&'a Endpoint, u16)>, node: &NodeFacts) -> Vec<(&'a Endpoint, u16)> {
    if endpoints.iter().any(|(endpoint, _)| !endpoint.ready) {
        return endpoints;
    }
    let ours = |hints: &[Arc<str>], name: &str| hints.iter().any(|hint| **hint == *name);
    let pick = |of: fn(&Endpoint) -> &[Arc<str>], name: &str| {
        let hinted = endpoints.iter().all(|(endpoint, _)| !of(endpoint).is_empty());
        let picked: Vec<_> =
            endpoints.iter().filter(|(endpoint, _)| ours(of(endpoint), name)).copied().collect();
        (hinted && !picked.is_empty()).then_some(picked)
    };
    let by_node = pick(|endpoint| &endpoint.nodes, &node.name);
    let by_zone = || node.zone.as_deref().and_then(|zone| pick(|endpoint| &endpoint.zones, zone));
    match by_node.or_else(by_zone) {
        Some(picked) => picked,
        None => endpoints,
    }
}

fn addresses(endpoints: Vec<(&Endpoint, u16)>) -> Addresses {
    let mut addresses: Vec<_> =
        endpoints.into_iter().map(|(endpoint, port)| (endpoint.address, port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{Affinity, Protocol, SlicePort};

    const READY: [bool; 3] = [true, true, false];
    const ENDING: [bool; 3] = [false, true, true];
    const GONE: [bool; 3] = [false, false, true];
    const STARTING: [bool; 3] = [false, false, false];

    fn endpoint(
        host: u8,
        node: &str,
        [ready, serving, terminating]: [bool; 3],
        zones: &[&str],
        nodes: &[&str],
    ) -> Endpoint {
        let names = |all: &[&str]| all.iter().map(|name| Arc::from(*name)).collect();
        Endpoint {
            address: IpAddr::from([10, 42, 0, host]),
            node: Some(node.into()),
            ready,
            serving,
            terminating,
            zones: names(zones),
            nodes: names(nodes),
        }
    }

    fn chosen(policy: TrafficPolicy, endpoints: Vec<Endpoint>, zone: Option<&str>) -> Chosen {
        let port = ServicePort { name: "web".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let service = Service {
            name: "shop/web".into(),
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            source_ranges: Vec::new(),
            internal: policy,
            external: TrafficPolicy::Cluster,
            affinity: None::<Affinity>,
            health_port: None,
            ports: Vec::new(),
        };
        let of = |name: &str, port| SlicePort { name: name.into(), protocol: Protocol::Tcp, port };
        let slice = Slice {
            service: "shop/web".into(),
            family: Family::V4,
            ports: vec![of("other", 1), of("web", 8080)],
            endpoints,
        };
        let node = NodeFacts { name: "a".into(), zone: zone.map(Arc::from), ..NodeFacts::default() };
        choose(&service, &port, Family::V4, [&slice].into_iter(), &node)
    }

    fn hosts(addresses: &Addresses) -> Vec<u8> {
        let host = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        };
        addresses.iter().map(|(address, port)| host(address) * u8::from(*port == 8080)).collect()
    }

    #[test]
    fn ready_ones_come_before_ending_ones_that_serve() {
        let table = [
            (vec![endpoint(1, "a", READY, &[], &[]), endpoint(2, "b", ENDING, &[], &[])], vec![1], vec![1]),
            (
                vec![endpoint(1, "a", ENDING, &[], &[]), endpoint(2, "b", ENDING, &[], &[])],
                vec![1, 2],
                vec![1],
            ),
            (vec![endpoint(1, "a", ENDING, &[], &[]), endpoint(2, "b", READY, &[], &[])], vec![2], vec![1]),
            (vec![endpoint(1, "a", STARTING, &[], &[]), endpoint(2, "b", GONE, &[], &[])], vec![], vec![]),
        ];
        for (endpoints, cluster, local) in table {
            let chosen = chosen(TrafficPolicy::Local, endpoints.clone(), None);
            assert_eq!(
                (hosts(&chosen.cluster), hosts(&chosen.local)),
                (cluster.clone(), local),
                "{endpoints:?}"
            );
            assert_eq!(chosen.any, !cluster.is_empty());
        }
    }

    #[test]
    fn hints_count_if_everybody_has_them_and_one_means_us() {
        let table = [
            // Zones.
            (
                vec![endpoint(1, "b", READY, &["east"], &[]), endpoint(2, "c", READY, &["west"], &[])],
                Some("east"),
                vec![1],
            ),
            (
                vec![endpoint(1, "b", READY, &["east"], &[]), endpoint(2, "c", READY, &["west"], &[])],
                Some("north"),
                vec![1, 2],
            ),
            (
                vec![endpoint(1, "b", READY, &["east"], &[]), endpoint(2, "c", READY, &["west"], &[])],
                None,
                vec![1, 2],
            ),
            (
                vec![endpoint(1, "b", READY, &["east"], &[]), endpoint(2, "c", READY, &[], &[])],
                Some("east"),
                vec![1, 2],
            ),
            // Nodes come before zones.
            (
                vec![endpoint(1, "b", READY, &["east"], &["b"]), endpoint(2, "a", READY, &["east"], &["a"])],
                Some("east"),
                vec![2],
            ),
            (
                vec![endpoint(1, "b", READY, &["east"], &["b"]), endpoint(2, "c", READY, &["west"], &["c"])],
                Some("east"),
                vec![1],
            ),
            // Those that are not ready do not count.
            (
                vec![endpoint(1, "b", READY, &["east"], &[]), endpoint(2, "c", ENDING, &[], &[])],
                Some("east"),
                vec![1],
            ),
        ];
        for (endpoints, zone, wanted) in table {
            let chosen = chosen(TrafficPolicy::Cluster, endpoints.clone(), zone);
            assert_eq!(hosts(&chosen.cluster), wanted, "{endpoints:?} {zone:?}");
        }
    }
}
