//! The pods of one node that would have to go: as few as can be. Must never look at other nodes.

use std::cmp::Reverse;
use std::sync::Arc;

use super::budgets::Budgets;
use super::nobody;
use crate::decision::Inquiry;
use crate::plugins::{Overlay, Refusal};
use crate::snapshot::{NodeId, Pod};

/// Who would have to go.
#[derive(Clone, Debug)]
pub(super) struct Victims {
    /// The most important first; at least one.
    pub(super) pods: Vec<Arc<Pod>>,
    /// How many of them a budget would keep.
    pub(super) violations: usize,
    pub(super) cost: Cost,
}

/// What evicting costs; less is better. In this order: budgets broken, the most important victim, all victims'
/// importance, how many, and how long the most important ones have run.
pub(super) type Cost = (usize, i32, i64, usize, Reverse<i64>);

impl Victims {
    /// On a node.
    ///
    /// # Errors
    /// Why the node would not do even without all pods of lower priority.
    pub(super) fn on(inquiry: &Inquiry<'_>, node: NodeId, budgets: &Budgets) -> Result<Self, Refusal> {
        let priority = inquiry.pod.ask.priority;
        let lower = inquiry.snapshot.pods_on(node).filter(|other| other.ask.priority < priority);
        let mut lower: Vec<Arc<Pod>> = lower.cloned().collect();
        if lower.is_empty() {
            return Err(nobody());
        }
        lower.sort_by_key(importance);
        let mut overlay = Overlay { added: Vec::new(), removed: lower.clone() };
        inquiry.verdict_with_nominated(node, &overlay)?;
        let kept = budgets.kept(lower.iter().map(|pod| &**pod));
        let mut victims = Self { pods: Vec::new(), violations: 0, cost: Cost::default() };
        // Those that a budget keeps may stay before others, the most important first.
        for wanted in [true, false] {
            for (pod, _) in lower.iter().zip(&kept).filter(|(_, kept)| **kept == wanted) {
                let Some(at) = overlay.removed.iter().position(|other| Arc::ptr_eq(other, pod)) else {
                    continue;
                };
                let spared = overlay.removed.remove(at);
                if inquiry.verdict_with_nominated(node, &overlay).is_err() {
                    victims.violations += usize::from(wanted);
                    overlay.removed.insert(at, spared.clone());
                    victims.pods.push(spared);
                }
            }
        }
        if victims.pods.is_empty() {
            // The pod was refused, but by what has changed since.
            return Err(nobody());
        }
        victims.pods.sort_by_key(importance);
        victims.cost = victims.cost();
        Ok(victims)
    }

    fn cost(&self) -> Cost {
        let highest = self.pods.first().map_or(i32::MIN, |pod| pod.ask.priority);
        // Priorities may be negative; more pods are worse nevertheless.
        let sum = self.pods.iter().map(|pod| i64::from(pod.ask.priority) + i64::from(i32::MAX) + 1).sum();
        let most_important = self.pods.iter().filter(|pod| pod.ask.priority == highest);
        let earliest = most_important.map(|pod| pod.started_us).min().unwrap_or(i64::MAX);
        (self.violations, highest, sum, self.pods.len(), Reverse(earliest))
    }
}

/// Sorts the most important first: by priority, then by how long it has run.
fn importance(pod: &Arc<Pod>) -> (Reverse<i32>, i64) {
    (Reverse(pod.ask.priority), pod.started_us)
}
