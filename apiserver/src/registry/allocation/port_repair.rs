//! What the map of node ports should be, by what services have. Pure; must never free a port that somebody may be about to
//! use: one that nobody has is freed when nobody had it at the last repair either.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::port_map::{PortError, PortMap};
use super::service::{Owner, needs_health_port, node_port, number, ports};
use super::settings::PortRange;

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortPlan {
    pub(super) map: PortMap,
    /// Ports that are taken and that nobody has.
    pub(super) suspects: BTreeSet<u16>,
    /// What is wrong, in sentences.
    pub(super) complaints: Vec<String>,
}

/// Plans from the map that is `stored`, all `services`, and the suspects of the last time.
pub(super) fn plan_ports(
    stored: Option<&PortMap>,
    range: PortRange,
    services: &[Value],
    before: &BTreeSet<u16>,
) -> PortPlan {
    let mut plan = PortPlan { map: PortMap::empty(range), suspects: BTreeSet::new(), complaints: Vec::new() };
    for service in services {
        let owner = Owner::of(service);
        for port in ports_of(service) {
            match plan.map.take(port) {
                Ok(_) if stored.is_some_and(|stored| !stored.has(port)) => plan.complaints.push(format!(
                    "the node port {port} for service {owner} is not allocated; repairing"
                )),
                Ok(_) | Err(PortError::Full) => {}
                Err(PortError::Allocated) => plan.complaints.push(format!(
                    "the node port {port} for service {owner} was assigned to multiple services; please recreate"
                )),
                Err(PortError::NotInRange(range)) => plan.complaints.push(format!(
                    "the port {port} for service {owner} is not within the port range {range}; please recreate"
                )),
            }
        }
    }
    let taken: Vec<_> = stored.into_iter().flat_map(PortMap::taken).collect();
    for port in taken {
        if plan.map.has(i64::from(port)) {
            continue;
        }
        if before.contains(&port) {
            plan.complaints.push(format!("the node port {port} appears to have leaked: cleaning up"));
        } else if plan.map.take(i64::from(port)).is_ok() {
            plan.suspects.insert(port);
        }
    }
    plan
}

/// The ports of a service, one for each holder: two protocols of one port are one holder.
fn ports_of(service: &Value) -> Vec<i64> {
    let mut all = Vec::new();
    let mut seen: HashMap<i64, Vec<&str>> = HashMap::new();
    let health = if needs_health_port(service) { number(service, "healthCheckNodePort") } else { 0 };
    let named =
        ports(service).iter().map(|port| (node_port(port), port["protocol"].as_str().unwrap_or("TCP")));
    for (port, protocol) in named.chain([(health, "TCP")]).filter(|(port, _)| *port != 0) {
        let protocols = seen.entry(port).or_default();
        if protocols.is_empty() || protocols.contains(&protocol) {
            all.push(port);
        }
        protocols.push(protocol);
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, ports: &[(i64, &str)]) -> Value {
        let ports: Vec<_> =
            ports.iter().map(|(port, protocol)| json!({"nodePort": port, "protocol": protocol})).collect();
        json!({"metadata": {"namespace": "a", "name": name}, "spec": {"type": "NodePort", "ports": ports}})
    }

    fn range() -> PortRange {
        PortRange::parse("30000-30009").unwrap()
    }

    fn map(ports: &[i64]) -> PortMap {
        let mut map = PortMap::empty(range());
        for port in ports {
            map.take(*port).unwrap();
        }
        map
    }

    #[test]
    fn a_port_that_nobody_has_is_freed_at_the_second_look() {
        let services = [service("web", &[(30_001, "TCP"), (30_001, "UDP")])];
        let stored = map(&[30_001, 30_002]);
        let first = plan_ports(Some(&stored), range(), &services, &BTreeSet::new());
        assert_eq!((&first.map, &first.complaints), (&stored, &vec![]));
        assert_eq!(first.suspects, BTreeSet::from([30_002]));
        let second = plan_ports(Some(&stored), range(), &services, &first.suspects);
        assert_eq!((second.map, second.suspects), (map(&[30_001]), BTreeSet::new()));
        assert_eq!(second.complaints, ["the node port 30002 appears to have leaked: cleaning up"]);
        let used = [service("web", &[(30_002, "TCP")])];
        assert!(plan_ports(Some(&stored), range(), &used, &first.suspects).map.has(30_002));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let services = [
            service("a", &[(30_001, "TCP")]),
            service("b", &[(30_001, "TCP")]),
            service("c", &[(80, "TCP")]),
            service("d", &[(30_003, "TCP"), (30_003, "TCP")]),
        ];
        let plan = plan_ports(Some(&map(&[30_003])), range(), &services, &BTreeSet::new());
        assert_eq!(plan.map, map(&[30_001, 30_003]));
        assert_eq!(
            plan.complaints,
            [
                "the node port 30001 for service a/a is not allocated; repairing",
                "the node port 30001 for service a/b was assigned to multiple services; please recreate",
                "the port 80 for service a/c is not within the port range 30000-30009; please recreate",
                "the node port 30003 for service a/d was assigned to multiple services; please recreate",
            ]
        );
    }

    #[test]
    fn a_map_of_another_range_becomes_one_of_this() {
        let mut old = PortMap::empty(PortRange::parse("30005-30100").unwrap());
        for port in [30_006, 30_007, 30_050] {
            old.take(port).unwrap();
        }
        let plan = plan_ports(Some(&old), range(), &[service("a", &[(30_006, "TCP")])], &BTreeSet::new());
        assert_eq!((plan.map, plan.suspects), (map(&[30_006, 30_007]), BTreeSet::from([30_007])));
    }
}
