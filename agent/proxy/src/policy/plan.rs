//! The chains and sets of policies. Must never let a packet pass that no policy allows.
//!
//! A policy has a chain for each direction, with the packets it accepts, and a set of peers for each of its rules, which
//! changes by element. A pod of this node that a policy speaks of has a chain that goes through its policies and drops the
//! rest. Traffic between a pod and its own node never comes here: it is not forwarded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{Direction, Peer, Policy, Ports, RuleOf};
use crate::base;
use crate::names::name;
use crate::nft::rule::{End, SetRef};
use crate::nft::{
    Block, Chain, Family, Keys, Name, Rule, Set, Targets, Value, Verdict, address_key, socket_key,
};
use crate::pods::{Labels, Pod};
use crate::shadow::Fragment;

/// The pods and namespaces that policies select from.
#[derive(Debug, Default)]
pub struct Cluster {
    /// By `namespace/name`.
    pub pods: BTreeMap<Arc<str>, Pod>,
    /// Labels by name.
    pub namespaces: BTreeMap<Arc<str>, Labels>,
    /// The node whose pods are guarded here.
    pub node: Arc<str>,
}

impl Cluster {
    /// Whether a pod is on this node.
    #[must_use]
    pub fn is_here(&self, pod: &Pod) -> bool {
        pod.node.as_deref() == Some(&*self.node)
    }

    /// The labels of a pod's namespace.
    pub(crate) fn labels_of(&self, pod: &Pod) -> Option<&Labels> {
        self.namespaces.get(&pod.namespace)
    }
}

fn chain_of(policy: &str, direction: Direction) -> Name {
    name(&format!("policy-{}", direction.word()), policy)
}

const fn other_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::Source,
        Direction::Egress => End::Destination,
    }
}

/// What a policy allows; nothing if it selects no pod of this node.
#[must_use]
pub fn plan_policy(policy: &Policy, cluster: &Cluster, family: Family) -> Fragment {
    let mut fragment = Fragment::default();
    if !cluster.pods.values().any(|pod| cluster.is_here(pod) && policy.selects(pod)) {
        return fragment;
    }
    for direction in Direction::ALL {
        let Some(allowed) = policy.rules(direction) else { continue };
        let mut rules = Vec::new();
        for (index, rule) in allowed.iter().enumerate() {
            let mut planner = Planner { policy, cluster, family, direction, index, fragment: &mut fragment };
            rules.extend(planner.rules(rule));
        }
        let chain = Chain { base: None, comment: None, rules };
        fragment.chains.insert(chain_of(&policy.name, direction), Arc::new(chain));
    }
    fragment
}

struct Planner<'a> {
    policy: &'a Policy,
    cluster: &'a Cluster,
    family: Family,
    direction: Direction,
    index: usize,
    fragment: &'a mut Fragment,
}

