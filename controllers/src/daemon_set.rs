//! DaemonSets: one pod on every node that fits. Must never bind a pod: it asks for its node, and the scheduler places it.

mod nodes;
mod plan;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::history;
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::{Outcome, Plan, Planned};

/// The controller of DaemonSets.
#[derive(Default)]
pub(crate) struct DaemonSets;

/// One DaemonSet, what belongs to it, and where it could run.
pub(crate) struct View {
    set: Arc<DaemonSet>,
    selector: Selector,
    /// Pods that it controls, and those of its namespace that nobody does.
    pods: Vec<Arc<Pod>>,
    /// Revisions that it controls, and those of its namespace that nobody does.
    revisions: Vec<Arc<ControllerRevision>>,
    nodes: Vec<Arc<Node>>,
    /// Whether a revision has the name already that a new one would get.
    name_is_taken: bool,
}

impl Controller for DaemonSets {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<DaemonSet>();
        watches.controlled_or_selected::<Pod, DaemonSet>(|set| owners::selector(&set.spec.selector));
        watches.controlled::<ControllerRevision, DaemonSet>();
        watches.mapped::<Node>(|change, caches| {
            // Most changes of nodes are signs of life.
            let shape = |node: &Arc<Node>| {
                let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
                (node.metadata.labels.clone(), taints)
            };
            if change.old.as_ref().map(shape) == change.new.as_ref().map(shape) {
                return Vec::new();
            }
            caches.of::<DaemonSet>().all().iter().map(|set| set.key()).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let set = caches.of::<DaemonSet>().get(key)?;
        let selector = owners::selector(&set.spec.selector)?;
        let mut pods = caches.of::<Pod>().controlled_by(set.uid());
        pods.extend(caches.of::<Pod>().orphans(&key.namespace));
        let mut revisions = caches.of::<ControllerRevision>().controlled_by(set.uid());
        revisions.extend(caches.of::<ControllerRevision>().orphans(&key.namespace));
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let name = history::key_of(&*set, &set.spec.template, collisions);
        let name_is_taken = caches.of::<ControllerRevision>().get(&name).is_some();
        let nodes = caches.of::<Node>().all();
        Some(View { set, selector, pods, revisions, nodes, name_is_taken })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        status::update(view, outcome, now)
    }
}
