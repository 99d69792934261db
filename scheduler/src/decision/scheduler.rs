//! Decides on pods one after the other, and keeps what it learned of one for the next that asks the same. Must never
//! change the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use super::inquiry::Inquiry;
use super::standing::{Known, Local, Relation, Scorer, Standing, Weights};
use super::{Decision, Placement, PluginScore, Refused};
use crate::chance::Chance;
use crate::plugins::{
    Fault, Overlay, Plugin, PluginSet, Refusal, View, inter_pod_affinity, node_affinity, node_name,
    pod_topology_spread,
};
use crate::profile::Profile;
use crate::snapshot::{NodeId, Pod, Snapshot};

/// So many asks are kept.
const MAX_STANDINGS: usize = 32;

/// What is thought of one node for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOpinion {
    /// Which.
    pub node: NodeId,
    /// Its scores, or why it will not do.
    pub verdict: Result<Vec<PluginScore>, Refusal>,
}

/// The one who decides.
#[derive(Debug)]
pub struct Scheduler {
    profiles: Vec<Profile>,
    chance: Chance,
    /// By profile and ask, with the last use.
    standings: HashMap<(usize, u64), (u64, Standing)>,
    uses: u64,
}

impl Scheduler {
    /// With profiles and the seed of its chance.
    #[must_use]
    pub fn new(profiles: Vec<Profile>, seed: u64) -> Self {
        Self { profiles, chance: Chance::of_seed(seed), standings: HashMap::new(), uses: 0 }
    }

    /// The profile of a name, by number.
    #[must_use]
    pub fn profile(&self, scheduler_name: &str) -> Option<usize> {
        self.profiles.iter().position(|profile| &*profile.scheduler_name == scheduler_name)
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Where a pod goes. All nodes are looked at, none is left to chance but among equals.
    pub fn decide(&mut self, snapshot: &Snapshot, pod: &Pod, profile: usize) -> Decision {
        let Self { profiles, chance, standings, uses } = self;
        let profile_number = profile;
        let profile = &profiles[profile];
        let nodes = snapshot.nodes();
        if nodes == 0 {
            return Decision::Refused(Refused::default());
        }
        let pinned = pod.ask.required_nodes.pinned().filter(|_| profile.filters.has(Plugin::NodeAffinity));
        if pinned.as_ref().is_some_and(Vec::is_empty) {
            return Decision::Refused(Refused::everywhere(nodes, node_affinity::conflict()));
        }
        let inquiry = match Inquiry::of(pod, profile, snapshot) {
            Ok(inquiry) => inquiry,
            Err(refusal) => return Decision::Refused(Refused::everywhere(nodes, refusal)),
        };
        // Where room was made for it, it goes first.
        if let Some(node) = pod.nominated_node.as_ref().and_then(|name| snapshot.node(name))
            && inquiry.verdict_with_nominated(node, Overlay::none()).is_ok()
        {
            return inquiry.placed(node, Vec::new(), 1);
        }
        if let Some(pinned) = pinned {
            let nodes = pinned.iter().filter_map(|name| snapshot.node(name));
            return inquiry.among(&nodes.collect::<Vec<_>>(), chance);
        }
        *uses += 1;
        let key = (profile_number, pod.ask.id());
        if !standings.contains_key(&key) && standings.len() >= MAX_STANDINGS {
            let oldest = standings.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|oldest| standings.remove(&oldest));
        }
        let (used, standing) = standings
            .entry(key)
            .and_modify(|(_, standing)| standing.refresh(&pod.taken, profile, snapshot))
            .or_insert_with(|| (0, Standing::of(&pod.ask, &pod.taken, profile, snapshot)));
        *used = *uses;
        inquiry.by_standing(standing, chance)
    }

    /// Decides on pods in turn, each placed before the next. Those that ask the same share all of the work but for the node
    /// that the one before went to.
    pub fn decide_and_assume(
        &mut self,
        snapshot: &mut Snapshot,
        pods: &[Arc<Pod>],
        profile: usize,
    ) -> Vec<Decision> {
        let one = |pod: &Arc<Pod>| {
            let decision = self.decide(snapshot, pod, profile);
            if let Decision::Placed(placement) = &decision {
                snapshot.assume(pod, placement.node, &placement.claims);
            }
            decision
        };
        pods.iter().map(one).collect()
    }

