//! Which certificates a master needs, and when one has to be made anew. Decisions: must never read a file or a clock.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use barque_api::node_certificate::Reserved;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::ParsedExtension;

use crate::authority::{AuthorityError, Subject, der};

/// Who signs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signer {
    /// The cluster's authority: API servers, nodes, users.
    Cluster,
    /// The store's: its members and clients.
    Store,
    /// That of proxies in front of servers of other groups.
    FrontProxy,
}

/// A certificate that a master needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its file below the directory, without an ending: `.crt` and `.key` follow.
    pub name: &'static str,
    /// Who signs it.
    pub signer: Signer,
    /// For whom it is.
    pub subject: Subject,
}

/// What certificates say of a master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// Its name.
    pub name: String,
    /// The address by which others reach it.
    pub address: IpAddr,
    /// The first address of services, where the API is found in the cluster.
    pub service_address: IpAddr,
    /// What names of the cluster end with.
    pub cluster_domain: String,
    /// Further names and addresses of its API server (`--tls-san`).
    pub other_names: Vec<String>,
}

/// The certificate that a member of the store shows to members and clients.
pub const STORE: &str = "store/member";
/// That of this master as a client of the store.
pub const STORE_CLIENT: &str = "store/client";
/// The API server's.
pub const API_SERVER: &str = "apiserver";
/// The API server's as a client of agents.
pub const API_SERVER_AGENTS: &str = "apiserver-kubelet-client";
/// The API server's as a client of servers of other groups.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// The controller manager's.
pub const CONTROLLER_MANAGER: &str = "controller-manager";
/// The scheduler's.
pub const SCHEDULER: &str = "scheduler";
/// That of who applies the manifests of masters' directories.
pub const MANIFESTS: &str = "manifests";
/// The administrator's.
pub const ADMIN: &str = "admin";

/// The user who applies the manifests of masters' directories.
pub const MANIFESTS_USER: &str = "barque:manifests";

/// The user as whom API servers ask agents.
pub const API_SERVER_USER: &str = "kube-apiserver-kubelet-client";

/// All certificates by name, with who signs each, whether it serves, and whether it asks.
pub const ALL: [(&str, Signer, bool, bool); 9] = [
    (STORE, Signer::Store, true, true),
    (STORE_CLIENT, Signer::Store, false, true),
    (API_SERVER, Signer::Cluster, true, false),
    (API_SERVER_AGENTS, Signer::Cluster, false, true),
    (FRONT_PROXY, Signer::FrontProxy, false, true),
    (CONTROLLER_MANAGER, Signer::Cluster, false, true),
    (SCHEDULER, Signer::Cluster, false, true),
    (MANIFESTS, Signer::Cluster, false, true),
    (ADMIN, Signer::Cluster, false, true),
];

/// What a certificate has to say that follows another one.
#[must_use]
pub fn successor(name: &'static str, signer: Signer, serves: bool, asks: bool, before: &Facts) -> Leaf {
    let subject = Subject {
        common_name: before.common_name.clone(),
        organizations: before.organizations.clone(),
        names: before.names.iter().cloned().collect(),
        addresses: before.addresses.iter().copied().collect(),
        serves,
        asks,
    };
    Leaf { name, signer, subject }
}

/// All certificates of a master.
#[must_use]
pub fn leaves(master: &Master) -> Vec<Leaf> {
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    let asks = |name: &'static str, signer, common_name: &str, organizations: &[&str]| Leaf {
        name,
        signer,
        subject: Subject {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|it| (*it).to_owned()).collect(),
            asks: true,
            ..Subject::default()
        },
    };
    vec![
        Leaf {
            name: STORE,
            signer: Signer::Store,
            subject: Subject {
                common_name: master.name.clone(),
                names: vec!["localhost".to_owned()],
                addresses: unique(std::iter::once(master.address).chain(loopback)),
                serves: true,
                asks: true,
                ..Subject::default()
            },
        },
        asks(STORE_CLIENT, Signer::Store, &format!("master:{}", master.name), &[]),
        Leaf { name: API_SERVER, signer: Signer::Cluster, subject: api_server(master, loopback) },
        asks(API_SERVER_AGENTS, Signer::Cluster, API_SERVER_USER, &[]),
        asks(FRONT_PROXY, Signer::FrontProxy, "front-proxy-client", &[]),
        asks(CONTROLLER_MANAGER, Signer::Cluster, "system:kube-controller-manager", &[]),
        asks(SCHEDULER, Signer::Cluster, "system:kube-scheduler", &[]),
        asks(MANIFESTS, Signer::Cluster, MANIFESTS_USER, &[]),
        asks(ADMIN, Signer::Cluster, "barque:admin", &["system:masters"]),
    ]
}

