//! Deployments: from one template of pods to the next, with as many pods as are allowed. Must never touch a pod: it only scales
//! ReplicaSets.
//!
//! Stricter than upstream in one thing: during a rollout it waits until the ReplicaSets' status tells of their last scaling. So
//! there are never more pods than `replicas` and the surge, and never fewer available than allowed, by its own doing.

mod annotations;
mod edits;
mod limits;
mod plan;
mod rollout;
mod scale;
mod sets;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches, owner_of};
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::{Outcome, Plan, Planned};
use crate::pods;

/// The controller of Deployments.
#[derive(Default)]
pub(crate) struct Deployments;

/// One Deployment and what belongs to it.
pub(crate) struct View {
    deployment: Arc<Deployment>,
    /// Nothing when it selects everything, or is not valid.
    selector: Option<Selector>,
    /// ReplicaSets that it controls, and those of its namespace that nobody does.
    replica_sets: Vec<Arc<ReplicaSet>>,
    /// Uids of ReplicaSets of it that have pods which have not ended.
    with_pods: Vec<String>,
    /// Whether a ReplicaSet has the name already that a new one would get.
    name_is_taken: bool,
}

impl Controller for Deployments {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Deployment>();
        watches.controlled_or_selected::<ReplicaSet, Deployment>(|deployment| {
            owners::selector(&deployment.spec.selector)
        });
        // That the last pod of an old template has ended lets the new ones begin.
        watches.mapped::<Pod>(|change, caches| {
            let ended = change.new.as_ref().is_none_or(|pod| pods::is_terminal(pod));
            let pod = change.latest();
            let set = owner_of::<Pod, ReplicaSet>(pod).filter(|_| ended);
            let set = set.and_then(|key| caches.of::<ReplicaSet>().get(&key));
            set.and_then(|set| owner_of::<ReplicaSet, Deployment>(&set)).into_iter().collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let deployment = caches.of::<Deployment>().get(key)?;
        let sets = caches.of::<ReplicaSet>();
        let mut replica_sets = sets.controlled_by(deployment.uid());
        let runs = |set: &&Arc<ReplicaSet>| {
            let pods = caches.of::<Pod>().controlled_by(set.uid());
            pods.iter().any(|pod| !pods::is_terminal(pod))
        };
        let with_pods = replica_sets.iter().filter(runs).map(|set| set.uid().to_owned()).collect();
        replica_sets.extend(sets.orphans(&key.namespace));
        let name = Key::new(&key.namespace, &template::replica_set_name(&deployment));
        let name_is_taken = sets.get(&name).is_some();
        let selector = owners::selector(&deployment.spec.selector);
        Some(View { deployment, selector, replica_sets, with_pods, name_is_taken })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        status::update(view, outcome, now)
    }
}
