//! Cells of what connects: services and their endpoints, ingresses, network policies, addresses.

use serde_json::Value;

use super::text::{Now, at, count, cut, items, joined, labels, selector, text, text_or, words};

pub(super) fn cells(group: &str, kind: &str, object: &Value, now: Now) -> Option<Vec<Value>> {
    let name = || text(object, "/metadata/name");
    let age = || now.since(object, "/metadata/creationTimestamp");
    Some(match (group, kind) {
        ("", "Service") => vec![
            name(),
            text(object, "/spec/type"),
            text_or(object, "/spec/clusterIP", "<none>"),
            external_address(object).into(),
            service_ports(object).unwrap_or_else(|| "<none>".into()).into(),
            age(),
            labels(object, "/spec/selector"),
        ],
        ("", "Endpoints") => vec![name(), endpoints(object).into(), age()],
        ("discovery.k8s.io", "EndpointSlice") => {
            let ports = items(object, "/ports").iter().map(|port| match at(port, "/port") {
                Value::Null => "*".to_owned(),
                number => number.to_string(),
            });
            let addresses = items(object, "/endpoints").iter().flat_map(|one| items(one, "/addresses"));
            let addresses = addresses.filter_map(Value::as_str).map(str::to_owned);
            vec![
                name(),
                text(object, "/addressType"),
                unset_or_cut(ports.collect()).into(),
                unset_or_cut(addresses.collect()).into(),
                age(),
            ]
        }
        ("networking.k8s.io", "Ingress") => vec![
            name(),
            ingress_class(object),
            hosts(object).into(),
            balancer_addresses(object).unwrap_or_default().into(),
            if items(object, "/spec/tls").is_empty() { "80" } else { "80, 443" }.into(),
            age(),
        ],
        ("networking.k8s.io", "IngressClass") => {
            let parameters = match at(object, "/spec/parameters") {
                Value::Null => "<none>".to_owned(),
                found => {
                    let kind = words(found, "/kind");
                    match words(found, "/apiGroup") {
                        "" => format!("{kind}/{}", words(found, "/name")),
                        group => format!("{kind}.{group}/{}", words(found, "/name")),
                    }
                }
            };
            vec![name(), text(object, "/spec/controller"), parameters.into(), age()]
        }
        ("networking.k8s.io", "NetworkPolicy") => vec![name(), selector(object, "/spec/podSelector"), age()],
        ("networking.k8s.io", "IPAddress") => vec![name(), parent(object).into()],
        ("networking.k8s.io", "ServiceCIDR") => {
            let ranges = items(object, "/spec/cidrs").iter().filter_map(Value::as_str);
            vec![name(), joined(ranges).unwrap_or_default().into(), age()]
        }
        _ => return None,
    })
}

fn external_address(service: &Value) -> String {
    let own = items(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    match words(service, "/spec/type") {
        "ClusterIP" | "NodePort" => joined(own).unwrap_or_else(|| "<none>".into()),
        "LoadBalancer" => {
            let balancer = balancer_addresses(service);
            joined(balancer.as_deref().into_iter().chain(own)).unwrap_or_else(|| "<pending>".into())
        }
        "ExternalName" => words(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".into(),
    }
}

/// Addresses or names of the load balancer, by the alphabet.
fn balancer_addresses(object: &Value) -> Option<String> {
    let address = |one: &Value| match words(one, "/ip") {
        "" => words(one, "/hostname").to_owned(),
        ip => ip.to_owned(),
    };
    let mut found: Vec<String> = items(object, "/status/loadBalancer/ingress").iter().map(address).collect();
    found.retain(|one| !one.is_empty());
    found.sort();
    found.dedup();
    joined(found.iter().map(String::as_str))
}

fn service_ports(service: &Value) -> Option<String> {
    let port = |port: &Value| {
        let (number, protocol) = (count(port, "/port"), words(port, "/protocol"));
        match count(port, "/nodePort") {
            1.. => format!("{number}:{}/{protocol}", count(port, "/nodePort")),
            _ => format!("{number}/{protocol}"),
        }
    };
    let ports: Vec<String> = items(service, "/spec/ports").iter().map(port).collect();
    joined(ports.iter().map(String::as_str))
}

fn endpoints(object: &Value) -> String {
    let subsets = items(object, "/subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut found = Vec::new();
    for subset in subsets {
        let ports = items(subset, "/ports");
        let addresses = items(subset, "/addresses").iter().map(|one| words(one, "/ip"));
        if ports.is_empty() {
            found.extend(addresses.map(str::to_owned));
        } else {
            for port in ports {
                let number = count(port, "/port");
                let all = addresses.clone().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }
                });
                found.extend(all);
            }
        }
    }
    cut(&found, 3, ",")
}

