//! What rules ask of pods, in Kubernetes' sense of each word. Vocabulary; apart from what controllers use, so that both are not wrong
//! in the same way.

use core::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::objects;

/// Its phase; empty when nobody has said.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it has ended, well or not.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    ["Succeeded", "Failed"].contains(&phase(pod))
}

/// Whether it runs or may come to run, and nobody has deleted it.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !objects::is_deleting(pod)
}

/// Whether its condition says so.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The node that it is bound to.
pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether its addresses are its node's.
pub(crate) fn is_on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// Its addresses.
pub(crate) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| &*ip.ip);
    let mut addresses: Vec<IpAddr> = all.filter_map(address).collect();
    if addresses.is_empty() {
        addresses.extend(status.and_then(|status| status.pod_ip.as_deref()).and_then(address));
    }
    addresses
}

/// An address; one of IPv4 that is written as one of IPv6 is one of IPv4.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    barque_api::ip::parse_ip(text).map(|address| address.to_canonical())
}

/// Since when it is where it is, at the latest of what is told.
pub(crate) fn placed_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let placed = conditions.filter(|it| it.type_ == "PodScheduled" && it.status == "True");
    let told = placed.filter_map(|it| it.last_transition_time.as_ref());
    told.chain(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0).max()
}
