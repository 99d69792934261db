//! Services: types, ports, policies of traffic, load balancers. Must never hand out an address or a port.

use std::collections::BTreeSet;

use barque_api::field::FieldPath;
use barque_api::metadata::Metadata;
use barque_api::names;
use serde_json::json;

use super::addresses::{
    PROTOCOLS, check_cidr, check_ip, check_not_special, check_port, check_port_or_name, is_ip,
};
use super::service_ips::{check_addresses, check_changed_addresses};
use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
const LONGEST_AFFINITY: i64 = 86_400;

/// Whether the spec of a service asks for no address.
pub(super) fn is_headless(spec: &Part<'_>) -> bool {
    matches!(spec.list("clusterIPs"), [one] if one == "None")
}

/// What is wrong with a service.
pub(super) fn check_service(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let old = change.old.as_ref().map(|old| old.child("spec"));
    if change.subresource == "status" {
        let old_status = change.old.as_ref().map(|old| old.child("status").child("loadBalancer"));
        let balancer = change.new.child("status").child("loadBalancer");
        check_balancer_status(&balancer, old_status.as_ref(), &spec, findings);
        return;
    }
    if let Some(old) = &old {
        check_changed_addresses(&spec, old, findings);
        check_changed_class(&spec, old, findings);
        let both = needs_health_check(old) && needs_health_check(&spec);
        if both && spec.count("healthCheckNodePort") != old.count("healthCheckNodePort") {
            findings.forbidden(&spec.at("healthCheckNodePort"), IMMUTABLE);
        }
    }
    check_annotations(change, findings);
    check_type(&spec, findings);
    check_ports(&spec, findings);
    findings.labels(&spec, "selector");
    check_affinity(&spec, findings);
    check_addresses(&spec, old.as_ref(), findings);
    for item in spec.items("externalIPs") {
        let ip = item.value.as_str().unwrap_or_default();
        let before = old.iter().flat_map(|old| old.texts("externalIPs"));
        let found = findings.len();
        check_ip(ip, before, &item.path, findings);
        if findings.len() == found {
            check_not_special(ip, &item.path, findings);
        }
    }
    findings.word(&spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    check_port_pairs(&spec, findings);
    check_source_ranges(change, &spec, old.as_ref(), findings);
    let balanced = spec.text("type") == "LoadBalancer";
    if spec.has("allocateLoadBalancerNodePorts") && !balanced {
        findings.forbidden(&spec.at("allocateLoadBalancerNodePorts"), ONLY_BALANCED);
    }
    if balanced && !spec.has("allocateLoadBalancerNodePorts") {
        findings.required(&FieldPath::of("allocateLoadBalancerNodePorts"), "");
    }
    if spec.has("loadBalancerClass") {
        if balanced {
            findings.label_key(&spec.at("loadBalancerClass"), spec.text("loadBalancerClass"));
        } else {
            findings.forbidden(&spec.at("loadBalancerClass"), ONLY_BALANCED);
        }
    }
    check_traffic(&spec, findings);
}

fn check_annotations(change: &Change<'_>, findings: &mut Findings) {
    let metadata = Metadata::of(change.new.value);
    if let (Some(mode), Some(hints)) =
        (metadata.annotation(TOPOLOGY_MODE), metadata.annotation(TOPOLOGY_HINTS))
        && mode != hints
    {
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        findings.invalid(&FieldPath::of("metadata.annotations").key(TOPOLOGY_MODE), mode, detail);
    }
}

fn check_changed_class(spec: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    let balanced = |spec: &Part<'_>| spec.text("type") == "LoadBalancer";
    if balanced(spec) && balanced(old) && spec.get("loadBalancerClass") != old.get("loadBalancerClass") {
        let value = spec.get("loadBalancerClass").clone();
        findings.invalid(&spec.at("loadBalancerClass"), value, "may not change once set");
    }
}

fn check_type(spec: &Part<'_>, findings: &mut Findings) {
    let kind = spec.text("type");
    if spec.list("ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        findings.required(&spec.at("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            findings.invalid(&spec.at("clusterIPs").index(0), "None", detail);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"] {
                if !spec.list(field).is_empty() {
                    findings.forbidden(&spec.at(field), "may not be set for ExternalName services");
                }
            }
            if spec.has("ipFamilyPolicy") {
                findings.forbidden(&spec.at("ipFamilyPolicy"), "may not be set for ExternalName services");
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                findings.required(&spec.at("externalName"), "");
            } else {
                findings.dns_subdomain(&spec.at("externalName"), name);
            }
        }
        _ => {}
    }
}

