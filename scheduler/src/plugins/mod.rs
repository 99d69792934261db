//! What speaks for and against a node: one file for each plugin, pure functions of the pod and the node. Must never know
//! what was decided before, or by whom they are asked.

pub(crate) mod balanced_allocation;
pub(crate) mod image_locality;
pub(crate) mod inter_pod_affinity;
pub(crate) mod node_affinity;
pub(crate) mod node_name;
pub(crate) mod node_ports;
pub(crate) mod node_resources_fit;
pub(crate) mod node_unschedulable;
pub(crate) mod node_volume_limits;
pub(crate) mod pod_topology_spread;
pub(crate) mod scheduling_gates;
pub(crate) mod taint_toleration;
mod view;
pub(crate) mod volume_binding;
pub(crate) mod volume_restrictions;
pub(crate) mod volume_zone;

#[cfg(test)]
mod tests;

pub use scheduling_gates::refusal as gated;
pub(crate) use view::{Overlay, View};
pub use volume_binding::{Progress, progress};

/// The best score of a node.
pub const MAX_NODE_SCORE: i64 = 100;

/// The plugins, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plugin {
    /// Pods wait until their gates are lifted.
    SchedulingGates,
    /// Pods of higher priority come first.
    PrioritySort,
    /// Cordoned nodes.
    NodeUnschedulable,
    /// The one node that a pod names.
    NodeName,
    /// Taints.
    TaintToleration,
    /// Labels of nodes.
    NodeAffinity,
    /// Ports of the node.
    NodePorts,
    /// Resources.
    NodeResourcesFit,
    /// Volumes for one pod alone.
    VolumeRestrictions,
    /// How many volumes drivers attach.
    NodeVolumeLimits,
    /// Claims and the nodes that reach their volumes.
    VolumeBinding,
    /// Zones of volumes.
    VolumeZone,
    /// Even spreading.
    PodTopologySpread,
    /// Pods near or far.
    InterPodAffinity,
    /// Room made by evicting others.
    DefaultPreemption,
    /// Resources used evenly.
    NodeResourcesBalancedAllocation,
    /// Images that are there.
    ImageLocality,
    /// The binding.
    DefaultBinder,
}

impl Plugin {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::SchedulingGates,
        Self::PrioritySort,
        Self::NodeUnschedulable,
        Self::NodeName,
        Self::TaintToleration,
        Self::NodeAffinity,
        Self::NodePorts,
        Self::NodeResourcesFit,
        Self::VolumeRestrictions,
        Self::NodeVolumeLimits,
        Self::VolumeBinding,
        Self::VolumeZone,
        Self::PodTopologySpread,
        Self::InterPodAffinity,
        Self::DefaultPreemption,
        Self::NodeResourcesBalancedAllocation,
        Self::ImageLocality,
        Self::DefaultBinder,
    ];

    /// The name in configurations, events and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SchedulingGates => "SchedulingGates",
            Self::PrioritySort => "PrioritySort",
            Self::NodeUnschedulable => "NodeUnschedulable",
            Self::NodeName => "NodeName",
            Self::TaintToleration => "TaintToleration",
            Self::NodeAffinity => "NodeAffinity",
            Self::NodePorts => "NodePorts",
            Self::NodeResourcesFit => "NodeResourcesFit",
            Self::VolumeRestrictions => "VolumeRestrictions",
            Self::NodeVolumeLimits => "NodeVolumeLimits",
            Self::VolumeBinding => "VolumeBinding",
            Self::VolumeZone => "VolumeZone",
            Self::PodTopologySpread => "PodTopologySpread",
            Self::InterPodAffinity => "InterPodAffinity",
            Self::DefaultPreemption => "DefaultPreemption",
            Self::NodeResourcesBalancedAllocation => "NodeResourcesBalancedAllocation",
            Self::ImageLocality => "ImageLocality",
            Self::DefaultBinder => "DefaultBinder",
        }
    }

    /// The plugin of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PluginSet(u32);

impl PluginSet {
    /// Of these.
    #[must_use]
    pub fn of(plugins: &[Plugin]) -> Self {
        plugins.iter().fold(Self::default(), |set, plugin| set.with(*plugin))
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, plugin: Plugin) -> Self {
        Self(self.0 | 1 << plugin as u32)
    }

    /// With all of another one.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u32) != 0
    }

    /// They, in order.
    pub fn iter(self) -> impl Iterator<Item = Plugin> {
        Plugin::ALL.into_iter().filter(move |plugin| self.has(*plugin))
    }
}

/// Why a node will not do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Who says so.
    pub plugin: Plugin,
    /// Whether it would help to evict pods (`Unschedulable` and not `UnschedulableAndUnresolvable`).
    pub resolvable: bool,
    /// In Kubernetes' words.
    pub reasons: Vec<Box<str>>,
}

impl Refusal {
    pub(crate) fn resolvable(plugin: Plugin, reason: impl Into<Box<str>>) -> Self {
        Self { plugin, resolvable: true, reasons: vec![reason.into()] }
    }

    pub(crate) fn unresolvable(plugin: Plugin, reason: impl Into<Box<str>>) -> Self {
        Self { plugin, resolvable: false, reasons: vec![reason.into()] }
    }
}

/// A refusal that is the same for every node: told so often that it must cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    plugin: Plugin,
    resolvable: bool,
    reason: &'static str,
}

impl Fault {
    pub(crate) const fn resolvable(plugin: Plugin, reason: &'static str) -> Self {
        Self { plugin, resolvable: true, reason }
    }

    pub(crate) const fn unresolvable(plugin: Plugin, reason: &'static str) -> Self {
        Self { plugin, resolvable: false, reason }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { plugin: fault.plugin, resolvable: fault.resolvable, reasons: vec![fault.reason.into()] }
    }
}

/// Faults of all nodes: none where a node will do.
pub(crate) type Faults = Vec<Option<&'static Fault>>;

/// Tells a fault of all nodes without one that are in a bad place, or in none.
pub(crate) fn mark(
    faults: &mut Faults,
    column: &[u32],
    nowhere: Option<&'static Fault>,
    bad: &[bool],
    fault: &'static Fault,
) {
    for (place, told) in column.iter().zip(faults) {
        let found = match bad.get(*place as usize) {
            Some(true) => Some(fault),
            Some(false) => None,
            None => nowhere,
        };
        *told = told.or(found);
    }
}

/// The verdict on one node.
pub(crate) type Verdict = Result<(), Refusal>;

/// A score in relation to the greatest one; with `reverse`, less is better.
pub(crate) fn normalized(score: i64, max: i64, reverse: bool) -> i64 {
    if max == 0 {
        return if reverse { MAX_NODE_SCORE } else { 0 };
    }
    let score = MAX_NODE_SCORE * score / max;
    if reverse { MAX_NODE_SCORE - score } else { score }
}
