//! Pods that nobody clears away: of nodes that are gone or out of service, those that were deleted before they had a node, and the
//! oldest of too many that have ended. Must never take a pod whose node may only not have been heard of yet.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::clock::Clock;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::Plan;
use crate::pods;

/// How long a node must have been missing before its pods are taken.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The index of pods that have ended.
const ENDED: &str = "ended";

/// The controller.
pub(crate) struct PodGarbage {
    /// So many pods that have ended may stay; with zero, all may.
    threshold: usize,
    clock: Clock,
    /// Since when nodes are missing that pods are bound to.
    missing: Mutex<HashMap<String, Duration>>,
}

/// What may be garbage.
pub(crate) enum View {
    /// Of the pods that have ended, those that are too many, the first to go first.
    Ended(Vec<Arc<Pod>>),
    /// A pod.
    Pod(Arc<Pod>, Place),
}

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere yet.
    Unbound,
    /// On a node that has been missing for so long.
    Missing(Duration),
    /// On a node that somebody declared out of service, and that is not ready.
    OutOfService,
    /// On a node.
    Node,
}

impl PodGarbage {
    /// One that has seen nothing yet.
    pub(crate) fn new(threshold: usize, clock: Clock) -> Self {
        Self { threshold, clock, missing: Mutex::default() }
    }

    /// Those that are too many.
    fn surplus(&self, caches: &Caches) -> Vec<Arc<Pod>> {
        let mut ended = caches.of::<Pod>().with(ENDED, "");
        let surplus = ended.len().saturating_sub(self.threshold);
        if self.threshold == 0 || surplus == 0 {
            return Vec::new();
        }
        ended.sort_by_cached_key(|pod| plan::order(pod));
        ended.truncate(surplus);
        ended
    }

    fn place(&self, pod: &Pod, caches: &Caches) -> Place {
        let name = pods::node(pod);
        let mut missing = self.missing.lock();
        let now = self.clock.now();
        if name.is_empty() {
            Place::Unbound
        } else if let Some(node) = caches.of::<Node>().get(&Key::new("", name)) {
            missing.remove(name);
            if is_out_of_service(&node) { Place::OutOfService } else { Place::Node }
        } else {
            let since = *missing.entry(name.to_owned()).or_insert(now);
            Place::Missing(now.saturating_sub(since))
        }
    }
}

/// Whether somebody declared a node out of service, and it is not ready.
fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let declared = taints.into_iter().flatten().any(|taint| taint.key == "node.kubernetes.io/out-of-service");
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True");
    declared && !ready
}

/// The key under which pods that have ended are counted.
fn ended() -> Key {
    Key::new("", "")
}

/// The pods of a node that came, went, or came out of service.
fn pods_of(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let of = |node: &Arc<Node>| is_out_of_service(node);
    if change.old.as_ref().map(of) == change.new.as_ref().map(of) {
        return Vec::new();
    }
    let node = change.latest().key().name;
    caches.of::<Pod>().with(pods::BY_NODE, &node).iter().map(|pod| pod.key()).collect()
}

impl Controller for PodGarbage {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Pod>();
        watches.index::<Pod>(pods::BY_NODE, pods::by_node);
        watches.mapped::<Node>(pods_of);
        watches.index::<Pod>(ENDED, |pod| pods::is_terminal(pod).then(String::new).into_iter().collect());
        watches.mapped::<Pod>(|change, _| {
            let any = change.both().any(|pod| pods::is_terminal(pod));
            any.then(ended).into_iter().collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        if *key == ended() {
            return Some(View::Ended(self.surplus(caches)));
        }
        let Some(pod) = caches.of::<Pod>().get(key) else {
            // Nobody else waits for a node that nobody is bound to.
            self.missing.lock().retain(|node, _| !caches.of::<Pod>().with(pods::BY_NODE, node).is_empty());
            return None;
        };
        let place = self.place(&pod, caches);
        Some(View::Pod(pod, place))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}
