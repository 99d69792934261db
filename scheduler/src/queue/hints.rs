//! Whether something that happened may help a pod that was refused: one function for each plugin. May say yes too often,
//! and must never say no where it could help.

use super::Event;
use crate::node::NodeSpec;
use crate::plugins::{Plugin, PluginSet};
use crate::pod::{Identity, PodTerm};
use crate::snapshot::Pod;
use crate::taint::{Taint, first_untolerated, tolerated};

/// Whether it may help a pod that these plugins refused. One is enough: the others may have been helped before.
pub(super) fn may_help(plugins: PluginSet, event: &Event, pod: &Pod) -> bool {
    if matches!(event, Event::Anything) || plugins == PluginSet::default() {
        return true;
    }
    if let Event::Pending { old, new } = event {
        return pending(old, new);
    }
    plugins.iter().any(|plugin| helps(plugin, event, pod))
}

/// A waiting pod that asks for something else may fit now.
fn pending(old: &Pod, new: &Pod) -> bool {
    let named = |pod: &Pod| pod.volumes.clone();
    old.ask.id() != new.ask.id()
        || old.terms.id() != new.terms.id()
        || old.identity.id() != new.identity.id()
        || old.gates != new.gates
        || named(old) != named(new)
}

fn helps(plugin: Plugin, event: &Event, pod: &Pod) -> bool {
    match plugin {
        Plugin::NodeUnschedulable => {
            let open = |node: &NodeSpec| {
                !node.unschedulable || tolerated(&pod.ask.tolerations, &Taint::unschedulable())
            };
            becomes(event, open)
        }
        Plugin::NodeName => {
            becomes(event, |node| pod.ask.node_name.as_ref().is_none_or(|name| *name == node.name))
        }
        Plugin::TaintToleration => {
            becomes(event, |node| first_untolerated(&pod.ask.tolerations, &node.taints).is_none())
        }
        Plugin::NodeAffinity => {
            becomes(event, |node| pod.ask.required_nodes.matches(&node.name, &node.labels))
        }
        Plugin::NodePorts => match event {
            Event::PodGone(gone) => {
                let conflicts = |port| pod.ask.ports.iter().any(|mine| mine.conflicts(port));
                gone.ask.ports.iter().any(conflicts)
            }
            Event::NodeAdded(_) => true,
            _ => false,
        },
        Plugin::NodeResourcesFit => resources(event, pod),
        Plugin::VolumeRestrictions => match event {
            Event::PodGone(gone) => !gone.volumes.is_empty(),
            Event::Claim(key) => names(pod, key),
            Event::NodeAdded(_) => true,
            _ => false,
        },
        Plugin::NodeVolumeLimits => match event {
            Event::PodGone(gone) => !gone.volumes.is_empty(),
            Event::Claim(key) => names(pod, key),
            Event::Limits | Event::Volume | Event::NodeAdded(_) => true,
            _ => false,
        },
        Plugin::VolumeBinding | Plugin::VolumeZone => match event {
            Event::Claim(key) => names(pod, key),
            Event::Volume | Event::Class | Event::Limits | Event::NodeAdded(_) => true,
            Event::NodeChanged { old, new } => old.labels != new.labels,
            _ => false,
        },
        Plugin::PodTopologySpread => spread(event, pod),
        Plugin::InterPodAffinity => neighbours(event, pod),
        // Where others made room for it, or may do so.
        Plugin::DefaultPreemption => matches!(event, Event::PodGone(_)),
        Plugin::SchedulingGates
        | Plugin::PrioritySort
        | Plugin::NodeResourcesBalancedAllocation
        | Plugin::ImageLocality
        | Plugin::DefaultBinder => false,
    }
}

/// A node is there for which something holds, or it holds now and did not.
fn becomes(event: &Event, holds: impl Fn(&NodeSpec) -> bool) -> bool {
    match event {
        Event::NodeAdded(node) => holds(node),
        Event::NodeChanged { old, new } => holds(new) && !holds(old),
        _ => false,
    }
}

