//! Which terms mean which pods, and how many of those are where. Terms and identities are matched once, when they are
//! first seen; placing a pod then only adds to a few counts. Must never decide.

use std::collections::HashMap;

use super::columns::{Columns, NodeId};
use super::counters::{Carried, Carry, Counted, Counter, Matcher, NodeFilter, Registry};
use super::pool::{Pool, Shared};
use super::topology::{EACH_NODE, KeyId, Topology};
use super::{Placed, Pod};
use crate::label_set::LabelSet;
use crate::node::NodeSpec;
use crate::pod::{AffinityTerm, Identity, PlacementTerms, PodTerm, SpreadConstraint};

/// What an identity matches.
#[derive(Debug, Default)]
struct Met {
    /// Counters that count it.
    counters: Vec<usize>,
    /// Terms carried by pods that mean it.
    carried: Vec<usize>,
}

/// The counters that a pending pod's terms read, in the order of the terms.
#[derive(Debug, Default)]
pub(crate) struct TermCounters {
    /// Pods that all affinity terms mean, in the places of each term.
    pub(crate) affinity: Vec<usize>,
    pub(crate) anti_affinity: Vec<usize>,
    /// With weights.
    pub(crate) preferred: Vec<(i64, usize)>,
    pub(crate) hard_spread: Vec<usize>,
    /// By domain; for each node by itself where the label is the host's name.
    pub(crate) soft_spread: Vec<usize>,
    /// The labels of the soft constraints, in their order.
    pub(crate) soft_keys: Vec<KeyId>,
}

impl TermCounters {
    fn all(&self) -> impl Iterator<Item = usize> {
        let preferred = self.preferred.iter().map(|(_, counter)| counter);
        let lists = self.affinity.iter().chain(&self.anti_affinity).chain(preferred);
        lists.chain(&self.hard_spread).chain(&self.soft_spread).copied()
    }
}

/// What terms mean for the counts.
#[derive(Debug, Default)]
struct Known {
    /// What a placed pod adds.
    carried: Vec<(i64, usize)>,
    /// What is read; only of terms that a pending pod has.
    counters: Option<TermCounters>,
}

type CarriedKey = (AffinityTerm, Carry);

/// The counts.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) topology: Topology,
    counters: Registry<Counted, Counter>,
    carried: Registry<CarriedKey, Carried>,
    met: Vec<Met>,
    known: Vec<Known>,
    namespaces: HashMap<Box<str>, LabelSet>,
    nodes: usize,
}

impl Census {
    pub(super) fn new() -> Self {
        Self {
            topology: Topology::new(),
            counters: Registry::new(),
            carried: Registry::new(),
            met: Vec::new(),
            known: Vec::new(),
            namespaces: HashMap::new(),
            nodes: 0,
        }
    }

    // Read by plugins.

    pub(crate) fn counter(&self, at: usize) -> &Counter {
        self.counters.get(at)
    }

    /// The counters of a pending pod.
    pub(crate) fn counters_of(&self, terms: &Shared<PlacementTerms>) -> Option<&TermCounters> {
        self.known.get(terms.slot())?.counters.as_ref()
    }

    /// Terms of placed pods that mean a pod, of one kind; with their numbers.
    pub(crate) fn meaning(
        &self,
        identity: &Shared<Identity>,
        carry: Carry,
    ) -> impl Iterator<Item = (usize, &Carried)> {
        let met = self.met.get(identity.slot()).into_iter();
        let carried = met.flat_map(|met| met.carried.iter()).map(|&at| (at, self.carried.get(at)));
        carried.filter(move |(_, carried)| carried.carry == carry)
    }

    /// Whether a pod counts in a counter.
    pub(crate) fn counts(&self, counter: usize, pod: &Pod) -> bool {
        let counted = self.met.get(pod.identity.slot()).is_some_and(|met| met.counters.contains(&counter));
        counted && !(pod.terminating && self.counters.get(counter).counted.matcher.living)
    }

    /// How much a placed pod adds to a carried term.
    pub(crate) fn carries(&self, carried: usize, pod: &Pod) -> i64 {
        let known = self.known.get(pod.terms.slot()).into_iter().flat_map(|known| &known.carried);
        known.filter(|(_, at)| *at == carried).map(|(amount, _)| amount).sum()
    }

    // Nodes.

    pub(super) fn grow(&mut self, nodes: usize) {
        self.nodes = self.nodes.max(nodes);
        self.topology.grow(self.nodes);
    }

