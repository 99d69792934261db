//! The cluster as the scheduler decides on it: nodes in columns, pods compiled, counts by place, all changed in place by
//! what happens. Must never read a clock, wait or decide; equal histories of changes give equal snapshots, and a snapshot
//! that was changed equals one that was built afresh.

mod census;
mod columns;
mod counters;
mod pool;
mod storage;
mod topology;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use census::Census;
pub use columns::NodeId;
pub(crate) use columns::{Attachment, CPU, Columns, MEMORY, ResourceId, Taken};
pub(crate) use counters::{Carry, Counter};
use pool::Pool;
pub use pool::Shared;
pub use storage::ClaimPlan;
pub(crate) use storage::Storage;
pub(crate) use topology::{KeyId, NOWHERE};

use crate::label_set::LabelSet;
use crate::node::NodeSpec;
use crate::pod::{Identity, NodeAsk, PlacementTerms, PodName, PodSpec, PodVolumes};
use crate::volume::{ClaimKey, ClaimSpec, ClassSpec, VolumeSpec};

/// A placed pod, by its place in a table; used again after the pod is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PodId(u32);

/// A pod as a snapshot knows it: its parts shared with its equals. Cheap to keep; it is good for the snapshot that made
/// it alone.
#[derive(Debug)]
pub struct Pod {
    /// Which pod of this name; unique over time.
    pub uid: Arc<str>,
    /// Which pod.
    pub name: PodName,
    /// What it asks of a node alone.
    pub ask: Arc<Shared<NodeAsk>>,
    /// What it asks of pods beside it.
    pub terms: Arc<Shared<PlacementTerms>>,
    /// What other pods' terms see of it.
    pub identity: Arc<Shared<Identity>>,
    /// Its volumes.
    pub volumes: PodVolumes,
    /// What must be lifted before it is placed.
    pub gates: Box<[Box<str>]>,
    /// Where room is being made for it.
    pub nominated_node: Option<Box<str>>,
    /// Whether it may evict others.
    pub preempts: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// When it started, or was made, in microseconds since 1970.
    pub started_us: i64,
    pub(crate) taken: Arc<[Taken]>,
}

impl Pod {
    /// Whether nothing that a decision depends on differs.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.ask.id() == other.ask.id()
            && self.terms.id() == other.terms.id()
            && self.identity.id() == other.identity.id()
            && self.volumes.is_empty()
            && other.volumes.is_empty()
    }

    /// Whether a placed pod is the same to all others, so that none of them can be helped by what changed.
    #[must_use]
    pub fn is_seen_as(&self, other: &Self) -> bool {
        self.ask.id() == other.ask.id()
            && self.identity.id() == other.identity.id()
            && self.terms.id() == other.terms.id()
            && self.terminating == other.terminating
    }
}

/// A pod on a node.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) pod: Arc<Pod>,
    pub(crate) node: NodeId,
    /// Decided here, not seen bound yet.
    pub(crate) assumed: bool,
    attached: Vec<Attachment>,
}

/// A node to which something happened.
#[derive(Debug, Default)]
struct Changes {
    nodes: Vec<NodeId>,
    /// How many were forgotten.
    before: u64,
}

/// The cluster.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) columns: Columns,
    pub(crate) census: Census,
    pub(crate) storage: Storage,
    asks: Pool<NodeAsk>,
    identities: Pool<Identity>,
    terms: Pool<PlacementTerms>,
    taken: Vec<Arc<[Taken]>>,
    pods: Vec<Option<Placed>>,
    free_pods: Vec<PodId>,
    by_uid: HashMap<Arc<str>, PodId>,
    /// Pods for which room is being made, by node.
    nominated: HashMap<NodeId, Vec<Arc<Pod>>>,
    nominations: HashMap<Arc<str>, NodeId>,
    changes: Changes,
    /// Grows with every node that comes, goes or is relabelled.
    pub(crate) node_changes: u64,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

