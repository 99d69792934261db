//! Room for a pod, made by evicting others: which node, and which pods, as few and as unimportant as can be. A value that
//! others act on; must never evict.

mod budgets;
mod victims;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use budgets::{Budget, Budgets};
use victims::Victims;

use crate::chance::Chance;
use crate::decision::{Inquiry, Refused, sentence};
use crate::plugins::{Plugin, Refusal};
use crate::profile::{PreemptionArgs, Profile};
use crate::snapshot::{NodeId, Pod, Snapshot};

/// So many asks are kept.
const MAX_MEMOS: usize = 8;

/// What is to be done so that a pod finds room.
#[derive(Clone, Debug)]
pub struct Preemption {
    /// Where: the pod's `nominatedNodeName`.
    pub node: NodeId,
    /// The pods to evict, the most important first. Those that are terminating already are among them.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them a budget would keep.
    pub violations: usize,
    /// Pods of lower priority for which room was being made there; they have to look elsewhere.
    pub displaced: Vec<Arc<Pod>>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Room can be made.
    Preempt(Preemption),
    /// It cannot.
    Unhelpful {
        /// Why, to be told behind why no node will do: `preemption: ...`
        message: String,
        /// Whether the pod's `nominatedNodeName` is to be cleared.
        clears_nomination: bool,
    },
}

impl Outcome {
    /// Why a pod waits, in one sentence: why no node will do, and if evicting others is no help, why not.
    #[must_use]
    pub fn told_after(&self, refused: &Refused) -> String {
        match self {
            Self::Preempt(_) => refused.message(),
            Self::Unhelpful { message, .. } => format!("{} {message}", refused.message()),
        }
    }
}

/// What was found of all nodes for one ask.
#[derive(Debug)]
struct Memo {
    used: u64,
    seen: u64,
    budgets: u64,
    by_node: Vec<Option<Result<Victims, Refusal>>>,
}

/// The one who makes room. Keeps what it found of one pod for the next that asks the same.
#[derive(Debug)]
pub struct Preemptor {
    chance: Chance,
    memos: HashMap<(Box<str>, u64), Memo>,
    uses: u64,
}