fn api_server(master: &Master, loopback: [IpAddr; 2]) -> Subject {
    let mut names = vec!["localhost".to_owned()];
    let service = format!("kubernetes.default.svc.{}", master.cluster_domain);
    let known = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", &service, &master.name];
    let mut addresses = vec![master.address, master.service_address];
    addresses.extend(loopback);
    for name in known.into_iter().chain(master.other_names.iter().map(String::as_str)) {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) if names.iter().any(|it| it == name) => {}
            Err(_) => names.push(name.to_owned()),
        }
    }
    Subject {
        common_name: "kube-apiserver".to_owned(),
        names,
        addresses: unique(addresses),
        serves: true,
        ..Subject::default()
    }
}

/// What the API server is called that has one of these certificates, and services are that are in these networks: nobody else may
/// be.
#[must_use]
pub fn server_names(leaves: &[Leaf], service_networks: &str) -> String {
    let server = leaves.iter().find(|leaf| leaf.name == API_SERVER).map(|leaf| leaf.subject.clone());
    let Subject { names, addresses, .. } = server.unwrap_or_default();
    Reserved::entry(&names, &addresses, service_networks)
}

fn unique(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    addresses.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// What a certificate says, as far as it decides whether it is still right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its common name.
    pub common_name: String,
    /// Its organizations.
    pub organizations: Vec<String>,
    /// The names under which it serves.
    pub names: BTreeSet<String>,
    /// The addresses under which it serves.
    pub addresses: BTreeSet<IpAddr>,
    /// Who signed it, DER.
    pub issuer: Vec<u8>,
    /// For whom it is, DER.
    pub subject: Vec<u8>,
    /// Since when it is good.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
}

