//! What is to be done so that every address of a service has its IPAddress object, and every such object its service. Pure; must
//! never free an address that somebody may be about to use.

use core::net::IpAddr;
use std::collections::HashMap;

use barque_api::ip::parse_ip;
use barque_api::metadata::Metadata;
use barque_api::time::Time;
use serde_json::Value;

use super::ip_objects::{has_labels, is_managed, owner_of};
use super::ip_range::{Family, IpRange};
use super::repair::Rest;
use super::service::{Addressing, Held, Owner, needs_ips};

/// An IPAddress is left alone for so long, in seconds: its service may be on its way to the store. No request lasts longer.
pub(super) const GRACE_S: i64 = 5 * 60;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The service has the address, and there is no object.
    Make {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        owner: Owner,
    },
    /// The object is another's, or not as the allocator makes it.
    Remake {
        /// The address.
        ip: IpAddr,
        /// Whose it is.
        owner: Owner,
        /// Which version of the object is wrong.
        version: String,
    },
    /// Nobody has the address.
    Release {
        /// The object.
        name: String,
        /// Which version of it.
        version: String,
    },
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressPlan {
    pub(super) steps: Vec<Step>,
    pub(super) rest: Rest,
    /// What is wrong, in sentences.
    pub(super) complaints: Vec<String>,
}

/// Plans from all IPAddresses, and all services as they were afterwards.
pub(super) fn plan_addresses(
    services: &[Value],
    addresses: &[Value],
    ranges: &[IpRange],
    now: Time,
) -> AddressPlan {
    let mut plan = AddressPlan { steps: Vec::new(), rest: Rest::Nothing, complaints: Vec::new() };
    let held: HashMap<Owner, Vec<IpAddr>> =
        services.iter().map(|service| (Owner::of(service), Held::of(service).ips)).collect();
    let uses = |owner: &Owner, ip: IpAddr| held.get(owner).is_some_and(|ips| ips.contains(&ip));
    let by_name: HashMap<&str, &Value> =
        addresses.iter().map(|address| (Metadata::of(address).name(), address)).collect();
    let mut made: HashMap<IpAddr, Owner> = HashMap::new();
    for service in services.iter().filter(|service| needs_ips(service)) {
        let owner = Owner::of(service);
        let addressing = Addressing::of(service);
        if addressing.is_headless() {
            continue;
        }
        for text in addressing.ips {
            let Some(ip) = parse_ip(&text) else {
                plan.complaints.push(format!(
                    "the ClusterIP {text} for Service {owner} is not a valid IP; please recreate Service"
                ));
                continue;
            };
            let family = Family::of(ip).name();
            if !ranges.iter().any(|range| range.contains(ip)) {
                plan.complaints.push(format!(
                    "the ClusterIP [{family}]: {ip} for Service {owner} is not within any service CIDR; please recreate"
                ));
                continue;
            }
            let address = by_name.get(ip.to_string().as_str()).copied();
            let taken = match address {
                None => made.get(&ip).cloned(),
                Some(address) => owner_of(address).filter(|other| *other != owner && uses(other, ip)),
            };
            if let Some(other) = taken {
                plan.complaints.push(format!(
                    "the cluster IP [{family}]: {ip} for service {owner} was assigned to other services {other}; \
                     please recreate"
                ));
                continue;
            }
            let Some(address) = address else {
                plan.complaints.push(format!(
                    "the ClusterIP [{family}]: {ip} for Service {owner} is not allocated; repairing"
                ));
                plan.steps.push(Step::Make { ip, owner: owner.clone() });
                made.insert(ip, owner.clone());
                continue;
            };
            let is_right = owner_of(address).as_ref() == Some(&owner) && has_labels(address, ip);
            if !is_right && is_young(address, now) {
                plan.rest = Rest::Young;
            } else if !is_right && !Metadata::of(address).is_deleting() {
                plan.complaints.push(format!(
                    "the ClusterIP [{family}]: {ip} for Service {owner} has a wrong reference; repairing"
                ));
                let version = Metadata::of(address).resource_version().to_owned();
                plan.steps.push(Step::Remake { ip, owner: owner.clone(), version });
                made.insert(ip, owner.clone());
            }
        }
    }
    for address in addresses.iter().filter(|address| is_managed(address)) {
        let metadata = Metadata::of(address);
        let Some(ip) = parse_ip(metadata.name()) else { continue };
        let is_used = owner_of(address).is_some_and(|owner| uses(&owner, ip));
        if is_used || made.contains_key(&ip) || metadata.is_deleting() {
            continue;
        }
        if is_young(address, now) {
            plan.rest = Rest::Young;
            continue;
        }
        plan.complaints.push(format!("the IPAddress {ip} is used by no service; cleaning up"));
        let (name, version) = (metadata.name().to_owned(), metadata.resource_version().to_owned());
        plan.steps.push(Step::Release { name, version });
    }
    plan
}

