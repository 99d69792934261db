//! A profile: which plugins decide for the pods that name it, and with which arguments. Values only; must never read text
//! (that is [`config`](crate::config)'s).

use crate::plugins::{Plugin, PluginSet};
use crate::pod::{DefaultSpread, NodeTerms, PreferredNodes};

/// A resource that is scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredResource {
    /// Its name.
    pub name: Box<str>,
    /// How much it counts, from 1.
    pub weight: i64,
}

/// How much of a resource taken is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Little.
    LeastAllocated,
    /// Much.
    MostAllocated,
    /// As a line through points says: utilization in percent, and a score up to 100.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// Arguments of `NodeResourcesFit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitArgs {
    /// Resources beyond the usual ones that need not be enough.
    pub ignored_resources: Vec<Box<str>>,
    /// The same, by what stands before the `/`.
    pub ignored_resource_groups: Vec<Box<str>>,
    /// How nodes are scored.
    pub strategy: Strategy,
    /// By which resources.
    pub resources: Vec<ScoredResource>,
}

impl FitArgs {
    /// Whether a resource need not be enough.
    #[must_use]
    pub fn ignores(&self, name: &str) -> bool {
        let Some((group, _)) = name.split_once('/') else { return false };
        let named = |names: &[Box<str>], name: &str| names.iter().any(|one| &**one == name);
        named(&self.ignored_resources, name) || named(&self.ignored_resource_groups, group)
    }
}

/// Affinity to nodes that a profile adds to that of its pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedAffinity {
    /// What must hold.
    pub required: Option<NodeTerms>,
    /// What is wished.
    pub preferred: PreferredNodes,
}

/// Arguments of `InterPodAffinity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterPodAffinityArgs {
    /// What it is worth to a node that a pod there must be near the new one.
    pub hard_pod_affinity_weight: i64,
    /// Wishes of placed pods do not count for pods that have none.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

/// Arguments of `DefaultPreemption`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreemptionArgs {
    /// At least so many nodes in a hundred are tried,
    pub min_candidate_nodes_percentage: u32,
    /// and at least so many.
    pub min_candidate_nodes_absolute: u32,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What pods name it.
    pub scheduler_name: Box<str>,
    /// Plugins that are asked whether pods may be tried at all, and whether nodes will do.
    pub filters: PluginSet,
    /// Plugins that score, with their weights.
    pub scores: Vec<(Plugin, i64)>,
    /// Whether pods of lower priority may be evicted.
    pub preempts: bool,
    /// Arguments of `NodeResourcesFit`.
    pub fit: FitArgs,
    /// Resources of `NodeResourcesBalancedAllocation`.
    pub balanced: Vec<ScoredResource>,
    /// Arguments of `NodeAffinity`.
    pub added_affinity: AddedAffinity,
    /// Arguments of `PodTopologySpread`.
    pub default_spread: DefaultSpread,
    /// Arguments of `InterPodAffinity`.
    pub inter_pod_affinity: InterPodAffinityArgs,
    /// Arguments of `DefaultPreemption`.
    pub preemption: PreemptionArgs,
}

/// CPU and memory, equally.
fn cpu_and_memory() -> Vec<ScoredResource> {
    ["cpu", "memory"].map(|name| ScoredResource { name: name.into(), weight: 1 }).to_vec()
}

/// The plugins that score without configuration.
pub(crate) const DEFAULT_SCORES: [(Plugin, i64); 7] = [
    (Plugin::TaintToleration, 3),
    (Plugin::NodeAffinity, 2),
    (Plugin::NodeResourcesFit, 1),
    (Plugin::PodTopologySpread, 2),
    (Plugin::InterPodAffinity, 2),
    (Plugin::NodeResourcesBalancedAllocation, 1),
    (Plugin::ImageLocality, 1),
];

/// The plugins that filter.
pub(crate) const FILTERS: [Plugin; 13] = [
    Plugin::SchedulingGates,
    Plugin::NodeUnschedulable,
    Plugin::NodeName,
    Plugin::TaintToleration,
    Plugin::NodeAffinity,
    Plugin::NodePorts,
    Plugin::NodeResourcesFit,
    Plugin::VolumeRestrictions,
    Plugin::NodeVolumeLimits,
    Plugin::VolumeBinding,
    Plugin::VolumeZone,
    Plugin::PodTopologySpread,
    Plugin::InterPodAffinity,
];

impl Profile {
    /// What Kubernetes does without configuration.
    #[must_use]
    pub fn of_defaults(scheduler_name: &str) -> Self {
        Self {
            scheduler_name: scheduler_name.into(),
            filters: PluginSet::of(&FILTERS),
            scores: DEFAULT_SCORES.to_vec(),
            preempts: true,
            fit: FitArgs {
                ignored_resources: Vec::new(),
                ignored_resource_groups: Vec::new(),
                strategy: Strategy::LeastAllocated,
                resources: cpu_and_memory(),
            },
            balanced: cpu_and_memory(),
            added_affinity: AddedAffinity::default(),
            default_spread: DefaultSpread::of_system(),
            inter_pod_affinity: InterPodAffinityArgs {
                hard_pod_affinity_weight: 1,
                ignore_preferred_terms_of_existing_pods: false,
            },
            preemption: PreemptionArgs {
                min_candidate_nodes_percentage: 10,
                min_candidate_nodes_absolute: 100,
            },
        }
    }

    /// The weight of a plugin's score; 0 if it does not score.
    #[must_use]
    pub fn weight(&self, plugin: Plugin) -> i64 {
        self.scores.iter().find(|(other, _)| *other == plugin).map_or(0, |(_, weight)| *weight)
    }
}
