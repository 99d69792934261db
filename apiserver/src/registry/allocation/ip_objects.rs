//! IPAddress and ServiceCIDR objects as the allocator makes and reads them, and which addresses a service wants. Pure; must
//! never know the store.

use core::net::IpAddr;

use barque_api::ip::parse_ip;
use barque_api::metadata::Metadata;
use barque_api::time::Time;
use serde_json::{Value, json};

use super::ip_range::{Family, IpRange};
use super::service::{Addressing, Owner};

/// The ServiceCIDR that the flag stands for.
const DEFAULT_CIDR: &str = "kubernetes";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGER_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// Who manages addresses of services.
const MANAGER: &str = "ipallocator.k8s.io";

/// The object that says that a service has an address; there can be only one with its name.
pub(super) fn address_object(ip: IpAddr, owner: &Owner, uid: &str, now: Time) -> Value {
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": ip.to_string(),
            "uid": uid,
            "creationTimestamp": now.to_string(),
            "labels": {FAMILY_LABEL: Family::of(ip).name(), MANAGER_LABEL: MANAGER},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": owner.namespace, "name": owner.name}},
    })
}

/// The service that an IPAddress is for; nothing when it is for something else.
pub(super) fn owner_of(address: &Value) -> Option<Owner> {
    let parent = &address["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default();
    let is_service = text("group").is_empty() && text("resource") == "services";
    is_service.then(|| Owner { namespace: text("namespace").to_owned(), name: text("name").to_owned() })
}

/// Whether the allocator made it.
pub(super) fn is_managed(address: &Value) -> bool {
    Metadata::of(address).label(MANAGER_LABEL) == Some(MANAGER)
}

/// Whether its labels are those that the allocator gives.
pub(super) fn has_labels(address: &Value, ip: IpAddr) -> bool {
    is_managed(address) && Metadata::of(address).label(FAMILY_LABEL) == Some(Family::of(ip).name())
}

/// The networks of a ServiceCIDR, as texts.
fn cidrs_of(object: &Value) -> impl Iterator<Item = &str> {
    object["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// From which networks addresses are taken: those of all ServiceCIDRs that are ready and stay, that of the flag first. Until
/// there is one for the flag, `configured` stands for it.
pub(super) fn ranges(configured: &[IpRange], objects: &[Value]) -> Vec<IpRange> {
    let is_default = |object: &&Value| Metadata::of(object).name() == DEFAULT_CIDR;
    let mut ranges = Vec::new();
    let mut add = |range: IpRange| {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    };
    if !objects.iter().any(|object| is_default(&object)) {
        configured.iter().copied().for_each(&mut add);
    }
    let others = objects.iter().filter(|object| !is_default(object));
    for object in objects.iter().filter(is_default).chain(others).filter(|object| is_usable(object)) {
        cidrs_of(object).filter_map(|text| IpRange::parse(text).ok()).for_each(&mut add);
    }
    ranges
}

/// One that nobody says anything of is ready.
fn is_usable(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    !Metadata::of(object).is_deleting() && ready.is_none_or(|condition| condition["status"] == "True")
}

/// An address that a service is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Its place in `clusterIPs`.
    pub(super) index: usize,
    pub(super) family: Family,
    /// A certain one; else any.
    pub(super) ip: Option<IpAddr>,
}

/// The addresses that a service is to get beside those that it has.
pub(super) fn wishes(addressing: &Addressing, has: &[IpAddr]) -> Vec<Wish> {
    if addressing.is_headless() {
        return Vec::new();
    }
    let families = addressing.families.iter().enumerate();
    let wishes = families.filter_map(|(index, family)| {
        let ip = addressing.ips.get(index).and_then(|ip| parse_ip(ip));
        Some(Wish { index, family: Family::parse(family)?, ip })
    });
    wishes.filter(|wish| wish.ip.is_none_or(|ip| !has.contains(&ip))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ranges: &[IpRange]) -> Vec<String> {
        ranges.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_come_from_ranges_that_are_ready_and_stay() {
        let flag = [IpRange::parse("10.96.0.0/16").unwrap()];
        let cidr = |name: &str, cidr: &str, ready: &str| {
            json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mut going = cidr("going", "10.3.0.0/24", "True");
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let more = [cidr("b", "10.1.0.0/24", "True"), cidr("c", "10.2.0.0/24", "False"), going];
        assert_eq!(texts(&ranges(&flag, &more)), ["10.96.0.0/16", "10.1.0.0/24"]);
        let mut all = more.to_vec();
        all.push(cidr("kubernetes", "10.95.0.0/16", "True"));
        assert_eq!(texts(&ranges(&flag, &all)), ["10.95.0.0/16", "10.1.0.0/24"], "the object counts");
        all.push(cidr("d", "10.1.0.0/24", "True"));
        assert_eq!(ranges(&flag, &all).len(), 2, "each once");
    }

    #[test]
    fn a_service_wants_what_it_has_not() {
        let addressing = |ips: &[&str], families: &[&str]| Addressing {
            ip: ips.first().map_or_else(String::new, |ip| (*ip).to_owned()),
            ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
            families: families.iter().map(|family| (*family).to_owned()).collect(),
            policy: String::new(),
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let any = |index, family| Wish { index, family, ip: None };
        assert_eq!(wishes(&addressing(&[], &["IPv6"]), &[]), [any(0, Family::V6)]);
        let named = Wish { index: 0, family: Family::V4, ip: Some(ip("10.0.0.1")) };
        assert_eq!(wishes(&addressing(&["10.0.0.1"], &["IPv4", "IPv6"]), &[]), [named, any(1, Family::V6)]);
        assert_eq!(
            wishes(&addressing(&["10.0.0.1"], &["IPv4", "IPv6"]), &[ip("10.0.0.1")]),
            [any(1, Family::V6)]
        );
        assert_eq!(wishes(&addressing(&["None"], &["IPv4"]), &[]), []);
    }

    #[test]
    fn an_address_names_its_service() {
        let owner = Owner { namespace: "a".into(), name: "web".into() };
        let address = address_object("fd00::1".parse().unwrap(), &owner, "u", Time::of_unix(0));
        assert_eq!(owner_of(&address), Some(owner));
        assert_eq!(address["metadata"]["labels"][FAMILY_LABEL], "IPv6");
        assert!(has_labels(&address, "fd00::1".parse().unwrap()));
        assert_eq!(owner_of(&json!({"spec": {"parentRef": {"group": "g", "resource": "services"}}})), None);
    }
}
