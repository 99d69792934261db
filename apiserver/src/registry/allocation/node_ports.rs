//! Which node ports a service gets: those that it names, and any for those that it leaves open. Follows `initNodePorts`,
//! `updateNodePorts` and `updateHealthCheckNodePort` of Kubernetes. Pure; must never touch a port that the service had before.

use std::collections::HashMap;

use barque_api::field::{FieldError, FieldPath};
use serde_json::Value;

use super::port_map::PortMap;
use super::refusal::Refusal;
use super::service::{
    needs_health_port, needs_node_ports, node_port, node_ports, number, ports_mut, set, wants_node_ports,
};

/// Whether a service needs any port that `old` had not.
pub(super) fn needs_any(service: &Value, old: Option<&Value>) -> bool {
    let had = Had::of(old);
    let mut ports = super::service::ports(service).iter().map(node_port);
    let open = needs_node_ports(service)
        && ports.any(|port| if port == 0 { wants_node_ports(service) } else { !had.ports.contains(&port) });
    let health = number(service, "healthCheckNodePort");
    open || needs_health_port(service) && (health == 0 || had.health != Some(health))
}

/// Takes the ports of a service that it had not as `old`, writes them into it, and tells which were taken. `random` gives any
/// numbers.
///
/// # Errors
/// When one cannot be had; the map is to be thrown away then.
pub(super) fn assign(
    service: &mut Value,
    old: Option<&Value>,
    map: &mut PortMap,
    random: &mut impl FnMut() -> u64,
) -> Result<Vec<u16>, Refusal> {
    let had = Had::of(old);
    let mut taken = Vec::new();
    if needs_node_ports(service) {
        if old.is_none() {
            assign_new(service, map, random, &mut taken)?;
        } else {
            assign_changed(service, &had.ports, map, random, &mut taken)?;
        }
    }
    if needs_health_port(service) {
        let wanted = number(service, "healthCheckNodePort");
        let health = |error| Refusal::Internal(format!("failed to allocate {error}"));
        if wanted == 0 {
            let port = map.take_any(random());
            let port = port.map_err(|error| health(format!("a HealthCheck NodePort 0: {error}")))?;
            set(service, "healthCheckNodePort", port.into());
            taken.push(port);
        } else if had.health != Some(wanted) {
            let port = map.take(wanted);
            let port =
                port.map_err(|error| health(format!("requested HealthCheck NodePort {wanted}: {error}")))?;
            taken.push(port);
        }
    }
    Ok(taken)
}

/// What a service had before.
struct Had {
    ports: Vec<i64>,
    health: Option<i64>,
}

impl Had {
    fn of(old: Option<&Value>) -> Self {
        let ports = old.filter(|old| needs_node_ports(old)).map(node_ports).unwrap_or_default();
        let health = old.filter(|old| needs_health_port(old)).map(|old| number(old, "healthCheckNodePort"));
        Self { ports, health }
    }
}

/// A new service: ports with one number, such as TCP and UDP of it, share a node port.
fn assign_new(
    service: &mut Value,
    map: &mut PortMap,
    random: &mut impl FnMut() -> u64,
    taken: &mut Vec<u16>,
) -> Result<(), Refusal> {
    let wants = wants_node_ports(service);
    let own = |port: &Value| port["port"].as_i64().unwrap_or_default();
    let mut named: HashMap<i64, i64> = HashMap::new();
    for port in super::service::ports(service).iter().filter(|port| node_port(port) != 0) {
        named.entry(own(port)).or_insert_with(|| node_port(port));
    }
    let mut given: HashMap<i64, i64> = HashMap::new();
    for (index, port) in ports_mut(service).enumerate() {
        let said = node_port(port);
        if said == 0 && !wants {
            continue;
        }
        let shared = given.get(&own(port)).copied();
        let number = match (shared, named.get(&own(port)).copied()) {
            (None, Some(named)) => i64::from(take(map, named, index, taken)?),
            (None, None) => i64::from(take_any(map, random(), taken)?),
            (Some(shared), _) if said == 0 => shared,
            (Some(shared), _) => {
                if said != shared {
                    take(map, said, index, taken)?;
                }
                said
            }
        };
        given.entry(own(port)).or_insert(number);
        port["nodePort"] = number.into();
    }
    Ok(())
}

/// A service that is there: it keeps what it had.
fn assign_changed(
    service: &mut Value,
    had: &[i64],
    map: &mut PortMap,
    random: &mut impl FnMut() -> u64,
    taken: &mut Vec<u16>,
) -> Result<(), Refusal> {
    let wants = wants_node_ports(service);
    let mut seen: Vec<(String, i64)> = Vec::new();
    for (index, port) in ports_mut(service).enumerate() {
        let mut number = node_port(port);
        if number == 0 {
            if !wants {
                continue;
            }
            number = i64::from(take_any(map, random(), taken)?);
            port["nodePort"] = number.into();
        } else if !had.contains(&number) && !taken.iter().any(|port| i64::from(*port) == number) {
            take(map, number, index, taken)?;
        }
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        if seen.contains(&(protocol.clone(), number)) {
            return Err(Refusal::Internal(format!("duplicate nodePort: {{{protocol} {number}}}")));
        }
        seen.push((protocol, number));
    }
    Ok(())
}

