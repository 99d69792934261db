//! The chains and map elements of one service. Must never look at another service.
//!
//! Most services have no chains of their own. Their endpoints are numbered elements of a map, and all services with as many
//! endpoints share the chains that draw a number: thousands of services are thousands of elements, and when an endpoint is
//! replaced only elements are, which the kernel takes without looking through its rules again. Where clients stay with an
//! endpoint, or where it matters whether they come from outside, a service has chains, and each of its endpoints has one, as
//! in kube-proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoints::{Addresses, Chosen, choose};
use super::model::{Protocol, Service, ServicePort, Slices, TrafficPolicy};
use crate::base;
use crate::names::{name, of_socket};
use crate::nft::rule::{End, SetRef};
use crate::nft::{
    Block, Chain, Family, Keys, Name, Rule, Set, Targets, Value, Verdict, address_key, numbered, pair_key,
    port_key, socket_key,
};
use crate::settings::{NodeFacts, Settings};
use crate::shadow::Fragment;

/// Where packets of a protocol without connections may have been sent, and who may answer them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dispatch {
    /// UDP or SCTP.
    pub protocol: Protocol,
    /// Addresses and ports that belong to it alone.
    pub addresses: BTreeSet<(IpAddr, u16)>,
    /// Its port at the node's addresses.
    pub node_port: Option<u16>,
    /// Who may answer.
    pub endpoints: BTreeSet<(IpAddr, u16)>,
}

/// What load balancers are told at a port of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `namespace/name` of the service.
    pub service: Arc<str>,
    /// Where they ask.
    pub port: u16,
    /// How many endpoints of this node are ready.
    pub local_endpoints: usize,
}

/// What a service asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// For the table of each family it has addresses of.
    pub fragments: BTreeMap<Family, Fragment>,
    /// For connection tracking.
    pub dispatches: Vec<Dispatch>,
    /// For load balancers.
    pub health: Option<Health>,
    /// Whether a policy Local leaves somebody without an endpoint although there are some elsewhere: insiders, outsiders.
    pub without_local: [bool; 2],
}

/// What a service with these slices asks for on a node.
#[must_use]
pub fn plan(service: &Service, slices: &Slices, settings: &Settings, node: &NodeFacts) -> Planned {
    let mut planned = Planned::default();
    let mut ready = BTreeSet::new();
    for family in Family::ALL {
        let Some(cluster_ip) = service.cluster_ips.iter().find(|one| Family::of(**one) == family) else {
            continue;
        };
        let mut fragment = Fragment::default();
        for port in &service.ports {
            let chosen = choose(service, port, family, slices.values(), node);
            ready.insert(chosen.ready_here);
            for (without, policy) in
                planned.without_local.iter_mut().zip([service.internal, service.external])
            {
                *without |= policy == TrafficPolicy::Local && chosen.any && chosen.local.is_empty();
            }
            let planner =
                Planner { service, port, family, cluster_ip: *cluster_ip, settings, fragment: &mut fragment };
            planned.dispatches.extend(planner.plan(&chosen));
        }
        planned.fragments.insert(family, fragment);
    }
    planned.health = service.health_port.map(|port| Health {
        service: service.name.clone(),
        port,
        local_endpoints: ready.last().copied().unwrap_or(0),
    });
    planned
}

/// The name of a chain that all services with as many endpoints share.
fn shared_name(kind: &str, endpoints: usize) -> Name {
    format!("{kind}-{endpoints}").into()
}

struct Planner<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    family: Family,
    cluster_ip: IpAddr,
    settings: &'a Settings,
    fragment: &'a mut Fragment,
}

