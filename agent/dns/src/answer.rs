//! The Kubernetes DNS specification, version 1.1.0
//! (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>), as a function. Pure: must never wait for
//! anything, nor answer with a name that somebody else owns.

use core::net::IpAddr;
use std::collections::BTreeSet;

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::names::{self, Key, Kind, Names, Port, ServiceNames};

/// The version of the specification.
const VERSION: &str = "1.1.0";

/// What is known of a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Records of the type that was asked for, and addresses that will be asked for next.
    Records {
        /// The records.
        answers: Vec<Record>,
        /// The addresses.
        additionals: Vec<Record>,
    },
    /// The name is another name for this one, which has to be asked for too.
    Alias {
        /// The record that says so.
        record: Record,
        /// The other name.
        target: Name,
    },
    /// The name exists, but has no record of the type; the record is the zone's, which says for how long.
    NoData(Record),
    /// There is no such name; the record is the zone's, which says for how long.
    NoName(Record),
    /// The name is not the cluster's.
    Elsewhere,
    /// Nobody has told yet what the cluster has.
    NotReady,
}

/// What the cluster knows of the name.
#[must_use]
pub fn answer(query: &Query, names: &Names) -> Answer {
    let asked = query.name();
    if !names.zone.domain.zone_of(asked) {
        return reverse(query, names);
    }
    if !names.is_complete() {
        return Answer::NotReady;
    }
    let own = usize::from(names.zone.domain.num_labels());
    let labels: Vec<String> =
        asked.to_lowercase().iter().map(|label| String::from_utf8_lossy(label).into_owned()).collect();
    let labels: Vec<&str> = labels[..labels.len() - own].iter().map(String::as_str).collect();
    let found = match labels.as_slice() {
        [] => Found::Data(apex(names)),
        ["dns-version"] => Found::Data(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
        ["svc" | "pod" | "dns"] => Found::Data(Vec::new()),
        ["ns", "dns"] => Found::Data(names.zone.servers.iter().copied().map(address).collect()),
        [namespace, "svc" | "pod"] if names.has_namespace(namespace) => Found::Data(Vec::new()),
        [ip, namespace, "pod"] if names.has_namespace(namespace) => match pod_address(ip) {
            Some(ip) => Found::Data(vec![address(ip)]),
            None => Found::Nothing,
        },
        [rest @ .., service, namespace, "svc"] => {
            let key = Key { namespace: (*namespace).to_owned(), name: (*service).to_owned() };
            match names.service(&key) {
                Some(service) => of_service(rest, &key, service, names),
                None => Found::Nothing,
            }
        }
        _ => Found::Nothing,
    };
    let ttl = names.zone.ttl;
    match found {
        Found::Nothing => Answer::NoName(soa(names)),
        Found::Alias(target) => {
            let record = Record::from_rdata(asked.clone(), ttl, RData::CNAME(CNAME(target.clone())));
            match query.query_type() {
                RecordType::CNAME => Answer::Records { answers: vec![record], additionals: Vec::new() },
                _ => Answer::Alias { record, target },
            }
        }
        Found::Data(data) => {
            let wanted = data.into_iter().filter(|data| data.record_type() == query.query_type());
            let answers: Vec<_> = wanted.map(|data| Record::from_rdata(asked.clone(), ttl, data)).collect();
            if answers.is_empty() {
                return Answer::NoData(soa(names));
            }
            let additionals = addresses_of(&answers, names);
            Answer::Records { answers, additionals }
        }
    }
}

/// What there is below a name, of all types.
enum Found {
    Nothing,
    Data(Vec<RData>),
    Alias(Name),
}

fn of_service(rest: &[&str], key: &Key, service: &ServiceNames, names: &Names) -> Found {
    match (&service.kind, rest) {
        (Kind::External(target), []) => Found::Alias(target.clone()),
        (Kind::Addresses(addresses), []) => Found::Data(addresses.iter().copied().map(address).collect()),
        (Kind::Headless, []) => {
            // One address can have several hostnames.
            let addresses: BTreeSet<IpAddr> =
                names::endpoints(names, key, service).into_keys().map(|(_, address)| address).collect();
            Found::Data(addresses.into_iter().map(address).collect())
        }
        (Kind::Nothing, []) => Found::Data(Vec::new()),
        (Kind::Addresses(_), [port, protocol]) if port.starts_with('_') && protocol.starts_with('_') => {
            let Some(target) = name_of(&[], key, names) else { return Found::Nothing };
            let ports = service.ports.iter().filter(|there| is(there, port, protocol));
            some(ports.map(|port| RData::SRV(SRV::new(0, 100, port.number, target.clone()))).collect())
        }
        (Kind::Headless, [port, protocol]) if port.starts_with('_') && protocol.starts_with('_') => {
            some(headless_ports(port, protocol, key, service, names))
        }
        // The names above those of ports.
        (Kind::Addresses(_), [protocol]) => nothing_at_least(has_protocol(&service.ports, protocol)),
        (Kind::Headless, [protocol]) if protocol.starts_with('_') => {
            let all = names::endpoints(names, key, service);
            nothing_at_least(all.values().flatten().any(|ports| has_protocol(ports, protocol)))
        }
        (Kind::Headless, [label]) => {
            let all = names::endpoints(names, key, service);
            some(all.into_keys().filter(|(there, _)| there == label).map(|(_, ip)| address(ip)).collect())
        }
        _ => Found::Nothing,
    }
}

/// Data, without which there is no such name.
fn some(data: Vec<RData>) -> Found {
    if data.is_empty() { Found::Nothing } else { Found::Data(data) }
}

fn nothing_at_least(exists: bool) -> Found {
    if exists { Found::Data(Vec::new()) } else { Found::Nothing }
}

fn is(port: &Port, name: &str, protocol: &str) -> bool {
    name.strip_prefix('_') == Some(&port.name) && protocol.strip_prefix('_') == Some(&port.protocol)
}

fn has_protocol(ports: &[Port], protocol: &str) -> bool {
    ports.iter().any(|port| protocol.strip_prefix('_') == Some(&port.protocol))
}

fn headless_ports(
    port: &str,
    protocol: &str,
    key: &Key,
    service: &ServiceNames,
    names: &Names,
) -> Vec<RData> {
    let mut targets: BTreeSet<(String, u16)> = BTreeSet::new();
    for ((label, _), slices) in names::endpoints(names, key, service) {
        for there in slices.into_iter().flatten().filter(|there| is(there, port, protocol)) {
            targets.insert((label.clone(), there.number));
        }
    }
    // Each endpoint gets the same share.
    let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
    let record = |(label, number): (String, u16)| {
        Some(RData::SRV(SRV::new(0, weight, number, name_of(&[&label], key, names)?)))
    };
    targets.into_iter().filter_map(record).collect()
}

/// The addresses of the targets of these records, which the client will want.
fn addresses_of(records: &[Record], names: &Names) -> Vec<Record> {
    let mut additionals = Vec::new();
    for record in records {
        let RData::SRV(srv) = &record.data else { continue };
        for kind in [RecordType::A, RecordType::AAAA] {
            let query = Query::query(srv.target.clone(), kind);
            if let Answer::Records { answers, .. } = answer(&query, names) {
                additionals.extend(
                    answers.into_iter().filter(|answer| !additionals.contains(answer)).collect::<Vec<_>>(),
                );
            }
        }
    }
    additionals
}

/// Who has an address.
fn reverse(query: &Query, names: &Names) -> Answer {
    let Some(ip) = reverse_address(query.name()) else { return Answer::Elsewhere };
    if !names.is_complete() {
        return Answer::NotReady;
    }
    let mut owners: BTreeSet<Name> =
        names.with_address(ip).filter_map(|service| name_of(&[], service, names)).collect();
    for (key, endpoint) in names.with_endpoint(ip) {
        let Some(service) = names.service(&key).filter(|service| service.kind == Kind::Headless) else {
            continue;
        };
        if endpoint.ready || service.publish_not_ready {
            owners.extend(name_of(&[&endpoint.label(ip)], &key, names));
        }
    }
    if owners.is_empty() {
        return Answer::Elsewhere;
    }
    if query.query_type() != RecordType::PTR {
        return Answer::NoData(soa(names));
    }
    let record = |owner| Record::from_rdata(query.name().clone(), names.zone.ttl, RData::PTR(PTR(owner)));
    Answer::Records { answers: owners.into_iter().map(record).collect(), additionals: Vec::new() }
}

/// The whole address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    let whole = if network.addr().is_ipv4() { 32 } else { 128 };
    (network.prefix_len() == whole).then(|| network.addr())
}