impl Preemptor {
    /// With the seed of its chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::of_seed(seed), memos: HashMap::new(), uses: 0 }
    }

    /// Looks for room for a pod that was refused everywhere.
    pub fn plan(
        &mut self,
        snapshot: &Snapshot,
        pod: &Pod,
        profile: &Profile,
        refused: &Refused,
        budgets: &Budgets,
    ) -> Outcome {
        if let Some(reason) = not_eligible(snapshot, pod, refused) {
            return Outcome::Unhelpful { message: format!("preemption: {reason}"), clears_nomination: false };
        }
        let Ok(inquiry) = Inquiry::of(pod, profile, snapshot) else {
            return unhelpful(refused.nodes, &[]);
        };
        let potential: Vec<NodeId> = refused.resolvable().collect();
        let found = if inquiry.is_about_more_than_the_node() {
            self.sampled(&inquiry, &potential, budgets)
        } else {
            self.remembered(&inquiry, &potential, budgets)
        };
        let candidates = found.iter().filter_map(|(node, victims)| Some((*node, victims.as_ref().ok()?)));
        let Some((node, victims)) = candidates.min_by_key(|(node, victims)| (victims.cost, *node)) else {
            let refusals: Vec<&Refusal> = found.iter().filter_map(|(_, it)| it.as_ref().err()).collect();
            return unhelpful(refused.nodes, &refusals);
        };
        let displaced = snapshot.nominated_on(node).iter();
        let displaced = displaced.filter(|other| other.ask.priority < pod.ask.priority);
        Outcome::Preempt(Preemption {
            node,
            victims: victims.pods.clone(),
            violations: victims.violations,
            displaced: displaced.cloned().collect(),
        })
    }

    /// Tries some of the nodes, from one that chance picks: neighbours make each of them dear.
    fn sampled(
        &mut self,
        inquiry: &Inquiry<'_>,
        potential: &[NodeId],
        budgets: &Budgets,
    ) -> Vec<(NodeId, Result<Victims, Refusal>)> {
        if potential.is_empty() {
            return Vec::new();
        }
        let wanted = candidates(&inquiry.profile.preemption, potential.len());
        let first = self.chance.pick(potential.len());
        let (mut found, mut harmless, mut fitting) = (Vec::new(), 0, 0);
        for at in 0..potential.len() {
            let node = potential[(first + at) % potential.len()];
            let victims = Victims::on(inquiry, node, budgets);
            if let Ok(victims) = &victims {
                fitting += 1;
                harmless += usize::from(victims.violations == 0);
            }
            found.push((node, victims));
            if harmless > 0 && fitting >= wanted {
                break;
            }
        }
        found
    }

    /// Tries all nodes; what was found before is found again where nothing happened.
    fn remembered(
        &mut self,
        inquiry: &Inquiry<'_>,
        potential: &[NodeId],
        budgets: &Budgets,
    ) -> Vec<(NodeId, Result<Victims, Refusal>)> {
        self.uses += 1;
        let key = (inquiry.profile.scheduler_name.clone(), inquiry.pod.ask.id());
        if !self.memos.contains_key(&key) && self.memos.len() >= MAX_MEMOS {
            let oldest = self.memos.iter().min_by_key(|(_, memo)| memo.used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.memos.remove(&oldest));
        }
        let fresh = || Memo { used: 0, seen: 0, budgets: 0, by_node: Vec::new() };
        let memo = self.memos.entry(key).or_insert_with(fresh);
        memo.used = self.uses;
        let changed = inquiry.snapshot.changed_since(memo.seen).filter(|_| memo.budgets == budgets.version());
        match changed {
            Some(changed) => {
                for node in changed {
                    if let Some(known) = memo.by_node.get_mut(node.at()) {
                        *known = None;
                    }
                }
            }
            None => memo.by_node.clear(),
        }
        memo.seen = inquiry.snapshot.change_count();
        memo.budgets = budgets.version();
        memo.by_node.resize_with(inquiry.snapshot.columns.len(), || None);
        // The pod's own nomination counts for its equals, but not for itself.
        let own = inquiry.pod.nominated_node.as_ref().and_then(|name| inquiry.snapshot.node(name));
        if let Some(own) = own {
            memo.by_node[own.at()] = None;
        }
        let mut best = None;
        for &node in potential {
            let known = memo.by_node[node.at()].get_or_insert_with(|| Victims::on(inquiry, node, budgets));
            if let Ok(victims) = known
                && best.is_none_or(|(cost, _)| victims.cost < cost)
            {
                best = Some((victims.cost, node));
            }
        }
        let found = |node: NodeId| Some((node, memo.by_node[node.at()].clone()?));
        let found = match best {
            Some((_, node)) => found(node).into_iter().collect(),
            None => potential.iter().filter_map(|node| found(*node)).collect(),
        };
        if let Some(own) = own {
            memo.by_node[own.at()] = None;
        }
        found
    }
}

/// How many candidates are enough.
fn candidates(args: &PreemptionArgs, nodes: usize) -> usize {
    let part = nodes * args.min_candidate_nodes_percentage as usize / 100;
    part.max(args.min_candidate_nodes_absolute as usize).min(nodes)
}

/// Why a pod may not evict others, if it may not.
fn not_eligible(snapshot: &Snapshot, pod: &Pod, refused: &Refused) -> Option<&'static str> {
    if !pod.preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = pod.nominated_node.as_ref().and_then(|name| snapshot.node(name))?;
    // Where it can never run, waiting for the room is no use.
    if refused.reason_of(node).is_some_and(|reason| !reason.resolvable) {
        return None;
    }
    let leaving = |other: &Arc<Pod>| other.terminating && other.ask.priority < pod.ask.priority;
    let waits = snapshot.pods_on(node).any(leaving);
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Why no node would do, in the words of Kubernetes.
fn unhelpful(nodes: usize, refusals: &[&Refusal]) -> Outcome {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.iter().flat_map(|refusal| &refusal.reasons) {
        *counts.entry(reason).or_insert(0) += 1;
    }
    let others = nodes.saturating_sub(refusals.len());
    if others > 0 {
        *counts.entry("Preemption is not helpful for scheduling").or_insert(0) += others;
    }
    let start = format!("preemption: 0/{nodes} nodes are available:");
    Outcome::Unhelpful { message: sentence(&start, counts), clears_nomination: true }
}

/// Why a node has nobody to evict.
fn nobody() -> Refusal {
    Refusal::unresolvable(Plugin::DefaultPreemption, "No preemption victims found for incoming pod")
}
