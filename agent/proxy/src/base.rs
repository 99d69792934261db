//! What the tables have without any object: the hooks, the maps that services and pods put their elements into, and what
//! happens to marked packets. Must never depend on a service.
//!
//! The layout is kube-proxy's, so that who knows one can read the other: destinations are looked up in verdict maps whose size
//! a packet does not feel. Two things differ. The check for endpoints of packets from this machine comes behind the
//! translation, so that a node reaches a service whose policy for outside clients is Local although it has none of the
//! endpoints; and packets to services that the machine answers itself are not tracked at all.

use std::net::IpAddr;
use std::sync::Arc;

use crate::nft::rule::{ESTABLISHED, End, NEW, RELATED, Refusal, SetRef};
use crate::nft::{
    BaseChain, Block, Chain, Family, Hook, Keys, Name, Rule, Set, Targets, Value, Verdict, address_key,
    socket_key,
};
use crate::settings::{NodeFacts, NodePortAddresses, Settings};
use crate::shadow::Fragment;

pub(crate) const SERVICE_IPS: &str = "service-ips";
pub(crate) const SERVICE_NODE_PORTS: &str = "service-nodeports";
pub(crate) const NO_ENDPOINT_SERVICES: &str = "no-endpoint-services";
pub(crate) const NO_ENDPOINT_NODE_PORTS: &str = "no-endpoint-nodeports";
pub(crate) const FIREWALL_IPS: &str = "firewall-ips";
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
pub(crate) const SERVICE_ENDPOINTS: &str = "service-endpoints";
pub(crate) const NODE_PORT_ENDPOINTS: &str = "nodeport-endpoints";
pub(crate) const HAIRPINS: &str = "hairpins";
pub(crate) const HOST_PORTS: &str = "host-ports";
pub(crate) const HOST_IP_PORTS: &str = "host-ip-ports";
pub(crate) const POLICY_EGRESS: &str = "policy-egress";
pub(crate) const POLICY_INGRESS: &str = "policy-ingress";
pub(crate) const MARK: &str = "mark-for-masquerade";
pub(crate) const REJECT: &str = "reject-chain";
const NODE_PORT_IPS: &str = "nodeport-ips";
const LOCAL_ADDRESSES: &str = "local-addresses";
const SERVICES: &str = "services";
const ENDPOINTS_CHECK: &str = "service-endpoints-check";
const NODE_PORTS_CHECK: &str = "nodeport-endpoints-check";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const FIREWALL_CHECK: &str = "firewall-check";
const MASQUERADING: &str = "masquerading";

/// Priorities of hooks, as the kernel numbers them.
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// The fragment of a family.
#[must_use]
pub fn plan(settings: &Settings, node: &NodeFacts, family: Family) -> Fragment {
    let mut base = Base { fragment: Fragment::default(), family };
    base.maps(settings);
    base.services(settings, node);
    base.checks(settings);
    base.masquerading(settings, node);
    base.local_addresses(settings);
    if settings.policies {
        base.policies();
    }
    base.fragment
}

struct Base {
    fragment: Fragment,
    family: Family,
}

impl Base {
    const fn rule(&self) -> Rule {
        Rule::new(self.family)
    }

    fn map(&mut self, name: &str, keys: Keys, comment: &str) {
        self.set_of(name, keys, Targets::Verdicts, comment);
    }

    fn set(&mut self, name: &str, keys: Keys, comment: &str) {
        self.set_of(name, keys, Targets::None, comment);
    }

    fn set_of(&mut self, name: &str, keys: Keys, targets: Targets, comment: &str) {
        let set = Set { keys, targets, timeout: None, comment: Some(comment.to_owned()) };
        self.fragment.sets.insert(name.into(), set);
    }

    fn element(&mut self, set: &str, key: Vec<u8>) {
        self.fragment.elements.insert((set.into(), key), Value::default());
    }

    fn chain(&mut self, name: &str, rules: Vec<Rule>) {
        self.fragment.chains.insert(name.into(), Arc::new(Chain { base: None, comment: None, rules }));
    }

    fn hook(&mut self, name: &str, nat: bool, hook: Hook, priority: i32, rules: Vec<Rule>) {
        let base = Some(BaseChain { nat, hook, priority });
        self.fragment.chains.insert(name.into(), Arc::new(Chain { base, comment: None, rules }));
    }

