//! A claim that somebody deletes stays until no pod uses it: its finalizer goes then. A decision.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{PODS_BY_CLAIM, claim_values, claims_of};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object};
use crate::plan::{Action, Plan};
use crate::pods;
use crate::question::{Answer, Answers, Question};

const FINALIZER: &str = "kubernetes.io/pvc-protection";
/// After so long the API is asked again when it could not say which pods there are.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// The controller.
pub(crate) struct ClaimProtection;

/// One claim and the pods that use it.
pub(crate) struct View {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    /// As the cache has them.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) answers: Answers,
}

/// Whether an object has a finalizer.
pub(super) fn has<K: Object>(object: &K, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|it| it == finalizer)
}

/// The object with a finalizer, or without it.
pub(super) fn change<K: Object>(
    object: &K,
    finalizer: &str,
    there: bool,
    why: &'static str,
    plan: &mut Plan,
) {
    let mut after = object.clone();
    let all = after.meta_mut().finalizers.get_or_insert_default();
    all.retain(|it| it != finalizer);
    if there {
        all.push(finalizer.to_owned());
    }
    if all.is_empty() {
        after.meta_mut().finalizers = None;
    }
    if let Some(update) = Action::update(object, &after) {
        plan.then(update.because(why));
    }
}

/// Whether a pod holds the claim back: its node may have mounted it. A pod without a node cannot start any more once the claim is
/// being deleted.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.key().name;
    let is_shut_down = pod.is_deleting() && pod.metadata.deletion_grace_period_seconds == Some(0);
    !pods::node(pod).is_empty()
        && claims_of(pod)
            .into_iter()
            .any(|(used, own)| used == name && (!own || (!is_shut_down && claim.is_controlled_by(pod.uid()))))
}

fn pods_there(claim: &PersistentVolumeClaim) -> Question {
    let namespace = claim.key().namespace;
    Question::get(["api", "v1", "namespaces", &namespace, "pods"])
}

impl View {
    fn is_candidate(&self) -> bool {
        self.claim.is_deleting() && has(&*self.claim, FINALIZER)
    }

    fn is_used(&self) -> bool {
        self.pods.iter().any(|pod| uses(pod, &self.claim))
    }
}

impl Controller for ClaimProtection {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<PersistentVolumeClaim>();
        watches.index::<Pod>(PODS_BY_CLAIM, claim_values);
        watches.mapped::<Pod>(|change, _| {
            let keys = change.both().flat_map(|pod| {
                let namespace = pod.key().namespace;
                claims_of(pod).into_iter().map(move |(name, _)| Key { namespace: namespace.clone(), name })
            });
            keys.collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let claim = caches.of::<PersistentVolumeClaim>().get(key)?;
        let pods = caches.of::<Pod>().with(PODS_BY_CLAIM, &key.to_string());
        Some(View { claim, pods, answers: Answers::default() })
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        // The cache may not have heard of the newest pod.
        let question = pods_there(&view.claim);
        let asks = view.is_candidate() && !view.is_used() && view.answers.to(&question).is_none();
        if asks { vec![question] } else { Vec::new() }
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        view.answers.learn(question, answer);
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if view.is_candidate() {
            if view.is_used() {
                return plan;
            }
            match view.answers.to(&pods_there(&view.claim)) {
                Some(Ok(list)) if !list_uses(list, &view.claim) => {
                    change(&*view.claim, FINALIZER, false, "no pod uses it", &mut plan);
                }
                Some(Ok(_)) => {}
                _ => plan.look_again_after(AGAIN),
            }
        } else if !view.claim.is_deleting() && !has(&*view.claim, FINALIZER) {
            change(&*view.claim, FINALIZER, true, "pods may use it", &mut plan);
        }
        plan
    }
}

/// Whether one of the pods of a list uses the claim. What cannot be read may.
fn list_uses(list: &Value, claim: &PersistentVolumeClaim) -> bool {
    let Some(items) = list["items"].as_array() else { return true };
    items.iter().any(|item| serde_json::from_value::<Pod>(item.clone()).map_or(true, |pod| uses(&pod, claim)))
}
