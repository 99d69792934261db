//! What a pod asks of the pods beside it: affinity, anti-affinity and spreading, compiled to values that are compared
//! and shared. Must never look at placed pods; that is the snapshot's to count.

use barque_api::labels::{Operator, Requirement, Selector};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::RequiredNodes;
use super::workloads::Workloads;
use crate::label_set::{LabelSet, SelectorError, requirement, requirements_of, selector_of};
use crate::taint::Toleration;

/// The label by which nodes are told apart.
pub const HOSTNAME: &str = "kubernetes.io/hostname";
/// The label of zones.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// What terms see of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Where it lives.
    pub namespace: Box<str>,
    /// What it is called.
    pub labels: LabelSet,
}

/// Which pods a term means.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodTerm {
    /// In one of these namespaces, sorted,
    pub namespaces: Box<[Box<str>]>,
    /// or in one with such labels;
    pub namespace_selector: Selector,
    /// with such labels.
    pub selector: Selector,
}

impl PodTerm {
    /// Whether a pod is meant, that lives in a namespace with these labels.
    #[must_use]
    pub fn matches(&self, pod: &Identity, namespace: Option<&LabelSet>) -> bool {
        let there = self.namespaces.binary_search(&pod.namespace).is_ok()
            || self.namespace_selector.is_everything()
            || (!self.namespace_selector.is_nothing() && self.namespace_selector.matches(&namespace));
        there && self.selector.matches(&pod.labels)
    }

    /// Whether only pods of the namespaces named can be meant.
    pub(crate) fn names_its_namespaces(&self) -> bool {
        self.namespace_selector.is_nothing()
    }
}

/// A term and the label that says how near is near.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AffinityTerm {
    /// The pods.
    pub pods: PodTerm,
    /// Nodes with the same value of this label are one place.
    pub topology_key: Box<str>,
}

/// A wish: near with a positive weight, far with a negative one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedTerm {
    /// How much it counts.
    pub weight: i64,
    /// Near what.
    pub term: AffinityTerm,
}

/// One constraint of even spreading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpreadConstraint {
    /// By how many pods domains may differ.
    pub max_skew: i32,
    /// The label that makes domains.
    pub topology_key: Box<str>,
    /// The pods that are counted, in the pod's own namespace.
    pub selector: Selector,
    /// With fewer domains than these, the emptiest counts as having no pod.
    pub min_domains: i32,
    /// Only nodes count on which the pod may run by its node affinity.
    pub honors_affinity: bool,
    /// Only nodes count whose taints the pod tolerates.
    pub honors_taints: bool,
}

/// Everything a pod asks of other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlacementTerms {
    /// The pod's namespace.
    pub namespace: Box<str>,
    /// Must be near.
    pub affinity: Box<[AffinityTerm]>,
    /// Must not be near.
    pub anti_affinity: Box<[AffinityTerm]>,
    /// Would be near, or far.
    pub preferred: Box<[WeightedTerm]>,
    /// Must be spread.
    pub hard_spread: Box<[SpreadConstraint]>,
    /// Would be spread.
    pub soft_spread: Box<[SpreadConstraint]>,
    /// Whether nodes without all labels of `soft_spread` score nothing; not for the system's own defaults.
    pub soft_spread_needs_all_keys: bool,
    /// Where the pod may run, if a constraint honours it.
    pub nodes: RequiredNodes,
    /// What the pod tolerates, if a constraint honours it.
    pub tolerations: Box<[Toleration]>,
}

impl PlacementTerms {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.preferred.is_empty()
            && self.hard_spread.is_empty()
            && self.soft_spread.is_empty()
    }

    /// Whether later pods must look at the same, when pods with these terms are placed.
    pub(crate) fn carries_as(&self, other: &Self) -> bool {
        self.affinity == other.affinity
            && self.anti_affinity == other.anti_affinity
            && self.preferred == other.preferred
    }

    /// Whether pods that are placed carry something that later pods must look at.
    pub(crate) fn is_carried(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty() && self.preferred.is_empty())
    }
}

/// A constraint that pods have which have none of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultConstraint {
    /// By how many pods domains may differ.
    pub max_skew: i32,
    /// The label that makes domains.
    pub topology_key: Box<str>,
    /// Whether it must hold.
    pub hard: bool,
}

/// The constraints of pods that have none of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultSpread {
    /// They.
    pub constraints: Vec<DefaultConstraint>,
    /// Whether they are the system's own: then nodes need not have all the labels.
    pub system: bool,
}

impl DefaultSpread {
    /// What Kubernetes does without configuration.
    #[must_use]
    pub fn of_system() -> Self {
        let soft =
            |key: &str, max_skew| DefaultConstraint { max_skew, topology_key: key.into(), hard: false };
        Self { constraints: vec![soft(HOSTNAME, 3), soft(ZONE, 5)], system: true }
    }
}