    fn maps(&mut self, settings: &Settings) {
        self.map(SERVICE_IPS, Keys::Sockets, "where the addresses of services lead");
        self.map(SERVICE_NODE_PORTS, Keys::Ports, "where the node ports of services lead");
        self.set_of(
            SERVICE_ENDPOINTS,
            Keys::NumberedSockets,
            Targets::Sockets,
            "who is behind addresses of services, numbered for drawing",
        );
        self.set_of(
            NODE_PORT_ENDPOINTS,
            Keys::NumberedPorts,
            Targets::Sockets,
            "who is behind node ports of services, numbered for drawing",
        );
        self.set(HAIRPINS, Keys::Pairs, "pods that may be behind a service of which they are clients");
        self.map(NO_ENDPOINT_SERVICES, Keys::Sockets, "addresses of services that nobody is behind");
        self.map(NO_ENDPOINT_NODE_PORTS, Keys::Ports, "node ports of services that nobody is behind");
        self.map(FIREWALL_IPS, Keys::Sockets, "addresses of load balancers that not everybody may use");
        self.set(CLUSTER_IPS, Keys::Addresses, "cluster addresses of services");
        self.map(HOST_PORTS, Keys::Ports, "ports of this node that are pods'");
        self.map(HOST_IP_PORTS, Keys::Sockets, "ports of one address of this node that are pods'");
        if settings.node_port_addresses == NodePortAddresses::Primary {
            self.set(NODE_PORT_IPS, Keys::Addresses, "addresses of this node that have node ports");
        }
    }

    /// Only packets to the addresses that have node ports.
    fn to_node_ports(&self, settings: &Settings) -> Rule {
        match settings.node_port_addresses {
            NodePortAddresses::Primary => {
                self.rule().address_in(End::Destination, SetRef::Named(NODE_PORT_IPS.into()), true)
            }
            NodePortAddresses::All => self.to_this_machine(),
        }
    }

    fn to_this_machine(&self) -> Rule {
        let rule = self.rule().local(End::Destination);
        match loopback(self.family) {
            Some(loopback) => rule.block(End::Destination, &loopback, false),
            None => rule,
        }
    }

    fn services(&mut self, settings: &Settings, node: &NodeFacts) {
        let family = self.family;
        if settings.node_port_addresses == NodePortAddresses::Primary {
            for address in
                node.addresses.iter().filter(|one| Family::of(**one) == family && !one.is_loopback())
            {
                self.element(NODE_PORT_IPS, address_key(*address));
            }
        }
        let rules = vec![
            self.rule().socket_map(&SERVICE_IPS.into()),
            self.to_node_ports(settings).port_map(&SERVICE_NODE_PORTS.into()),
            self.rule().socket_map(&HOST_IP_PORTS.into()),
            self.to_this_machine().port_map(&HOST_PORTS.into()),
        ];
        self.chain(SERVICES, rules);
        let to_services = vec![self.rule().jump(SERVICES)];
        self.hook("nat-prerouting", true, Hook::Prerouting, DESTINATION_NAT, to_services.clone());
        self.hook("nat-output", true, Hook::Output, DESTINATION_NAT, to_services);
    }

    fn checks(&mut self, settings: &Settings) {
        let family = self.family;
        self.chain(ENDPOINTS_CHECK, vec![self.rule().socket_map(&NO_ENDPOINT_SERVICES.into())]);
        self.chain(
            NODE_PORTS_CHECK,
            vec![self.to_node_ports(settings).port_map(&NO_ENDPOINT_NODE_PORTS.into())],
        );
        self.chain(FIREWALL_CHECK, vec![self.rule().socket_map(&FIREWALL_IPS.into())]);
        let tcp = crate::services::Protocol::Tcp.number();
        self.chain(
            REJECT,
            vec![
                self.rule().protocol(tcp).reject(Refusal::TcpReset),
                self.rule().reject(Refusal::PortUnreachable(family)),
            ],
        );
        let known = self.rule().address_in(End::Destination, SetRef::Named(CLUSTER_IPS.into()), true);
        let mut unknown = vec![known.goto(REJECT).comment("a port that the service has not")];
        for block in settings.service_cidrs.iter().filter(|block| block.family() == family) {
            unknown.push(
                self.rule()
                    .block(End::Destination, block, true)
                    .drop()
                    .comment("an address that no service has"),
            );
        }
        self.chain(CLUSTER_IPS_CHECK, unknown);

        let new = |chain: &str| Rule::new(family).state(NEW).jump(chain);
        let early = DESTINATION_NAT - 10;
        self.hook("filter-prerouting", false, Hook::Prerouting, early, vec![new(FIREWALL_CHECK)]);
        let input = vec![new(NODE_PORTS_CHECK), new(ENDPOINTS_CHECK)];
        self.hook("filter-input", false, Hook::Input, early, input);
        let through = vec![new(ENDPOINTS_CHECK), new(CLUSTER_IPS_CHECK)];
        self.hook("filter-forward", false, Hook::Forward, early, through.clone());
        self.hook("filter-output", false, Hook::Output, early, vec![new(FIREWALL_CHECK)]);
        self.hook("filter-output-post-dnat", false, Hook::Output, DESTINATION_NAT + 10, through);
    }