    /// What is thought of every node, best first, those that will not do last: for people. Costs as much as if nothing were
    /// known.
    #[must_use]
    pub fn explain(&self, snapshot: &Snapshot, pod: &Pod, profile: usize) -> Vec<NodeOpinion> {
        let all: Vec<NodeId> = snapshot.columns.present().map(|(node, _)| node).collect();
        let inquiry = match Inquiry::of(pod, &self.profiles[profile], snapshot) {
            Ok(inquiry) => inquiry,
            Err(refusal) => {
                let one = |node| NodeOpinion { node, verdict: Err(refusal.clone()) };
                return all.into_iter().map(one).collect();
            }
        };
        let (feasible, mut refused) = inquiry.sort(&all);
        let mut opinions: Vec<NodeOpinion> = inquiry
            .scored(&feasible)
            .into_iter()
            .map(|(node, scores)| NodeOpinion { node, verdict: Ok(scores) })
            .collect();
        let total = |opinion: &NodeOpinion| {
            let scores =
                opinion.verdict.as_ref().map(|scores| scores.iter().map(|score| score.weighted).sum::<i64>());
            std::cmp::Reverse(scores.unwrap_or(i64::MIN))
        };
        opinions.sort_by_key(total);
        let reasons = std::mem::take(&mut refused.reasons);
        opinions.extend(refused.by_node.iter().map(|(node, number)| NodeOpinion {
            node: *node,
            verdict: Err(reasons[*number as usize].clone()),
        }));
        opinions
    }
}

/// The neighbours' part of the scores.
struct Wishes<'a> {
    spread: Option<pod_topology_spread::Wishes<'a>>,
    affinity: Option<inter_pod_affinity::Wishes<'a>>,
    spread_weight: i64,
    affinity_weight: i64,
}

/// Scores of nodes by neighbours, and their bounds.
#[derive(Default)]
struct Neighbours {
    spread: Vec<i64>,
    spread_bounds: (i64, i64),
    affinity: Vec<i64>,
    affinity_bounds: (i64, i64),
}

impl<'a> Wishes<'a> {
    fn of(inquiry: &Inquiry<'a>, feasible: &[NodeId]) -> Self {
        let Inquiry { pod, profile, snapshot, .. } = inquiry;
        let spread_weight = profile.weight(Plugin::PodTopologySpread);
        let affinity_weight = profile.weight(Plugin::InterPodAffinity);
        let spread = || pod_topology_spread::Wishes::of(pod, snapshot, feasible);
        let affinity = || inter_pod_affinity::Wishes::of(pod, &profile.inter_pod_affinity, snapshot);
        Self {
            spread: (spread_weight != 0).then(spread).flatten(),
            affinity: (affinity_weight != 0).then(affinity).flatten(),
            spread_weight,
            affinity_weight,
        }
    }

    fn is_empty(&self) -> bool {
        self.spread.is_none() && self.affinity.is_none()
    }

    fn score(&self, feasible: &[NodeId]) -> Neighbours {
        let mut all = Neighbours::default();
        if let Some(spread) = &self.spread {
            all.spread = feasible.iter().map(|node| spread.score(*node)).collect();
            let counted = feasible.iter().zip(&all.spread).filter(|(node, _)| !spread.ignores(**node));
            let bounds = counted.map(|(_, score)| *score);
            all.spread_bounds = bounds.fold((i64::MAX, 0), |(least, most), it| (least.min(it), most.max(it)));
        }
        if let Some(affinity) = &self.affinity {
            all.affinity = feasible.iter().map(|node| affinity.score(*node)).collect();
            let bounds = all.affinity.iter();
            all.affinity_bounds =
                bounds.fold((i64::MAX, i64::MIN), |(least, most), it| (least.min(*it), most.max(*it)));
        }
        all
    }

    /// Of the node at a place of the feasible ones.
    fn normalized(&self, at: usize, node: NodeId, all: &Neighbours) -> [(Plugin, i64, i64); 2] {
        let spread = self.spread.as_ref().map_or((0, 0), |spread| {
            let (least, most) = all.spread_bounds;
            let raw = all.spread[at];
            (raw, if spread.ignores(node) { 0 } else { pod_topology_spread::normalized(raw, least, most) })
        });
        let affinity = self.affinity.as_ref().map_or((0, 0), |_| {
            let (least, most) = all.affinity_bounds;
            (all.affinity[at], inter_pod_affinity::normalized(all.affinity[at], least, most))
        });
        [(Plugin::PodTopologySpread, spread.0, spread.1), (Plugin::InterPodAffinity, affinity.0, affinity.1)]
    }

    /// Weighted and summed. Divisions are dear, and many nodes have the same scores.
    fn total(&self, at: usize, node: NodeId, all: &Neighbours, known: &mut KnownTotals) -> i64 {
        if self.is_empty() {
            return 0;
        }
        let raw = (
            all.spread.get(at).copied().unwrap_or(0),
            all.affinity.get(at).copied().unwrap_or(0),
            self.spread.as_ref().is_some_and(|spread| spread.ignores(node)),
        );
        let place = (raw.0 ^ raw.1.rotate_left(3)) as usize % known.0.len();
        if let Some((key, total)) = known.0[place]
            && key == raw
        {
            return total;
        }
        let [(.., spread), (.., affinity)] = self.normalized(at, node, all);
        let total = self.spread_weight * spread + self.affinity_weight * affinity;
        known.0[place] = Some((raw, total));
        total
    }
}

