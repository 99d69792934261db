//! A node as plugins see it: with its pods, and perhaps with some more or fewer. Must never change the snapshot.

use std::sync::Arc;

use crate::node::NodeSpec;
use crate::pod::HostPort;
use crate::snapshot::{NodeId, Pod, ResourceId, Snapshot};

/// Pods that are thought to be on a node, or to be gone from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) added: Vec<Arc<Pod>>,
    pub(crate) removed: Vec<Arc<Pod>>,
}

impl Overlay {
    /// The node as it is.
    pub(crate) fn none() -> &'static Self {
        static NONE: Overlay = Overlay { added: Vec::new(), removed: Vec::new() };
        &NONE
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// What a quantity of pods changes by.
    pub(crate) fn delta(&self, of: impl Fn(&Pod) -> i64) -> i64 {
        let sum = |pods: &[Arc<Pod>]| pods.iter().map(|pod| of(pod)).sum::<i64>();
        if self.is_empty() { 0 } else { sum(&self.added) - sum(&self.removed) }
    }

    fn has_removed(&self, uid: &str) -> bool {
        self.removed.iter().any(|pod| &*pod.uid == uid)
    }
}

/// One node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) node: NodeId,
    pub(crate) spec: &'a NodeSpec,
    pub(crate) overlay: &'a Overlay,
}

impl<'a> View<'a> {
    /// Of a node that is there.
    pub(crate) fn of(snapshot: &'a Snapshot, node: NodeId, overlay: &'a Overlay) -> Option<Self> {
        Some(Self { snapshot, node, spec: snapshot.columns.spec(node)?, overlay })
    }

    pub(crate) fn allocatable(&self, resource: ResourceId) -> i64 {
        self.snapshot.columns.allocatable[resource][self.node.at()]
    }

    pub(crate) fn requested(&self, resource: ResourceId) -> i64 {
        let of = |pod: &Pod| pod.taken.iter().find(|taken| taken.0 == resource).map_or(0, |taken| taken.1);
        self.snapshot.columns.requested[resource][self.node.at()] + self.overlay.delta(of)
    }

    pub(crate) fn scored_cpu_milli(&self) -> i64 {
        let at = self.node.at();
        self.snapshot.columns.scored_cpu_milli[at] + self.overlay.delta(|pod| pod.ask.scored_cpu_milli)
    }

    pub(crate) fn scored_memory(&self) -> i64 {
        let at = self.node.at();
        self.snapshot.columns.scored_memory[at] + self.overlay.delta(|pod| pod.ask.scored_memory)
    }

    pub(crate) fn pods(&self) -> i64 {
        self.snapshot.columns.pods[self.node.at()].len() as i64 + self.overlay.delta(|_| 1)
    }

    /// The ports in use.
    pub(crate) fn ports(&self) -> Vec<&HostPort> {
        let mut ports: Vec<&HostPort> = self.snapshot.columns.ports[self.node.at()].iter().collect();
        for port in self.overlay.removed.iter().flat_map(|pod| &pod.ask.ports) {
            if let Some(at) = ports.iter().position(|other| *other == port) {
                ports.swap_remove(at);
            }
        }
        ports.extend(self.overlay.added.iter().flat_map(|pod| &pod.ask.ports));
        ports
    }

    /// The pods on the node.
    pub(crate) fn each_pod(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let there = self.snapshot.pods_on(self.node);
        let there = there.filter(|pod| !self.overlay.has_removed(&pod.uid));
        there.chain(&self.overlay.added)
    }
}
