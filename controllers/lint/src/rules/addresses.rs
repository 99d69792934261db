//! Addresses and ports: each is given to one, of where it is to come from, and those of services are written down.

use core::net::IpAddr;
use std::collections::HashMap;
use std::hash::Hash;

use barque_api::ip::{Cidr, parse_cidr};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::IPAddress;
use kube::Resource;

use crate::finding::{Findings, Rule};
use crate::objects::{place, shown};
use crate::snapshot::Snapshot;
use crate::{pods, services};

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let with_addresses: Vec<&Pod> = snapshot
        .pods
        .iter()
        .filter(|pod| !pods::is_terminal(pod) && !pods::is_on_host_network(pod))
        .collect();
    for (pod, address, first) in shared(with_addresses.iter().copied(), pods::addresses) {
        let words = format!("has the address {address}, as {} has", shown(place(first)));
        findings.add(Rule::PodAddressShared, pod, words);
    }
    of_nodes(snapshot, &with_addresses, findings);
    for (service, address, first) in shared(&snapshot.services, services::addresses) {
        let words = format!("has the cluster IP {address}, as {} has", shown(place(first)));
        findings.add(Rule::ServiceAddressShared, service, words);
    }
    for (service, (port, protocol), first) in shared(&snapshot.services, services::node_ports) {
        let words = format!("has the node port {port}/{protocol}, as {} has", shown(place(first)));
        findings.add(Rule::NodePortShared, service, words);
    }
    if snapshot.has::<IPAddress>() {
        records(snapshot, findings);
    }
}

/// Objects that have what one before them, by namespace and name, has too.
fn shared<'a, K: Resource, V: Copy + Eq + Hash>(
    objects: impl IntoIterator<Item = &'a K>,
    of: impl Fn(&'a K) -> Vec<V>,
) -> Vec<(&'a K, V, &'a K)> {
    let mut objects: Vec<&K> = objects.into_iter().collect();
    objects.sort_by_key(|object| place(*object));
    let mut first: HashMap<V, &K> = HashMap::new();
    let mut found = Vec::new();
    for object in objects {
        for value in of(object) {
            let holder = *first.entry(value).or_insert(object);
            if !std::ptr::eq(holder, object) {
                found.push((object, value, holder));
            }
        }
    }
    found
}

fn ranges(node: &Node) -> Vec<Cidr> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all = spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten());
    let mut ranges: Vec<Cidr> = all.filter_map(|text| parse_cidr(text)).map(Cidr::network).collect();
    ranges.sort_by_key(|range| (range.address, range.prefix));
    ranges.dedup();
    ranges
}

fn of_nodes(snapshot: &Snapshot, with_addresses: &[&Pod], findings: &mut Findings) {
    let of: HashMap<&str, Vec<Cidr>> =
        snapshot.nodes.iter().map(|node| (place(node).1, ranges(node))).collect();
    for pod in with_addresses {
        let Some(node) = pods::node(pod) else { continue };
        let Some(ranges) = of.get(node).filter(|ranges| !ranges.is_empty()) else { continue };
        for address in pods::addresses(pod) {
            if !ranges.iter().any(|range| range.contains(address)) {
                let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
                let words =
                    format!("has the address {address}, outside of {} of its node {node}", ranges.join(", "));
                findings.add(Rule::PodAddressOutsideNode, *pod, words);
            }
        }
    }

    // Two ranges overlap only if one is in the other: each is compared with those before it that are not over yet.
    let mut all: Vec<(Cidr, &Node)> = snapshot
        .nodes
        .iter()
        .flat_map(|node| ranges(node).into_iter().map(move |range| (range, node)))
        .collect();
    all.sort_by_key(|(range, node)| (range.address, range.prefix, place(*node)));
    let mut open: Vec<(Cidr, &Node)> = Vec::new();
    for (range, node) in all {
        while open.last().is_some_and(|(around, _)| !around.contains(range.address)) {
            open.pop();
        }
        let mut others = open.iter().rev().filter(|(_, other)| place(*other) != place(node));
        if let Some((around, other)) = others.next() {
            let words = format!("has the range {range}, which overlaps {around} of node {}", place(*other).1);
            findings.add(Rule::NodeRangesOverlap, node, words);
        }
        open.push((range, node));
    }
}

/// The service that an IPAddress belongs to, if it belongs to one.
fn parent(record: &IPAddress) -> Option<(&str, &str)> {
    let parent = &record.spec.parent_ref;
    let is_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services";
    is_service.then(|| (parent.namespace.as_deref().unwrap_or_default(), &*parent.name))
}

