//! What controllers ask of services and of the pods behind them. Decisions.

pub(crate) mod trigger_time;

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::{Caches, Change};
use crate::kind::{Key, Object as _};
use crate::pods;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// As services and slices name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address; one of IPv4 that is written as one of IPv6 is one of IPv4.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn cluster_ip(service: &Service) -> &str {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default()
}

/// Whether it has no address of its own.
pub(crate) fn is_headless(service: &Service) -> bool {
    matches!(cluster_ip(service), "" | "None")
}

/// Whether pods stand behind it as its selector says.
pub(crate) fn selects_pods(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.selector.is_some() && spec.type_.as_deref() != Some("ExternalName"))
}

/// Whether a pod stands behind it.
pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { return false };
    selects_pods(service) && selector.iter().all(|(key, value)| pod.label(key) == Some(value))
}

/// Whether pods are to be reached before they are ready.
pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// The families that it has. One that an old server wrote may not say them.
pub(crate) fn families(service: &Service) -> BTreeSet<Family> {
    let said = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let mut families: BTreeSet<_> = said
        .into_iter()
        .flatten()
        .filter_map(|name| [Family::V4, Family::V6].into_iter().find(|family| family.name() == name))
        .collect();
    if families.is_empty() {
        match address(cluster_ip(service)) {
            Some(address) => families.extend([Family::of(address)]),
            None => families.extend([Family::V4, Family::V6]),
        }
    }
    families
}

/// Whether a pod can stand behind a service at all: it has an address and has not ended.
pub(crate) fn is_reachable(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let has_address = status.is_some_and(|status| {
        status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
            || status.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    has_address && !pods::is_terminal(pod) && (with_terminating || !pod.is_deleting())
}

/// A pod's addresses.
pub(crate) fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    ips.into_iter().flatten().filter_map(|ip| address(&ip.ip))
}

/// The pod's host name, when the service is the one that makes it known.
pub(crate) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    let same = pod.metadata.namespace == service.metadata.namespace;
    (same && spec.subdomain.as_deref() == service.metadata.name.as_deref()).then_some(name)
}

/// The number of a service's port at a pod.
pub(crate) fn port_at(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => return Some(*number),
        None | Some(IntOrString::Int(_)) => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(stays);
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|it| it.ports.iter().flatten());
    let found = ports.find(|it| {
        it.name.as_ref() == Some(name) && protocol(it.protocol.as_ref()) == protocol(port.protocol.as_ref())
    });
    found.map(|it| it.container_port)
}

/// A protocol; TCP when none is said.
pub(crate) fn protocol(said: Option<&String>) -> &str {
    said.map_or("TCP", String::as_str)
}

/// The services whose endpoints a change of a pod may change.
pub(crate) fn of_pod(change: &Change<Pod>, caches: &Caches) -> Vec<Key> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && shown(old) == shown(new)
    {
        return Vec::new();
    }
    let services = caches.of::<Service>().in_namespace(&change.latest().key().namespace);
    let mine = services.iter().filter(|service| change.both().any(|pod| selects(service, pod)));
    mine.map(|service| service.key()).collect()
}

/// All of a pod that endpoints can show.
fn shown(pod: &Pod) -> impl PartialEq + '_ {
    let spec = pod.spec.as_ref();
    let host = spec.map(|spec| (&spec.hostname, &spec.subdomain, &spec.node_name));
    let state = (pods::is_ready(pod), pod.is_deleting(), pods::is_terminal(pod));
    let ips = pod.status.as_ref().map(|status| (&status.pod_ip, &status.pod_ips));
    (pod.uid(), &pod.metadata.labels, host, state, ips)
}
