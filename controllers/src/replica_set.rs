//! ReplicaSets and ReplicationControllers: so many pods of one template. One implementation for both; must never know a
//! Deployment.

pub(crate) mod deletion_order;
mod plan;
mod set;
mod status;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::Key;
use crate::plan::{Outcome, Plan, Planned};
use set::{Replicated, Set};

/// The controller of ReplicaSets.
pub(crate) type ReplicaSets = Replicas<ReplicaSet>;
/// The controller of ReplicationControllers.
pub(crate) type ReplicationControllers = Replicas<ReplicationController>;

/// The controller of one of both kinds.
pub(crate) struct Replicas<K>(PhantomData<fn() -> K>);

impl<K> Default for Replicas<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// One set and its pods.
pub(crate) struct View<K> {
    /// As it is stored.
    object: Arc<K>,
    /// What it says.
    set: Set,
    /// Pods that it controls, and pods of its namespace that nobody does.
    pods: Vec<Arc<Pod>>,
    /// Pods of all sets with the same controller, its own too.
    related: Vec<Arc<Pod>>,
}

impl<K: Replicated> Controller for Replicas<K> {
    type View = View<K>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<K>();
        watches.controlled_or_selected::<Pod, K>(K::selects);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View<K>> {
        let object = caches.of::<K>().get(key)?;
        let set = object.set()?;
        let pods = caches.of::<Pod>();
        let mut mine = pods.controlled_by(object.uid());
        mine.extend(pods.orphans(&key.namespace));
        let related = match object.controller() {
            Some(owner) => {
                let sets = caches.of::<K>().controlled_by(&owner.uid);
                sets.iter().flat_map(|set| pods.controlled_by(set.uid())).collect()
            }
            None => Vec::new(),
        };
        Some(View { object, set, pods: mine, related })
    }

    fn plan(&self, view: &View<K>, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View<K>, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        status::update(view, outcome, now)
    }
}