fn records(snapshot: &Snapshot, findings: &mut Findings) {
    let address = |record: &IPAddress| pods::address(place(record).1);
    let by_address: HashMap<IpAddr, &IPAddress> =
        snapshot.addresses.iter().filter_map(|record| Some((address(record)?, record))).collect();
    let services: HashMap<_, &Service> =
        snapshot.services.iter().map(|service| (place(service), service)).collect();
    for service in &snapshot.services {
        for address in services::addresses(service) {
            let words = match by_address.get(&address).map(|record| parent(record)) {
                None => format!("has the cluster IP {address}, of which there is no IPAddress"),
                Some(parent) if parent == Some(place(service)) => continue,
                Some(parent) => {
                    let other = parent.map_or_else(|| "something else".to_owned(), shown);
                    format!("has the cluster IP {address}, whose IPAddress is of {other}")
                }
            };
            findings.add(Rule::ServiceAddressUnrecorded, service, words);
        }
    }
    for record in &snapshot.addresses {
        let (Some(parent), Some(address)) = (parent(record), address(record)) else { continue };
        let words = match services.get(&parent) {
            None => format!("is of the service {}, which is gone", shown(parent)),
            Some(service) if services::addresses(service).contains(&address) => continue,
            Some(_) => format!("is of the service {}, which has other cluster IPs", shown(parent)),
        };
        findings.add(Rule::AddressRecordStale, record, words);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, ended, node, object, pod, with};

    #[test]
    fn pod_addresses() {
        let one = pod("one", "10.0.0.1", json!({}));
        let same = |more| pod("two", "10.0.0.1", more);
        check(&[one.clone(), pod("two", "10.0.0.2", json!({}))], &[]);
        check(
            &[one.clone(), same(json!({}))],
            &["pod-address-shared: Pod n/two has the address 10.0.0.1, as n/one has"],
        );
        check(&[one.clone(), same(ended())], &[]);
        check(&[one, same(json!({"spec": {"hostNetwork": true}}))], &[]);

        let outside = pod("one", "10.0.1.1", json!({}));
        check(
            std::slice::from_ref(&outside),
            &[
                "pod-address-outside-node: Pod n/one has the address 10.0.1.1, outside of 10.0.0.0/24 of its node a",
            ],
        );
        let free = node("free", json!({"spec": {"podCIDR": null, "podCIDRs": null}}));
        check(&[free, with(outside.clone(), json!({"spec": {"nodeName": "free"}}))], &[]);
        check(&[with(outside, ended())], &[]);
    }

    #[test]
    fn node_ranges() {
        let other = |range: &str| node("b", json!({"spec": {"podCIDR": range, "podCIDRs": [range]}}));
        check(&[other("10.0.1.0/24")], &[]);
        check(
            &[other("10.0.0.0/24")],
            &["node-ranges-overlap: Node b has the range 10.0.0.0/24, which overlaps 10.0.0.0/24 of node a"],
        );
        check(
            &[other("10.0.0.0/16")],
            &["node-ranges-overlap: Node a has the range 10.0.0.0/24, which overlaps 10.0.0.0/16 of node b"],
        );
        check(
            &[other("10.0.0.128/25")],
            &[
                "node-ranges-overlap: Node b has the range 10.0.0.128/25, which overlaps 10.0.0.0/24 of node a",
            ],
        );
        check(&[other("fd00::/64")], &[]);
        // Its own are its own business, and do not hide those of others.
        let ranges = ["10.1.0.0/16", "10.1.2.0/24"];
        let wide = node("b", json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}}));
        check(std::slice::from_ref(&wide), &[]);
        let within = node("c", json!({"spec": {"podCIDR": "10.1.2.0/25", "podCIDRs": ["10.1.2.0/25"]}}));
        check(
            &[wide, within],
            &["node-ranges-overlap: Node c has the range 10.1.2.0/25, which overlaps 10.1.2.0/24 of node b"],
        );
    }

    fn service(name: &str, ip: &str, more: Value) -> Value {
        with(object("v1", "Service", "n", name, json!({"spec": {"clusterIP": ip, "clusterIPs": [ip]}})), more)
    }

    fn record(ip: &str, service: &str) -> Value {
        let parent = json!({"group": "", "resource": "services", "namespace": "n", "name": service});
        object("networking.k8s.io/v1", "IPAddress", "", ip, json!({"spec": {"parentRef": parent}}))
    }

    #[test]
    fn service_addresses() {
        let (web, its) = (service("web", "10.9.0.1", json!({})), record("10.9.0.1", "web"));
        check(&[web.clone(), its.clone()], &[]);
        check(&[service("web", "None", json!({}))], &[]);
        check(
            std::slice::from_ref(&web),
            &[
                "service-address-unrecorded: Service n/web has the cluster IP 10.9.0.1, of which there is no IPAddress",
            ],
        );
        check(
            &[web.clone(), its.clone(), service("also", "10.9.0.1", json!({}))],
            &[
                "service-address-shared: Service n/web has the cluster IP 10.9.0.1, as n/also has",
                "service-address-unrecorded: Service n/also has the cluster IP 10.9.0.1, whose IPAddress is of n/web",
            ],
        );
        check(
            std::slice::from_ref(&its),
            &["address-record-stale: IPAddress 10.9.0.1 is of the service n/web, which is gone"],
        );
        check(
            &[web, its, record("10.9.0.2", "web")],
            &[
                "address-record-stale: IPAddress 10.9.0.2 is of the service n/web, which has other cluster IPs",
            ],
        );
    }

    #[test]
    fn node_ports() {
        let port = |port: i32, protocol: &str| json!({"spec": {"ports": [{"port": 80, "nodePort": port, "protocol": protocol}]}});
        let with_port = |name: &str, number, protocol| service(name, "None", port(number, protocol));
        check(&[with_port("one", 30000, "TCP"), with_port("two", 30000, "UDP")], &[]);
        check(&[with_port("one", 30000, "TCP"), with_port("two", 30001, "TCP")], &[]);
        check(
            &[with_port("one", 30000, "TCP"), with_port("two", 30000, "TCP")],
            &["node-port-shared: Service n/two has the node port 30000/TCP, as n/one has"],
        );
        let health = service("two", "None", json!({"spec": {"healthCheckNodePort": 30000}}));
        check(
            &[with_port("one", 30000, "TCP"), health],
            &["node-port-shared: Service n/two has the node port 30000/TCP, as n/one has"],
        );
    }
}
