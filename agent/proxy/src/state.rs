//! Everything that was observed, and which pieces of the tables have to be planned anew because of it. Must never talk to the
//! kernel or the API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::base;
use crate::conntrack::matters;
use crate::host_ports;
use crate::nft::{Family, Transaction};
use crate::pods::{Labels, Pod};
use crate::policy::{Cluster, Policy, plan_pod, plan_policy};
use crate::services::{Dispatch, Health, Service, Slice, Slices, plan};
use crate::settings::{NodeFacts, Settings};
use crate::shadow::{Fragment, Shadow, Unit};

/// What a node's tables are made of.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    node: NodeFacts,
    services: BTreeMap<Arc<str>, Service>,
    /// By the service's name.
    slices: HashMap<Arc<str>, Slices>,
    /// The service of each slice, by the slice's name.
    slice_owners: HashMap<Arc<str>, Arc<str>>,
    cluster: Cluster,
    policies: BTreeMap<Arc<str>, Policy>,
    dirty: BTreeSet<Unit>,
    shadows: [Shadow; 2],
    dispatches: HashMap<Unit, Vec<Dispatch>>,
    health: BTreeMap<Arc<str>, Health>,
    /// Services whose local policy leaves traffic without endpoints here: for insiders, for outsiders.
    forlorn: [BTreeSet<Arc<str>>; 2],
    flows_matter: bool,
}

impl State {
    /// Nothing observed yet.
    #[must_use]
    pub fn new(settings: Settings, node: NodeFacts) -> Self {
        let cluster = Cluster { node: node.name.clone(), ..Cluster::default() };
        Self {
            settings,
            node,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            slice_owners: HashMap::new(),
            cluster,
            policies: BTreeMap::new(),
            dirty: [Unit::Base].into(),
            shadows: Family::ALL.map(Shadow::new),
            dispatches: HashMap::new(),
            health: BTreeMap::new(),
            forlorn: Default::default(),
            flows_matter: false,
        }
    }

    /// The node is this now.
    pub fn set_node(&mut self, node: NodeFacts) {
        if node == self.node {
            return;
        }
        self.cluster.node = node.name.clone();
        self.node = node;
        self.dirty.insert(Unit::Base);
        self.dirty.extend(self.services.keys().cloned().map(Unit::Service));
    }

    /// The service of this name is this, or nothing for a proxy.
    pub fn set_service(&mut self, name: &Arc<str>, service: Option<Service>) {
        if self.services.get(name) != service.as_ref() {
            put(&mut self.services, name, service);
            self.dirty.insert(Unit::Service(name.clone()));
        }
    }

    /// The slice of this name is this, or nothing for a proxy.
    pub fn set_slice(&mut self, name: &Arc<str>, slice: Option<Slice>) {
        let owner = slice.as_ref().map(|slice| slice.service.clone());
        let old = match &owner {
            Some(owner) => self.slice_owners.insert(name.clone(), owner.clone()),
            None => self.slice_owners.remove(name),
        };
        if let Some(old) = old
            && let Some(slices) = self.slices.get_mut(&old)
        {
            let was = slices.remove(name);
            if slices.is_empty() {
                self.slices.remove(&old);
            }
            if was == slice && was.is_some() {
                // Nothing changed but what no rule reads.
                self.slices.entry(old).or_default().extend(was.map(|was| (name.clone(), was)));
                return;
            }
            self.dirty.insert(Unit::Service(old));
        }
        if let (Some(owner), Some(slice)) = (owner, slice) {
            self.slices.entry(owner.clone()).or_default().insert(name.clone(), slice);
            self.dirty.insert(Unit::Service(owner));
        }
    }