    fn masquerading(&mut self, settings: &Settings, node: &NodeFacts) {
        let family = self.family;
        let mark = settings.mark();
        self.chain(MARK, vec![self.rule().mark(mark)]);
        self.chain(
            MASQUERADING,
            vec![
                self.rule().unmarked(mark).verdict(Verdict::Return),
                self.rule().toggle_mark(mark),
                self.rule().masquerade(),
            ],
        );
        let mut rules = vec![
            self.rule().jump(MASQUERADING),
            self.rule().pair_in(&HAIRPINS.into()).masquerade().comment("to itself"),
        ];
        let of = |blocks: &[Block]| {
            blocks.iter().filter(|block| block.family() == family).copied().collect::<Vec<_>>()
        };
        let (pods, cluster) = (of(&node.pod_cidrs), of(&settings.cluster_cidrs));
        // Without knowing all pods it is not known what is outside.
        if settings.masquerade_outside.contains(&family) && !cluster.is_empty() {
            for block in &pods {
                let mut rule = self.rule().block(End::Source, block, true);
                for inside in cluster.iter().chain(multicast(family).as_ref()) {
                    rule = rule.block(End::Destination, inside, false);
                }
                rules.push(rule.masquerade().comment("pods to the outside"));
            }
        }
        self.hook("nat-postrouting", true, Hook::Postrouting, SOURCE_NAT, rules);
    }

    fn local_addresses(&mut self, settings: &Settings) {
        let family = self.family;
        let ours: Vec<_> =
            settings.local_addresses.iter().filter(|(address, ..)| Family::of(*address) == family).collect();
        if ours.is_empty() {
            return;
        }
        self.set(LOCAL_ADDRESSES, Keys::Sockets, "services that this machine answers itself");
        for (address, port, protocol) in ours {
            self.element(LOCAL_ADDRESSES, socket_key(*address, protocol.number(), *port));
        }
        let name: Name = LOCAL_ADDRESSES.into();
        let to = self.rule().socket_in(End::Destination, &name).notrack();
        let from = self.rule().socket_in(End::Source, &name).notrack();
        self.hook("raw-prerouting", false, Hook::Prerouting, RAW, vec![to.clone()]);
        self.hook("raw-output", false, Hook::Output, RAW, vec![to, from]);
    }

    /// Accepting ends only the chain of its direction, so each has one.
    fn policies(&mut self) {
        self.map(POLICY_EGRESS, Keys::Addresses, "pods of this node whose packets not everybody gets");
        self.map(POLICY_INGRESS, Keys::Addresses, "pods of this node that not everybody may reach");
        let known = self.rule().state(ESTABLISHED | RELATED).verdict(Verdict::Accept);
        let out = self.rule().address_map(End::Source, &POLICY_EGRESS.into());
        self.hook("policy-forward-egress", false, Hook::Forward, FILTER, vec![known.clone(), out]);
        let into = self.rule().address_map(End::Destination, &POLICY_INGRESS.into());
        self.hook("policy-forward-ingress", false, Hook::Forward, FILTER + 1, vec![known, into]);
    }
}

fn loopback(family: Family) -> Option<Block> {
    match family {
        Family::V4 => Block::new(IpAddr::from([127, 0, 0, 0]), 8),
        Family::V6 => Block::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]), 128),
    }
}

fn multicast(family: Family) -> Option<Block> {
    match family {
        Family::V4 => Block::new(IpAddr::from([224, 0, 0, 0]), 4),
        Family::V6 => Block::new(IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0_u16]), 8),
    }
}
