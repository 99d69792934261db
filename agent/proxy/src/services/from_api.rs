//! Services and slices of the API as lean values. Must never fail: what cannot be used is left out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::model::{Affinity, Endpoint, Protocol, Service, ServicePort, Slice, SlicePort, TrafficPolicy};
use crate::nft::Family;

/// The label that says whose endpoints a slice has.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Services and slices with this label are nothing for proxies.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Services with this label are another proxy's.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// How long clients stay with an endpoint if the service does not say.
const AFFINITY: Duration = Duration::from_secs(10_800);

/// `namespace/name`.
pub(crate) fn key(namespace: Option<&str>, name: &str) -> Arc<str> {
    format!("{}/{name}", namespace.unwrap_or_default()).into()
}

/// The service, if a proxy has to do something for it: it has a cluster address, and belongs to no other proxy.
#[must_use]
pub fn service(object: &core::Service) -> Option<Service> {
    let labels = object.labels();
    if labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let cluster_ips = match &spec.cluster_ips {
        Some(addresses) if !addresses.is_empty() => addresses.as_slice(),
        _ => spec.cluster_ip.as_slice(),
    };
    let cluster_ips: Vec<IpAddr> = cluster_ips.iter().filter_map(|text| text.parse().ok()).collect();
    if cluster_ips.is_empty() {
        return None;
    }
    let external = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    let external_policy = policy(spec.external_traffic_policy.as_deref());
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        Some(ServicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::of(port.protocol.as_deref())?,
            port: number(port.port)?,
            node_port: port.node_port.filter(|_| external).and_then(number),
        })
    });
    Some(Service {
        name: key(object.metadata.namespace.as_deref(), object.metadata.name.as_deref()?),
        cluster_ips,
        external_ips: spec.external_ips.iter().flatten().filter_map(|text| text.parse().ok()).collect(),
        load_balancer_ips: ingress
            .iter()
            .filter(|one| balanced && one.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|one| one.ip.as_deref()?.parse().ok())
            .collect(),
        source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter(|_| balanced)
            .filter_map(|text| text.parse().ok())
            .collect(),
        internal: policy(spec.internal_traffic_policy.as_deref()),
        external: external_policy,
        affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config
                .and_then(|config| config.timeout_seconds)
                .and_then(|seconds| u64::try_from(seconds).ok());
            Affinity(seconds.map_or(AFFINITY, Duration::from_secs))
        }),
        health_port: spec
            .health_check_node_port
            .filter(|port| *port != 0 && balanced && external_policy == TrafficPolicy::Local)
            .and_then(number),
        ports: ports.collect(),
    })
}

fn policy(word: Option<&str>) -> TrafficPolicy {
    if word == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// A port's number or name, as policies have it.
pub(crate) fn port_number(port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(_) => None,
    }
}

/// The slice, if it is one of a service's with addresses that can be used.
#[must_use]
pub fn endpoints(object: &discovery::EndpointSlice) -> Option<Slice> {
    let labels = object.labels();
    if labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    let family = match object.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return None,
    };
    let ports = object.ports.iter().flatten().filter_map(|port| {
        Some(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: Protocol::of(port.protocol.as_deref())?,
            port: number(port.port?)?,
        })
    });
    let endpoints = object.endpoints.iter().flatten().filter_map(|endpoint| {
        // Only the first address counts.
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|all| all.ready).unwrap_or(true);
        let hints = endpoint.hints.as_ref();
        Some(Endpoint {
            address,
            node: endpoint.node_name.as_deref().map(Arc::from),
            ready,
            serving: conditions.and_then(|all| all.serving).unwrap_or(ready),
            terminating: conditions.and_then(|all| all.terminating).unwrap_or(false),
            zones: hints
                .iter()
                .flat_map(|hints| hints.for_zones.iter().flatten())
                .map(|zone| zone.name.as_str().into())
                .collect(),
            nodes: hints
                .iter()
                .flat_map(|hints| hints.for_nodes.iter().flatten())
                .map(|node| node.name.as_str().into())
                .collect(),
        })
    });
    Some(Slice {
        service: key(object.metadata.namespace.as_deref(), labels.get(SERVICE_NAME_LABEL)?),
        family,
        ports: ports.collect(),
        endpoints: endpoints.filter(|endpoint| Family::of(endpoint.address) == family).collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(labels: serde_json::Value, spec: serde_json::Value) -> Option<Service> {
        let object = json!({
            "metadata": {"name": "web", "namespace": "shop", "labels": labels},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": [
                {"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}, {"hostname": "lb.example.com"},
            ]}},
        });
        service(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn only_services_with_an_address_and_no_other_proxy_count() {
        let spec = json!({"clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1", "fd00:43::1"]});
        assert_eq!(read(json!({}), spec.clone()).unwrap().cluster_ips.len(), 2);
        assert_eq!(read(json!({}), json!({"clusterIP": "10.43.0.1"})).unwrap().cluster_ips.len(), 1);
        assert_eq!(read(json!({PROXY_NAME_LABEL: "other"}), spec.clone()), None);
        assert_eq!(read(json!({HEADLESS_LABEL: ""}), spec), None);
        assert_eq!(read(json!({}), json!({"clusterIP": "None", "clusterIPs": ["None"]})), None);
        assert_eq!(read(json!({}), json!({"type": "ExternalName", "externalName": "example.com"})), None);
    }

    #[test]
    fn what_a_type_does_not_have_is_left_out() {
        let spec = |kind: &str| {
            json!({
                "type": kind, "clusterIP": "10.43.0.1", "ports": [{"port": 80, "nodePort": 30080}],
                "loadBalancerSourceRanges": ["10.0.0.0/8"], "healthCheckNodePort": 32000, "externalTrafficPolicy": "Local",
                "sessionAffinity": "ClientIP",
            })
        };
        let of = |kind| read(json!({}), spec(kind)).unwrap();
        let (inner, node, balanced) = (of("ClusterIP"), of("NodePort"), of("LoadBalancer"));
        assert_eq!((inner.ports[0].node_port, inner.load_balancer_ips.len()), (None, 0));
        assert_eq!(
            (node.ports[0].node_port, node.source_ranges.len(), node.health_port),
            (Some(30080), 0, None)
        );
        assert_eq!(balanced.health_port, Some(32000));
        // Addresses of load balancers that come back through their own proxy are not the node's to serve.
        assert_eq!(balanced.load_balancer_ips, ["198.51.100.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(balanced.affinity, Some(Affinity(Duration::from_secs(10_800))));
    }

    #[test]
    fn conditions_that_are_missing_mean_ready() {
        let object = json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "a", "port": 1}, {"name": "b"}],
            "endpoints": [
                {"addresses": ["10.42.0.1"]},
                {"addresses": ["10.42.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.42.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            ],
        });
        let slice = endpoints(&serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!((&*slice.service, slice.ports.len()), ("shop/web", 1));
        let conditions: Vec<_> =
            slice.endpoints.iter().map(|one| (one.ready, one.serving, one.terminating)).collect();
        assert_eq!(conditions, [(true, true, false), (false, false, false), (false, true, true)]);
    }
}
