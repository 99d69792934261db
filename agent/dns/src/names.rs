//! What the cluster has that has a name: services, their endpoints, and namespaces. A data structure: must never hold more
//! of an object than answers need.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::dns::DnsError;
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The label with the name of the service that an endpoint slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What is the same for all names of the cluster.
#[derive(Debug, Clone)]
pub struct Zone {
    /// The cluster's domain, such as `cluster.local.`
    pub domain: Name,
    /// How long answers may be remembered, in seconds.
    pub ttl: u32,
    /// The addresses of the cluster's DNS service.
    pub servers: Vec<IpAddr>,
}

impl Zone {
    /// Of a domain such as `cluster.local.`
    ///
    /// # Errors
    ///
    /// It is no name.
    pub fn new(domain: &str, ttl: u32, servers: Vec<IpAddr>) -> Result<Self, DnsError> {
        let domain = Name::from_ascii(domain).map_err(|_| DnsError::Domain(domain.to_owned()))?;
        Ok(Self { domain, ttl, servers })
    }
}

/// The names of a cluster.
#[derive(Debug)]
pub struct Names {
    pub(crate) zone: Zone,
    services: HashMap<Key, ServiceNames>,
    slices: HashMap<Key, Slice>,
    /// The slices of each service.
    of_service: HashMap<Key, BTreeSet<Key>>,
    namespaces: HashSet<String>,
    /// Who has a cluster address.
    by_address: HashMap<IpAddr, BTreeSet<Key>>,
    /// Which slices have an endpoint with this address.
    by_endpoint: HashMap<IpAddr, BTreeSet<Key>>,
    listed: Listed,
    /// Grows with each change; the zone's serial number.
    serial: u32,
}

/// Which kinds were seen completely once.
#[derive(Debug, Default, Clone, Copy)]
struct Listed {
    services: bool,
    slices: bool,
    namespaces: bool,
}

/// A namespace and a name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A service, as far as names go.
#[derive(Debug, PartialEq)]
pub(crate) struct ServiceNames {
    pub(crate) kind: Kind,
    pub(crate) ports: Vec<Port>,
    pub(crate) publish_not_ready: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// With addresses of its own.
    Addresses(Vec<IpAddr>),
    /// Its endpoints are its addresses.
    Headless,
    /// Another name.
    External(Name),
    /// With a target that is not a name.
    Nothing,
}

/// A port with a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// In lower case.
    pub(crate) protocol: String,
    pub(crate) number: u16,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Slice {
    service: String,
    pub(crate) ports: Vec<Port>,
    pub(crate) endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) hostname: Option<String>,
    pub(crate) ready: bool,
}

impl Endpoint {
    /// The endpoint's label: its hostname, or else its address.
    pub(crate) fn label(&self, address: IpAddr) -> String {
        self.hostname.clone().unwrap_or_else(|| address.to_string().replace(['.', ':'], "-"))
    }
}

impl Names {
    /// Those of a cluster that nobody has told anything of yet.
    #[must_use]
    pub fn new(zone: Zone) -> Self {
        Self {
            zone,
            services: HashMap::new(),
            slices: HashMap::new(),
            of_service: HashMap::new(),
            namespaces: HashSet::new(),
            by_address: HashMap::new(),
            by_endpoint: HashMap::new(),
            listed: Listed::default(),
            serial: 1,
        }
    }