/// Whether a service may still be on its way for which it was made.
fn is_young(address: &Value, now: Time) -> bool {
    let created = Metadata::of(address).creation_time();
    created.is_some_and(|created| created.plus_seconds(GRACE_S) > now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::allocation::ip_objects::address_object;

    const NOW: Time = Time::of_unix(10_000);

    fn owner(name: &str) -> Owner {
        Owner { namespace: "a".into(), name: name.into() }
    }

    fn service(name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name},
            "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]}})
    }

    fn address(ip: &str, of: &str, age_s: i64) -> Value {
        let mut object = address_object(ip.parse().unwrap(), &owner(of), "u", NOW.plus_seconds(-age_s));
        object["metadata"]["resourceVersion"] = "7".into();
        object
    }

    fn planned(services: &[Value], addresses: &[Value]) -> AddressPlan {
        plan_addresses(services, addresses, &[IpRange::parse("10.0.0.0/24").unwrap()], NOW)
    }

    fn release(name: &str) -> Step {
        Step::Release { name: name.into(), version: "7".into() }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let services = [service("web", "10.0.0.1"), service("none", "None")];
        let nothing = AddressPlan { steps: vec![], rest: Rest::Nothing, complaints: vec![] };
        assert_eq!(planned(&services, &[address("10.0.0.1", "web", 1000)]), nothing);
    }

    #[test]
    fn an_address_that_nobody_has_is_released_when_it_is_old() {
        let services = [service("web", "10.0.0.1")];
        let addresses = |age| {
            [
                address("10.0.0.1", "web", age),
                address("10.0.0.2", "web", age),
                address("10.0.0.3", "gone", age),
            ]
        };
        assert_eq!(planned(&services, &addresses(1000)).steps, [release("10.0.0.2"), release("10.0.0.3")]);
        let young = planned(&services, &addresses(299));
        assert_eq!((young.steps, young.rest), (vec![], Rest::Young), "their services may be on the way");
        let mut foreign = address("10.0.0.4", "gone", 1000);
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(
            planned(&services, &[address("10.0.0.1", "web", 0), foreign]).steps,
            [],
            "somebody else's"
        );
    }

    #[test]
    fn an_address_without_an_object_gets_one_of_the_first_that_has_it() {
        let plan = planned(&[service("a", "10.0.0.1"), service("b", "10.0.0.1")], &[]);
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(plan.steps, [Step::Make { ip, owner: owner("a") }]);
        assert_eq!(
            plan.complaints,
            [
                "the ClusterIP [IPv4]: 10.0.0.1 for Service a/a is not allocated; repairing",
                "the cluster IP [IPv4]: 10.0.0.1 for service a/b was assigned to other services a/a; please recreate",
            ]
        );
    }

    #[test]
    fn an_object_of_somebody_who_does_not_have_the_address_is_made_again() {
        let ip = "10.0.0.1".parse().unwrap();
        let services = [service("web", "10.0.0.1"), service("other", "10.0.0.2")];
        let addresses = |age| [address("10.0.0.1", "other", age), address("10.0.0.2", "other", 1000)];
        let remake = Step::Remake { ip, owner: owner("web"), version: "7".into() };
        assert_eq!(planned(&services, &addresses(1000)).steps, [remake]);
        assert_eq!(planned(&services, &addresses(10)).steps, []);
    }

    #[test]
    fn addresses_outside_of_all_networks_are_told() {
        let plan = planned(&[service("web", "10.1.0.1"), service("odd", "x")], &[]);
        assert_eq!(plan.steps, []);
        assert_eq!(
            plan.complaints,
            [
                "the ClusterIP [IPv4]: 10.1.0.1 for Service a/web is not within any service CIDR; please recreate",
                "the ClusterIP x for Service a/odd is not a valid IP; please recreate Service",
            ]
        );
    }
}
