//! How all nodes stand towards one ask, by what is on each node alone; kept from pod to pod, and brought up to date where
//! something happened. Must never depend on a pod's volumes or neighbours.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::inquiry::on_the_node;
use super::ranking::Ranking;
use crate::plugins::{
    Overlay, Plugin, Refusal, View, balanced_allocation, image_locality, node_affinity, node_resources_fit,
    normalized, taint_toleration,
};
use crate::pod::NodeAsk;
use crate::profile::Profile;
use crate::snapshot::{NodeId, ResourceId, Shared, Snapshot, Taken};

/// What plugins say of a node alone, before it is related to other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) taints: i64,
    pub(crate) affinity: i64,
    pub(crate) fit: i64,
    pub(crate) balanced: i64,
    pub(crate) images: i64,
}

/// Weights and greatest values, with which nodes are related to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) taints: i64,
    pub(crate) affinity: i64,
}

impl Local {
    /// The score of each plugin, up to 100, without weights.
    pub(crate) fn normalized(&self, relation: Relation) -> [(Plugin, i64, i64); 5] {
        [
            (Plugin::TaintToleration, self.taints, normalized(self.taints, relation.taints, true)),
            (Plugin::NodeAffinity, self.affinity, normalized(self.affinity, relation.affinity, false)),
            (Plugin::NodeResourcesFit, self.fit, self.fit),
            (Plugin::NodeResourcesBalancedAllocation, self.balanced, self.balanced),
            (Plugin::ImageLocality, self.images, self.images),
        ]
    }

    /// With weights, summed.
    pub(crate) fn total(&self, relation: Relation, weights: &Weights) -> i64 {
        weights.taints * normalized(self.taints, relation.taints, true)
            + weights.affinity * normalized(self.affinity, relation.affinity, false)
            + weights.fit * self.fit
            + weights.balanced * self.balanced
            + weights.images * self.images
    }
}

/// The weights of a profile; 0 where a plugin does not score.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    taints: i64,
    affinity: i64,
    fit: i64,
    balanced: i64,
    images: i64,
}

impl Weights {
    pub(crate) fn of(profile: &Profile) -> Self {
        Self {
            taints: profile.weight(Plugin::TaintToleration),
            affinity: profile.weight(Plugin::NodeAffinity),
            fit: profile.weight(Plugin::NodeResourcesFit),
            balanced: profile.weight(Plugin::NodeResourcesBalancedAllocation),
            images: profile.weight(Plugin::ImageLocality),
        }
    }
}

/// Scores nodes for one ask.
#[derive(Debug)]
pub(crate) struct Scorer<'a> {
    ask: &'a NodeAsk,
    profile: &'a Profile,
    weights: Weights,
    fit: Vec<Option<ResourceId>>,
    balanced: Vec<Option<ResourceId>>,
    skips_balanced: bool,
}

impl<'a> Scorer<'a> {
    pub(crate) fn of(ask: &'a NodeAsk, profile: &'a Profile, snapshot: &Snapshot) -> Self {
        let numbers = |resources: &[crate::profile::ScoredResource]| {
            resources.iter().map(|resource| node_resources_fit::number(snapshot, resource)).collect()
        };
        Self {
            ask,
            profile,
            weights: Weights::of(profile),
            fit: numbers(&profile.fit.resources),
            balanced: numbers(&profile.balanced),
            skips_balanced: balanced_allocation::skips(ask, &profile.balanced),
        }
    }

    pub(crate) fn local(&self, view: &View<'_>) -> Local {
        let Self { ask, profile, weights, .. } = self;
        let mut local = Local::default();
        if weights.taints != 0 {
            local.taints = taint_toleration::score(ask, view);
        }
        if weights.affinity != 0 {
            local.affinity = node_affinity::score(ask, &profile.added_affinity, view);
        }
        if weights.fit != 0 {
            local.fit = node_resources_fit::score(ask, &profile.fit, &self.fit, view);
        }
        if weights.balanced != 0 && !self.skips_balanced {
            local.balanced = balanced_allocation::score(ask, &profile.balanced, &self.balanced, view);
        }
        if weights.images != 0 {
            local.images = image_locality::score(ask, view);
        }
        local
    }
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// There is no node.
    Absent,
    /// It will do.
    Feasible,
    /// It will not, for the reason of this number.
    Refused(u32),
}

