//! The ReplicaSets of a Deployment, told apart: the one of the current template, and the old ones. A decision.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::annotations::revision;
use super::template;
use crate::kind::Object as _;

/// What a ReplicaSet says, with what it leaves out filled in.
pub(super) trait Counts {
    /// How many pods it is to have.
    fn wanted(&self) -> i32;
    /// How many it has.
    fn actual(&self) -> i32;
    /// How many of them are ready.
    fn ready(&self) -> i32;
    /// How many of them are available.
    fn available(&self) -> i32;
    /// Whether its status tells of what it is to have now.
    fn is_observed(&self) -> bool;
    /// When it was made.
    fn created(&self) -> Option<Timestamp>;

    /// How many pods it can have now or soon.
    fn at_most(&self) -> i32 {
        self.wanted().max(self.actual())
    }

    /// How many available pods it surely has and keeps: those that do not run go first.
    fn surely_available(&self) -> i32 {
        self.wanted().min(self.available())
    }
}

impl Counts for ReplicaSet {
    fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn actual(&self) -> i32 {
        self.status.as_ref().map_or(0, |status| status.replicas)
    }

    fn ready(&self) -> i32 {
        self.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default()
    }

    fn available(&self) -> i32 {
        self.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
    }

    fn is_observed(&self) -> bool {
        let observed = self.status.as_ref().and_then(|status| status.observed_generation);
        observed.unwrap_or_default() >= self.metadata.generation.unwrap_or_default()
    }

    fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }
}

/// The ReplicaSets of a Deployment, the oldest first.
#[derive(Debug, Clone)]
pub(super) struct Sets {
    pub(super) all: Vec<Arc<ReplicaSet>>,
    /// Where in `all` the one of the current template is.
    pub(super) new: Option<usize>,
}

impl Sets {
    /// Those of a Deployment. Of several with its template, the oldest is the current one.
    pub(super) fn of(deployment: &Deployment, owned: &[Arc<ReplicaSet>]) -> Self {
        let mut all = owned.to_vec();
        all.sort_by_cached_key(|set| (set.created(), set.key().name));
        let is_current = |set: &Arc<ReplicaSet>| {
            let own = set.spec.template.as_ref();
            own.is_some_and(|own| template::is_same(own, &deployment.spec.template))
        };
        Self { new: all.iter().position(is_current), all }
    }

    /// The one of the current template.
    pub(super) fn current(&self) -> Option<&Arc<ReplicaSet>> {
        self.new.map(|new| &self.all[new])
    }

    /// Where the others are, the oldest first.
    pub(super) fn old(&self) -> impl Iterator<Item = usize> + Clone {
        let new = self.new;
        (0..self.all.len()).filter(move |at| Some(*at) != new)
    }

    /// The revision that the current one must have at least.
    pub(super) fn newest_revision(&self) -> i64 {
        self.old().map(|at| revision(&self.all[at])).max().unwrap_or_default() + 1
    }

    /// The sum of something over all.
    pub(super) fn sum(&self, count: impl Fn(&ReplicaSet) -> i32) -> i32 {
        self.all.iter().map(|set| count(set)).sum()
    }
}