fn apex(names: &Names) -> Vec<RData> {
    let mut data = vec![soa(names).data];
    data.extend(server(names).map(|server| RData::NS(NS(server))));
    data
}

fn server(names: &Names) -> Option<Name> {
    below(&["ns", "dns"], &names.zone.domain)
}

/// The zone's own record; it says for how long it may be remembered that something is not there.
fn soa(names: &Names) -> Record {
    let zone = &names.zone;
    let master = server(names).unwrap_or_else(|| zone.domain.clone());
    let people = below(&["hostmaster"], &zone.domain).unwrap_or_else(|| zone.domain.clone());
    let data = SOA::new(master, people, names.serial(), 7200, 1800, 86_400, zone.ttl);
    Record::from_rdata(zone.domain.clone(), zone.ttl, RData::SOA(data))
}

/// The name of a service, or of something below it; none if it is too long for a name.
fn name_of(labels: &[&str], service: &Key, names: &Names) -> Option<Name> {
    let mut all = labels.to_vec();
    all.extend([service.name.as_str(), &service.namespace, "svc"]);
    below(&all, &names.zone.domain)
}

fn below(labels: &[&str], domain: &Name) -> Option<Name> {
    let bytes = labels.iter().map(|label| label.as_bytes());
    Name::from_labels(bytes).ok()?.append_domain(domain).ok()
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// The address that a pod's label stands for, with dashes for dots or colons.
fn pod_address(label: &str) -> Option<IpAddr> {
    if label.matches('-').count() == 3 && !label.contains("--") {
        return label.replace('-', ".").parse().ok();
    }
    label.replace('-', ":").parse().ok()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