fn check_ports(spec: &Part<'_>, findings: &mut Findings) {
    let several = spec.list("ports").len() > 1;
    let mut names = BTreeSet::new();
    for port in spec.items("ports") {
        let name = port.text("name");
        if several && name.is_empty() {
            findings.required(&port.at("name"), "");
        } else if !name.is_empty() {
            findings.dns_label(&port.at("name"), name);
            if !names.insert(name) {
                findings.duplicate(&port.at("name"), name);
            }
        }
        check_port(&port, "port", findings);
        findings.word(&port, "protocol", &PROTOCOLS);
        check_port_or_name(&port, "targetPort", findings);
        if port.has("appProtocol") {
            findings.label_key(&port.at("appProtocol"), port.text("appProtocol"));
        }
    }
}

fn check_port_pairs(spec: &Part<'_>, findings: &mut Findings) {
    if spec.text("type") == "ClusterIP" {
        for port in spec.items("ports").filter(|port| port.count("nodePort") != 0) {
            findings.forbidden(&port.at("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let mut of_nodes = BTreeSet::new();
    for port in spec.items("ports").filter(|port| port.count("nodePort") != 0) {
        if !of_nodes.insert((port.text("protocol"), port.count("nodePort"))) {
            findings.duplicate(&port.at("nodePort"), port.count("nodePort"));
        }
    }
    let mut own = BTreeSet::new();
    for port in spec.items("ports") {
        let (protocol, number) = (port.text("protocol"), port.count("port"));
        if !own.insert((protocol, number)) {
            findings.duplicate(&port.path, json!({"protocol": protocol, "port": number, "targetPort": 0}));
        }
    }
}

fn check_affinity(spec: &Part<'_>, findings: &mut Findings) {
    findings.word(spec, "sessionAffinity", &["ClientIP", "None"]);
    let config = spec.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let why = "when session affinity type is ClientIP";
            let client = config.child("clientIP");
            if !spec.has("sessionAffinityConfig") {
                findings.required(&config.path, why);
            } else if !config.has("clientIP") {
                findings.required(&client.path, why);
            } else if let Some(seconds) = client.number("timeoutSeconds") {
                if !(1..=LONGEST_AFFINITY).contains(&seconds) {
                    let detail = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
                    findings.invalid(&client.at("timeoutSeconds"), seconds, detail);
                }
            } else {
                findings.required(&client.at("timeoutSeconds"), why);
            }
        }
        "None" if spec.has("sessionAffinityConfig") => {
            findings.forbidden(&config.path, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn check_source_ranges(
    change: &Change<'_>,
    spec: &Part<'_>,
    old: Option<&Part<'_>>,
    findings: &mut Findings,
) {
    let balanced = spec.text("type") == "LoadBalancer";
    if !spec.list("loadBalancerSourceRanges").is_empty() {
        // Kubernetes writes this path with a capital.
        let path = spec.at("LoadBalancerSourceRanges");
        if !balanced {
            findings.forbidden(&path, ONLY_BALANCED);
        }
        for (index, range) in spec.texts("loadBalancerSourceRanges").enumerate() {
            let before = old.iter().flat_map(|old| old.texts("loadBalancerSourceRanges")).map(str::trim);
            check_cidr(range.trim(), before, &path.index(index), findings);
        }
    } else if let Some(ranges) = Metadata::of(change.new.value).annotation(SOURCE_RANGES) {
        let path = FieldPath::of("metadata.annotations").key(SOURCE_RANGES);
        if !balanced {
            findings.forbidden(&path, ONLY_BALANCED);
        }
        if !ranges.trim().is_empty() {
            let before =
                change.old.as_ref().and_then(|old| Metadata::of(old.value).annotation(SOURCE_RANGES));
            for range in ranges.split(',') {
                let before = before.into_iter().flat_map(|before| before.split(',')).map(str::trim);
                check_cidr(range.trim(), before, &path, findings);
            }
        }
    }
}

fn is_reachable_from_outside(spec: &Part<'_>) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

fn needs_health_check(spec: &Part<'_>) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn check_traffic(spec: &Part<'_>, findings: &mut Findings) {
    if is_reachable_from_outside(spec) {
        findings.word(spec, "externalTrafficPolicy", &["Cluster", "Local"]);
    } else if !spec.text("externalTrafficPolicy").is_empty() {
        let detail = "may only be set for externally-accessible services";
        let value = spec.text("externalTrafficPolicy");
        findings.invalid(&spec.at("externalTrafficPolicy"), value, detail);
    }
    let (port, at) = (spec.count("healthCheckNodePort"), spec.at("healthCheckNodePort"));
    if needs_health_check(spec) {
        if port == 0 {
            findings.required(&at, "");
        } else {
            check_port(spec, "healthCheckNodePort", findings);
        }
    } else if port != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        findings.invalid(&at, port, detail);
    }
    if spec.has("internalTrafficPolicy") {
        findings.word_if_given(spec, "internalTrafficPolicy", &["Cluster", "Local"]);
    } else if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&spec.text("type")) {
        findings.required(&spec.at("internalTrafficPolicy"), "");
    }
    let ways = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    findings.word_if_given(spec, "trafficDistribution", &ways);
}

fn check_balancer_status(
    status: &Part<'_>,
    old: Option<&Part<'_>>,
    spec: &Part<'_>,
    findings: &mut Findings,
) {
    if spec.text("type") != "LoadBalancer" && !status.list("ingress").is_empty() {
        findings.forbidden(&status.at("ingress"), "may only be used when `spec.type` is \"LoadBalancer\"");
        return;
    }
    for ingress in status.items("ingress") {
        if ingress.has("ipMode") {
            if ingress.text("ip").is_empty() {
                findings.forbidden(&ingress.at("ipMode"), "may not be specified when `ip` is not set");
            } else {
                findings.word_if_given(&ingress, "ipMode", &["Proxy", "VIP"]);
            }
        }
        check_way_in(&ingress, old, findings);
    }
}

/// An address or a name at which a load balancer answers.
pub(super) fn check_way_in(ingress: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    let ip = ingress.text("ip");
    if !ip.is_empty() {
        let before = old.iter().flat_map(|old| old.items("ingress")).map(|old| old.text("ip"));
        check_ip(ip, before, &ingress.at("ip"), findings);
    }
    let host = ingress.text("hostname");
    if !host.is_empty() {
        findings.each(&ingress.at("hostname"), host, names::dns_subdomain(host));
        if is_ip(host) {
            findings.invalid(&ingress.at("hostname"), host, "must be a DNS name, not an IP address");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{told, told_below};

    fn service(changes: Value) -> Value {
        let mut spec = json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        });
        for (field, value) in changes.as_object().unwrap() {
            spec[field] = value.clone();
        }
        json!({"metadata": {"name": "a"}, "spec": spec})
    }

    #[test]
    fn services_and_what_is_wrong_with_them() {
        let port =
            |port: i64, name: &str| json!({"port": port, "name": name, "protocol": "TCP", "targetPort": 1});
        let table: Vec<(Value, &[&str])> = vec![
            (json!({}), &[]),
            (json!({"ports": []}), &["spec.ports: Required value"]),
            (json!({"ports": [], "clusterIP": "None", "clusterIPs": ["None"]}), &[]),
            (json!({"ports": [port(1, "a"), port(2, "")]}), &["spec.ports[1].name: Required value"]),
            (
                json!({"ports": [port(1, "a"), port(1, "b")]}),
                &["spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\",\"targetPort\":0}"],
            ),
            (
                json!({"ports": [{"port": 0, "protocol": "TCP", "targetPort": "web"}]}),
                &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
            ),
            (
                json!({"ports": [{"port": 1, "nodePort": 30000, "protocol": "TCP", "targetPort": "web"}]}),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (json!({"type": "ExternalName", "ports": []}), &["spec.externalName: Required value"]),
            (json!({"type": "ExternalName", "externalName": "example.com."}), &[]),
            (
                json!({"type": "Other"}),
                &[
                    "spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \
                   \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                json!({"type": "NodePort", "externalTrafficPolicy": "Cluster", "clusterIP": "None", "clusterIPs": ["None"]}),
                &[
                    "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
                ],
            ),
            (
                json!({"externalTrafficPolicy": "Local"}),
                &[
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible \
                   services",
                ],
            ),
            (
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
                &[
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and \
                   less than 86400",
                ],
            ),
            (
                json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]}),
                &["spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"],
            ),
            (
                json!({"externalIPs": ["127.0.0.1"]}),
                &[
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
                   ::1/128)",
                    "spec.externalTrafficPolicy: Required value",
                ],
            ),
            (
                json!({"trafficDistribution": "Far"}),
                &[
                    "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \
                   \"PreferSameNode\", \"PreferSameZone\"",
                ],
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(told("", "Service", &service(changes.clone()), None), expected, "{changes}");
        }
    }

    #[test]
    fn an_address_of_a_service_does_not_change() {
        let with = |ip: &str| service(json!({"clusterIP": ip, "clusterIPs": [ip]}));
        assert_eq!(
            told("", "Service", &with("10.0.0.2"), Some(&with("10.0.0.1"))),
            ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
        );
        assert!(told("", "Service", &with("10.0.0.1"), Some(&with("10.0.0.1"))).is_empty());
        assert!(told("", "Service", &with("10.0.0.1"), Some(&service(json!({})))).is_empty());
    }

    #[test]
    fn only_load_balancers_have_ways_in() {
        let old = service(json!({}));
        let mut new = old.clone();
        new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}});
        assert_eq!(
            told_below("", "Service", "status", &new, Some(&old)),
            ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is \"LoadBalancer\""]
        );
        new["spec"]["type"] = json!("LoadBalancer");
        assert!(told_below("", "Service", "status", &new, Some(&old)).is_empty());
    }
}
