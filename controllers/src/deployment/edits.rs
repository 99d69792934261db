//! Changes of ReplicaSets, collected so that each is written once. Shapes only.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::annotations;
use super::limits::Limits;
use super::sets::{Counts as _, Sets};
use crate::kind::Object as _;
use crate::plan::{Action, Order, Plan, Planned};

/// The ReplicaSets as they are to be.
pub(super) struct Edits {
    before: Vec<Arc<ReplicaSet>>,
    after: Vec<ReplicaSet>,
    limits: Limits,
}

impl Edits {
    /// Nothing is changed yet.
    pub(super) fn of(sets: &Sets, limits: Limits) -> Self {
        let after = sets.all.iter().map(|set| (**set).clone()).collect();
        Self { before: sets.all.clone(), after, limits }
    }

    /// The one of the current template gets what the Deployment has.
    pub(super) fn set_current(&mut self, at: usize, deployment: &Deployment, newest: i64) {
        annotations::set_current(&mut self.after[at], deployment, newest);
        self.after[at].spec.min_ready_seconds = deployment.spec.min_ready_seconds;
    }

    /// One is to have so many pods. Its sizes are noted even if it has them already.
    pub(super) fn scale_and_note(&mut self, at: usize, replicas: i32) {
        annotations::set_sizes(&mut self.after[at], self.limits);
        self.after[at].spec.replicas = Some(replicas);
    }

    /// One is to have so many pods; whether it had not.
    pub(super) fn scale(&mut self, at: usize, replicas: i32) -> bool {
        let changes = self.wanted(at) != replicas;
        if changes {
            self.scale_and_note(at, replicas);
        }
        changes
    }

    /// How many pods one is to have.
    pub(super) fn wanted(&self, at: usize) -> i32 {
        self.after[at].wanted()
    }

    /// Writes what is different, and tells people of what was scaled.
    pub(super) fn write(self, deployment: &Deployment, plan: &mut Plan) {
        let about = deployment.reference();
        let actions = self.before.iter().zip(&self.after).filter_map(|(before, after)| {
            let action = Action::update(&**before, after)?;
            let (from, to, name) = (before.wanted(), after.wanted(), before.key().name);
            let direction = if from < to { "up" } else { "down" };
            let planned: Planned = action.because(match from.cmp(&to) {
                std::cmp::Ordering::Less => "scaled up",
                std::cmp::Ordering::Greater => "scaled down",
                std::cmp::Ordering::Equal => "its Deployment has changed",
            });
            if from == to {
                return Some(planned);
            }
            let text = format!("Scaled {direction} replica set {name} from {from} to {to}");
            Some(planned.tell(&about, "ScalingReplicaSet", text))
        });
        plan.step(Order::Serial, actions);
    }
}
