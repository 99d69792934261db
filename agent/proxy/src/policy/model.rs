//! A policy, read. Must never hold what the API has not said.

use std::sync::Arc;

use barque_api::labels::Selector;

use crate::nft::Block;
use crate::pods::{Labels, Pod};
use crate::services::Protocol;

/// Which way packets go, seen from the pods that a policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To them.
    Ingress,
    /// From them.
    Egress,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// A policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `namespace/name`.
    pub name: Arc<str>,
    /// Of the pods it selects.
    pub namespace: Arc<str>,
    /// Which of the pods of its namespace.
    pub pods: Selector,
    /// What may reach them; none, if the policy does not speak of it.
    pub ingress: Option<Vec<RuleOf>>,
    /// What they may reach; none, if the policy does not speak of it.
    pub egress: Option<Vec<RuleOf>>,
}

impl Policy {
    /// What it allows, if it speaks of this direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&[RuleOf]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// Whether it speaks of a pod.
    #[must_use]
    pub fn selects(&self, pod: &Pod) -> bool {
        *self.namespace == *pod.namespace && self.pods.matches(&pod.labels)
    }

    /// Whether what it allows depends on a pod whose namespace has these labels.
    #[must_use]
    pub fn reads(&self, pod: &Pod, namespace: &Labels) -> bool {
        let rules = || self.ingress.iter().chain(&self.egress).flatten();
        let peers = || rules().flat_map(|rule| rule.peers.iter().flatten());
        let named = || {
            rules()
                .flat_map(|rule| rule.ports.iter().flatten())
                .any(|ports| matches!(ports, Ports::Named { .. }))
        };
        peers().any(|peer| peer.selects(&self.namespace, pod, namespace)) || named()
    }
}

/// What one rule of a policy allows: these peers at these ports.
#[derive(Debug, Clone)]
pub struct RuleOf {
    /// None means everybody.
    pub peers: Option<Vec<Peer>>,
    /// None means every port.
    pub ports: Option<Vec<Ports>>,
}

/// The other side.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Pods.
    Pods(Selects),
    /// Addresses.
    Block(AddressBlock),
}

/// Which pods.
#[derive(Debug, Clone)]
pub struct Selects {
    /// None means the policy's own namespace.
    pub namespaces: Option<Selector>,
    /// Among the pods of the namespaces.
    pub pods: Selector,
}

impl Peer {
    /// Whether a pod is meant, of a namespace with these labels, by a policy of namespace `own`.
    pub(super) fn selects(&self, own: &str, pod: &Pod, namespace: &Labels) -> bool {
        let Self::Pods(selects) = self else { return false };
        let there = match &selects.namespaces {
            None => *own == *pod.namespace,
            Some(selector) => selector.matches(namespace),
        };
        there && selects.pods.matches(&pod.labels)
    }
}

/// Addresses with some left out.
#[derive(Debug, Clone)]
pub struct AddressBlock {
    /// These.
    pub block: Block,
    /// But not those.
    pub except: Vec<Block>,
}

/// Ports of the receiving side.
#[derive(Debug, Clone)]
pub enum Ports {
    /// By number.
    Numbered {
        /// What they speak.
        protocol: Protocol,
        /// None means all.
        range: Option<PortRange>,
    },
    /// By the name that the receiving pod gives one of its ports.
    Named {
        /// What it speaks.
        protocol: Protocol,
        /// The name.
        name: String,
    },
}

/// From the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}
