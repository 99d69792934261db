//! The cluster's own service `default/kubernetes`, and the addresses behind it: those of the servers whose leases have not
//! run out. Must never read a clock: the time is handed in.

use core::net::IpAddr;
use std::collections::BTreeSet;

use barque_api::kind::GroupVersion;
use barque_api::time::MicroTime;
use serde_json::{Value, json};

use super::{Desired, Plan, Rule, Settings, add_missing, annotation};

/// The namespace and the name of the service.
const PLACE: (&str, &str) = ("default", "kubernetes");
const PORT_NAME: &str = "https";
const LEASES: &str = "kube-system";
/// On a server's lease: where it can be reached.
const ADDRESS: &str = "apiserver.barque.io/address";
/// By which leases of servers are found.
const IDENTITY: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");

/// How long a server counts as living after it has renewed its lease.
pub const LEASE_SECONDS: i64 = 15;

/// The lease of a server, as it is written at the start and at each renewal. `name` is the server's own name, such as
/// `apiserver-<hash>`, and `holder` that of this process. What else stands in the lease stays.
#[must_use]
pub fn lease(name: &str, holder: &str, address: IpAddr, now: MicroTime, existing: Option<&Value>) -> Value {
    let coordination = GroupVersion::new("coordination.k8s.io", "v1");
    let fresh = Desired::new(&coordination, "leases", "Lease", (LEASES, name), Rule::CreateOnly)
        .with_metadata("labels", json!({IDENTITY.0: IDENTITY.1}))
        .with_metadata("annotations", json!({ADDRESS: address.to_string()}))
        .object;
    let mut lease = existing.cloned().unwrap_or_else(|| fresh.clone());
    add_missing(&mut lease, &fresh, "labels");
    add_missing(&mut lease, &fresh, "annotations");
    lease["metadata"]["annotations"][ADDRESS] = address.to_string().into();
    lease["spec"]["holderIdentity"] = holder.into();
    lease["spec"]["leaseDurationSeconds"] = LEASE_SECONDS.into();
    lease["spec"]["renewTime"] = now.to_string().into();
    lease
}

/// The addresses of the servers that live, each once and sorted. Leases of others, and what is none, do not count.
#[must_use]
pub fn live<'a>(leases: impl IntoIterator<Item = &'a Value>, now: MicroTime) -> Vec<IpAddr> {
    let addresses: BTreeSet<IpAddr> =
        leases.into_iter().filter_map(|lease| live_address(lease, now)).collect();
    addresses.into_iter().collect()
}

fn live_address(lease: &Value, now: MicroTime) -> Option<IpAddr> {
    let (label, kind) = IDENTITY;
    if lease.get("metadata")?.get("labels")?.get(label)?.as_str()? != kind {
        return None;
    }
    let spec = lease.get("spec")?;
    let renewed = MicroTime::parse(spec.get("renewTime")?.as_str()?).ok()?;
    let seconds = spec.get("leaseDurationSeconds")?.as_i64()?;
    let end = renewed.unix_micros().saturating_add(seconds.saturating_mul(1_000_000));
    if end < now.unix_micros() {
        return None;
    }
    annotation(lease, ADDRESS)?.parse().ok()
}

/// The service; nothing where no network of services was given.
pub(super) fn service(settings: &Settings) -> Option<Desired> {
    let network = settings.service_ranges.first()?.network();
    let address = match network.address {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() + 1).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() + 1).into()),
    };
    let port = json!({"name": PORT_NAME, "protocol": "TCP", "port": 443, "targetPort": settings.secure_port});
    let one = Desired::new(&GroupVersion::new("", "v1"), "services", "Service", PLACE, Rule::OwnService)
        .with_metadata("labels", json!({"component": "apiserver", "provider": "kubernetes"}));
    Some(one.with(
        "spec",
        json!({
            "type": "ClusterIP",
            "clusterIP": address.to_string(),
            "clusterIPs": [address.to_string()],
            "ipFamilies": [family(address)],
            "ipFamilyPolicy": "SingleStack",
            "ports": [port],
            "sessionAffinity": "None",
        }),
    ))
}

const fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The service as it should be: others may have changed all but its type and ports.
pub(super) fn revised(expected: &Value, existing: &Value) -> Value {
    let mut service = existing.clone();
    for field in ["type", "ports"] {
        if existing["spec"].get(field) != expected["spec"].get(field) {
            service["spec"][field] = expected["spec"][field].clone();
        }
    }
    service
}

