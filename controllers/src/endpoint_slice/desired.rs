//! The endpoints that a service is to have. A decision.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use super::pack::{Identity, Ports, identity, ports_key};
use super::{View, zones};
use crate::kind::Object as _;
use crate::pods;
use crate::services::{self, Family};

/// Endpoints with the same ports.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) ports: Ports,
    pub(super) endpoints: BTreeMap<Identity, Endpoint>,
}

/// The endpoints of a family by their ports, and the pods that are left out because nobody knows their node.
pub(super) fn desired(view: &View, family: Family) -> (BTreeMap<String, Group>, Vec<&Pod>) {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut lost = Vec::new();
    for pod in view.pods.iter().filter(|pod| services::is_reachable(pod, true)) {
        let ports = ports(&view.service, pod);
        let group = groups.entry(ports_key(&ports)).or_insert_with(|| Group { ports, ..Group::default() });
        let node = view.nodes.get(pods::node(pod));
        if node.is_none() && !services::publishes_not_ready(&view.service) {
            lost.push(&**pod);
            continue;
        }
        let zone = node.and_then(|node| zones::zone(node));
        let endpoint = endpoint(pod, &view.service, family, zone);
        if !endpoint.addresses.is_empty() {
            group.endpoints.insert(identity(&endpoint), endpoint);
        }
    }
    (groups, lost)
}

fn endpoint(pod: &Pod, service: &Service, family: Family, zone: Option<&str>) -> Endpoint {
    let (serving, terminating) = (pods::is_ready(pod), pod.is_deleting());
    let ready = services::publishes_not_ready(service) || serving && !terminating;
    let addresses = services::addresses(pod).filter(|address| Family::of(*address) == family);
    Endpoint {
        addresses: addresses.map(|address| address.to_string()).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints: None,
        hostname: services::hostname(pod, service).map(str::to_owned),
        node_name: Some(pods::node(pod).to_owned()).filter(|name| !name.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: zone.map(str::to_owned),
    }
}

/// The ports of a service at a pod; those that the pod does not have are left out.
fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let at = |port: &k8s_openapi::api::core::v1::ServicePort| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(services::port_at(pod, port)?),
            protocol: Some(services::protocol(port.protocol.as_ref()).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    };
    ports.into_iter().flatten().filter_map(at).collect()
}