    /// The pod of this name is this, or nothing for rules.
    pub fn set_pod(&mut self, name: &Arc<str>, pod: Option<Pod>) {
        if self.cluster.pods.get(name) == pod.as_ref() {
            return;
        }
        self.touch_policies_of(name);
        let here = |state: &Self| state.cluster.pods.get(name).is_some_and(|pod| state.cluster.is_here(pod));
        let was_here = here(self);
        put(&mut self.cluster.pods, name, pod);
        self.touch_policies_of(name);
        if was_here || here(self) {
            self.dirty.insert(Unit::HostPorts(name.clone()));
            self.dirty.insert(Unit::Pod(name.clone()));
        }
    }

    /// Policies that speak of a pod, or whose peers it is.
    fn touch_policies_of(&mut self, pod: &str) {
        let Some(pod) = self.cluster.pods.get(pod) else { return };
        let none = Labels::new();
        let labels = self.cluster.labels_of(pod).unwrap_or(&none);
        let touched =
            self.policies.values().filter(|policy| policy.selects(pod) || policy.reads(pod, labels));
        self.dirty.extend(touched.map(|policy| Unit::Policy(policy.name.clone())));
    }

    /// The namespace of this name has these labels, or is none.
    pub fn set_namespace(&mut self, name: &Arc<str>, labels: Option<Labels>) {
        if self.cluster.namespaces.get(name) != labels.as_ref() {
            put(&mut self.cluster.namespaces, name, labels);
            self.dirty.extend(self.policies.keys().cloned().map(Unit::Policy));
        }
    }

    /// The policy of this name is this, or is none.
    pub fn set_policy(&mut self, name: &Arc<str>, policy: Option<Policy>) {
        self.touch_pods_of(name);
        put(&mut self.policies, name, policy);
        self.touch_pods_of(name);
        self.dirty.insert(Unit::Policy(name.clone()));
    }

    fn touch_pods_of(&mut self, policy: &str) {
        let Some(policy) = self.policies.get(policy) else { return };
        let pods = self.cluster.pods.values().filter(|pod| self.cluster.is_here(pod) && policy.selects(pod));
        self.dirty.extend(pods.map(|pod| Unit::Pod(pod.name.clone())));
    }

    /// Names of what is known, for finding what a new list leaves out.
    pub(crate) fn service_names(&self) -> Vec<Arc<str>> {
        self.services.keys().cloned().collect()
    }

    pub(crate) fn slice_names(&self) -> Vec<Arc<str>> {
        self.slice_owners.keys().cloned().collect()
    }

    pub(crate) fn pod_names(&self) -> Vec<Arc<str>> {
        self.cluster.pods.keys().cloned().collect()
    }

    pub(crate) fn namespace_names(&self) -> Vec<Arc<str>> {
        self.cluster.namespaces.keys().cloned().collect()
    }

    pub(crate) fn policy_names(&self) -> Vec<Arc<str>> {
        self.policies.keys().cloned().collect()
    }

    /// Whether something was observed that the tables do not say yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The steps that bring the tables from the last transaction to what is observed now.
    pub fn changes(&mut self) -> Transaction {
        self.settle();
        let mut transaction = Transaction::default();
        for shadow in &mut self.shadows {
            shadow.changes(&mut transaction);
        }
        transaction
    }

    /// The steps that make the tables anew, whatever the kernel has.
    pub fn whole(&mut self) -> Transaction {
        self.settle();
        self.flows_matter = true;
        let mut transaction = Transaction::default();
        for shadow in &mut self.shadows {
            shadow.whole(&mut transaction);
        }
        transaction
    }

    /// Whether there are emptied chains to delete.
    #[must_use]
    pub fn has_stale(&self) -> bool {
        self.shadows.iter().any(Shadow::has_stale)
    }

    /// The steps that delete what was emptied; not sooner than a second after the change.
    pub fn sweep(&mut self) -> Transaction {
        let mut transaction = Transaction::default();
        for shadow in &mut self.shadows {
            shadow.sweep(&mut transaction);
        }
        transaction
    }

