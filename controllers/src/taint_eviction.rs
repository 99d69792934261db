//! Pods leave nodes whose `NoExecute` taints they do not tolerate, after the time that they do. Must never know why a node is
//! tainted.

#[cfg(test)]
mod tests;
mod tolerate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::clock::Clock;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Told};
use crate::pods;
use barque_client::events::Kind as Gravity;
use tolerate::Stay;

/// The controller.
pub(crate) struct TaintEviction {
    clock: Clock,
    /// Since when pods, by their uid, are on nodes that they must leave at some time.
    since: Mutex<HashMap<Key, (String, Duration)>>,
}

/// A pod on a node.
pub(crate) struct View {
    pod: Arc<Pod>,
    stay: Stay,
    /// For how long that has been so.
    passed: Duration,
    /// Whether it was to leave before.
    was_leaving: bool,
}

impl TaintEviction {
    /// One that has seen nothing yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, since: Mutex::default() }
    }
}

/// The taints of a node that make pods leave.
fn no_execute(node: &Node) -> Vec<&Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.into_iter().flatten().filter(|taint| taint.effect == "NoExecute").collect()
}

/// Its pods, when what makes them leave has changed.
fn pods_of(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let of = |node: &Arc<Node>| no_execute(node).into_iter().cloned().collect::<Vec<_>>();
    let (before, after) = (change.old.as_ref().map(of), change.new.as_ref().map(of));
    if before.unwrap_or_default() == after.unwrap_or_default() {
        return Vec::new();
    }
    let node = change.latest().key().name;
    caches.of::<Pod>().with(pods::BY_NODE, &node).iter().map(|pod| pod.key()).collect()
}

impl Controller for TaintEviction {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Pod>();
        watches.index::<Pod>(pods::BY_NODE, pods::by_node);
        watches.mapped::<Node>(pods_of);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let mut since = self.since.lock();
        let pod = caches.of::<Pod>().get(key).filter(|pod| !pod.is_deleting() && !pods::node(pod).is_empty());
        let Some(pod) = pod else {
            since.remove(key);
            return None;
        };
        let node = caches.of::<Node>().get(&Key::new("", pods::node(&pod)));
        let taints = node.as_deref().map(no_execute).unwrap_or_default();
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let stay = tolerate::stay(tolerations, &taints);
        let was_leaving = since.get(key).is_some_and(|(uid, _)| uid == pod.uid());
        let now = self.clock.now();
        let passed = if stay == Stay::Forever {
            since.remove(key);
            Duration::ZERO
        } else {
            let begin = (pod.uid().to_owned(), now);
            let known = since.entry(key.clone()).or_insert_with(|| begin.clone());
            if known.0 != begin.0 {
                *known = begin;
            }
            now.saturating_sub(known.1)
        };
        Some(View { pod, stay, passed, was_leaving })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let pod = &*view.pod;
        match view.stay {
            Stay::Forever if view.was_leaving => plan.notes.push(Told {
                regarding: pod.reference(),
                gravity: Gravity::Normal,
                reason: "TaintManagerEviction",
                text: format!("Cancelling deletion of Pod {}", pod.key()),
            }),
            Stay::Forever => {}
            Stay::For(time) if time > view.passed => plan.look_again_after(time - view.passed),
            Stay::For(_) => {
                let reason = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
                let marked = pods::disrupted(pod, reason, now);
                if let Some(mark) = Action::update_status(pod, &marked) {
                    plan.then(mark.because("who looks at it is to know why it goes"));
                }
                plan.then(Action::delete_as_it_says(pod).because("it does not tolerate a taint").tell(
                    &pod.reference(),
                    "TaintManagerEviction",
                    format!("Marking for deletion Pod {}", pod.key()),
                ));
            }
        }
        plan
    }
}