impl Planner<'_> {
    fn rules(&mut self, rule: &RuleOf) -> Vec<Rule> {
        let mut rules = Vec::new();
        for peers in self.peers(rule) {
            match &rule.ports {
                None => rules.push(peers),
                Some(all) => {
                    for (index, ports) in all.iter().enumerate() {
                        rules.push(self.at(peers.clone(), rule, index, ports));
                    }
                }
            }
        }
        rules.into_iter().map(|rule| rule.verdict(Verdict::Accept)).collect()
    }

    fn set_name(&self, kind: &str) -> Name {
        name(&format!("{kind}-{}-{}", self.direction.word(), self.index), &self.policy.name)
    }

    fn set(&mut self, name: &Name, keys: Keys) {
        self.fragment
            .sets
            .insert(name.clone(), Set { keys, targets: Targets::None, timeout: None, comment: None });
    }

    fn element(&mut self, set: &Name, key: Vec<u8>, pod: &Pod) {
        let value = Value { comment: Some(pod.name.to_string()), ..Value::default() };
        self.fragment.elements.insert((set.clone(), key), value);
    }

    fn own(&self, pod: &Pod) -> Option<IpAddr> {
        pod.addresses.iter().copied().find(|address| Family::of(*address) == self.family)
    }

    /// One beginning of a rule for each kind of peer.
    fn peers(&mut self, rule: &RuleOf) -> Vec<Rule> {
        let end = other_end(self.direction);
        let Some(peers) = &rule.peers else { return vec![Rule::new(self.family)] };
        let mut rules = Vec::new();
        if peers.iter().any(|peer| matches!(peer, Peer::Pods(_))) {
            let set = self.set_name("peers");
            self.set(&set, Keys::Addresses);
            let cluster = self.cluster;
            for pod in cluster.pods.values() {
                let meant = peers.iter().any(|peer| self.selects(peer, pod));
                if let Some(address) = self.own(pod).filter(|_| meant) {
                    self.element(&set, address_key(address), pod);
                }
            }
            rules.push(Rule::new(self.family).address_in(end, SetRef::Named(set), true));
        }
        for peer in peers {
            let Peer::Block(block) = peer else { continue };
            if block.block.family() != self.family {
                continue;
            }
            let mut rule = Rule::new(self.family);
            if !block.block.is_everything() {
                rule = rule.block(end, &block.block, true);
            }
            for except in block.except.iter().filter(|except| except.family() == self.family) {
                rule = rule.block(end, except, false);
            }
            rules.push(rule);
        }
        rules
    }

    fn selects(&self, peer: &Peer, pod: &Pod) -> bool {
        let labels = self.cluster.labels_of(pod);
        labels.is_some_and(|labels| peer.selects(&self.policy.namespace, pod, labels))
    }

    fn at(&mut self, rule: Rule, of: &RuleOf, index: usize, ports: &Ports) -> Rule {
        match ports {
            Ports::Numbered { protocol, range } => {
                let rule = rule.protocol(protocol.number());
                range.map_or_else(|| rule.clone(), |range| rule.clone().ports(range.first, range.last))
            }
            Ports::Named { protocol, name } => {
                let set = self.set_name(&format!("ports-{index}"));
                self.set(&set, Keys::Sockets);
                let cluster = self.cluster;
                for pod in cluster.pods.values() {
                    let Some(address) = self.own(pod).filter(|_| self.receives(of, pod)) else { continue };
                    for port in
                        pod.ports.iter().filter(|port| port.name == *name && port.protocol == *protocol)
                    {
                        self.element(&set, socket_key(address, protocol.number(), port.port), pod);
                    }
                }
                rule.socket_in(End::Destination, &set)
            }
        }
    }

    /// Whether a pod is one whose ports a rule names: the selected ones for what comes in, the peers for what goes out.
    fn receives(&self, rule: &RuleOf, pod: &Pod) -> bool {
        if self.direction == Direction::Ingress {
            return self.policy.selects(pod);
        }
        let Some(peers) = &rule.peers else { return true };
        peers.iter().any(|peer| match peer {
            Peer::Pods(_) => self.selects(peer, pod),
            Peer::Block(block) => self.own(pod).is_some_and(|address| {
                block.block.contains(address)
                    && !block.except.iter().any(|except: &Block| except.contains(address))
            }),
        })
    }
}

/// What policies say of a pod of this node.
#[must_use]
pub fn plan_pod<'a>(
    pod: &Pod,
    policies: impl Iterator<Item = &'a Policy> + Clone,
    family: Family,
) -> Fragment {
    let mut fragment = Fragment::default();
    let Some(address) = pod.addresses.iter().copied().find(|address| Family::of(*address) == family) else {
        return fragment;
    };
    for direction in Direction::ALL {
        let of = policies.clone().filter(|policy| policy.rules(direction).is_some() && policy.selects(pod));
        let mut rules: Vec<_> =
            of.map(|policy| Rule::new(family).jump(&chain_of(&policy.name, direction))).collect();
        if rules.is_empty() {
            continue;
        }
        let itself = Rule::new(family).address(other_end(direction), address).verdict(Verdict::Accept);
        rules.insert(0, itself.comment("a pod may always reach itself"));
        rules.push(Rule::new(family).drop());
        let chain = name(&format!("pod-{}", direction.word()), &pod.name);
        fragment.chains.insert(chain.clone(), Arc::new(Chain { base: None, comment: None, rules }));
        let map = match direction {
            Direction::Ingress => base::POLICY_INGRESS,
            Direction::Egress => base::POLICY_EGRESS,
        };
        let value = Value {
            verdict: Some(Verdict::Goto(chain)),
            comment: Some(pod.name.to_string()),
            ..Value::default()
        };
        fragment.elements.insert((map.into(), address_key(address)), value);
    }
    fragment
}