/// More reasons than these are collected anew.
const MAX_REASONS: usize = 4096;

/// All nodes and one ask.
#[derive(Debug)]
pub(crate) struct Standing {
    ask: Arc<Shared<NodeAsk>>,
    known: Vec<Known>,
    local: Vec<Local>,
    /// The weighted sum of `local`, as nodes are related now.
    totals: Vec<i64>,
    reasons: Vec<Refusal>,
    numbers: HashMap<Refusal, u32>,
    refused: Vec<usize>,
    feasible: usize,
    taints: BTreeMap<i64, usize>,
    affinity: BTreeMap<i64, usize>,
    relation: Relation,
    ranking: Option<Ranking>,
    seen: u64,
    images: (u64, usize),
    resources: usize,
}

impl Standing {
    pub(crate) fn of(
        ask: &Arc<Shared<NodeAsk>>,
        taken: &[Taken],
        profile: &Profile,
        snapshot: &Snapshot,
    ) -> Self {
        let mut standing = Self {
            ask: ask.clone(),
            known: Vec::new(),
            local: Vec::new(),
            totals: Vec::new(),
            reasons: Vec::new(),
            numbers: HashMap::new(),
            refused: Vec::new(),
            feasible: 0,
            taints: BTreeMap::new(),
            affinity: BTreeMap::new(),
            relation: Relation::default(),
            ranking: None,
            seen: 0,
            images: (0, 0),
            resources: 0,
        };
        standing.build(taken, profile, snapshot);
        standing
    }

    fn build(&mut self, taken: &[Taken], profile: &Profile, snapshot: &Snapshot) {
        let nodes = snapshot.columns.len();
        self.known = vec![Known::Absent; nodes];
        self.local = vec![Local::default(); nodes];
        self.totals = vec![0; nodes];
        self.reasons.clear();
        self.numbers.clear();
        self.refused.clear();
        self.feasible = 0;
        self.taints.clear();
        self.affinity.clear();
        self.ranking = None;
        self.images = image_locality::stamp(&self.ask, snapshot);
        self.resources = snapshot.columns.resource_names.len();
        self.seen = snapshot.change_count();
        let ask = self.ask.clone();
        let scorer = Scorer::of(&ask, profile, snapshot);
        for node in 0..nodes {
            self.look_at(NodeId(node as u32), taken, &scorer, snapshot);
        }
        self.relate(&scorer.weights);
    }

    /// Brings everything up to date.
    pub(crate) fn refresh(&mut self, taken: &[Taken], profile: &Profile, snapshot: &Snapshot) {
        let same = self.images == image_locality::stamp(&self.ask, snapshot)
            && self.resources == snapshot.columns.resource_names.len()
            && self.reasons.len() <= MAX_REASONS;
        let changed =
            snapshot.changed_since(self.seen).filter(|changed| changed.len() <= 2 * self.known.len());
        let Some(changed) = changed.filter(|_| same) else { return self.build(taken, profile, snapshot) };
        if changed.is_empty() {
            return;
        }
        self.known.resize(snapshot.columns.len(), Known::Absent);
        self.local.resize(snapshot.columns.len(), Local::default());
        self.totals.resize(snapshot.columns.len(), 0);
        let ask = self.ask.clone();
        let scorer = Scorer::of(&ask, profile, snapshot);
        for &node in changed {
            self.look_at(node, taken, &scorer, snapshot);
        }
        self.seen = snapshot.change_count();
        self.relate(&scorer.weights);
    }

