//! Addresses, ports and what hands out addresses: `IPAddress`, `ServiceCIDR`. Must never resolve a name.

use core::net::IpAddr;

use barque_api::field::FieldPath;
use barque_api::int_or_string::IntOrString;
use barque_api::ip::{parse_cidr, parse_ip, validate_cidr, validate_old_cidr, validate_old_ip};
use barque_api::names;
use serde_json::Value;

use super::{Change, Findings, Part};
use crate::validation::findings::IMMUTABLE;

/// The protocols of ports.
pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address in a field as old as Kubernetes; one that was there before may be of an older form.
pub(super) fn check_ip<'a>(
    value: &str,
    mut before: impl Iterator<Item = &'a str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    if !before.any(|old| old == value) {
        findings.extend(validate_old_ip(value, path));
    }
}

/// A network in a field as old as Kubernetes; one that was there before may be of an older form.
pub(super) fn check_cidr<'a>(
    value: &str,
    mut before: impl Iterator<Item = &'a str>,
    path: &FieldPath,
    findings: &mut Findings,
) {
    if !before.any(|old| old == value) {
        findings.extend(validate_old_cidr(value, path));
    }
}

/// An address that others can reach.
pub(super) fn check_not_special(value: &str, path: &FieldPath, findings: &mut Findings) {
    let Some(ip) = parse_ip(value) else {
        findings.invalid(path, value, "must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        findings.invalid(path, value, format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        findings.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if unicast {
        findings.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        findings.invalid(path, value, detail);
    }
}

/// A number of a port.
pub(super) fn check_port(part: &Part<'_>, field: &str, findings: &mut Findings) {
    let number = part.count(field);
    let wrong = names::port_number(number);
    findings.extend(
        wrong.into_iter().map(|why| barque_api::field::FieldError::invalid(&part.at(field), number, why)),
    );
}

/// A number or a name of a port.
pub(super) fn check_port_or_name(part: &Part<'_>, field: &str, findings: &mut Findings) {
    match IntOrString::of_value(part.get(field)) {
        Some(IntOrString::Int(_)) => check_port(part, field, findings),
        Some(IntOrString::Text(name)) => {
            findings.each(&part.at(field), &name, names::port_name(&name));
        }
        None => {}
    }
}

/// Whether the text is an address.
pub(super) fn is_ip(text: &str) -> bool {
    parse_ip(text).is_some()
}

/// `IPAddress`: whose address it is.
pub(super) fn check_address(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    if let Some(old) = &change.old {
        findings.immutable(&spec, &old.child("spec"), "parentRef");
        return;
    }
    let Some(owner) = spec.given("parentRef") else {
        findings.required(&spec.at("parentRef"), "");
        return;
    };
    if !owner.text("group").is_empty() {
        findings.dns_subdomain(&owner.at("group"), owner.text("group"));
    }
    for field in ["resource", "name"] {
        findings.needs(&owner, field);
    }
    for field in ["resource", "name", "namespace"] {
        findings.each(&owner.at(field), owner.text(field), names::path_segment_name(owner.text(field)));
    }
}

/// `ServiceCIDR`: one network for each family.
pub(super) fn check_service_cidr(change: &Change<'_>, findings: &mut Findings) {
    if !change.subresource.is_empty() {
        return;
    }
    let spec = change.new.child("spec");
    let path = spec.at("cidrs");
    let new: Vec<&str> = spec.texts("cidrs").collect();
    let Some(old) = &change.old else {
        check_cidrs(&spec, findings);
        return;
    };
    let old: Vec<&str> = old.child("spec").texts("cidrs").collect();
    match (old.len(), new.len()) {
        (before, after) if before == after => {
            for (index, (old, new)) in old.iter().zip(&new).enumerate() {
                if old != new {
                    findings.invalid(&path.index(index), *new, IMMUTABLE);
                }
            }
        }
        (1, 2) => {
            if old[0] != new[0] {
                findings.invalid(&path.index(0), new[0], IMMUTABLE);
            }
            check_cidrs(&spec, findings);
        }
        _ => findings.invalid(&path, spec.get("cidrs").clone(), IMMUTABLE),
    }
}

fn check_cidrs(spec: &Part<'_>, findings: &mut Findings) {
    let path = spec.at("cidrs");
    let cidrs: Vec<&str> = spec.texts("cidrs").collect();
    match cidrs.len() {
        0 => findings.required(&path, "at least one CIDR required"),
        1 | 2 => {
            for (index, cidr) in cidrs.iter().enumerate() {
                findings.extend(validate_cidr(cidr, &path.index(index)));
            }
            let families: Vec<bool> =
                cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).map(|cidr| cidr.address.is_ipv4()).collect();
            if matches!(families.as_slice(), [first, second] if first == second) {
                let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and \
                              2001:db8::/64";
                findings.invalid(&path, spec.get("cidrs").clone(), detail);
            }
        }
        _ => findings.invalid(&path, Value::clone(spec.value), "may only hold up to 2 values"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;
    use super::*;

    #[test]
    fn a_cluster_has_one_network_for_services_in_each_family() {
        let of = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
        let told = |new: Value, old: Option<Value>| {
            told("networking.k8s.io", "ServiceCIDR", &of(new), old.map(of).as_ref())
        };
        assert_eq!(told(json!([]), None), ["spec.cidrs: Required value: at least one CIDR required"]);
        assert!(told(json!(["10.0.0.0/16", "fd00::/112"]), None).is_empty());
        assert_eq!(told(json!(["10.0.0.0/16", "10.1.0.0/16"]), None).len(), 1);
        assert!(told(json!(["10.0.0.0/16", "fd00::/112"]), Some(json!(["10.0.0.0/16"]))).is_empty());
        assert_eq!(
            told(json!(["10.1.0.0/16"]), Some(json!(["10.0.0.0/16"]))),
            ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
        );
    }

    #[test]
    fn special_addresses_reach_nobody() {
        let wrong = |ip: &str| {
            let mut findings = Findings::default();
            check_not_special(ip, &FieldPath::of("ip"), &mut findings);
            findings.len()
        };
        for ip in ["0.0.0.0", "127.0.0.1", "::1", "169.254.1.1", "224.0.0.5", "ff02::1", "fe80::1", "x"] {
            assert_eq!(wrong(ip), 1, "{ip}");
        }
        for ip in ["10.0.0.1", "fd00::1", "224.0.1.1"] {
            assert_eq!(wrong(ip), 0, "{ip}");
        }
    }

    #[test]
    fn an_address_belongs_to_somebody() {
        let told = |spec: Value| told("networking.k8s.io", "IPAddress", &json!({"spec": spec}), None);
        assert_eq!(told(json!({})), ["spec.parentRef: Required value"]);
        assert_eq!(
            told(json!({"parentRef": {"resource": "services"}})),
            ["spec.parentRef.name: Required value"]
        );
    }
}