impl Planner<'_> {
    fn plan(mut self, chosen: &Chosen) -> Option<Dispatch> {
        let (service, port) = (self.service, self.port);
        let external: Vec<IpAddr> = self.own(&service.external_ips);
        let balanced: Vec<IpAddr> = self.own(&service.load_balancer_ips);
        let outside: Vec<IpAddr> = external.iter().chain(&balanced).copied().collect();
        let has_outside = !outside.is_empty() || port.node_port.is_some();
        let local_outside = service.external == TrafficPolicy::Local;
        let here = self.settings.local_addresses.contains(&(self.cluster_ip, port.port, port.protocol));

        let internal_local = service.internal == TrafficPolicy::Local;
        let mut used: BTreeSet<(IpAddr, u16)> = BTreeSet::new();
        let shared = service.affinity.is_none() && !(local_outside && has_outside);
        let (to_cluster, to_local, to_outside, to_node_port);
        if shared {
            let inside = if internal_local { &chosen.local } else { &chosen.cluster };
            to_cluster = shared_name("cluster-ip-of", inside.len());
            to_local = to_cluster.clone();
            to_outside = shared_name("external-ip-of", chosen.cluster.len());
            to_node_port = shared_name("node-port-of", chosen.cluster.len());
            if !here && !inside.is_empty() {
                used.extend(inside);
                self.numbered_sockets(self.cluster_ip, inside);
                self.cluster_ip_chain(&to_cluster, inside.len());
            }
            if has_outside && chosen.any {
                used.extend(&chosen.cluster);
                for address in &outside {
                    self.numbered_sockets(*address, &chosen.cluster);
                    self.external_ip_chain(&to_outside, chosen.cluster.len());
                }
                if let Some(node_port) = port.node_port {
                    self.numbered_ports(node_port, &chosen.cluster);
                    self.node_port_chain(&to_node_port, chosen.cluster.len());
                }
            }
            self.hairpins(&used, &chosen.here);
        } else {
            (to_cluster, to_local) = (self.name("service"), self.name("local"));
            to_outside = self.name("external");
            to_node_port = to_outside.clone();
            used = self.own_chains(chosen, has_outside, [&to_cluster, &to_local, &to_outside]);
        }

        // Nobody at all is refused at once; only somebody elsewhere is silence, as others may answer.
        let nobody = if chosen.any { Verdict::Drop } else { Verdict::Goto(base::REJECT.into()) };
        let cluster_ip = [self.cluster_ip];
        let internal = match (here, internal_local, chosen.any, chosen.local.is_empty()) {
            (true, ..) => None,
            (_, false, true, _) => Some((base::SERVICE_IPS, Verdict::Goto(to_cluster))),
            (_, true, _, false) => Some((base::SERVICE_IPS, Verdict::Goto(to_local))),
            _ => Some((base::NO_ENDPOINT_SERVICES, nobody.clone())),
        };
        if let Some((map, verdict)) = internal {
            self.sockets(map, &cluster_ip, &verdict);
        }
        if !service.is_answered_here(self.cluster_ip, self.settings) {
            let value = Value { comment: Some(service.name.to_string()), ..Value::default() };
            self.fragment.elements.insert((base::CLUSTER_IPS.into(), address_key(self.cluster_ip)), value);
        }
        if chosen.any {
            self.sockets(base::SERVICE_IPS, &outside, &Verdict::Goto(to_outside));
            self.node_port(base::SERVICE_NODE_PORTS, &Verdict::Goto(to_node_port));
        }
        if !chosen.any || (local_outside && chosen.local.is_empty()) {
            self.sockets(base::NO_ENDPOINT_SERVICES, &outside, &nobody);
            self.node_port(base::NO_ENDPOINT_NODE_PORTS, &nobody);
        }
        self.firewall(&balanced);

        (port.protocol != Protocol::Tcp).then(|| Dispatch {
            protocol: port.protocol,
            addresses: outside
                .into_iter()
                .chain((!here).then_some(self.cluster_ip))
                .map(|one| (one, port.port))
                .collect(),
            node_port: port.node_port,
            endpoints: used,
        })
    }

    /// Chains of the service alone, and of each endpoint that they use.
    fn own_chains(
        &mut self,
        chosen: &Chosen,
        has_outside: bool,
        names: [&Name; 3],
    ) -> BTreeSet<(IpAddr, u16)> {
        let [to_cluster, to_local, to_outside] = names;
        let internal_local = self.service.internal == TrafficPolicy::Local;
        let local_outside = self.service.external == TrafficPolicy::Local;
        let mut used = BTreeSet::new();
        if chosen.any && (!internal_local || has_outside) {
            used.extend(&chosen.cluster);
            self.policy_chain(to_cluster, &chosen.cluster, !internal_local);
        }
        if !chosen.local.is_empty() && (internal_local || (local_outside && has_outside)) {
            used.extend(&chosen.local);
            self.policy_chain(to_local, &chosen.local, internal_local);
        }
        for endpoint in &used {
            self.endpoint_chain(*endpoint);
        }
        if chosen.any && has_outside {
            self.external_chain(to_outside, to_cluster, (!chosen.local.is_empty()).then_some(to_local));
        }
        used
    }

    /// Who is behind an address and port, with a number for each.
    fn numbered_sockets(&mut self, address: IpAddr, endpoints: &Addresses) {
        let key = socket_key(address, self.port.protocol.number(), self.port.port);
        self.number(base::SERVICE_ENDPOINTS, &key, endpoints);
    }

    fn numbered_ports(&mut self, port: u16, endpoints: &Addresses) {
        let key = port_key(self.port.protocol.number(), port);
        self.number(base::NODE_PORT_ENDPOINTS, &key, endpoints);
    }

    fn number(&mut self, map: &str, key: &[u8], endpoints: &Addresses) {
        let map: Name = map.into();
        for (number, endpoint) in (0_u32..).zip(endpoints) {
            let value = Value { socket: Some(*endpoint), ..Value::default() };
            self.fragment.elements.insert((map.clone(), numbered(key.to_vec(), number)), value);
        }
    }

    fn cluster_ip_chain(&mut self, name: &Name, endpoints: usize) {
        let mut rules = Vec::new();
        rules.extend(self.masquerade_internal(self.rule()));
        rules.push(self.drawn(endpoints));
        self.chain(name.clone(), rules);
    }

    fn external_ip_chain(&mut self, name: &Name, endpoints: usize) {
        let rules = vec![self.rule().jump(base::MARK), self.drawn(endpoints)];
        self.chain(name.clone(), rules);
    }

    fn node_port_chain(&mut self, name: &Name, endpoints: usize) {
        let choices = u32::try_from(endpoints).unwrap_or(u32::MAX);
        let drawn = self.rule().dnat_drawn_by_port(&base::NODE_PORT_ENDPOINTS.into(), choices);
        let rules = vec![self.rule().jump(base::MARK), drawn];
        self.chain(name.clone(), rules);
    }

    fn drawn(&self, endpoints: usize) -> Rule {
        let choices = u32::try_from(endpoints).unwrap_or(u32::MAX);
        self.rule().dnat_drawn(&base::SERVICE_ENDPOINTS.into(), choices)
    }

    /// What a pod sends to itself through the service gets the node's address, so that the answer comes back this way.
    fn hairpins(&mut self, endpoints: &BTreeSet<(IpAddr, u16)>, here: &BTreeSet<IpAddr>) {
        for (address, _) in endpoints.iter().filter(|(address, _)| here.contains(address)) {
            self.fragment.elements.insert((base::HAIRPINS.into(), pair_key(*address)), Value::default());
        }
    }

    fn own(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().copied().filter(|one| Family::of(*one) == self.family).collect()
    }

    /// `namespace/name/protocol/port`, as kube-proxy names its chains.
    fn path(&self) -> String {
        format!("{}/{}/{}", self.service.name, self.port.protocol.word(), self.port_word())
    }

    fn port_word(&self) -> String {
        if self.port.name.is_empty() { self.port.port.to_string() } else { self.port.name.clone() }
    }

    fn name(&self, kind: &str) -> Name {
        name(kind, &self.path())
    }

    fn comment(&self) -> Option<String> {
        Some(format!("{}:{}", self.service.name, self.port_word()))
    }

    fn chain(&mut self, name: Name, rules: Vec<Rule>) {
        self.fragment.chains.insert(name, Arc::new(Chain { base: None, comment: None, rules }));
    }

    const fn rule(&self) -> Rule {
        Rule::new(self.family)
    }

    fn sockets(&mut self, map: &str, addresses: &[IpAddr], verdict: &Verdict) {
        for address in addresses {
            let key = socket_key(*address, self.port.protocol.number(), self.port.port);
            let value = Value { verdict: Some(verdict.clone()), comment: self.comment(), ..Value::default() };
            self.fragment.elements.insert((map.into(), key), value);
        }
    }

    fn node_port(&mut self, map: &str, verdict: &Verdict) {
        if let Some(port) = self.port.node_port {
            let value = Value { verdict: Some(verdict.clone()), comment: self.comment(), ..Value::default() };
            self.fragment.elements.insert((map.into(), port_key(self.port.protocol.number(), port)), value);
        }
    }

    /// Spreads over endpoints; clients that have one keep it.
    fn policy_chain(&mut self, chain: &Name, endpoints: &Addresses, internal: bool) {
        let mut rules = Vec::new();
        if internal {
            let to = self.rule().address(End::Destination, self.cluster_ip);
            rules.extend(self.masquerade_internal(to));
        }
        if self.service.affinity.is_some() {
            for endpoint in endpoints {
                let known = SetRef::Named(self.affinity_set(*endpoint));
                rules.push(
                    self.rule()
                        .address_in(End::Source, known, true)
                        .verdict(Verdict::Goto(self.endpoint_name(*endpoint))),
                );
            }
        }
        let verdicts =
            endpoints.iter().map(|endpoint| Verdict::Goto(self.endpoint_name(*endpoint))).collect();
        rules.push(self.rule().draw(verdicts));
        self.chain(chain.clone(), rules);
    }

    /// What comes from outside of the cluster to a cluster address must come back this way.
    fn masquerade_internal(&self, to: Rule) -> Option<Rule> {
        if self.settings.masquerade_all {
            return Some(to.jump(base::MARK));
        }
        let mut inside = self.cluster_blocks().peekable();
        inside.peek()?;
        Some(inside.fold(to, |rule, block| rule.block(End::Source, block, false)).jump(base::MARK))
    }

    fn cluster_blocks(&self) -> impl Iterator<Item = &Block> {
        self.settings.cluster_cidrs.iter().filter(|block| block.family() == self.family)
    }

    fn external_chain(&mut self, chain: &Name, to_cluster: &Name, to_local: Option<&Name>) {
        let cluster = Verdict::Goto(to_cluster.clone());
        let mut rules = Vec::new();
        if self.service.external == TrafficPolicy::Cluster {
            rules.push(self.rule().jump(base::MARK));
            rules.push(self.rule().verdict(cluster));
        } else {
            for block in self.cluster_blocks() {
                let rule = self.rule().block(End::Source, block, true).verdict(cluster.clone());
                rules.push(rule.comment("pods may go anywhere"));
            }
            rules.push(self.rule().local(End::Source).jump(base::MARK));
            rules.push(self.rule().local(End::Source).verdict(cluster).comment("this node may go anywhere"));
            if let Some(local) = to_local {
                rules.push(self.rule().verdict(Verdict::Goto(local.clone())));
            }
        }
        self.chain(chain.clone(), rules);
    }

    fn endpoint_name(&self, (address, port): (IpAddr, u16)) -> Name {
        of_socket("endpoint", &self.path(), address, port)
    }

    /// The timeout is part of the name: a set keeps the one it was made with.
    fn affinity_set(&self, (address, port): (IpAddr, u16)) -> Name {
        let seconds = self.service.affinity.map_or(0, |affinity| affinity.0.as_secs());
        of_socket(&format!("affinity-{seconds}"), &self.path(), address, port)
    }

    fn endpoint_chain(&mut self, endpoint: (IpAddr, u16)) {
        let (address, port) = endpoint;
        let mut rules = vec![self.rule().address(End::Source, address).jump(base::MARK).comment("to itself")];
        if let Some(affinity) = self.service.affinity {
            let set = self.affinity_set(endpoint);
            rules.push(self.rule().remember_source(&set));
            let timeout = Some(affinity.0);
            let set_of = Set { keys: Keys::Addresses, targets: Targets::None, timeout, comment: None };
            self.fragment.sets.insert(set, set_of);
        }
        rules.push(self.rule().dnat(self.port.protocol.number(), address, port));
        self.chain(self.endpoint_name(endpoint), rules);
    }

    fn firewall(&mut self, balanced: &[IpAddr]) {
        let ranges = &self.service.source_ranges;
        let own: Vec<_> = ranges.iter().filter(|block| block.family() == self.family).collect();
        if balanced.is_empty() || ranges.is_empty() || own.iter().any(|block| block.is_everything()) {
            return;
        }
        let rule = own.iter().fold(self.rule(), |rule, block| rule.block(End::Source, block, false));
        let chain = self.name("firewall");
        self.chain(chain.clone(), vec![rule.drop()]);
        self.sockets(base::FIREWALL_IPS, balanced, &Verdict::Goto(chain));
    }
}

impl Service {
    /// Whether this machine has the address itself.
    fn is_answered_here(&self, address: IpAddr, settings: &Settings) -> bool {
        settings.local_addresses.iter().any(|(ours, ..)| *ours == address)
    }
}