/// Totals that were computed not long ago, by what they follow from.
struct KnownTotals([Option<(RawScores, i64)>; 64]);

/// By spreading, by affinity, and whether spreading ignores the node.
type RawScores = (i64, i64, bool);

impl KnownTotals {
    const fn new() -> Self {
        Self([None; 64])
    }
}

impl Inquiry<'_> {
    /// Chooses with what is known of all nodes.
    fn by_standing(&self, standing: &mut Standing, chance: &mut Chance) -> Decision {
        let scores_neighbours = !self.pod.terms.soft_spread.is_empty() || !Wishes::of(self, &[]).is_empty();
        if !self.is_about_more_than_the_node() && !scores_neighbours {
            let feasible = standing.feasible();
            let Some(node) = standing.ranking().best(chance) else {
                return Decision::Refused(self.refused(standing, Vec::new(), Vec::new()));
            };
            let scores = standing.local(node).normalized(standing.relation());
            return self.placed(node, self.weighted(scores), feasible);
        }
        let mut feasible: Vec<NodeId> = Vec::with_capacity(standing.feasible());
        let (mut reasons, mut by_node) = (Reasons::default(), Vec::new());
        let nominated = self.snapshot.nominated_nodes();
        let volumes = self.has_volumes();
        let faults = self.faults();
        for (at, known) in standing.known().iter().enumerate() {
            let node = NodeId(at as u32);
            if *known != Known::Feasible {
                continue;
            }
            let dear = (volumes && !self.has_easy_volumes(node)) || nominated.contains(&node);
            let number = if dear {
                self.beyond(node).err().map(|refusal| reasons.number(refusal))
            } else {
                faults.get(at).copied().flatten().map(|fault| reasons.number_of_fault(fault))
            };
            match number {
                Some(number) => by_node.push((node, number)),
                None => feasible.push(node),
            }
        }
        let reasons = reasons.all;
        if feasible.is_empty() {
            return Decision::Refused(self.refused(standing, reasons, by_node));
        }
        // What is known relates nodes to all that would do by themselves; fewer may be left.
        let mut relation = standing.relation();
        if feasible.len() < standing.feasible() && relation != Relation::default() {
            relation = related(feasible.iter().map(|node| standing.local(*node)));
        }
        let local = |node| *standing.local(node);
        if relation == standing.relation() {
            let totals = standing.totals();
            return self.choose(&feasible, |node: NodeId| totals[node.at()], local, relation, chance);
        }
        let weights = Weights::of(self.profile);
        self.choose(&feasible, |node| local(node).total(relation, &weights), local, relation, chance)
    }

    fn beyond(&self, node: NodeId) -> Result<(), Refusal> {
        let Some(view) = View::of(self.snapshot, node, Overlay::none()) else {
            return Err(node_name::gone());
        };
        if let Some(more) = self.nominated(node, Overlay::none()) {
            self.beyond_the_node(&View { overlay: &more, ..view })?;
        }
        self.beyond_the_node(&view)
    }

    /// Chooses among nodes that will do.
    fn choose(
        &self,
        feasible: &[NodeId],
        alone: impl Fn(NodeId) -> i64,
        local: impl Fn(NodeId) -> Local,
        relation: Relation,
        chance: &mut Chance,
    ) -> Decision {
        let wishes = Wishes::of(self, feasible);
        let neighbours = wishes.score(feasible);
        let mut best: Vec<usize> = Vec::new();
        let mut greatest = i64::MIN;
        let mut known = KnownTotals::new();
        for (at, node) in feasible.iter().enumerate() {
            let total = alone(*node) + wishes.total(at, *node, &neighbours, &mut known);
            if total > greatest {
                greatest = total;
                best.clear();
            }
            if total == greatest {
                best.push(at);
            }
        }
        let at = best[chance.pick(best.len())];
        let node = feasible[at];
        let parts = local(node).normalized(relation);
        let all = parts.into_iter().chain(wishes.normalized(at, node, &neighbours));
        self.placed(node, self.weighted(all), feasible.len())
    }

    /// Chooses among a few nodes of which nothing is known.
    fn among(&self, nodes: &[NodeId], chance: &mut Chance) -> Decision {
        let (feasible, refused) = self.sort(nodes);
        if feasible.is_empty() {
            let unseen = PluginSet::default().with(Plugin::NodeAffinity);
            return Decision::Refused(Refused { unseen, ..refused });
        }
        let scorer = Scorer::of(&self.pod.ask, self.profile, self.snapshot);
        let local = |node| {
            View::of(self.snapshot, node, Overlay::none())
                .map_or_else(Local::default, |view| scorer.local(&view))
        };
        let all: Vec<Local> = feasible.iter().map(|node| local(*node)).collect();
        let (relation, weights) = (related(all.iter()), Weights::of(self.profile));
        self.choose(&feasible, |node| local(node).total(relation, &weights), local, relation, chance)
    }

    /// Nodes that will do, and why the others will not.
    fn sort(&self, nodes: &[NodeId]) -> (Vec<NodeId>, Refused) {
        let mut refused = Refused { nodes: self.snapshot.nodes(), ..Refused::default() };
        let (mut feasible, mut reasons) = (Vec::new(), Reasons::default());
        for &node in nodes {
            match self.verdict_with_nominated(node, Overlay::none()) {
                Ok(()) => feasible.push(node),
                Err(refusal) => refused.by_node.push((node, reasons.number(refusal))),
            }
        }
        refused.reasons = reasons.all;
        (feasible, refused)
    }

    /// All scores of nodes that will do.
    fn scored(&self, feasible: &[NodeId]) -> Vec<(NodeId, Vec<PluginScore>)> {
        let scorer = Scorer::of(&self.pod.ask, self.profile, self.snapshot);
        let views = feasible.iter().filter_map(|node| View::of(self.snapshot, *node, Overlay::none()));
        let local: Vec<Local> = views.map(|view| scorer.local(&view)).collect();
        let relation = related(local.iter());
        let wishes = Wishes::of(self, feasible);
        let neighbours = wishes.score(feasible);
        let one = |(at, node): (usize, &NodeId)| {
            let parts = local[at].normalized(relation);
            (*node, self.weighted(parts.into_iter().chain(wishes.normalized(at, *node, &neighbours))))
        };
        feasible.iter().enumerate().map(one).collect()
    }

    /// With weights, in the order of the profile; of plugins that score.
    fn weighted(&self, parts: impl IntoIterator<Item = (Plugin, i64, i64)>) -> Vec<PluginScore> {
        let scored = parts.into_iter().map(|(plugin, raw, normalized)| {
            let weighted = normalized * self.profile.weight(plugin);
            PluginScore { plugin, raw, normalized, weighted }
        });
        scored.filter(|score| self.profile.weight(score.plugin) != 0).collect()
    }

    fn placed(&self, node: NodeId, scores: Vec<PluginScore>, feasible: usize) -> Decision {
        let total = scores.iter().map(|score| score.weighted).sum();
        Decision::Placed(Placement { node, scores, total, feasible, claims: self.claim_plan(node) })
    }

    /// What stands against each node: what is known of it alone, or else what was found now.
    fn refused(&self, standing: &Standing, reasons: Vec<Refusal>, by_node: Vec<(NodeId, u32)>) -> Refused {
        let first = standing.reasons().len() as u32;
        let known = standing.known().iter().enumerate().filter_map(|(at, known)| match known {
            Known::Refused(number) => Some((NodeId(at as u32), *number)),
            Known::Absent | Known::Feasible => None,
        });
        let mut all: Vec<(NodeId, u32)> = known.collect();
        all.extend(by_node.into_iter().map(|(node, number)| (node, first + number)));
        Refused {
            nodes: self.snapshot.nodes(),
            reasons: standing.reasons().iter().cloned().chain(reasons).collect(),
            by_node: all,
            ..Refused::default()
        }
    }
}

/// Reasons, each once.
#[derive(Default)]
struct Reasons {
    all: Vec<Refusal>,
    faults: Vec<(&'static Fault, u32)>,
}

impl Reasons {
    fn number(&mut self, refusal: Refusal) -> u32 {
        let number = self.all.iter().position(|other| *other == refusal);
        let number = number.unwrap_or_else(|| {
            self.all.push(refusal);
            self.all.len() - 1
        });
        number as u32
    }

    fn number_of_fault(&mut self, fault: &'static Fault) -> u32 {
        if let Some((_, number)) = self.faults.iter().find(|(other, _)| std::ptr::eq(*other, fault)) {
            return *number;
        }
        let number = self.number((*fault).into());
        self.faults.push((fault, number));
        number
    }
}

/// The greatest values of these.
fn related<'a>(all: impl Iterator<Item = &'a Local>) -> Relation {
    all.fold(Relation::default(), |greatest, local| Relation {
        taints: greatest.taints.max(local.taints),
        affinity: greatest.affinity.max(local.affinity),
    })
}