    /// Whether all kinds were seen completely once; before that, that a name is missing means nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.listed.services && self.listed.slices && self.listed.namespaces
    }

    /// The zone's serial number.
    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    pub(crate) fn service(&self, key: &Key) -> Option<&ServiceNames> {
        self.services.get(key)
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// The slices of a service, in the order of their names.
    pub(crate) fn slices(&self, service: &Key) -> impl Iterator<Item = &Slice> {
        self.of_service.get(service).into_iter().flatten().filter_map(|key| self.slices.get(key))
    }

    /// The services with this cluster address.
    pub(crate) fn with_address(&self, address: IpAddr) -> impl Iterator<Item = &Key> {
        self.by_address.get(&address).into_iter().flatten()
    }

    /// The endpoints with this address, with their services.
    pub(crate) fn with_endpoint(&self, address: IpAddr) -> impl Iterator<Item = (Key, &Endpoint)> {
        let slices = self.by_endpoint.get(&address).into_iter().flatten();
        slices.filter_map(|key| Some((key, self.slices.get(key)?))).flat_map(move |(key, slice)| {
            let service = Key { namespace: key.namespace.clone(), name: slice.service.clone() };
            let here = slice.endpoints.iter().filter(move |endpoint| endpoint.addresses.contains(&address));
            here.map(move |endpoint| (service.clone(), endpoint))
        })
    }

    /// A service is there, or is different now.
    pub fn apply_service(&mut self, service: &Service) {
        let Some((key, new)) = read_service(service) else { return };
        if self.services.get(&key) == Some(&new) {
            return;
        }
        self.forget_service(&key);
        if let Kind::Addresses(addresses) = &new.kind {
            for address in addresses {
                self.by_address.entry(*address).or_default().insert(key.clone());
            }
        }
        self.services.insert(key, new);
        self.changed();
    }

    /// A service is gone.
    pub fn delete_service(&mut self, namespace: &str, name: &str) {
        self.forget_service(&key(namespace, name));
        self.changed();
    }

    fn forget_service(&mut self, key: &Key) {
        if let Some(ServiceNames { kind: Kind::Addresses(addresses), .. }) = self.services.remove(key) {
            for address in addresses {
                remove(&mut self.by_address, &address, key);
            }
        }
    }

    /// An endpoint slice is there, or is different now.
    pub fn apply_slice(&mut self, slice: &EndpointSlice) {
        let Some((key, new)) = read_slice(slice) else { return };
        if new.as_ref() == self.slices.get(&key) {
            return;
        }
        self.forget_slice(&key);
        if let Some(new) = new {
            let service = Key { namespace: key.namespace.clone(), name: new.service.clone() };
            self.of_service.entry(service).or_default().insert(key.clone());
            for address in new.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                self.by_endpoint.entry(*address).or_default().insert(key.clone());
            }
            self.slices.insert(key, new);
        }
        self.changed();
    }

    /// An endpoint slice is gone.
    pub fn delete_slice(&mut self, namespace: &str, name: &str) {
        self.forget_slice(&key(namespace, name));
        self.changed();
    }

    fn forget_slice(&mut self, key: &Key) {
        let Some(old) = self.slices.remove(key) else { return };
        let service = Key { namespace: key.namespace.clone(), name: old.service };
        remove(&mut self.of_service, &service, key);
        for address in old.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            remove(&mut self.by_endpoint, address, key);
        }
    }

    /// A namespace is there.
    pub fn apply_namespace(&mut self, namespace: &Namespace) {
        if let Some(name) = namespace.metadata.name.clone()
            && self.namespaces.insert(name)
        {
            self.changed();
        }
    }

    /// A namespace is gone.
    pub fn delete_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
        self.changed();
    }

    /// These are all services.
    pub fn replace_services(&mut self, services: &[Service]) {
        let listed: HashSet<Key> =
            services.iter().filter_map(|service| Some(read_service(service)?.0)).collect();
        let gone: Vec<Key> = self.services.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.delete_service(&key.namespace, &key.name);
        }
        for service in services {
            self.apply_service(service);
        }
        self.listed.services = true;
    }

    /// These are all endpoint slices.
    pub fn replace_slices(&mut self, slices: &[EndpointSlice]) {
        let listed: HashSet<Key> = slices.iter().filter_map(|slice| Some(read_slice(slice)?.0)).collect();
        let gone: Vec<Key> = self.slices.keys().filter(|key| !listed.contains(key)).cloned().collect();
        for key in gone {
            self.delete_slice(&key.namespace, &key.name);
        }
        for slice in slices {
            self.apply_slice(slice);
        }
        self.listed.slices = true;
    }

    /// These are all namespaces.
    pub fn replace_namespaces(&mut self, namespaces: &[Namespace]) {
        self.namespaces = namespaces.iter().filter_map(|namespace| namespace.metadata.name.clone()).collect();
        self.listed.namespaces = true;
        self.changed();
    }

    fn changed(&mut self) {
        self.serial = self.serial.wrapping_add(1);
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn remove<K: Eq + std::hash::Hash>(index: &mut HashMap<K, BTreeSet<Key>>, at: &K, key: &Key) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

fn read_service(service: &Service) -> Option<(Key, ServiceNames)> {
    let metadata = &service.metadata;
    let key = key(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
    let spec = service.spec.as_ref()?;
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref().filter(|target| target.parse::<IpAddr>().is_err());
        match target.and_then(absolute) {
            Some(target) => Kind::External(target),
            None => Kind::Nothing,
        }
    } else if spec.cluster_ip.as_deref() == Some("None") {
        Kind::Headless
    } else {
        let mut texts: Vec<&String> = spec.cluster_ips.iter().flatten().collect();
        if texts.is_empty() {
            texts.extend(&spec.cluster_ip);
        }
        Kind::Addresses(texts.into_iter().filter_map(|text| text.parse().ok()).collect())
    };
    let ports = spec
        .ports
        .iter()
        .flatten()
        .filter_map(|port| named(port.name.as_deref(), port.protocol.as_deref(), Some(port.port)));
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
    Some((key, ServiceNames { kind, ports: ports.collect(), publish_not_ready }))
}

/// None as the slice if it has nothing that has a name.
fn read_slice(slice: &EndpointSlice) -> Option<(Key, Option<Slice>)> {
    let metadata = &slice.metadata;
    let key = key(metadata.namespace.as_deref()?, metadata.name.as_deref()?);
    let Some(service) = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
        return Some((key, None));
    };
    let ports = slice.ports.iter().flatten();
    let ports = ports.filter_map(|port| named(port.name.as_deref(), port.protocol.as_deref(), port.port));
    let endpoints = slice.endpoints.iter().flatten().map(|endpoint| Endpoint {
        addresses: endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        hostname: endpoint.hostname.as_ref().map(|hostname| hostname.to_lowercase()),
        // Nobody having said is as good as yes.
        ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
    });
    Some((
        key,
        Some(Slice { service: service.clone(), ports: ports.collect(), endpoints: endpoints.collect() }),
    ))
}

fn named(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.filter(|name| !name.is_empty())?.to_owned(),
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
        number: u16::try_from(number?).ok()?,
    })
}

/// A name that does not depend on where it is asked.
fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok().filter(|name| !name.is_root())?;
    name.set_fqdn(true);
    Some(name)
}

/// The endpoints of a headless service: each address once, with its label and the ports of its slice.
pub(crate) fn endpoints<'a>(
    names: &'a Names,
    key: &Key,
    service: &ServiceNames,
) -> BTreeMap<(String, IpAddr), Vec<&'a [Port]>> {
    let mut found: BTreeMap<(String, IpAddr), Vec<&[Port]>> = BTreeMap::new();
    for slice in names.slices(key) {
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready || service.publish_not_ready)
        {
            for address in &endpoint.addresses {
                found.entry((endpoint.label(*address), *address)).or_default().push(&slice.ports);
            }
        }
    }
    found
}
