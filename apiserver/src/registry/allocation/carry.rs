//! What a changed service keeps of what it was, when its writer did not say: addresses and ports that were given to it stay,
//! and those that its new type has no use for go. Follows `patchAllocatedValues`, `normalizeClusterIPs` and
//! `dropTypeDependentFields` of Kubernetes. Pure; must never overrule what was said.

use std::borrow::Cow;

use barque_api::ip::parse_ip;
use barque_api::metadata::{Metadata, MetadataMut};
use serde_json::{Value, json};

use super::ip_range::Family;
use super::service::{
    Addressing, HEADLESS, has_selector, needs_health_port, needs_ips, needs_node_ports, node_port,
    node_ports, number, ports, ports_mut, set, text,
};

/// A new service whose writer named one address names it as the first of all.
pub(super) fn align(service: &mut Value) {
    let mut addressing = Addressing::of(service);
    if !addressing.ip.is_empty() && addressing.ips.is_empty() {
        addressing.ips.push(addressing.ip.clone());
    }
    addressing.write(service);
}

/// A stored service with the fields that did not exist yet when it was written. `default` is the cluster's first family.
pub(super) fn modern(service: &Value, default: Family) -> Cow<'_, Value> {
    let mut addressing = Addressing::of(service);
    if !needs_ips(service) || !addressing.families.is_empty() && !addressing.ips.is_empty() {
        return Cow::Borrowed(service);
    }
    let mut service = service.clone();
    align(&mut service);
    addressing.ips = Addressing::of(&service).ips;
    if addressing.families.is_empty() {
        let name = |family: Family| family.name().to_owned();
        addressing.families = if addressing.ip == HEADLESS {
            let both = !has_selector(&service);
            [Some(default), both.then(|| default.other())].into_iter().flatten().map(name).collect()
        } else {
            addressing.ips.iter().filter_map(|ip| parse_ip(ip)).map(|ip| name(Family::of(ip))).collect()
        };
        let policy = if addressing.families.len() == 2 { "RequireDualStack" } else { "SingleStack" };
        addressing.policy = policy.to_owned();
    }
    addressing.write(&mut service);
    Cow::Owned(service)
}

/// Completes a changed service from what it was.
pub(super) fn carry(new: &mut Value, old: &Value) {
    drop_unused(new, old);
    keep_allocated(new, old);
    align_changed(new, old);
}

/// A complete service that only seemed to be changed is of the generation that it was.
pub(super) fn keep_generation(new: &mut Value, old: &Value) {
    if new["spec"] == old["spec"]
        && let Some(generation) = Metadata::of(old).field("generation").cloned()
        && let Some(mut metadata) = MetadataMut::of(new)
    {
        metadata.set("generation", generation);
    }
}

/// Fields that the new type does not use go, unless they were changed as well; then validation tells.
fn drop_unused(new: &mut Value, old: &Value) {
    if needs_ips(old) && !needs_ips(new) {
        let before = Addressing::of(old);
        let mut after = Addressing::of(new);
        if after.ip == before.ip && after.ips == before.ips {
            (after.ip, after.ips) = (String::new(), Vec::new());
        }
        if after.families == before.families {
            after.families.clear();
        }
        if after.policy == before.policy {
            after.policy.clear();
        }
        after.write(new);
    }
    if needs_node_ports(old) && !needs_node_ports(new) {
        let before = node_ports(old);
        if node_ports(new).iter().all(|port| before.contains(port)) {
            for port in ports_mut(new).filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
    }
    let drops = [
        ("healthCheckNodePort", needs_health_port(old) && !needs_health_port(new)),
        ("allocateLoadBalancerNodePorts", is_balanced(old) && !is_balanced(new)),
        ("loadBalancerClass", is_balanced(old) && !is_balanced(new)),
        ("externalTrafficPolicy", is_external(old) && !is_external(new)),
    ];
    for (field, unused) in drops {
        if unused && new["spec"].get(field) == old["spec"].get(field) {
            set(new, field, Value::Null);
        }
    }
    let has_status = new.pointer("/status/loadBalancer").is_some_and(|status| *status != json!({}));
    if !is_balanced(new) && has_status {
        new["status"]["loadBalancer"] = json!({});
    }
}

fn is_balanced(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer"
}

/// Whether anybody outside can reach it (`ExternallyAccessible`).
fn is_external(service: &Value) -> bool {
    let has_ips = service["spec"]["externalIPs"].as_array().is_some_and(|ips| !ips.is_empty());
    needs_node_ports(service) || text(service, "type") == "ClusterIP" && has_ips
}

/// Addresses and ports that were given to the service stay, where the writer left them out.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_ips(old) && needs_ips(new) {
        let before = Addressing::of(old);
        let mut after = Addressing::of(new);
        if after.ip.is_empty() {
            after.ip = before.ip;
        }
        if after.ips.is_empty() {
            after.ips = before.ips;
        }
        after.write(new);
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let said = node_ports(new);
        let name = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
        for port in ports_mut(new).filter(|port| node_port(port) == 0) {
            let same = ports(old).iter().rev().find(|one| name(one) == name(port)).map_or(0, node_port);
            if same != 0 && !said.contains(&same) {
                port["nodePort"] = same.into();
            }
        }
    }
    let health = number(old, "healthCheckNodePort");
    if needs_health_port(old) && needs_health_port(new) && number(new, "healthCheckNodePort") == 0 {
        set(new, "healthCheckNodePort", health.into());
    }
}

