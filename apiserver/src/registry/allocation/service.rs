//! A service as the allocator sees it: its type, its addresses and its ports. Pure; must never decide what it gets.

use core::net::IpAddr;

use barque_api::ip::parse_ip;
use barque_api::metadata::Metadata;
use serde_json::Value;

/// The clusterIP of a service without one.
pub(super) const HEADLESS: &str = "None";

/// Who holds what is allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Owner {
    pub(super) fn of(service: &Value) -> Self {
        let metadata = Metadata::of(service);
        Self { namespace: metadata.namespace().to_owned(), name: metadata.name().to_owned() }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text of the spec; empty where there is none.
pub(super) fn text<'a>(service: &'a Value, field: &str) -> &'a str {
    service["spec"][field].as_str().unwrap_or_default()
}

/// A number of the spec; 0 where there is none.
pub(super) fn number(service: &Value, field: &str) -> i64 {
    service["spec"][field].as_i64().unwrap_or_default()
}

/// Texts of the spec.
fn texts(service: &Value, field: &str) -> Vec<String> {
    let list = service["spec"][field].as_array().into_iter().flatten();
    list.map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
}

/// Whether it lives in the cluster: one that names a host outside has no addresses.
pub(super) fn needs_ips(service: &Value) -> bool {
    text(service, "type") != "ExternalName"
}

/// Whether its ports are open on nodes.
pub(super) fn needs_node_ports(service: &Value) -> bool {
    ["NodePort", "LoadBalancer"].contains(&text(service, "type"))
}

/// Whether load balancers ask nodes if they have its pods.
pub(super) fn needs_health_port(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

/// Whether ports that name no node port get one.
pub(super) fn wants_node_ports(service: &Value) -> bool {
    match text(service, "type") {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true),
        _ => false,
    }
}

/// Whether it says which pods it is made of.
pub(super) fn has_selector(service: &Value) -> bool {
    service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty())
}

/// Its ports.
pub(super) fn ports(service: &Value) -> &[Value] {
    service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Its ports, to change.
pub(super) fn ports_mut(service: &mut Value) -> impl Iterator<Item = &mut Value> {
    let ports = service.get_mut("spec").and_then(|spec| spec.get_mut("ports"));
    ports.and_then(Value::as_array_mut).into_iter().flatten()
}

/// The node port of one of its ports; 0 for none.
pub(super) fn node_port(port: &Value) -> i64 {
    port["nodePort"].as_i64().unwrap_or_default()
}

/// The node ports that its ports name.
pub(super) fn node_ports(service: &Value) -> Vec<i64> {
    ports(service).iter().map(node_port).filter(|port| *port != 0).collect()
}

/// Sets a field of the spec; an empty text, 0 or an empty list takes it away.
pub(super) fn set(service: &mut Value, field: &str, value: Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let is_empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    };
    if is_empty {
        spec.remove(field);
    } else {
        spec.insert(field.to_owned(), value);
    }
}

/// How a service is reached in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Addressing {
    /// `clusterIP`; empty for none.
    pub(super) ip: String,
    /// `clusterIPs`
    pub(super) ips: Vec<String>,
    /// `ipFamilies`
    pub(super) families: Vec<String>,
    /// `ipFamilyPolicy`; empty for none.
    pub(super) policy: String,
}

impl Addressing {
    pub(super) fn of(service: &Value) -> Self {
        Self {
            ip: text(service, "clusterIP").to_owned(),
            ips: texts(service, "clusterIPs"),
            families: texts(service, "ipFamilies"),
            policy: text(service, "ipFamilyPolicy").to_owned(),
        }
    }

    /// Writes what differs into the service.
    pub(super) fn write(&self, service: &mut Value) {
        let now = Self::of(service);
        if self.ip != now.ip {
            set(service, "clusterIP", self.ip.clone().into());
        }
        if self.ips != now.ips {
            set(service, "clusterIPs", self.ips.clone().into());
        }
        if self.families != now.families {
            set(service, "ipFamilies", self.families.clone().into());
        }
        if self.policy != now.policy {
            set(service, "ipFamilyPolicy", self.policy.clone().into());
        }
    }

    /// Whether it says that it has no address.
    pub(super) fn is_headless(&self) -> bool {
        self.ip == HEADLESS || self.ips.first().is_some_and(|ip| ip == HEADLESS)
    }
}

/// What a service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Addresses.
    pub(super) ips: Vec<IpAddr>,
    /// Ports of nodes, that for health checks among them; each once.
    pub(super) ports: Vec<u16>,
}

impl Held {
    /// By a service that is stored. Fields that its type does not use hold nothing.
    pub(super) fn of(service: &Value) -> Self {
        let mut held = Self::default();
        if needs_ips(service) {
            let Addressing { ip, mut ips, .. } = Addressing::of(service);
            if ips.is_empty() {
                ips.push(ip);
            }
            held.ips = ips.iter().filter_map(|ip| parse_ip(ip)).collect();
        }
        let mut ports = if needs_node_ports(service) { node_ports(service) } else { Vec::new() };
        if needs_health_port(service) {
            ports.push(number(service, "healthCheckNodePort"));
        }
        held.ports =
            ports.iter().filter_map(|port| u16::try_from(*port).ok()).filter(|port| *port > 0).collect();
        held.ports.sort_unstable();
        held.ports.dedup();
        held
    }

    /// What this has and the other has not.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self {
            ips: self.ips.iter().filter(|ip| !other.ips.contains(ip)).copied().collect(),
            ports: self.ports.iter().filter(|port| !other.ports.contains(port)).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_holds_what_its_type_uses() {
        let held = |spec: Value| Held::of(&json!({"spec": spec}));
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let ports = json!([{"nodePort": 30_080}, {"nodePort": 30_080, "protocol": "UDP"}, {"port": 1}]);
        assert_eq!(
            held(
                json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
                "ports": ports, "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_001})
            ),
            Held { ips: ips(&["10.0.0.1", "fd00::1"]), ports: vec![30_001, 30_080] }
        );
        assert_eq!(
            held(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports})),
            Held { ips: ips(&["10.0.0.1"]), ports: vec![] }
        );
        for nothing in [
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}),
            json!({"type": "ExternalName", "clusterIP": "10.0.0.1"}),
        ] {
            assert_eq!(held(nothing), Held::default());
        }
    }
}