    pub(super) fn enter(&mut self, node: NodeId, spec: &NodeSpec) {
        self.grow(node.at() + 1);
        self.topology.enter(node.at(), &spec.labels);
        let topology = &self.topology;
        for counter in self.counters.iter_mut() {
            counter.grow(self.nodes, topology.places(counter.key));
            counter.eligible[node.at()] = counter.counted.filter.lets(spec);
            if let Some(place) = counter.place(topology.column(counter.key), node.at()) {
                counter.nodes[place] += 1;
            }
        }
        for carried in self.carried.iter_mut() {
            carried.amounts.resize(topology.places(carried.key).max(carried.amounts.len()), 0);
        }
    }

    pub(super) fn leave(&mut self, node: NodeId) {
        self.grow(node.at() + 1);
        for counter in self.counters.iter_mut() {
            counter.grow(self.nodes, 0);
            if let Some(place) = counter.place(self.topology.column(counter.key), node.at()) {
                counter.nodes[place] -= 1;
            }
            counter.eligible[node.at()] = false;
        }
        self.topology.leave(node.at());
    }

    // Pods.

    /// Adds a pod on a node that is there, or takes it out.
    pub(super) fn count(&mut self, pod: &Pod, node: NodeId, sign: i64) {
        let Self { topology, counters, carried, met, known, .. } = self;
        if let Some(met) = met.get(pod.identity.slot()) {
            for &at in &met.counters {
                let counter = counters.get_mut(at);
                if pod.terminating && counter.counted.matcher.living {
                    continue;
                }
                if let Some(place) = counter.place(topology.column(counter.key), node.at()) {
                    counter.pods[place] += sign;
                }
            }
        }
        for (amount, at) in known.get(pod.terms.slot()).into_iter().flat_map(|known| &known.carried) {
            let carried = carried.get_mut(*at);
            let place = topology.column(carried.key)[node.at()];
            if place != super::NOWHERE {
                carried.amounts[place as usize] += sign * amount;
            }
            carried.carriers = carried.carriers.wrapping_add_signed(sign as i32);
        }
    }

    // Identities and terms.

    /// An identity that is new.
    pub(super) fn meet(&mut self, identity: &Shared<Identity>) {
        let slot = identity.slot();
        if self.met.len() <= slot {
            self.met.resize_with(slot + 1, Met::default);
        }
        let namespace = self.namespaces.get(&identity.namespace);
        let counters = self
            .counters
            .iter()
            .filter(|(_, counter)| matches(&counter.counted.matcher, identity, namespace));
        let carried =
            self.carried.iter().filter(|(_, carried)| carried.term.pods.matches(identity, namespace));
        self.met[slot] = Met {
            counters: counters.map(|(at, _)| at).collect(),
            carried: carried.map(|(at, _)| at).collect(),
        };
    }

    pub(super) fn forget_identity(&mut self, slot: usize) {
        self.met[slot] = Met::default();
    }

    /// Terms that are new: what pods carry of them.
    pub(super) fn learn(
        &mut self,
        terms: &Shared<PlacementTerms>,
        columns: &Columns,
        identities: &Pool<Identity>,
    ) {
        let mut carried = Vec::new();
        if terms.is_carried() {
            for term in &terms.anti_affinity {
                carried.push((1, self.carry(term, Carry::AntiAffinity, columns, identities)));
            }
            for term in &terms.affinity {
                carried.push((1, self.carry(term, Carry::Affinity, columns, identities)));
            }
            for wish in &terms.preferred {
                carried.push((wish.weight, self.carry(&wish.term, Carry::Preference, columns, identities)));
            }
        }
        if self.known.len() <= terms.slot() {
            self.known.resize_with(terms.slot() + 1, Known::default);
        }
        self.known[terms.slot()] = Known { carried, counters: None };
    }

    fn carry(
        &mut self,
        term: &AffinityTerm,
        carry: Carry,
        columns: &Columns,
        identities: &Pool<Identity>,
    ) -> usize {
        let key = (term.clone(), carry);
        if let Some(at) = self.carried.acquire(&key) {
            return at;
        }
        let labels = columns.present().map(|(node, spec)| (node.at(), &spec.labels));
        let topology_key = self.topology.acquire(&term.topology_key, labels);
        let amounts = vec![0; self.topology.places(topology_key)];
        let at = self
            .carried
            .insert(key, Carried { term: term.clone(), carry, key: topology_key, amounts, carriers: 0 });
        for identity in identities.iter() {
            let namespace = self.namespaces.get(&identity.namespace);
            if term.pods.matches(identity, namespace)
                && let Some(met) = self.met.get_mut(identity.slot())
            {
                met.carried.push(at);
            }
        }
        at
    }