/// What stands behind the service: `Endpoints` and an `EndpointSlice`. `addresses` are those of all servers that live, this
/// one among them unless it is about to stop; all listen on one port. Only those of the first one's family are written, as
/// the service has one family.
#[must_use]
pub fn endpoints(addresses: &[IpAddr], port: u16) -> Vec<Desired> {
    let family = addresses.first().map_or("IPv4", |first| family(*first));
    let addresses: BTreeSet<IpAddr> =
        addresses.iter().copied().filter(|address| self::family(*address) == family).collect();
    let port = json!([{"name": PORT_NAME, "port": port, "protocol": "TCP"}]);
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    let ready: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"addresses": [ip.to_string()], "conditions": {"ready": true}}))
        .collect();
    let subsets = if ips.is_empty() { json!([]) } else { json!([{"addresses": ips, "ports": port}]) };
    let core = GroupVersion::new("", "v1");
    let discovery = GroupVersion::new("discovery.k8s.io", "v1");
    vec![
        Desired::new(&core, "endpoints", "Endpoints", PLACE, Rule::Endpoints)
            .with_metadata("labels", json!({"endpointslice.kubernetes.io/skip-mirror": "true"}))
            .with("subsets", subsets),
        Desired::new(&discovery, "endpointslices", "EndpointSlice", PLACE, Rule::Endpoints)
            .with_metadata("labels", json!({"kubernetes.io/service-name": PLACE.1}))
            .with("addressType", family.into())
            .with("endpoints", ready.into())
            .with("ports", port),
    ]
}

/// What to do about one of them.
pub(super) fn plan_endpoints(expected: &Value, existing: &Value) -> Plan {
    // The family of a slice cannot be changed.
    if expected.get("addressType") != existing.get("addressType") {
        return Plan::Recreate(expected.clone());
    }
    let mut object = existing.clone();
    add_missing(&mut object, expected, "labels");
    for field in ["subsets", "endpoints", "ports"] {
        if let Some(wanted) = expected.get(field) {
            object[field] = wanted.clone();
        }
    }
    if object == *existing { Plan::Nothing } else { Plan::Update(object) }
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::super::tests::one;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> MicroTime {
        MicroTime::of_unix_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_server_lives_until_its_lease_has_run_out() {
        let a = lease("apiserver-a", "a_1", ip("10.0.0.1"), at(100), None);
        let b = lease("apiserver-b", "b_1", ip("10.0.0.2"), at(110), None);
        let mut other = lease("other", "other", ip("10.0.0.3"), at(110), None);
        other["metadata"]["labels"] = json!({});
        let leases = [b, a.clone(), other, json!({"spec": 1}), a.clone()];
        assert_eq!(live(&leases, at(115)), [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(live(&leases, at(116)), [ip("10.0.0.2")]);
        let renewed = lease("apiserver-a", "a_2", ip("10.0.0.9"), at(116), Some(&a));
        assert_eq!(live([&renewed], at(131)), [ip("10.0.0.9")]);
        assert_eq!(renewed["spec"]["holderIdentity"], "a_2");
    }

    #[test]
    fn the_service_has_the_first_address_of_its_network() {
        let service = one("services", "kubernetes");
        let spec = &service.object["spec"];
        assert_eq!(
            (&spec["clusterIP"], &spec["ports"][0]["targetPort"]),
            (&json!("10.96.0.1"), &json!(6443))
        );
        let mut existing = service.object.clone();
        existing["metadata"]["labels"] = json!({"mine": "yes"});
        existing["spec"]["ports"][0]["nodePort"] = 30_000.into();
        existing["spec"]["type"] = "NodePort".into();
        existing["spec"]["sessionAffinity"] = "ClientIP".into();
        let Plan::Update(revised) = plan(&service, Some(&existing)) else { panic!() };
        assert_eq!(revised["spec"]["type"], "ClusterIP");
        assert_eq!(revised["spec"]["ports"], spec["ports"]);
        assert_eq!(revised["spec"]["sessionAffinity"], "ClientIP");
        assert_eq!(revised["metadata"]["labels"], json!({"mine": "yes"}));
    }

    #[test]
    fn addresses_are_those_of_living_servers_and_of_one_family() {
        let wanted = endpoints(&[ip("10.0.0.2"), ip("fd00::1"), ip("10.0.0.1")], 6443);
        let (endpoints_object, slice) = (&wanted[0], &wanted[1]);
        let port = json!([{"name": "https", "port": 6443, "protocol": "TCP"}]);
        let subsets = json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": port}]);
        assert_eq!(endpoints_object.object["subsets"], subsets);
        assert_eq!(slice.object["addressType"], "IPv4");
        assert_eq!(
            slice.object["endpoints"][1],
            json!({"addresses": ["10.0.0.2"], "conditions": {"ready": true}})
        );
        assert_eq!(endpoints(&[], 6443)[0].object["subsets"], json!([]));

        let mut existing = slice.object.clone();
        existing["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(plan(slice, Some(&existing)), Plan::Nothing);
        let fewer = endpoints(&[ip("10.0.0.1")], 6443);
        let Plan::Update(updated) = plan(&fewer[1], Some(&existing)) else { panic!() };
        assert_eq!(updated["endpoints"].as_array().unwrap().len(), 1);
        assert_eq!(updated["metadata"]["resourceVersion"], "7");
        let other = endpoints(&[ip("fd00::1")], 6443);
        assert_eq!(plan(&other[1], Some(&existing)), Plan::Recreate(other[1].object.clone()));
    }
}