impl Snapshot {
    /// An empty cluster.
    #[must_use]
    pub fn new() -> Self {
        Self {
            columns: Columns::new(),
            census: Census::new(),
            storage: Storage::default(),
            asks: Pool::new(),
            identities: Pool::new(),
            terms: Pool::new(),
            taken: Vec::new(),
            pods: Vec::new(),
            free_pods: Vec::new(),
            by_uid: HashMap::new(),
            nominated: HashMap::new(),
            nominations: HashMap::new(),
            changes: Changes::default(),
            node_changes: 0,
        }
    }

    // Nodes.

    /// How many nodes are there.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.columns.present
    }

    /// The node of a name, if it is there.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<NodeId> {
        let node = self.columns.id(name)?;
        self.columns.spec(node).map(|_| node)
    }

    /// The name of a node.
    #[must_use]
    pub fn node_name(&self, node: NodeId) -> &str {
        &self.columns.names[node.at()]
    }

    /// What a node is, if it is there.
    #[must_use]
    pub fn node_spec(&self, node: NodeId) -> Option<&Arc<NodeSpec>> {
        self.columns.spec(node)
    }

    /// A node that is there. What did not change costs nothing.
    pub fn put_node(&mut self, spec: NodeSpec) -> NodeId {
        let node = self.columns.place(&spec.name);
        if self.columns.spec(node).is_some_and(|old| **old == spec) {
            return node;
        }
        self.change_node(node, Some(Arc::new(spec)));
        node
    }

    /// A node that is gone; its pods stay until they are told to be gone.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.columns.id(name) {
            self.change_node(node, None);
            self.columns.give_back(node);
        }
    }

    fn change_node(&mut self, node: NodeId, spec: Option<Arc<NodeSpec>>) {
        let counts = |old: &Arc<NodeSpec>, new: &Arc<NodeSpec>| {
            old.labels == new.labels && old.taints == new.taints && old.name == new.name
        };
        let same = match (self.columns.spec(node), &spec) {
            (Some(old), Some(new)) => counts(old, new),
            _ => false,
        };
        if same {
            self.columns.set_spec(node, spec);
        } else {
            self.node_changes += 1;
            self.count_pods_of(node, -1);
            self.census.leave(node);
            self.columns.set_spec(node, spec);
            if let Some(spec) = self.columns.spec(node) {
                self.census.enter(node, spec);
                let limits = self.storage.limits.get(&spec.name).cloned();
                self.columns.set_limits(node, &limits.unwrap_or_default());
            }
            self.count_pods_of(node, 1);
        }
        self.changed(node);
    }

    /// Counts all pods of a node, or takes them out.
    fn count_pods_of(&mut self, node: NodeId, sign: i64) {
        if self.columns.spec(node).is_some() {
            for id in &self.columns.pods[node.at()] {
                if let Some(placed) = &self.pods[id.0 as usize] {
                    self.census.count(&placed.pod, node, sign);
                }
            }
        }
    }

    /// Something happened to a node.
    fn changed(&mut self, node: NodeId) {
        let kept = 4 * self.columns.len().max(64);
        if self.changes.nodes.len() >= 2 * kept {
            self.changes.nodes.drain(..kept);
            self.changes.before += kept as u64;
        }
        self.changes.nodes.push(node);
    }

    /// Everything that happened to nodes has a number; this is the next one.
    pub(crate) fn change_count(&self) -> u64 {
        self.changes.before + self.changes.nodes.len() as u64
    }

    /// The nodes to which something happened since a number; `None` when that is too long ago to tell.
    pub(crate) fn changed_since(&self, count: u64) -> Option<&[NodeId]> {
        let skip = count.checked_sub(self.changes.before)?;
        self.changes.nodes.get(skip as usize..)
    }

    // Pods.

    /// A pod that is to be placed, known to the snapshot from here on: what its terms ask is counted as long as somebody
    /// keeps the pod. Compiled and registered anew for every attempt, it follows services and controllers that came since.
    pub fn register(&mut self, spec: PodSpec) -> Arc<Pod> {
        let pod = self.share(spec);
        self.census.want(&pod.terms, &self.columns, &self.pods, &self.identities);
        pod
    }

    /// Lets go of what nobody asks any more.
    fn sweep(&mut self) {
        self.asks.sweep();
        for slot in self.identities.sweep() {
            self.census.forget_identity(slot);
        }
        for slot in self.terms.sweep() {
            self.census.forget_terms(slot);
        }
    }

    fn share(&mut self, spec: PodSpec) -> Arc<Pod> {
        if self.asks.wants_sweep() || self.identities.wants_sweep() || self.terms.wants_sweep() {
            self.sweep();
        }
        let (ask, new) = self.asks.share(spec.ask);
        if new {
            let taken = self.columns.taken(&ask.requests);
            if self.taken.len() <= ask.slot() {
                self.taken.resize(ask.slot() + 1, Arc::new([]));
            }
            self.taken[ask.slot()] = taken;
        }
        let (identity, new) = self.identities.share(spec.identity);
        if new {
            self.census.meet(&identity);
        }
        let (terms, new) = self.terms.share(spec.terms);
        if new {
            self.census.learn(&terms, &self.columns, &self.identities);
        }
        let taken = self.taken[ask.slot()].clone();
        Arc::new(Pod {
            uid: spec.uid,
            name: spec.name,
            ask,
            terms,
            identity,
            volumes: spec.volumes,
            gates: spec.gates,
            nominated_node: spec.nominated_node,
            preempts: spec.preempts,
            terminating: spec.terminating,
            started_us: spec.started_us,
            taken,
        })
    }

    /// A pod that runs, or ran, on a node.
    pub fn put_pod(&mut self, spec: PodSpec) {
        let Some(node) = spec.node.clone().filter(|_| !spec.ended) else {
            if spec.ended {
                self.remove_pod(&spec.uid);
            }
            return;
        };
        let mut spec = spec;
        // Pods that are placed are not spread again, and the node's name tells nothing on the node.
        spec.terms.hard_spread = Box::default();
        spec.terms.soft_spread = Box::default();
        spec.terms.soft_spread_needs_all_keys = true;
        spec.terms.nodes = Default::default();
        spec.terms.tolerations = Box::default();
        if spec.terms.is_empty() {
            spec.terms.namespace = Box::default();
        }
        spec.ask.node_name = None;
        let pod = self.share(spec);
        self.unnominate(&pod.uid);
        let known = self.by_uid.get(&pod.uid).copied();
        if let Some(id) = known
            && let Some(placed) = &mut self.pods[id.0 as usize]
            && self.columns.names[placed.node.at()] == node
            && placed.pod.ask.id() == pod.ask.id()
            && placed.pod.identity.id() == pod.identity.id()
            && placed.pod.terminating == pod.terminating
            && placed.pod.volumes == pod.volumes
            && placed.pod.terms.carries_as(&pod.terms)
        {
            // Those of an assumed one are kept with its spreading.
            placed.assumed = false;
            let terms = placed.pod.terms.clone();
            let pod = Arc::into_inner(pod).expect("it was made above and not shared");
            placed.pod = Arc::new(Pod { terms, ..pod });
            return;
        }
        if known.is_some() {
            self.remove_pod(&pod.uid);
        }
        let node = self.columns.place(&node);
        self.place(pod, node, false);
    }

    /// A pod that is gone.
    pub fn remove_pod(&mut self, uid: &str) {
        self.unnominate(uid);
        let Some(id) = self.by_uid.remove(uid) else { return };
        let Some(placed) = self.pods[id.0 as usize].take() else { return };
        self.free_pods.push(id);
        let Placed { pod, node, attached, .. } = placed;
        let at = node.at();
        self.take(&pod, node, -1);
        self.columns.pods[at].retain(|other| *other != id);
        self.columns.detach(node, &attached);
        for claim in &pod.volumes.claims {
            let key = Storage::key(&pod.name, &claim.name);
            if let Some(users) = self.storage.users.get_mut(&key) {
                users.retain(|user| *user != id);
                if users.is_empty() {
                    self.storage.users.remove(&key);
                }
            }
        }
        if self.columns.spec(node).is_some() {
            self.census.count(&pod, node, -1);
        }
        self.changed(node);
        self.columns.give_back(node);
    }

    fn place(&mut self, pod: Arc<Pod>, node: NodeId, assumed: bool) {
        self.census.grow(self.columns.len());
        let id = self.free_pods.pop().unwrap_or_else(|| {
            self.pods.push(None);
            PodId(self.pods.len() as u32 - 1)
        });
        self.by_uid.insert(pod.uid.clone(), id);
        self.columns.pods[node.at()].push(id);
        self.take(&pod, node, 1);
        let attached = self.storage.attachments(&pod.name, &pod.volumes);
        self.columns.attach(node, &attached);
        for claim in &pod.volumes.claims {
            self.storage.users.entry(Storage::key(&pod.name, &claim.name)).or_default().push(id);
        }
        if self.columns.spec(node).is_some() {
            self.census.count(&pod, node, 1);
        }
        self.pods[id.0 as usize] = Some(Placed { pod, node, assumed, attached });
        self.changed(node);
    }

    /// Takes what a pod asks of its node, or gives it back.
    fn take(&mut self, pod: &Pod, node: NodeId, sign: i64) {
        let at = node.at();
        for (resource, amount) in &*pod.taken {
            self.columns.requested[*resource][at] += sign * amount;
        }
        self.columns.scored_cpu_milli[at] += sign * pod.ask.scored_cpu_milli;
        self.columns.scored_memory[at] += sign * pod.ask.scored_memory;
        let ports = &mut self.columns.ports[at];
        for port in &pod.ask.ports {
            if sign > 0 {
                ports.push(port.clone());
            } else if let Some(at) = ports.iter().position(|other| other == port) {
                ports.swap_remove(at);
            }
        }
    }

    /// Counts a pod as placed before it is bound, with what that means for its claims.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: NodeId, claims: &ClaimPlan) {
        self.remove_pod(&pod.uid);
        for (claim, volume) in &claims.bind {
            self.storage.promised.insert(volume.clone(), claim.clone());
        }
        self.place(pod.clone(), node, true);
    }

    /// Takes back what was assumed of a pod; one that was seen bound meanwhile stays.
    pub fn forget(&mut self, uid: &str, claims: &ClaimPlan) {
        for (claim, volume) in &claims.bind {
            if self.storage.promised.get(volume) == Some(claim) {
                self.storage.promised.remove(volume);
            }
        }
        let id = self.by_uid.get(uid).map(|id| id.0 as usize);
        if id.and_then(|id| self.pods[id].as_ref()).is_some_and(|placed| placed.assumed) {
            self.remove_pod(uid);
        }
    }

    /// Where a pod is, and whether that is only assumed.
    #[must_use]
    pub fn placement(&self, uid: &str) -> Option<(NodeId, bool)> {
        let id = self.by_uid.get(uid)?;
        self.pods[id.0 as usize].as_ref().map(|placed| (placed.node, placed.assumed))
    }

    /// A pod that is placed.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        let id = self.by_uid.get(uid)?;
        self.pods[id.0 as usize].as_ref().map(|placed| &placed.pod)
    }

    /// The pods on a node.
    pub fn pods_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Pod>> {
        let ids = self.columns.pods.get(node.at()).into_iter().flatten();
        ids.filter_map(|id| self.pods[id.0 as usize].as_ref()).map(|placed| &placed.pod)
    }

    /// How many pods are placed.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.by_uid.len()
    }

    // Pods for which room is being made.

    /// Room is being made for a pod on a node.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: NodeId) {
        self.unnominate(&pod.uid);
        self.nominations.insert(pod.uid.clone(), node);
        self.nominated.entry(node).or_default().push(pod.clone());
        self.changed(node);
    }

    /// Room is made no longer.
    pub fn unnominate(&mut self, uid: &str) {
        if let Some(node) = self.nominations.remove(uid) {
            if let Some(pods) = self.nominated.get_mut(&node) {
                pods.retain(|pod| &*pod.uid != uid);
                if pods.is_empty() {
                    self.nominated.remove(&node);
                }
            }
            self.changed(node);
        }
    }

    /// The pods for which room is being made on a node.
    #[must_use]
    pub fn nominated_on(&self, node: NodeId) -> &[Arc<Pod>] {
        if self.nominated.is_empty() {
            return &[];
        }
        self.nominated.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Nodes on which room is being made, in order.
    pub(crate) fn nominated_nodes(&self) -> BTreeSet<NodeId> {
        self.nominated.keys().copied().collect()
    }

    pub(crate) fn has_nominations(&self) -> bool {
        !self.nominated.is_empty()
    }

    // Namespaces.

    /// A namespace that is there, with its labels.
    pub fn put_namespace(&mut self, name: &str, labels: LabelSet) {
        if self.census.set_namespace(name, Some(labels)) {
            self.census.recount(name, &self.columns, &self.pods, &self.identities);
        }
    }

    /// A namespace that is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        if self.census.set_namespace(name, None) {
            self.census.recount(name, &self.columns, &self.pods, &self.identities);
        }
    }

    // Storage.

    /// A volume that is there.
    pub fn put_volume(&mut self, volume: VolumeSpec) {
        let claim = volume.claim.as_ref().map(|(key, _)| key.clone());
        self.storage.put_volume(volume);
        if let Some(key) = claim {
            self.attach_again(&key);
        }
    }

    /// A volume that is gone.
    pub fn remove_volume(&mut self, name: &str) {
        let old = self.storage.remove_volume(name);
        if let Some((key, _)) = old.and_then(|old| old.claim) {
            self.attach_again(&key);
        }
    }

    /// A claim that is there.
    pub fn put_claim(&mut self, claim: ClaimSpec) {
        let key = claim.key.clone();
        if claim.bound
            && let Some(volume) = &claim.volume
        {
            self.storage.promised.remove(volume);
        }
        self.storage.claims.insert(key.clone(), claim);
        self.attach_again(&key);
    }

    /// A claim that is gone.
    pub fn remove_claim(&mut self, key: &ClaimKey) {
        self.storage.claims.remove(key);
        self.storage.promised.retain(|_, claim| claim != key);
        self.attach_again(key);
    }

    /// A storage class that is there.
    pub fn put_class(&mut self, class: ClassSpec) {
        self.storage.classes.insert(class.name.clone(), class);
    }

    /// A storage class that is gone.
    pub fn remove_class(&mut self, name: &str) {
        self.storage.classes.remove(name);
    }

    /// How many volumes the drivers of a node attach (see [`limits_of`](crate::volume::limits_of)).
    pub fn put_limits(&mut self, node: Box<str>, limits: BTreeMap<Box<str>, i64>) {
        if let Some(id) = self.columns.id(&node) {
            self.columns.set_limits(id, &limits);
        }
        self.storage.limits.insert(node, limits);
    }

    /// A node whose drivers say nothing any more.
    pub fn remove_limits(&mut self, node: &str) {
        self.storage.limits.remove(node);
        if let Some(id) = self.columns.id(node) {
            self.columns.set_limits(id, &BTreeMap::new());
        }
    }

    /// What the users of a claim attach may be something else now.
    fn attach_again(&mut self, key: &ClaimKey) {
        for id in self.storage.users.get(key).cloned().unwrap_or_default() {
            let Some(placed) = &self.pods[id.0 as usize] else { continue };
            let node = placed.node;
            let attached = self.storage.attachments(&placed.pod.name, &placed.pod.volumes);
            let old = placed.attached.clone();
            self.columns.detach(node, &old);
            self.columns.attach(node, &attached);
            if let Some(placed) = &mut self.pods[id.0 as usize] {
                placed.attached = attached;
            }
        }
    }
}

#[cfg(test)]
mod tests;
