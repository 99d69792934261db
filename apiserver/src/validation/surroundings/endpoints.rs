//! Where services are answered: `Endpoints`, `EndpointSlice`. Must never know which services there are.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::ip::{parse_ip, validate_ip};
use barque_api::names;

use super::addresses::{PROTOCOLS, check_ip, check_not_special, check_port};
use super::{Change, Findings, Part};

const MOST_ADDRESSES: usize = 100;
const MOST_PORTS: usize = 20_000;
const MOST_ENDPOINTS: usize = 1000;
const MOST_HINTS: usize = 8;

/// What is wrong with `Endpoints`.
pub(super) fn check_endpoints(change: &Change<'_>, findings: &mut Findings) {
    let before: BTreeSet<&str> = change
        .old
        .iter()
        .flat_map(|old| old.items("subsets"))
        .flat_map(|subset| {
            subset.items("addresses").chain(subset.items("notReadyAddresses")).collect::<Vec<_>>()
        })
        .map(|address| address.text("ip"))
        .collect();
    for subset in change.new.items("subsets") {
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            findings.required(&subset.path, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in subset.items("addresses").chain(subset.items("notReadyAddresses")) {
            check_target(&address, &before, findings);
        }
        let several = subset.list("ports").len() > 1;
        for port in subset.items("ports") {
            if several || !port.text("name").is_empty() {
                findings.needs(&port, "name");
            }
            if !port.text("name").is_empty() {
                findings.dns_label(&port.at("name"), port.text("name"));
            }
            check_port(&port, "port", findings);
            findings.word(&port, "protocol", &PROTOCOLS);
            if port.has("appProtocol") {
                findings.label_key(&port.at("appProtocol"), port.text("appProtocol"));
            }
        }
    }
}

fn check_target(address: &Part<'_>, before: &BTreeSet<&str>, findings: &mut Findings) {
    let (ip, at) = (address.text("ip"), address.at("ip"));
    check_ip(ip, before.iter().copied(), &at, findings);
    if !address.text("hostname").is_empty() {
        findings.dns_label(&address.at("hostname"), address.text("hostname"));
    }
    if address.has("nodeName") {
        findings.dns_subdomain(&address.at("nodeName"), address.text("nodeName"));
    }
    if parse_ip(ip).is_some() {
        check_not_special(ip, &at, findings);
    }
}

/// What is wrong with an `EndpointSlice`.
pub(super) fn check_slice(change: &Change<'_>, findings: &mut Findings) {
    let slice = &change.new;
    findings.word(slice, "addressType", &["FQDN", "IPv4", "IPv6"]);
    let before: BTreeSet<&str> = change
        .old
        .iter()
        .flat_map(|old| old.items("endpoints"))
        .flat_map(|endpoint| endpoint.texts("addresses").collect::<Vec<_>>())
        .collect();
    let endpoints = slice.list("endpoints").len();
    if endpoints > MOST_ENDPOINTS {
        findings.push(FieldError::too_many(&slice.at("endpoints"), endpoints, MOST_ENDPOINTS));
    } else {
        for endpoint in slice.items("endpoints") {
            check_endpoint(&endpoint, slice.text("addressType"), &before, findings);
        }
    }
    let ports = slice.list("ports").len();
    if ports > MOST_PORTS {
        findings.push(FieldError::too_many(&slice.at("ports"), ports, MOST_PORTS));
    } else {
        check_slice_ports(slice, findings);
    }
    if let Some(old) = &change.old {
        findings.immutable(slice, old, "addressType");
    }
}

fn check_endpoint(endpoint: &Part<'_>, kind: &str, before: &BTreeSet<&str>, findings: &mut Findings) {
    let at = endpoint.at("addresses");
    match endpoint.list("addresses").len() {
        0 => findings.required(&at, "must contain at least 1 address"),
        many if many > MOST_ADDRESSES => {
            findings.push(FieldError::too_many(&at, many, MOST_ADDRESSES));
        }
        _ => {}
    }
    for (index, address) in endpoint.texts("addresses").enumerate() {
        check_address(address, kind, before, &at.index(index), findings);
    }
    let topology = endpoint.child("deprecatedTopology");
    let labels = endpoint.map("deprecatedTopology").map_or(0, |labels| labels.len());
    if labels > 16 {
        findings.push(FieldError::too_many(&topology.path, labels, 16));
    }
    findings.labels(endpoint, "deprecatedTopology");
    if endpoint.has("hostname") {
        findings.dns_label(&endpoint.at("hostname"), endpoint.text("hostname"));
    }
    if let Some(hints) = endpoint.given("hints") {
        for (field, is_name) in
            [("forZones", names::label_value as fn(&str) -> Vec<String>), ("forNodes", names::dns_subdomain)]
        {
            let many = hints.list(field).len();
            if many > MOST_HINTS {
                findings.push(FieldError::too_many(&hints.at(field), many, MOST_HINTS));
                continue;
            }
            let mut seen = BTreeSet::new();
            for hint in hints.items(field) {
                let name = hint.text("name");
                if !seen.insert(name) {
                    findings.duplicate(&hint.at("name"), name);
                }
                findings.each(&hint.at("name"), name, is_name(name));
            }
        }
    }
    if endpoint.has("nodeName") {
        findings.dns_subdomain(&endpoint.at("nodeName"), endpoint.text("nodeName"));
    }
}

fn check_address(
    address: &str,
    kind: &str,
    before: &BTreeSet<&str>,
    at: &barque_api::field::FieldPath,
    findings: &mut Findings,
) {
    match kind {
        "IPv4" | "IPv6" => {
            let fits = |ip: core::net::IpAddr| ip.is_ipv4() == (kind == "IPv4");
            if !before.contains(address) {
                findings.extend(validate_ip(address, at));
            }
            match parse_ip(address) {
                Some(ip) if !fits(ip) => findings.invalid(at, address, format!("must be an {kind} address")),
                Some(_) => check_not_special(address, at, findings),
                None => {}
            }
        }
        "FQDN" => {
            let name = address.strip_suffix('.').unwrap_or(address);
            if name.is_empty() {
                findings.required(at, "");
            } else if let wrong @ [_, ..] = names::dns_subdomain(name).as_slice() {
                findings.invalid(at, name, wrong.join(","));
            } else if !name.contains('.') {
                findings.invalid(at, name, "should be a domain with at least two segments separated by dots");
            }
        }
        _ => {}
    }
}

fn check_slice_ports(slice: &Part<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for port in slice.items("ports") {
        let name = port.text("name");
        if !name.is_empty() {
            findings.dns_label(&port.at("name"), name);
        }
        if !seen.insert(name) {
            findings.duplicate(&port.at("name"), name);
        }
        if port.has("port") {
            check_port(&port, "port", findings);
        }
        findings.word(&port, "protocol", &PROTOCOLS);
        if port.has("appProtocol") {
            findings.label_key(&port.at("appProtocol"), port.text("appProtocol"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn endpoints_have_addresses_that_can_be_reached() {
        let told = |subset: Value| told("", "Endpoints", &json!({"subsets": [subset]}), None);
        assert_eq!(
            told(json!({"ports": []})),
            ["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"]
        );
        assert!(
            told(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1, "protocol": "TCP"}]}))
                .is_empty()
        );
        assert_eq!(told(json!({"addresses": [{"ip": "127.0.0.1"}]})).len(), 1);
    }

    #[test]
    fn slices_have_one_type_of_address() {
        let slice = |kind: &str, address: &str| {
            json!({"addressType": kind, "endpoints": [{"addresses": [address]}],
                   "ports": [{"name": "", "protocol": "TCP", "port": 80}]})
        };
        let told =
            |new: Value, old: Option<Value>| told("discovery.k8s.io", "EndpointSlice", &new, old.as_ref());
        assert!(told(slice("IPv4", "10.0.0.1"), None).is_empty());
        assert!(told(slice("FQDN", "example.com"), None).is_empty());
        assert_eq!(
            told(slice("IPv4", "fd00::1"), None),
            ["endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be an IPv4 address"]
        );
        assert_eq!(
            told(slice("IPv6", "fd00::1"), Some(slice("IPv4", "10.0.0.1"))),
            ["addressType: Invalid value: \"IPv6\": field is immutable"]
        );
    }
}
