//! Pods that want to be near others, or far from them; and pods that are there and want that of the new one.

use super::{Fault, Faults, MAX_NODE_SCORE, Overlay, Plugin, mark};
use crate::profile::InterPodAffinityArgs;
use crate::snapshot::{Carry, KeyId, NOWHERE, NodeId, Pod, Snapshot};

static AFFINITY: Fault =
    Fault::unresolvable(Plugin::InterPodAffinity, "node(s) didn't match pod affinity rules");
static ANTI_AFFINITY: Fault =
    Fault::resolvable(Plugin::InterPodAffinity, "node(s) didn't match pod anti-affinity rules");
static EXISTING: Fault =
    Fault::resolvable(Plugin::InterPodAffinity, "node(s) didn't satisfy existing pods anti-affinity rules");

/// What is read of the counts before nodes are looked at.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    snapshot: &'a Snapshot,
    affinity: Vec<Near<'a>>,
    /// No pod that is placed is meant by all affinity terms; then the first one may be, by the pod itself.
    alone: bool,
    means_itself: bool,
    anti_affinity: Vec<Near<'a>>,
    existing: Vec<Near<'a>>,
}

#[derive(Debug)]
struct Near<'a> {
    column: &'a [u32],
    pods: &'a [i64],
    /// The counter, or the carried term.
    number: usize,
}

impl Near<'_> {
    /// How many pods are near; none where the label is not there.
    fn at(&self, node: NodeId) -> Option<i64> {
        let place = self.column[node.at()];
        (place != NOWHERE).then(|| self.pods[place as usize])
    }
}

impl<'a> Prepared<'a> {
    /// `None` if there is nothing to look at.
    pub(crate) fn of(pod: &Pod, snapshot: &'a Snapshot) -> Option<Self> {
        let census = &snapshot.census;
        let near = |number: &usize| {
            let counter = census.counter(*number);
            Near { column: census.topology.column(counter.key), pods: &counter.pods, number: *number }
        };
        let counters = census.counters_of(&pod.terms);
        let affinity: Vec<_> = counters.iter().flat_map(|it| it.affinity.iter()).map(near).collect();
        let anti_affinity: Vec<_> =
            counters.iter().flat_map(|it| it.anti_affinity.iter()).map(near).collect();
        let nominations = snapshot.has_nominations();
        let existing = census.meaning(&pod.identity, Carry::AntiAffinity);
        let existing = existing.filter(|(_, carried)| carried.carriers > 0 || nominations);
        let existing: Vec<_> = existing
            .map(|(number, carried)| Near {
                column: census.topology.column(carried.key),
                pods: &carried.amounts,
                number,
            })
            .collect();
        if affinity.is_empty() && anti_affinity.is_empty() && existing.is_empty() {
            return None;
        }
        let alone = affinity.iter().all(|near| near.pods.iter().all(|pods| *pods == 0));
        let means_itself = affinity.iter().all(|near| census.counts(near.number, pod));
        Some(Self { snapshot, affinity, alone, means_itself, anti_affinity, existing })
    }