fn unset_or_cut(found: Vec<String>) -> String {
    if found.is_empty() { "<unset>".into() } else { cut(&found, 3, ",") }
}

fn ingress_class(ingress: &Value) -> Value {
    let annotated = text_or(ingress, "/metadata/annotations/kubernetes.io~1ingress.class", "<none>");
    match words(ingress, "/spec/ingressClassName") {
        "" => annotated,
        class => class.into(),
    }
}

fn hosts(ingress: &Value) -> String {
    let hosts = items(ingress, "/spec/rules").iter().map(|rule| words(rule, "/host"));
    let found: Vec<String> = hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect();
    if found.is_empty() { "*".into() } else { cut(&found, 3, ",") }
}

/// `services/kube-system/dns`, or with its group in front.
fn parent(address: &Value) -> String {
    let part = |field: &str| words(address, &format!("/spec/parentRef/{field}"));
    let resource = match part("group") {
        "" => part("resource").to_owned(),
        group => format!("{}.{group}", part("resource")),
    };
    let parts = [resource.as_str(), part("namespace"), part("name")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::table::tests::noon;

    fn service(spec: Value, ingress: Value) -> Vec<Value> {
        let object = json!({"metadata": {"name": "a"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
        cells("", "Service", &object, noon()).unwrap()
    }

    #[test]
    fn services_tell_where_they_are_reached() {
        let ports =
            json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]);
        let node = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ports": ports}), json!([]));
        assert_eq!(node[1..5], ["NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP"].map(Value::from));
        let balanced = |ingress| service(json!({"type": "LoadBalancer"}), ingress)[3].clone();
        assert_eq!(balanced(json!([])), "<pending>");
        assert_eq!(balanced(json!([{"ip": "9.9.9.9"}, {"hostname": "a.b"}])), "9.9.9.9,a.b");
        let named = service(json!({"type": "ExternalName", "externalName": "example.com"}), json!([]));
        assert_eq!(named[2..5], ["<none>", "example.com", "<none>"].map(Value::from));
    }

    #[test]
    fn endpoints_are_told_with_their_ports_and_cut() {
        let object = json!({"subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "ports": [{"port": 80}, {"port": 443}],
        }]});
        assert_eq!(endpoints(&object), "10.0.0.1:80,[fd00::1]:80,10.0.0.1:443 + 1 more...");
        let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]});
        let cells = cells("discovery.k8s.io", "EndpointSlice", &slice, noon()).unwrap();
        assert_eq!(cells[1..4], ["IPv4", "80", "10.0.0.1"].map(Value::from));
    }

    #[test]
    fn ingresses_tell_class_hosts_and_ports() {
        let object = json!({
            "metadata": {"name": "a", "annotations": {"kubernetes.io/ingress.class": "old"}},
            "spec": {"rules": [{"host": "a.b"}, {}], "tls": [{}]},
        });
        let cells = cells("networking.k8s.io", "Ingress", &object, noon()).unwrap();
        assert_eq!(cells[1..5], ["old", "a.b", "", "80, 443"].map(Value::from));
    }
}