/// `clusterIP` and `clusterIPs` say the same, where only one of them was changed.
fn align_changed(new: &mut Value, old: &Value) {
    let before = Addressing::of(old);
    let mut after = Addressing::of(new);
    if after.ips.is_empty() && after.ip == before.ip {
        after.ips.clone_from(&before.ips);
    }
    if after.ip != before.ip && after.ips == before.ips {
        after.ips = if after.ip.is_empty() { Vec::new() } else { vec![after.ip.clone()] };
    }
    after.write(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(new: Value, old: Value) -> Value {
        let mut new = json!({"spec": new});
        carry(&mut new, &json!({"spec": old}));
        new["spec"].take()
    }

    #[test]
    fn what_was_given_stays_when_the_writer_left_it_out() {
        let old = json!({
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_001,
            "ports": [{"name": "a", "port": 1, "nodePort": 30_080}, {"name": "b", "port": 2, "nodePort": 30_081}],
        });
        let mut new = old.clone();
        for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            new.as_object_mut().unwrap().remove(field);
        }
        new["ports"] = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]);
        assert_eq!(carried(new.clone(), old.clone()), old);
        // A port that somebody chose for another one is not kept for the first.
        new["ports"] = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2, "nodePort": 30_080}]);
        assert_eq!(carried(new.clone(), old)["ports"], new["ports"]);
    }

    #[test]
    fn what_the_new_type_does_not_use_goes() {
        let old = json!({
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_001,
            "allocateLoadBalancerNodePorts": true, "ports": [{"port": 1, "nodePort": 30_080}],
        });
        let mut inside = old.clone();
        inside["type"] = "ClusterIP".into();
        assert_eq!(
            carried(inside, old.clone()),
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": [{"port": 1}]})
        );
        let mut outside = old.clone();
        outside["type"] = "ExternalName".into();
        assert_eq!(carried(outside, old.clone()), json!({"type": "ExternalName", "ports": [{"port": 1}]}));
        let mut changed = old.clone();
        changed["type"] = "ClusterIP".into();
        changed["ports"][0]["nodePort"] = 30_081.into();
        assert_eq!(carried(changed, old)["ports"][0]["nodePort"], 30_081, "validation refuses it");
    }

    #[test]
    fn one_address_and_all_addresses_say_the_same() {
        let old =
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]});
        let mut new = old.clone();
        new["clusterIP"] = "10.0.0.2".into();
        assert_eq!(carried(new, old)["clusterIPs"], json!(["10.0.0.2"]));
        let mut first = json!({"spec": {"clusterIP": "10.0.0.1"}});
        align(&mut first);
        assert_eq!(first["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    }

    #[test]
    fn a_change_that_changes_nothing_makes_no_new_generation() {
        let old = json!({"metadata": {"generation": 3}, "spec": {"clusterIP": "10.0.0.1"}});
        let mut new = json!({"metadata": {"generation": 4}, "spec": {}});
        carry(&mut new, &old);
        keep_generation(&mut new, &old);
        assert_eq!(new, old);
    }

    #[test]
    fn services_of_old_have_the_families_of_their_addresses() {
        let modernized = |spec: Value| modern(&json!({"spec": spec}), Family::V4).into_owned()["spec"].take();
        assert_eq!(
            modernized(json!({"clusterIP": "fd00::1"})),
            json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv6"],
                "ipFamilyPolicy": "SingleStack"})
        );
        assert_eq!(
            modernized(json!({"clusterIP": "None"})),
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack"})
        );
    }
}