    pub(crate) fn filter(&self, node: NodeId, overlay: &Overlay) -> Result<(), &'static Fault> {
        if !self.affinity_holds(node, overlay) {
            return Err(&AFFINITY);
        }
        let counted = |near: &Near<'_>| self.counted(near, overlay);
        if self.anti_affinity.iter().any(|near| near.at(node).is_some_and(|pods| pods + counted(near) > 0)) {
            return Err(&ANTI_AFFINITY);
        }
        let carries = |near: &Near<'_>| overlay.delta(|pod| self.snapshot.census.carries(near.number, pod));
        if self.existing.iter().any(|near| near.at(node).is_some_and(|pods| pods + carries(near) > 0)) {
            return Err(&EXISTING);
        }
        Ok(())
    }

    /// Finds the faults of all nodes as they are.
    pub(crate) fn mark(&self, faults: &mut Faults) {
        match self.affinity.as_slice() {
            [] => {}
            [near] => {
                let first = self.alone && self.means_itself;
                let bad: Vec<bool> = near.pods.iter().map(|pods| *pods <= 0 && !first).collect();
                mark(faults, near.column, Some(&AFFINITY), &bad, &AFFINITY);
            }
            // All terms must hold together.
            _ => {
                for (at, fault) in faults.iter_mut().enumerate().filter(|(_, fault)| fault.is_none()) {
                    if !self.affinity_holds(NodeId(at as u32), Overlay::none()) {
                        *fault = Some(&AFFINITY);
                    }
                }
            }
        }
        for (list, fault) in [(&self.anti_affinity, &ANTI_AFFINITY), (&self.existing, &EXISTING)] {
            for near in list {
                let bad: Vec<bool> = near.pods.iter().map(|pods| *pods > 0).collect();
                mark(faults, near.column, None, &bad, fault);
            }
        }
    }

    fn counted(&self, near: &Near<'_>, overlay: &Overlay) -> i64 {
        overlay.delta(|pod| i64::from(self.snapshot.census.counts(near.number, pod)))
    }

    fn affinity_holds(&self, node: NodeId, overlay: &Overlay) -> bool {
        let mut near_all = true;
        for near in &self.affinity {
            let Some(pods) = near.at(node) else { return false };
            near_all &= pods + self.counted(near, overlay) > 0;
        }
        if near_all {
            return true;
        }
        let alone = if overlay.is_empty() {
            self.alone
        } else {
            // What is added or removed is in a place of every term, since the node is.
            let left = |near: &Near<'_>| near.pods.iter().sum::<i64>() + self.counted(near, overlay);
            self.affinity.iter().all(|near| left(near) == 0)
        };
        alone && self.means_itself
    }
}

/// Sums of weights by place, one table for each label.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    tables: Vec<(KeyId, &'a [u32], Vec<i64>)>,
}

impl<'a> Wishes<'a> {
    /// `None` if nobody wishes anything.
    pub(crate) fn of(pod: &Pod, args: &InterPodAffinityArgs, snapshot: &'a Snapshot) -> Option<Self> {
        let census = &snapshot.census;
        let mut wishes = Self { tables: Vec::new() };
        if let Some(counters) = census.counters_of(&pod.terms) {
            for (weight, number) in &counters.preferred {
                let counter = census.counter(*number);
                wishes.add(snapshot, counter.key, *weight, &counter.pods);
            }
        }
        if args.hard_pod_affinity_weight > 0 {
            for (_, carried) in
                census.meaning(&pod.identity, Carry::Affinity).filter(|(_, it)| it.carriers > 0)
            {
                wishes.add(snapshot, carried.key, args.hard_pod_affinity_weight, &carried.amounts);
            }
        }
        let own = !pod.terms.affinity.is_empty()
            || !pod.terms.anti_affinity.is_empty()
            || !pod.terms.preferred.is_empty();
        if !args.ignore_preferred_terms_of_existing_pods || own {
            for (_, carried) in
                census.meaning(&pod.identity, Carry::Preference).filter(|(_, it)| it.carriers > 0)
            {
                wishes.add(snapshot, carried.key, 1, &carried.amounts);
            }
        }
        (!wishes.tables.is_empty()).then_some(wishes)
    }

    fn add(&mut self, snapshot: &'a Snapshot, key: KeyId, weight: i64, amounts: &[i64]) {
        let at = self.tables.iter().position(|(other, ..)| *other == key);
        let at = at.unwrap_or_else(|| {
            let topology = &snapshot.census.topology;
            self.tables.push((key, topology.column(key), vec![0; topology.places(key)]));
            self.tables.len() - 1
        });
        for (sum, amount) in self.tables[at].2.iter_mut().zip(amounts) {
            *sum += weight * amount;
        }
    }

    pub(crate) fn score(&self, node: NodeId) -> i64 {
        let mut score = 0;
        for (_, column, sums) in &self.tables {
            let place = column[node.at()];
            if place != NOWHERE {
                score += sums[place as usize];
            }
        }
        score
    }
}

/// In relation to the least and the greatest score.
pub(crate) fn normalized(score: i64, least: i64, greatest: i64) -> i64 {
    if greatest == least {
        return 0;
    }
    (MAX_NODE_SCORE as f64 * ((score - least) as f64 / (greatest - least) as f64)) as i64
}
