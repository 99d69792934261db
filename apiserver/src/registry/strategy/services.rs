//! Services: the one address and the list of them say the same, and what was handed out is not lost by a replacement that
//! does not name it. Must never hand out an address or a port.

use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

fn spec_of(service: &mut Value) -> Option<&mut Fields> {
    service.get_mut("spec")?.as_object_mut()
}

fn text<'a>(spec: &'a Fields, field: &str) -> &'a str {
    spec.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn has_items(spec: &Fields, field: &str) -> bool {
    spec.get(field).and_then(Value::as_array).is_some_and(|items| !items.is_empty())
}

/// Before a new service is stored.
pub(super) fn settle_new(service: &mut Value) {
    if let Some(spec) = spec_of(service) {
        list_first_address(spec);
    }
}

fn list_first_address(spec: &mut Fields) {
    let first = text(spec, "clusterIP").to_owned();
    if !first.is_empty() && !has_items(spec, "clusterIPs") {
        spec.insert("clusterIPs".to_owned(), json!([first]));
    }
}

/// Before a changed service is stored.
pub(super) fn settle_changed(service: &mut Value, old: &Value) {
    let nothing = Fields::new();
    let before = old.get("spec").and_then(Value::as_object).unwrap_or(&nothing);
    let Some(after) = spec_of(service) else { return };
    settle_addresses(after, before);
    keep_handed_out(after, before);
    drop_what_the_old_type_had(after, before);
}

/// Who changes only one of the address and the list of them means both.
fn settle_addresses(after: &mut Fields, before: &Fields) {
    let (new, old) = (text(after, "clusterIP").to_owned(), text(before, "clusterIP"));
    if new == old {
        list_first_address(after);
        return;
    }
    let same_list = after.get("clusterIPs") == before.get("clusterIPs");
    if new.is_empty() {
        if same_list {
            after.remove("clusterIPs");
        }
    } else if same_list || !has_items(after, "clusterIPs") {
        after.insert("clusterIPs".to_owned(), json!([new]));
    }
}

fn has_address(spec: &Fields) -> bool {
    ["ClusterIP", "NodePort", "LoadBalancer"].contains(&text(spec, "type"))
}

fn has_node_ports(spec: &Fields) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&json!(false)),
        _ => false,
    }
}

fn needs_health_check(spec: &Fields) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn keep_handed_out(after: &mut Fields, before: &Fields) {
    if has_address(after) && has_address(before) && text(after, "clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if (field == "clusterIP" || !has_items(after, field))
                && let Some(value) = before.get(field)
            {
                after.insert(field.to_owned(), value.clone());
            }
        }
    }
    if has_node_ports(after) && has_node_ports(before) {
        let old = before.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        keep_node_ports(after, old);
    }
    let unset = after.get("healthCheckNodePort").is_none_or(|port| port.is_null() || *port == 0);
    if needs_health_check(after)
        && needs_health_check(before)
        && unset
        && let Some(port) = before.get("healthCheckNodePort")
    {
        after.insert("healthCheckNodePort".to_owned(), port.clone());
    }
}

fn keep_node_ports(after: &mut Fields, old: &[Value]) {
    let node_port = |port: &Value| port.get("nodePort").and_then(Value::as_i64).filter(|number| *number != 0);
    let Some(ports) = after.get_mut("ports").and_then(Value::as_array_mut) else { return };
    let mut taken: Vec<(Option<Value>, i64)> =
        ports.iter().filter_map(|port| Some((port.get("protocol").cloned(), node_port(port)?))).collect();
    for port in ports.iter_mut().filter(|port| port.is_object()) {
        if node_port(port).is_some() {
            continue;
        }
        let same =
            |before: &&Value| ["port", "protocol"].iter().all(|field| before.get(*field) == port.get(*field));
        let Some(number) = old.iter().find(same).and_then(node_port) else { continue };
        let one = (port.get("protocol").cloned(), number);
        if !taken.contains(&one) {
            port["nodePort"] = number.into();
            taken.push(one);
        }
    }
}

/// What only services of the old type have goes with the type, if the change left it as it was.
fn drop_what_the_old_type_had(after: &mut Fields, before: &Fields) {
    let same = |after: &Fields, field: &str| after.get(field) == before.get(field);
    if has_address(before) && !has_address(after) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if same(after, field) || field == "clusterIPs" && !has_items(after, field) {
                after.remove(field);
            }
        }
    }
    if has_node_ports(before) && !has_node_ports(after) {
        let numbers = |spec: &Fields| -> Vec<Value> {
            let ports = spec.get("ports").and_then(Value::as_array).into_iter().flatten();
            ports.map(|port| port.get("nodePort").cloned().unwrap_or_default()).collect()
        };
        if numbers(after) == numbers(before)
            && let Some(ports) = after.get_mut("ports").and_then(Value::as_array_mut)
        {
            for port in ports.iter_mut().filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
    }
    if needs_health_check(before) && !needs_health_check(after) && same(after, "healthCheckNodePort") {
        after.remove("healthCheckNodePort");
    }
    let is_balanced = |spec: &Fields| text(spec, "type") == "LoadBalancer";
    if is_balanced(before) && !is_balanced(after) {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(after, field) {
                after.remove(field);
            }
        }
    }
    let outside = |spec: &Fields| {
        ["NodePort", "LoadBalancer"].contains(&text(spec, "type"))
            || text(spec, "type") == "ClusterIP" && has_items(spec, "externalIPs")
    };
    if outside(before) && !outside(after) && same(after, "externalTrafficPolicy") {
        after.remove("externalTrafficPolicy");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{created, updated};
    use super::*;

    fn changed(new: Value, old: Value) -> Value {
        updated("", "Service", "", json!({"spec": new}), &json!({"spec": old}))["spec"].clone()
    }

    #[test]
    fn an_address_is_the_first_of_its_list() {
        let made = created("", "Service", json!({"spec": {"clusterIP": "None"}}));
        assert_eq!(made["spec"]["clusterIPs"], json!(["None"]));
        let old = json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]});
        let moved = json!({"type": "ClusterIP", "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]});
        assert_eq!(changed(moved, old)["clusterIPs"], json!(["10.0.0.2"]));
    }

    #[test]
    fn a_replacement_keeps_what_was_handed_out() {
        let old = json!({
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
        });
        let new = json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]});
        let kept = changed(new, old);
        assert_eq!(kept["clusterIP"], "10.0.0.1");
        assert_eq!(kept["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(kept["ports"][0]["nodePort"], 30000);
        assert!(kept["ports"][1].get("nodePort").is_none());
    }

    #[test]
    fn what_a_type_has_goes_with_it() {
        let old = json!({
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
            "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
        });
        let mut new = old.clone();
        new["type"] = json!("ClusterIP");
        assert_eq!(
            changed(new.clone(), old.clone()),
            json!({
                "type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"],
                "ports": [{"port": 80, "protocol": "TCP"}],
            })
        );
        new["type"] = json!("ExternalName");
        assert_eq!(
            changed(new, old),
            json!({"type": "ExternalName", "ports": [{"port": 80, "protocol": "TCP"}]})
        );
    }
}
