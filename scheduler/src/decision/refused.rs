//! Why no node will do, node by node and in one sentence. Must never decide.

use std::collections::BTreeMap;

use crate::plugins::{Plugin, PluginSet, Refusal};
use crate::snapshot::NodeId;

/// Why a pod goes nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many nodes there are.
    pub nodes: usize,
    /// What holds for all of them, known before any was looked at.
    pub everywhere: Option<Refusal>,
    /// The reasons of single nodes.
    pub reasons: Vec<Refusal>,
    /// Which reason a node has.
    pub by_node: Vec<(NodeId, u32)>,
    /// Why the nodes were not looked at that have no reason.
    pub unseen: PluginSet,
}

impl Refused {
    pub(crate) fn everywhere(nodes: usize, refusal: Refusal) -> Self {
        Self { nodes, everywhere: Some(refusal), ..Self::default() }
    }

    /// Every plugin that refused something; what happens is only of interest to the pod if it is to one of these.
    #[must_use]
    pub fn plugins(&self) -> PluginSet {
        let used: Vec<bool> =
            self.by_node.iter().fold(vec![false; self.reasons.len()], |mut used, (_, number)| {
                used[*number as usize] = true;
                used
            });
        let reasons = self.reasons.iter().zip(used).filter(|(_, used)| *used).map(|(reason, _)| reason);
        let set = reasons.chain(&self.everywhere).fold(PluginSet::default(), |set, it| set.with(it.plugin));
        set.and(self.unseen)
    }

    /// Nodes that could do if pods were evicted.
    pub fn resolvable(&self) -> impl Iterator<Item = NodeId> {
        let by_node = self.by_node.iter();
        by_node.filter(|(_, number)| self.reasons[*number as usize].resolvable).map(|(node, _)| *node)
    }

    /// Why a node will not do.
    #[must_use]
    pub fn reason_of(&self, node: NodeId) -> Option<&Refusal> {
        let found = self.by_node.iter().find(|(other, _)| *other == node);
        found.map_or(self.everywhere.as_ref(), |(_, number)| self.reasons.get(*number as usize))
    }

    /// In the words of Kubernetes: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    #[must_use]
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let start = format!("0/{} nodes are available:", self.nodes);
        if let Some(refusal) = &self.everywhere {
            return format!("{start} {}.", refusal.reasons.join(", "));
        }
        let mut nodes_of = vec![0; self.reasons.len()];
        for (_, number) in &self.by_node {
            nodes_of[*number as usize] += 1;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (refusal, nodes) in self.reasons.iter().zip(nodes_of).filter(|(_, nodes)| *nodes > 0) {
            for reason in &refusal.reasons {
                *counts.entry(reason).or_insert(0) += nodes;
            }
        }
        let unseen = self.nodes.saturating_sub(self.by_node.len());
        let plugins: Vec<&str> = self.unseen.iter().map(Plugin::name).collect();
        let not_looked_at = format!("node(s) didn't satisfy plugin(s) [{}]", plugins.join(" "));
        if unseen > 0 && !plugins.is_empty() {
            *counts.entry(&not_looked_at).or_insert(0) += unseen;
        }
        sentence(&start, counts)
    }
}

/// Reasons with the number of nodes that have them, in the order of the text.
pub(crate) fn sentence<'a>(start: &str, counts: impl IntoIterator<Item = (&'a str, usize)>) -> String {
    let mut told: Vec<String> =
        counts.into_iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
    told.sort_unstable();
    if told.is_empty() { start.to_owned() } else { format!("{start} {}.", told.join(", ")) }
}