    /// Terms that a pending pod has: what they ask is counted from here on.
    pub(super) fn want(
        &mut self,
        terms: &Shared<PlacementTerms>,
        columns: &Columns,
        pods: &[Option<Placed>],
        identities: &Pool<Identity>,
    ) {
        let slot = terms.slot();
        if terms.is_empty() || self.known[slot].counters.is_some() {
            return;
        }
        self.grow(columns.len());
        let one = |term: &PodTerm| Matcher { terms: [term.clone()].into(), living: false };
        let all = Matcher { terms: terms.affinity.iter().map(|it| it.pods.clone()).collect(), living: false };
        let near =
            |matcher, key: &str| Counted { matcher, topology_key: key.into(), filter: NodeFilter::default() };
        let mut wanted = TermCounters::default();
        for term in &terms.affinity {
            wanted.affinity.push(self.counting(
                near(all.clone(), &term.topology_key),
                columns,
                pods,
                identities,
            ));
        }
        for term in &terms.anti_affinity {
            wanted.anti_affinity.push(self.counting(
                near(one(&term.pods), &term.topology_key),
                columns,
                pods,
                identities,
            ));
        }
        for wish in &terms.preferred {
            let counted = near(one(&wish.term.pods), &wish.term.topology_key);
            wanted.preferred.push((wish.weight, self.counting(counted, columns, pods, identities)));
        }
        for constraint in &terms.hard_spread {
            let keys = keys_of(&terms.hard_spread);
            let counted = spread(terms, constraint, keys, &constraint.topology_key);
            wanted.hard_spread.push(self.counting(counted, columns, pods, identities));
        }
        for constraint in &terms.soft_spread {
            let counted = if &*constraint.topology_key == crate::pod::HOSTNAME {
                Counted { filter: NodeFilter::default(), ..spread(terms, constraint, Box::default(), "") }
            } else {
                let needed = terms.soft_spread_needs_all_keys.then(|| keys_of(&terms.soft_spread));
                spread(terms, constraint, needed.unwrap_or_default(), &constraint.topology_key)
            };
            wanted.soft_spread.push(self.counting(counted, columns, pods, identities));
            let labels = columns.present().map(|(node, spec)| (node.at(), &spec.labels));
            wanted.soft_keys.push(self.topology.acquire(&constraint.topology_key, labels));
        }
        self.known[slot].counters = Some(wanted);
    }

    /// The counter of something, which may have to be counted first.
    fn counting(
        &mut self,
        counted: Counted,
        columns: &Columns,
        pods: &[Option<Placed>],
        identities: &Pool<Identity>,
    ) -> usize {
        if let Some(at) = self.counters.acquire(&counted) {
            return at;
        }
        let key = if counted.topology_key.is_empty() {
            EACH_NODE
        } else {
            let labels = columns.present().map(|(node, spec)| (node.at(), &spec.labels));
            self.topology.acquire(&counted.topology_key, labels)
        };
        let mut counter = Counter {
            counted: counted.clone(),
            key,
            eligible: Vec::new(),
            pods: Vec::new(),
            nodes: Vec::new(),
        };
        counter.grow(self.nodes, self.topology.places(key));
        for (node, spec) in columns.present() {
            counter.eligible[node.at()] = counted.filter.lets(spec);
            if let Some(place) = counter.place(self.topology.column(key), node.at()) {
                counter.nodes[place] += 1;
            }
        }
        for identity in identities.iter() {
            let namespace = self.namespaces.get(&identity.namespace);
            if matches(&counted.matcher, identity, namespace)
                && let Some(met) = self.met.get_mut(identity.slot())
            {
                met.counters.push(self.counters.next());
            }
        }
        let at = self.counters.insert(counted, counter);
        self.recount_one(at, columns, pods);
        at
    }

