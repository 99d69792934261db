//! Where a pod goes, and if nowhere, why: a value that explains itself. Must never act on what it decided.

mod inquiry;
mod ranking;
mod refused;
mod scheduler;
mod standing;

#[cfg(test)]
mod properties;

pub(crate) use inquiry::Inquiry;
pub use refused::Refused;
pub(crate) use refused::sentence;
pub use scheduler::{NodeOpinion, Scheduler};

use crate::plugins::Plugin;
use crate::snapshot::{ClaimPlan, NodeId};

/// What a plugin thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginScore {
    /// Which.
    pub plugin: Plugin,
    /// In its own measure.
    pub raw: i64,
    /// In relation to the other nodes, from 0 to 100.
    pub normalized: i64,
    /// By the plugin's weight.
    pub weighted: i64,
}

/// A node for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Which.
    pub node: NodeId,
    /// What plugins thought of it; of those that scored. Empty where there was no choice.
    pub scores: Vec<PluginScore>,
    /// Their sum.
    pub total: i64,
    /// How many nodes would have done.
    pub feasible: usize,
    /// What is to be done with the pod's claims.
    pub claims: ClaimPlan,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The pod goes there.
    Placed(Placement),
    /// It goes nowhere.
    Refused(Refused),
}

impl Decision {
    /// The placement, if it is one.
    #[must_use]
    pub const fn placement(&self) -> Option<&Placement> {
        match self {
            Self::Placed(placement) => Some(placement),
            Self::Refused(_) => None,
        }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub const fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Placed(_) => None,
            Self::Refused(refused) => Some(refused),
        }
    }
}