fn take(map: &mut PortMap, port: i64, index: usize, taken: &mut Vec<u16>) -> Result<u16, Refusal> {
    let path = FieldPath::of("spec.ports").index(index).child("nodePort");
    let got = map.take(port);
    let got = got.map_err(|error| Refusal::of(FieldError::invalid(&path, port, error.to_string())))?;
    taken.push(got);
    Ok(got)
}

fn take_any(map: &mut PortMap, seed: u64, taken: &mut Vec<u16>) -> Result<u16, Refusal> {
    let got = map.take_any(seed);
    let got = got.map_err(|error| Refusal::Internal(format!("failed to allocate a nodePort: {error}")))?;
    taken.push(got);
    Ok(got)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::allocation::settings::PortRange;

    fn map(range: &str) -> PortMap {
        PortMap::empty(PortRange::parse(range).unwrap())
    }

    fn assigned(spec: &Value, old: Option<&Value>, map: &mut PortMap) -> Result<(Value, Vec<u16>), String> {
        let mut service = json!({"spec": spec});
        let old = old.map(|spec| json!({"spec": spec}));
        let needed = needs_any(&service, old.as_ref());
        let taken =
            assign(&mut service, old.as_ref(), map, &mut || 0).map_err(|refusal| refusal.to_string())?;
        assert_eq!(needed, !taken.is_empty(), "{spec}");
        Ok((service["spec"].take(), taken))
    }

    #[test]
    fn both_protocols_of_a_port_share_a_node_port() {
        let dns = json!({"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "protocol": "TCP"},
        ]});
        let (spec, taken) = assigned(&dns, None, &mut map("30000-32767")).unwrap();
        assert_eq!(taken, [30_086, 30_087], "the lower 86 are left to people");
        let ports: Vec<_> = (0..3).map(|index| spec["ports"][index]["nodePort"].as_i64().unwrap()).collect();
        assert_eq!(ports, [30_086, 30_086, 30_087]);
        // Also when only the second one names it.
        let named = json!({"type": "NodePort", "ports": [
            {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 30_053},
        ]});
        let (spec, taken) = assigned(&named, None, &mut map("30000-32767")).unwrap();
        assert_eq!((taken, &spec["ports"][0]["nodePort"]), (vec![30_053], &json!(30_053)));
    }

    #[test]
    fn types_without_node_ports_get_none() {
        let ports = json!([{"port": 80, "protocol": "TCP"}]);
        for spec in [
            json!({"type": "ClusterIP", "ports": ports}),
            json!({"type": "ExternalName"}),
            json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}),
        ] {
            let (after, taken) = assigned(&spec, None, &mut map("30000-32767")).unwrap();
            assert_eq!((after, taken), (spec, vec![]));
        }
        let named = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80, "nodePort": 30_080}]});
        assert_eq!(assigned(&named, None, &mut map("30000-32767")).unwrap().1, [30_080]);
    }

    #[test]
    fn ports_that_cannot_be_had_are_told_in_the_words_of_kubernetes() {
        let mut taken = map("30000-30001");
        taken.take(30_000).unwrap();
        let web = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        assert_eq!(
            assigned(&web(30_000), None, &mut taken.clone()).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
        );
        assert_eq!(
            assigned(&web(80), None, &mut taken.clone()).unwrap_err(),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid \
             ports is 30000-30001"
        );
        let two = json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]});
        assert_eq!(
            assigned(&two, None, &mut taken.clone()).unwrap_err(),
            "failed to allocate a nodePort: range is full"
        );
        let checked = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "allocateLoadBalancerNodePorts": false, "healthCheckNodePort": 30_000});
        assert_eq!(
            assigned(&checked, None, &mut taken).unwrap_err(),
            "failed to allocate requested HealthCheck NodePort 30000: provided port is already allocated"
        );
    }

    #[test]
    fn a_changed_service_takes_only_what_it_had_not() {
        let mut ports = map("30000-32767");
        for port in [30_080, 30_081] {
            ports.take(port).unwrap();
        }
        let old = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_080}]});
        let grown = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "ports": [{"port": 80, "nodePort": 30_080}, {"port": 81, "nodePort": 30_090}, {"port": 82}]});
        let (spec, taken) = assigned(&grown, Some(&old), &mut ports).unwrap();
        assert_eq!(taken, [30_090, 30_086, 30_087]);
        assert_eq!(
            (&spec["ports"][2]["nodePort"], &spec["healthCheckNodePort"]),
            (&json!(30_086), &json!(30_087))
        );
        assert_eq!(assigned(&spec, Some(&spec), &mut ports).unwrap().1, Vec::<u16>::new());
        let stolen = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_081}]});
        assert!(assigned(&stolen, Some(&old), &mut ports).unwrap_err().ends_with("already allocated"));
        let twice = json!({"type": "NodePort", "ports": [
            {"port": 80, "protocol": "TCP", "nodePort": 30_080}, {"port": 81, "protocol": "TCP", "nodePort": 30_080},
        ]});
        let mut service = json!({"spec": twice});
        let told = assign(&mut service, Some(&json!({"spec": old})), &mut ports, &mut || 0).unwrap_err();
        assert_eq!(told.to_string(), "duplicate nodePort: {TCP 30080}");
    }
}