    /// What load balancers are told, by port.
    pub fn health(&self) -> impl Iterator<Item = &Health> {
        self.health.values()
    }

    /// Services without endpoints here whose policy says Local, for insiders and for outsiders.
    pub(crate) fn forlorn(&self) -> [usize; 2] {
        [self.forlorn[0].len(), self.forlorn[1].len()]
    }

    /// Whether flows have to be looked through; asked once.
    pub(crate) fn take_flows_matter(&mut self) -> bool {
        std::mem::take(&mut self.flows_matter)
    }

    /// Who may answer for which address, and the node's addresses, as [`crate::Owners`] takes them.
    #[must_use]
    pub fn dispatches(&self) -> (Vec<Dispatch>, Vec<std::net::IpAddr>) {
        (self.dispatches.values().flatten().cloned().collect(), self.node.addresses.clone())
    }

    /// Plans what is dirty.
    fn settle(&mut self) {
        for unit in std::mem::take(&mut self.dirty) {
            let mut fragments: BTreeMap<Family, Fragment> = BTreeMap::new();
            match &unit {
                Unit::Base => {
                    let plan = |family| (family, base::plan(&self.settings, &self.node, family));
                    fragments.extend(Family::ALL.map(plan));
                }
                Unit::Service(name) => {
                    let planned = match self.services.get(name) {
                        Some(service) => {
                            let none = Slices::new();
                            let slices = self.slices.get(name).unwrap_or(&none);
                            plan(service, slices, &self.settings, &self.node)
                        }
                        None => Default::default(),
                    };
                    self.note_forlorn(name, planned.without_local);
                    put(&mut self.health, name, planned.health);
                    self.note_dispatches(&unit, planned.dispatches);
                    fragments = planned.fragments;
                }
                Unit::HostPorts(name) => {
                    let pod = self.cluster.pods.get(name).filter(|pod| self.cluster.is_here(pod));
                    let mut dispatches = Vec::new();
                    if let Some(pod) = pod {
                        let plan = |family| {
                            (family, host_ports::plan(name, &pod.addresses, &pod.host_ports, family))
                        };
                        fragments.extend(Family::ALL.map(plan));
                        dispatches = host_ports::dispatches(&pod.addresses, &pod.host_ports);
                    }
                    self.note_dispatches(&unit, dispatches);
                }
                Unit::Policy(name) => {
                    if let Some(policy) = self.policies.get(name) {
                        let plan = |family| (family, plan_policy(policy, &self.cluster, family));
                        fragments.extend(Family::ALL.map(plan));
                    }
                }
                Unit::Pod(name) => {
                    if let Some(pod) = self.cluster.pods.get(name).filter(|pod| self.cluster.is_here(pod)) {
                        let plan = |family| (family, plan_pod(pod, self.policies.values(), family));
                        fragments.extend(Family::ALL.map(plan));
                    }
                }
            }
            for (family, shadow) in Family::ALL.into_iter().zip(&mut self.shadows) {
                shadow.replace(&unit, fragments.remove(&family).unwrap_or_default());
            }
        }
    }

    fn note_dispatches(&mut self, unit: &Unit, new: Vec<Dispatch>) {
        let old = self.dispatches.remove(unit).unwrap_or_default();
        self.flows_matter |= matters(&old, &new);
        if !new.is_empty() {
            self.dispatches.insert(unit.clone(), new);
        }
    }

    fn note_forlorn(&mut self, service: &Arc<str>, without: [bool; 2]) {
        for (forlorn, without) in self.forlorn.iter_mut().zip(without) {
            if without {
                forlorn.insert(service.clone());
            } else {
                forlorn.remove(service);
            }
        }
    }
}

fn put<T>(map: &mut BTreeMap<Arc<str>, T>, name: &Arc<str>, value: Option<T>) {
    match value {
        Some(value) => {
            map.insert(name.clone(), value);
        }
        None => {
            map.remove(name);
        }
    }
}