fn names(pod: &Pod, claim: &crate::volume::ClaimKey) -> bool {
    pod.name.namespace == claim.namespace && pod.volumes.claims.iter().any(|mine| mine.name == claim.name)
}

fn resources(event: &Event, pod: &Pod) -> bool {
    let asks = &pod.ask.requests;
    let fits = |node: &NodeSpec| {
        let offers = &node.allocatable;
        offers.pods > 0
            && asks.cpu_milli <= offers.cpu_milli
            && asks.memory <= offers.memory
            && asks.ephemeral_storage <= offers.ephemeral_storage
            && asks.scalar.iter().all(|(name, amount)| *amount <= offers.get(name))
    };
    match event {
        // Every pod gives a place back, whatever it asked for.
        Event::PodGone(_) => true,
        Event::PodChanged { old, new } => {
            let (before, after) = (&old.ask.requests, &new.ask.requests);
            before.cpu_milli > after.cpu_milli
                || before.memory > after.memory
                || before.ephemeral_storage > after.ephemeral_storage
                || before.scalar.iter().any(|(name, amount)| *amount > after.get(name))
        }
        Event::NodeAdded(node) => fits(node),
        Event::NodeChanged { old, new } => {
            let (before, after) = (&old.allocatable, &new.allocatable);
            let more = after.cpu_milli > before.cpu_milli
                || after.memory > before.memory
                || after.ephemeral_storage > before.ephemeral_storage
                || after.pods > before.pods
                || after.scalar.iter().any(|(name, amount)| *amount > before.get(name));
            more && fits(new)
        }
        _ => false,
    }
}

fn spread(event: &Event, pod: &Pod) -> bool {
    let hard = &pod.terms.hard_spread;
    let counts = |other: &Identity| {
        other.namespace == pod.identity.namespace
            && hard.iter().any(|one| one.selector.matches(&other.labels))
    };
    let in_domains = |node: &NodeSpec| hard.iter().all(|one| node.labels.get(&one.topology_key).is_some());
    match event {
        Event::PodPlaced(other) | Event::PodGone(other) => counts(&other.identity),
        Event::PodChanged { old, new } => {
            counts(&old.identity) != counts(&new.identity) || old.terminating != new.terminating
        }
        Event::NodeAdded(node) | Event::NodeRemoved(node) => in_domains(node),
        Event::NodeChanged { old, new } => {
            (in_domains(old) || in_domains(new)) && (old.labels != new.labels || old.taints != new.taints)
        }
        _ => false,
    }
}

fn neighbours(event: &Event, pod: &Pod) -> bool {
    let near = |other: &Pod| pod.terms.affinity.iter().any(|term| could_mean(&term.pods, &other.identity));
    let far =
        |other: &Pod| pod.terms.anti_affinity.iter().any(|term| could_mean(&term.pods, &other.identity));
    let wants_none =
        |other: &Pod| other.terms.anti_affinity.iter().any(|term| could_mean(&term.pods, &pod.identity));
    match event {
        Event::PodPlaced(other) => near(other),
        Event::PodGone(other) => far(other) || wants_none(other),
        Event::PodChanged { old, new } => {
            old.identity.id() != new.identity.id() && (near(new) || far(old) || wants_none(old))
        }
        Event::NodeAdded(_) | Event::Namespace => true,
        Event::NodeChanged { old, new } => old.labels != new.labels,
        // The last pod near may have been on it; then the first one may be anywhere.
        Event::NodeRemoved(_) => !pod.terms.affinity.is_empty(),
        _ => false,
    }
}

/// Namespaces with labels are not looked at: any could be meant.
fn could_mean(term: &PodTerm, other: &Identity) -> bool {
    if term.names_its_namespaces() { term.matches(other, None) } else { term.selector.matches(&other.labels) }
}
