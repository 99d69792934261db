//! PodDisruptionBudgets: how many pods may be evicted now. Must never evict; the API server does, and counts down what is said
//! here.

mod budget;
mod expected;
mod stale;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::labels::Selector;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::owners;
use crate::plan::Plan;
use crate::question::{Answer, Answers, Question};
pub(crate) use stale::StaleDisruptions;

/// The controller of PodDisruptionBudgets.
pub(crate) struct Budgets;

/// One budget and its pods.
pub(crate) struct View {
    budget: Arc<PodDisruptionBudget>,
    /// Pods that it selects; or why that cannot be said.
    pods: Result<Vec<Arc<Pod>>, String>,
    /// Names of those that an earlier budget selects too, with that budget's name.
    contested: Vec<Arc<Pod>>,
    /// What controls its pods.
    controllers: Vec<expected::Control>,
    answers: Answers,
}

/// The pods of a budget. Unlike elsewhere, an empty selector selects everything.
fn selector(budget: &PodDisruptionBudget) -> Result<Selector, String> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let value = selector.map(serde_json::to_value).transpose().map_err(|error| error.to_string())?;
    Selector::of_object(value.as_ref()).map_err(|error| error.to_string())
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selector(budget).is_ok_and(|selector| owners::matches(&selector, pod))
}

impl Controller for Budgets {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<PodDisruptionBudget>();
        watches.mapped::<Pod>(|change, caches| {
            let namespace = change.latest().key().namespace;
            let budgets = caches.of::<PodDisruptionBudget>().in_namespace(&namespace);
            let concerned = budgets.iter().filter(|budget| change.both().any(|pod| selects(budget, pod)));
            concerned.map(|budget| budget.key()).collect()
        });
        watches.read::<ReplicationController>();
        watches.read::<ReplicaSet>();
        watches.read::<Deployment>();
        watches.read::<StatefulSet>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let budget = caches.of::<PodDisruptionBudget>().get(key)?;
        let there = caches.of::<Pod>().in_namespace(&key.namespace);
        let pods = selector(&budget).map(|selector| {
            there.into_iter().filter(|pod| owners::matches(&selector, &**pod)).collect::<Vec<_>>()
        });
        let budgets = caches.of::<PodDisruptionBudget>().in_namespace(&key.namespace);
        let others: Vec<_> = budgets.iter().filter(|other| other.key() != *key).collect();
        let first = |pod: &Arc<Pod>| {
            let mut rivals = others.iter().filter(|other| selects(other, pod)).peekable();
            rivals.peek().is_some() && rivals.all(|other| other.key() > *key)
        };
        let contested = pods.iter().flatten().filter(|pod| first(pod)).cloned().collect();
        let controllers = match &pods {
            Ok(pods) if expected::is_scaled(&budget) => expected::controls(pods, caches),
            _ => Vec::new(),
        };
        Some(View { budget, pods, contested, controllers, answers: Answers::default() })
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        expected::questions(view)
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        view.answers.learn(question, answer);
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        budget::plan(view, now)
    }
}