    /// Counts all pods that are known to count.
    fn recount_one(&mut self, at: usize, columns: &Columns, pods: &[Option<Placed>]) {
        let Self { topology, counters, met, .. } = self;
        let counter = counters.get_mut(at);
        counter.pods.fill(0);
        let counts: Vec<bool> = met.iter().map(|met| met.counters.contains(&at)).collect();
        for placed in pods.iter().flatten() {
            if counts[placed.pod.identity.slot()]
                && !(placed.pod.terminating && counter.counted.matcher.living)
                && columns.spec(placed.node).is_some()
                && let Some(place) = counter.place(topology.column(counter.key), placed.node.at())
            {
                counter.pods[place] += 1;
            }
        }
    }

    pub(super) fn forget_terms(&mut self, slot: usize) {
        let Known { carried, counters } = std::mem::take(&mut self.known[slot]);
        for (_, at) in carried {
            if let Some(gone) = self.carried.release(at, |it| (it.term.clone(), it.carry)) {
                self.topology.release(gone.key);
                for met in &mut self.met {
                    met.carried.retain(|other| *other != at);
                }
            }
        }
        for at in counters.iter().flat_map(TermCounters::all) {
            if let Some(gone) = self.counters.release(at, |it| it.counted.clone()) {
                if gone.key != EACH_NODE {
                    self.topology.release(gone.key);
                }
                for met in &mut self.met {
                    met.counters.retain(|other| *other != at);
                }
            }
        }
        for key in counters.into_iter().flat_map(|counters| counters.soft_keys) {
            self.topology.release(key);
        }
    }

    // Namespaces.

    /// Sets the labels of a namespace; tells whether a term could see that.
    pub(super) fn set_namespace(&mut self, name: &str, labels: Option<LabelSet>) -> bool {
        let changed = self.namespaces.get(name) != labels.as_ref();
        match labels {
            Some(labels) => self.namespaces.insert(name.into(), labels),
            None => self.namespaces.remove(name),
        };
        changed
    }

    /// A namespace has other labels: its pods are matched again, and what is counted by them is counted again.
    pub(super) fn recount(
        &mut self,
        namespace: &str,
        columns: &Columns,
        pods: &[Option<Placed>],
        identities: &Pool<Identity>,
    ) {
        for identity in identities.iter().filter(|identity| &*identity.namespace == namespace) {
            self.meet(identity);
        }
        let sees =
            |counter: &Counter| counter.counted.matcher.terms.iter().any(|term| !term.names_its_namespaces());
        let again: Vec<usize> =
            self.counters.iter().filter(|(_, counter)| sees(counter)).map(|(at, _)| at).collect();
        for at in again {
            self.recount_one(at, columns, pods);
        }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> (impl Iterator<Item = &Counter>, impl Iterator<Item = &Carried>) {
        (self.counters.iter().map(|(_, it)| it), self.carried.iter().map(|(_, it)| it))
    }

    /// Whether identities only refer to what is there.
    #[cfg(test)]
    pub(super) fn is_consistent(&self) -> bool {
        let counters: Vec<usize> = self.counters.iter().map(|(at, _)| at).collect();
        let carried: Vec<usize> = self.carried.iter().map(|(at, _)| at).collect();
        self.met.iter().all(|met| {
            met.counters.iter().all(|at| counters.contains(at))
                && met.carried.iter().all(|at| carried.contains(at))
        })
    }
}

fn matches(matcher: &Matcher, identity: &Identity, namespace: Option<&LabelSet>) -> bool {
    matcher.terms.iter().all(|term| term.matches(identity, namespace))
}

fn keys_of(constraints: &[SpreadConstraint]) -> Box<[Box<str>]> {
    let mut keys: Vec<Box<str>> = constraints.iter().map(|one| one.topology_key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into()
}

/// What a constraint counts: living pods of the namespace, on nodes that count for it. A selector that selects all counts
/// none, as upstream.
fn spread(
    terms: &PlacementTerms,
    constraint: &SpreadConstraint,
    keys: Box<[Box<str>]>,
    key: &str,
) -> Counted {
    let selector = if constraint.selector.is_everything() {
        barque_api::labels::Selector::nothing()
    } else {
        constraint.selector.clone()
    };
    let term = PodTerm {
        namespaces: [terms.namespace.clone()].into(),
        namespace_selector: barque_api::labels::Selector::nothing(),
        selector,
    };
    Counted {
        matcher: Matcher { terms: [term].into(), living: true },
        topology_key: key.into(),
        filter: NodeFilter {
            keys,
            nodes: if constraint.honors_affinity { terms.nodes.clone() } else { Default::default() },
            tolerations: constraint.honors_taints.then(|| terms.tolerations.clone()),
        },
    }
}
