//! Pods of one kind are spread evenly over places: that must hold, or is scored.

use super::{Fault, Faults, MAX_NODE_SCORE, Overlay, Plugin, mark};
use crate::pod::{HOSTNAME, SpreadConstraint};
use crate::snapshot::{Counter, NOWHERE, NodeId, Pod, Snapshot};

static NO_LABEL: Fault = Fault::unresolvable(
    Plugin::PodTopologySpread,
    "node(s) didn't match pod topology spread constraints (missing required label)",
);
static SKEWED: Fault =
    Fault::resolvable(Plugin::PodTopologySpread, "node(s) didn't match pod topology spread constraints");

/// What is read of the counts before nodes are looked at.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    snapshot: &'a Snapshot,
    hard: Vec<Hard<'a>>,
}

#[derive(Debug)]
struct Hard<'a> {
    constraint: &'a SpreadConstraint,
    number: usize,
    counter: &'a Counter,
    column: &'a [u32],
    emptiest: [Option<(usize, i64)>; 2],
    enough_domains: bool,
    counts_itself: i64,
}

impl<'a> Prepared<'a> {
    /// `None` if nothing must hold.
    pub(crate) fn of(pod: &'a Pod, snapshot: &'a Snapshot) -> Option<Self> {
        let census = &snapshot.census;
        let counters = census.counters_of(&pod.terms)?;
        let hard = pod.terms.hard_spread.iter().zip(&counters.hard_spread);
        let hard: Vec<_> = hard
            .map(|(constraint, &number)| {
                let counter = census.counter(number);
                Hard {
                    constraint,
                    number,
                    counter,
                    column: census.topology.column(counter.key),
                    emptiest: counter.emptiest(),
                    enough_domains: constraint.min_domains <= 1
                        || counter.places() >= constraint.min_domains as usize,
                    counts_itself: i64::from(constraint.selector.matches(&pod.identity.labels)),
                }
            })
            .collect();
        (!hard.is_empty()).then_some(Self { snapshot, hard })
    }

    pub(crate) fn filter(&self, node: NodeId, overlay: &Overlay) -> Result<(), &'static Fault> {
        for hard in &self.hard {
            let place = hard.column[node.at()];
            if place == NOWHERE {
                return Err(&NO_LABEL);
            }
            let place = place as usize;
            let counts = hard.counter.eligible[node.at()];
            // A place without a node that counts has no pod that does.
            let there = hard.counter.pods[place];
            let census = &self.snapshot.census;
            let delta =
                if counts { overlay.delta(|pod| i64::from(census.counts(hard.number, pod))) } else { 0 };
            if hard.is_skewed(place, there + delta) {
                return Err(&SKEWED);
            }
        }
        Ok(())
    }

    /// Finds the faults of all nodes as they are.
    pub(crate) fn mark(&self, faults: &mut Faults) {
        for hard in &self.hard {
            let places = hard.counter.pods.iter().enumerate();
            let bad: Vec<bool> = places.map(|(place, pods)| hard.is_skewed(place, *pods)).collect();
            mark(faults, hard.column, Some(&NO_LABEL), &bad, &SKEWED);
        }
    }
}

/// What upstream has for a minimum where there is no domain.
const NO_DOMAIN: i64 = i32::MAX as i64;

impl Hard<'_> {
    /// Whether one more pod in a place with so many would be too much.
    fn is_skewed(&self, place: usize, pods: i64) -> bool {
        pods + self.counts_itself - self.least(place, pods) > i64::from(self.constraint.max_skew)
    }

    /// The pods of the emptiest domain, when one has other ones than were counted.
    fn least(&self, place: usize, pods: i64) -> i64 {
        if !self.enough_domains {
            return 0;
        }
        match self.emptiest {
            [Some((emptiest, _)), next] if emptiest == place => {
                next.map_or(pods, |(_, least)| least.min(pods))
            }
            [Some((_, least)), _] if self.counter.nodes[place] > 0 => least.min(pods),
            [Some((_, least)), _] => least,
            [None, _] => NO_DOMAIN,
        }
    }
}

/// How nodes are scored: by the pods in their places, weighted so that small sets of places count as much as large ones.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    soft: Vec<Soft<'a>>,
    needs_all_keys: bool,
}

#[derive(Debug)]
struct Soft<'a> {
    counter: &'a Counter,
    /// Where the node's own label stands.
    key_column: &'a [u32],
    counter_column: &'a [u32],
    by_node: bool,
    skew: f64,
    weight: f64,
}

impl<'a> Wishes<'a> {
    /// `None` if nothing is wished. `feasible` are the nodes that will do.
    pub(crate) fn of(pod: &Pod, snapshot: &'a Snapshot, feasible: &[NodeId]) -> Option<Self> {
        let census = &snapshot.census;
        let counters = census.counters_of(&pod.terms)?;
        let constraints = pod.terms.soft_spread.iter();
        let numbers = counters.soft_spread.iter().zip(&counters.soft_keys);
        let soft = constraints.zip(numbers).map(|(constraint, (&number, &key))| {
            let counter = census.counter(number);
            Soft {
                counter,
                key_column: census.topology.column(key),
                counter_column: census.topology.column(counter.key),
                by_node: &*constraint.topology_key == HOSTNAME,
                skew: f64::from(constraint.max_skew - 1),
                weight: 0.0,
            }
        });
        let mut wishes = Self { soft: soft.collect(), needs_all_keys: pod.terms.soft_spread_needs_all_keys };
        if wishes.soft.is_empty() {
            return None;
        }
        for at in 0..wishes.soft.len() {
            let places = wishes.places(at, feasible);
            wishes.soft[at].weight = ((places + 2) as f64).ln();
        }
        Some(wishes)
    }

    /// In how many places the nodes are that are scored.
    fn places(&self, at: usize, feasible: &[NodeId]) -> usize {
        let soft = &self.soft[at];
        let scored = feasible.iter().filter(|node| !self.ignores(**node));
        if soft.by_node {
            return scored.count();
        }
        let mut seen = vec![false; soft.counter.nodes.len()];
        let (mut places, mut nowhere) = (0, false);
        for node in scored {
            match soft.key_column[node.at()] {
                NOWHERE => nowhere = true,
                place => places += usize::from(!std::mem::replace(&mut seen[place as usize], true)),
            }
        }
        places + usize::from(nowhere)
    }

    /// Whether a node lacks a label that it would need to be scored.
    pub(crate) fn ignores(&self, node: NodeId) -> bool {
        self.needs_all_keys && self.soft.iter().any(|soft| soft.key_column[node.at()] == NOWHERE)
    }

    /// Less is better.
    pub(crate) fn score(&self, node: NodeId) -> i64 {
        let mut score = 0.0;
        for soft in &self.soft {
            if soft.key_column[node.at()] != NOWHERE {
                let place = soft.counter_column[node.at()] as usize;
                score += soft.counter.pods[place] as f64 * soft.weight + soft.skew;
            }
        }
        f64::round(score) as i64
    }
}

/// In relation to the least and the greatest score of the nodes that are not ignored.
pub(crate) fn normalized(score: i64, least: i64, greatest: i64) -> i64 {
    if greatest == 0 {
        return MAX_NODE_SCORE;
    }
    MAX_NODE_SCORE * (greatest + least - score) / greatest
}