    /// Looks at one node again.
    fn look_at(&mut self, node: NodeId, taken: &[Taken], scorer: &Scorer<'_>, snapshot: &Snapshot) {
        let at = node.at();
        let known = match View::of(snapshot, node, Overlay::none()) {
            None => Known::Absent,
            Some(view) => match self.verdict(node, taken, scorer, &view) {
                Ok(()) => Known::Feasible,
                Err(refusal) => Known::Refused(self.number(refusal)),
            },
        };
        let local = match (known, View::of(snapshot, node, Overlay::none())) {
            (Known::Feasible, Some(view)) => scorer.local(&view),
            _ => Local::default(),
        };
        match std::mem::replace(&mut self.known[at], known) {
            Known::Absent => {}
            Known::Refused(number) => self.refused[number as usize] -= 1,
            Known::Feasible => {
                self.feasible -= 1;
                let old = self.local[at];
                less(&mut self.taints, old.taints);
                less(&mut self.affinity, old.affinity);
            }
        }
        self.local[at] = local;
        match known {
            Known::Absent => {}
            Known::Refused(number) => self.refused[number as usize] += 1,
            Known::Feasible => {
                self.feasible += 1;
                *self.taints.entry(local.taints).or_insert(0) += 1;
                *self.affinity.entry(local.affinity).or_insert(0) += 1;
            }
        }
        let total = local.total(self.relation, &scorer.weights);
        self.totals[at] = total;
        if let Some(ranking) = &mut self.ranking {
            ranking.set(node, (known == Known::Feasible).then_some(total));
        }
    }

    /// With and without the pods for which room is being made there.
    fn verdict(
        &self,
        node: NodeId,
        taken: &[Taken],
        scorer: &Scorer<'_>,
        view: &View<'_>,
    ) -> Result<(), Refusal> {
        let nominated = view.snapshot.nominated_on(node);
        if !nominated.is_empty() {
            let pods = nominated.iter().filter(|pod| pod.ask.priority >= self.ask.priority);
            let overlay = Overlay { added: pods.cloned().collect(), removed: Vec::new() };
            on_the_node(&self.ask, taken, scorer.profile, &View { overlay: &overlay, ..*view })?;
        }
        on_the_node(&self.ask, taken, scorer.profile, view)
    }

    fn number(&mut self, refusal: Refusal) -> u32 {
        if let Some(&number) = self.numbers.get(&refusal) {
            return number;
        }
        let number = self.reasons.len() as u32;
        self.reasons.push(refusal.clone());
        self.refused.push(0);
        self.numbers.insert(refusal, number);
        number
    }

    /// Finds the greatest values again; if they changed, every node is related anew.
    fn relate(&mut self, weights: &Weights) {
        let greatest = |values: &BTreeMap<i64, usize>| values.keys().next_back().copied().unwrap_or(0);
        let relation = Relation { taints: greatest(&self.taints), affinity: greatest(&self.affinity) };
        if std::mem::replace(&mut self.relation, relation) != relation {
            self.ranking = None;
            for (total, local) in self.totals.iter_mut().zip(&self.local) {
                *total = local.total(relation, weights);
            }
        }
    }

    /// The nodes by score, if nothing but the node alone is scored.
    pub(crate) fn ranking(&mut self) -> &Ranking {
        let Self { ranking, known, totals, .. } = self;
        ranking.get_or_insert_with(|| {
            let mut ranking = Ranking::default();
            for (at, (known, total)) in known.iter().zip(totals).enumerate() {
                if *known == Known::Feasible {
                    ranking.set(NodeId(at as u32), Some(*total));
                }
            }
            ranking
        })
    }

    /// The scores of nodes, weighted and summed, as long as all that would do by themselves are related.
    pub(crate) fn totals(&self) -> &[i64] {
        &self.totals
    }

    pub(crate) const fn feasible(&self) -> usize {
        self.feasible
    }

    pub(crate) const fn relation(&self) -> Relation {
        self.relation
    }

    pub(crate) fn known(&self) -> &[Known] {
        &self.known
    }

    pub(crate) fn local(&self, node: NodeId) -> &Local {
        &self.local[node.at()]
    }

    pub(crate) fn reasons(&self) -> &[Refusal] {
        &self.reasons
    }
}

fn less(values: &mut BTreeMap<i64, usize>, value: i64) {
    if let Some(count) = values.get_mut(&value) {
        *count -= 1;
        if *count == 0 {
            values.remove(&value);
        }
    }
}
