//! What rules ask of services. Vocabulary; apart from what controllers use, so that both are not wrong in the same way.

use core::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};

use crate::pods;

/// Its cluster IPs; a headless one has none.
pub(crate) fn addresses(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let one = spec.cluster_ip.iter();
    let all = spec.cluster_ips.iter().flatten();
    let mut addresses: Vec<IpAddr> = one.chain(all).filter_map(|text| pods::address(text)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Its node ports with their protocols. The one for checks of health speaks TCP.
pub(crate) fn node_ports(service: &Service) -> Vec<(i32, &str)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let ports = spec.ports.iter().flatten();
    let own = ports.filter_map(|port| Some((port.node_port?, port.protocol.as_deref().unwrap_or("TCP"))));
    let mut ports: Vec<_> = own.chain(spec.health_check_node_port.map(|port| (port, "TCP"))).collect();
    ports.retain(|(port, _)| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Whether slices are made of the pods that its selector chooses.
pub(crate) fn selects_pods(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName"))
}

/// Whether a pod of its namespace is one of those.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    let has = |(key, value): (&String, &String)| labels.and_then(|labels| labels.get(key)) == Some(value);
    selects_pods(service) && selector.is_some_and(|selector| selector.iter().all(has))
}

/// Whether pods are told as ready before they are.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// Whether it has addresses of this family; one that does not say has both.
pub(crate) fn has_family_of(service: &Service, address: IpAddr) -> bool {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let name = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    families.is_none_or(|families| families.is_empty() || families.iter().any(|family| family == name))
}