/// Reads a certificate, PEM.
///
/// # Errors
/// When it is none.
pub fn facts(pem: &str) -> Result<Facts, AuthorityError> {
    let der = der(pem)?;
    let (_, read) = x509_parser::parse_x509_certificate(&der)
        .map_err(|error| AuthorityError::Unusable(error.to_string()))?;
    let text = |it: &x509_parser::x509::AttributeTypeAndValue<'_>| it.as_str().unwrap_or_default().to_owned();
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for extension in read.extensions() {
        let ParsedExtension::SubjectAlternativeName(all) = extension.parsed_extension() else { continue };
        for name in &all.general_names {
            match name {
                GeneralName::DNSName(name) => drop(names.insert((*name).to_owned())),
                GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
                _ => {}
            }
        }
    }
    let time = |at: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default());
    Ok(Facts {
        common_name: read.subject().iter_common_name().map(text).collect(),
        organizations: read.subject().iter_organization().map(text).collect(),
        names,
        addresses,
        issuer: read.issuer().as_raw().to_vec(),
        subject: read.subject().as_raw().to_vec(),
        from: time(read.validity().not_before.timestamp()),
        until: time(read.validity().not_after.timestamp()),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// When two thirds of a certificate's life are over.
#[must_use]
pub fn renewal(facts: &Facts) -> SystemTime {
    let life = facts.until.duration_since(facts.from).unwrap_or_default();
    facts.from + life * 2 / 3
}

/// Why a certificate has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is none.
    Missing,
    /// Another authority signed it.
    OtherSigner,
    /// It is for somebody else, or does not name all names.
    OtherSubject,
    /// Two thirds of its life are over.
    Old,
    /// What follows it, by which who trusts another authority trusts it too, is not what should.
    OtherChain,
}

/// Whether a certificate has to be made anew, and why; `issuer` is the subject of who should have signed it, DER.
#[must_use]
pub fn due(subject: &Subject, is: Option<&Facts>, issuer: &[u8], now: SystemTime) -> Option<Due> {
    let Some(is) = is else { return Some(Due::Missing) };
    if is.issuer != issuer {
        return Some(Due::OtherSigner);
    }
    let same = is.common_name == subject.common_name
        && is.organizations == subject.organizations
        && subject.names.iter().all(|name| is.names.contains(name))
        && subject.addresses.iter().all(|address| is.addresses.contains(address));
    if !same {
        return Some(Due::OtherSubject);
    }
    (renewal(is) <= now || is.from > now).then_some(Due::Old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, LEAF_LIFE};

    fn master() -> Master {
        Master {
            name: "m1".to_owned(),
            address: "10.0.0.1".parse().unwrap(),
            service_address: "10.96.0.1".parse().unwrap(),
            cluster_domain: "cluster.local".to_owned(),
            other_names: vec!["api.example.com".to_owned(), "192.0.2.7".to_owned()],
        }
    }

    #[test]
    fn an_api_server_is_known_by_every_name_that_clients_use() {
        let all = leaves(&master());
        let api = &all.iter().find(|leaf| leaf.name == API_SERVER).unwrap().subject;
        for name in ["localhost", "kubernetes.default.svc.cluster.local", "m1", "api.example.com"] {
            assert!(api.names.iter().any(|it| it == name), "{name}");
        }
        for address in ["127.0.0.1", "::1", "10.0.0.1", "10.96.0.1", "192.0.2.7"] {
            assert!(api.addresses.contains(&address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn the_table_of_names_is_that_of_what_is_made() {
        let made: Vec<_> = leaves(&master())
            .iter()
            .map(|it| (it.name, it.signer, it.subject.serves, it.subject.asks))
            .collect();
        assert_eq!(made, ALL);
    }

    #[test]
    fn a_certificate_is_made_anew_when_it_is_not_what_it_should_be() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (own, other) = (Authority::create("a", now).unwrap(), Authority::create("b", now).unwrap());
        let issuer = facts(&own.pair().certificate).unwrap().subject;
        let all = leaves(&master());
        for leaf in &all {
            assert_eq!(due(&leaf.subject, None, &issuer, now), Some(Due::Missing));
            let good = facts(&own.issue(&leaf.subject, now).unwrap().certificate).unwrap();
            assert_eq!(due(&leaf.subject, Some(&good), &issuer, now), None, "{}", leaf.name);
            assert_eq!(due(&leaf.subject, Some(&good), &issuer, now + LEAF_LIFE * 7 / 10), Some(Due::Old));
            let stranger = facts(&other.issue(&leaf.subject, now).unwrap().certificate).unwrap();
            assert_eq!(due(&leaf.subject, Some(&stranger), &issuer, now), Some(Due::OtherSigner));
        }
        let mut moved = master();
        moved.address = "10.0.0.9".parse().unwrap();
        let before = facts(&own.issue(&all[0].subject, now).unwrap().certificate).unwrap();
        assert_eq!(due(&leaves(&moved)[0].subject, Some(&before), &issuer, now), Some(Due::OtherSubject));
    }

    #[test]
    fn an_api_server_keeps_its_names_to_itself() {
        let told = server_names(&leaves(&master()), "10.96.0.0/16");
        for word in [
            "10.0.0.1",
            "127.0.0.1",
            "192.0.2.7",
            "api.example.com",
            "m1",
            "kubernetes.default.svc",
            "10.96.0.0/16",
        ] {
            assert!(told.split(',').any(|it| it == word), "{word}: {told}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(facts("nothing").is_err());
    }
}