/// Compiles the terms of a pod.
pub(super) fn of_pod(
    pod: &core::Pod,
    spec: &core::PodSpec,
    identity: &Identity,
    workloads: &Workloads,
    defaults: &DefaultSpread,
) -> Result<PlacementTerms, SelectorError> {
    let mut terms = PlacementTerms { soft_spread_needs_all_keys: true, ..PlacementTerms::default() };
    if let Some(affinity) = &spec.affinity {
        if let Some(near) = &affinity.pod_affinity {
            terms.affinity =
                required(near.required_during_scheduling_ignored_during_execution.as_deref(), identity)?;
            let preferred = near.preferred_during_scheduling_ignored_during_execution.as_deref();
            terms.preferred = weighted(preferred, 1, identity)?.into();
        }
        if let Some(far) = &affinity.pod_anti_affinity {
            terms.anti_affinity =
                required(far.required_during_scheduling_ignored_during_execution.as_deref(), identity)?;
            let preferred = far.preferred_during_scheduling_ignored_during_execution.as_deref();
            let mut all = terms.preferred.into_vec();
            all.extend(weighted(preferred, -1, identity)?);
            terms.preferred = all.into();
        }
    }
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    match spec.topology_spread_constraints.as_deref() {
        Some(constraints) if !constraints.is_empty() => {
            for constraint in constraints {
                let compiled = spread(constraint, identity)?;
                let hard_one = constraint.when_unsatisfiable == "DoNotSchedule";
                (if hard_one { &mut hard } else { &mut soft }).push(compiled);
            }
        }
        _ if !defaults.constraints.is_empty() => {
            if let Some(selector) = workloads.selector_for(pod, identity) {
                for constraint in &defaults.constraints {
                    let compiled = SpreadConstraint {
                        max_skew: constraint.max_skew,
                        topology_key: constraint.topology_key.clone(),
                        selector: selector.clone(),
                        min_domains: 1,
                        honors_affinity: true,
                        honors_taints: false,
                    };
                    (if constraint.hard { &mut hard } else { &mut soft }).push(compiled);
                }
                terms.soft_spread_needs_all_keys = !defaults.system;
            }
        }
        _ => {}
    }
    let all = || hard.iter().chain(&soft);
    if all().any(|constraint| constraint.honors_affinity) {
        terms.nodes = RequiredNodes::of(spec);
    }
    if all().any(|constraint| constraint.honors_taints) {
        terms.tolerations = spec.tolerations.iter().flatten().map(Toleration::of).collect();
    }
    terms.hard_spread = hard.into();
    terms.soft_spread = soft.into();
    if !terms.is_empty() {
        terms.namespace = identity.namespace.clone();
    }
    Ok(terms)
}

fn required(
    terms: Option<&[core::PodAffinityTerm]>,
    identity: &Identity,
) -> Result<Box<[AffinityTerm]>, SelectorError> {
    terms.into_iter().flatten().map(|term| affinity_term(term, identity)).collect()
}

fn weighted(
    terms: Option<&[core::WeightedPodAffinityTerm]>,
    sign: i64,
    identity: &Identity,
) -> Result<Vec<WeightedTerm>, SelectorError> {
    let one = |one: &core::WeightedPodAffinityTerm| {
        let term = affinity_term(&one.pod_affinity_term, identity)?;
        Ok(WeightedTerm { weight: sign * i64::from(one.weight), term })
    };
    terms.into_iter().flatten().map(one).collect()
}

fn affinity_term(term: &core::PodAffinityTerm, identity: &Identity) -> Result<AffinityTerm, SelectorError> {
    let mut namespaces: Vec<Box<str>> =
        term.namespaces.iter().flatten().map(|name| name.as_str().into()).collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(identity.namespace.clone());
    }
    namespaces.sort_unstable();
    namespaces.dedup();
    let selector = with_own_labels(
        term.label_selector.as_ref(),
        term.match_label_keys.as_deref(),
        term.mismatch_label_keys.as_deref(),
        identity,
    )?;
    Ok(AffinityTerm {
        pods: PodTerm {
            namespaces: namespaces.into(),
            namespace_selector: selector_of(term.namespace_selector.as_ref())?,
            selector,
        },
        topology_key: term.topology_key.as_str().into(),
    })
}

fn spread(
    constraint: &core::TopologySpreadConstraint,
    identity: &Identity,
) -> Result<SpreadConstraint, SelectorError> {
    let keys = constraint.match_label_keys.as_deref();
    let honors = |policy: &Option<String>, default| policy.as_deref().map_or(default, |it| it == "Honor");
    Ok(SpreadConstraint {
        max_skew: constraint.max_skew,
        topology_key: constraint.topology_key.as_str().into(),
        selector: with_own_labels(constraint.label_selector.as_ref(), keys, None, identity)?,
        min_domains: constraint.min_domains.unwrap_or(1),
        honors_affinity: honors(&constraint.node_affinity_policy, true),
        honors_taints: honors(&constraint.node_taints_policy, false),
    })
}

/// A selector that also asks for the pod's own values of some labels. An API server may have merged them already; asking
/// twice is asking once.
fn with_own_labels(
    selector: Option<&LabelSelector>,
    same: Option<&[String]>,
    other: Option<&[String]>,
    identity: &Identity,
) -> Result<Selector, SelectorError> {
    let Some(mut requirements) = requirements_of(selector)? else { return Ok(Selector::nothing()) };
    let keys = [(same, Operator::In), (other, Operator::NotIn)];
    for (keys, operator) in keys {
        for key in keys.into_iter().flatten() {
            let Some(value) = identity.labels.get(key) else { continue };
            let own: Requirement = requirement(key, operator, &[value])?;
            if !requirements.contains(&own) {
                requirements.push(own);
            }
        }
    }
    Ok(Selector::of(requirements))
}
