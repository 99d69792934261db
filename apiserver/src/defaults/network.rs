//! Services, endpoints, ingress classes, network policies.

use serde_json::{Value, json};

use super::fill::{each, given, inside, made, put, within, word};

pub(super) fn fill_kind(group: &str, kind: &str, object: &mut Value) -> bool {
    match (group, kind) {
        ("", "Service") => {
            if let Some(spec) = inside(object, "spec") {
                service(spec);
            }
        }
        ("", "Endpoints") => {
            for subset in each(object, "subsets") {
                each(subset, "ports").for_each(|port| put(port, "protocol", "TCP"));
            }
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            for port in each(object, "ports") {
                put(port, "name", "");
                put(port, "protocol", "TCP");
            }
        }
        ("networking.k8s.io", "IngressClass") => {
            if let Some(parameters) = within(object, &["spec", "parameters"]) {
                put(parameters, "scope", "Cluster");
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            if let Some(spec) = inside(object, "spec") {
                network_policy(spec);
            }
        }
        _ => return false,
    }
    true
}

fn service(spec: &mut Value) {
    put(spec, "type", "ClusterIP");
    put(spec, "sessionAffinity", "None");
    match word(spec, "sessionAffinity") {
        "ClientIP" => {
            let client = made(spec, "sessionAffinityConfig").and_then(|config| made(config, "clientIP"));
            if let Some(client) = client {
                put(client, "timeoutSeconds", 3 * 60 * 60);
            }
        }
        _ => {
            if let Some(fields) = spec.as_object_mut() {
                fields.remove("sessionAffinityConfig");
            }
        }
    }
    for port in each(spec, "ports") {
        put(port, "protocol", "TCP");
        let own = port.get("port").cloned().unwrap_or_default();
        let target = port.get("targetPort");
        if target.is_none_or(|target| target.is_null() || *target == 0 || *target == "") && !own.is_null() {
            port["targetPort"] = own;
        }
    }
    let kind = word(spec, "type").to_owned();
    if ["NodePort", "LoadBalancer"].contains(&kind.as_str()) {
        put(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        put(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        put(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn network_policy(spec: &mut Value) {
    for direction in ["ingress", "egress"] {
        for rule in each(spec, direction) {
            each(rule, "ports").for_each(|port| put(port, "protocol", "TCP"));
        }
    }
    if !given(spec, "policyTypes") {
        let types = if given(spec, "egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec["policyTypes"] = types;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::tests::filled;

    fn service_of(spec: Value) -> Value {
        filled("", "Service", json!({"spec": spec}))["spec"].clone()
    }

    #[test]
    fn services_are_inside_the_cluster_unless_they_say_so() {
        let plain = service_of(json!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}));
        assert_eq!(
            plain,
            json!({
                "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [
                    {"port": 80, "protocol": "TCP", "targetPort": 80},
                    {"port": 81, "protocol": "TCP", "targetPort": "web"},
                ],
            })
        );
        let balanced = service_of(json!({"type": "LoadBalancer"}));
        assert_eq!(balanced["externalTrafficPolicy"], "Cluster");
        assert_eq!(balanced["allocateLoadBalancerNodePorts"], true);
        assert_eq!(service_of(json!({"type": "ExternalName"})).get("internalTrafficPolicy"), None);
    }

    #[test]
    fn clients_stick_for_three_hours() {
        let sticky = service_of(json!({"sessionAffinity": "ClientIP"}));
        assert_eq!(sticky["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10_800);
        let loose = service_of(json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}));
        assert_eq!(loose.get("sessionAffinityConfig"), None);
    }

    #[test]
    fn policies_are_about_what_comes_in_and_what_they_name() {
        let types = |spec: Value| {
            filled("networking.k8s.io", "NetworkPolicy", json!({"spec": spec}))["spec"]["policyTypes"].clone()
        };
        assert_eq!(types(json!({})), json!(["Ingress"]));
        assert_eq!(types(json!({"egress": [{}]})), json!(["Ingress", "Egress"]));
        assert_eq!(types(json!({"policyTypes": ["Egress"]})), json!(["Egress"]));
    }
}
