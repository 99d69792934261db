//! HorizontalPodAutoscalers: how many pods something of whatever kind shall have, by what is measured. Must never go outside the
//! limits of an autoscaler, or faster than its policies.

mod behavior;
mod decision;
mod metrics;
mod readings;
mod replicas;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::Caches;
use crate::config::AutoscalingConfig;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Outcome, Plan, Planned, Told};
use crate::question::{Answer, Answers, Question};
use behavior::Memory;
use decision::decide;

/// The controller.
pub(crate) struct Autoscaler {
    config: AutoscalingConfig,
    /// What was recommended and done lately; the API does not keep it.
    memory: Mutex<BTreeMap<Key, Memory>>,
}

/// One autoscaler, and what is known of what it scales.
pub(crate) struct View {
    hpa: Arc<HorizontalPodAutoscaler>,
    /// All pods of its namespace; which ones it scales is told by its target.
    pods: Vec<Arc<Pod>>,
    answers: Answers,
    memory: Memory,
    /// What other autoscalers of the namespace select.
    others: Vec<(Key, String)>,
    config: AutoscalingConfig,
}

impl Autoscaler {
    /// One that remembers nothing.
    pub(crate) fn new(config: AutoscalingConfig) -> Self {
        Self { config, memory: Mutex::default() }
    }
}

impl Controller for Autoscaler {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        // Its own writes of the status are no news: it comes again after its period.
        watches.mapped::<HorizontalPodAutoscaler>(|change, _| {
            let same = |old: &Arc<HorizontalPodAutoscaler>| {
                change.new.as_ref().is_some_and(|new| old.uid() == new.uid() && old.spec == new.spec)
            };
            if change.old.as_ref().is_some_and(same) { Vec::new() } else { vec![change.latest().key()] }
        });
        watches.read::<Pod>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let hpa = caches.of::<HorizontalPodAutoscaler>().get(key)?;
        let pods = caches.of::<Pod>().in_namespace(&key.namespace);
        let memory = self.memory.lock();
        let others = memory.iter().filter(|(other, _)| *other != key && other.namespace == key.namespace);
        Some(View {
            hpa,
            pods,
            answers: Answers::default(),
            others: others.map(|(other, memory)| (other.clone(), memory.selector.clone())).collect(),
            memory: memory.get(key).cloned().unwrap_or_default(),
            config: self.config,
        })
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        decision::questions(view)
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        view.answers.learn(question, answer);
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let decision = decide(view, now);
        let mut plan = Plan::nothing();
        let about = view.hpa.reference();
        plan.notes = decision
            .notes
            .into_iter()
            .map(|(gravity, reason, text)| Told { regarding: about.clone(), gravity, reason, text })
            .collect();
        if let Some(rescale) = decision.rescale {
            let size = format!("New size: {}; reason: {}", rescale.to, rescale.reason);
            let action = Action::Scale {
                path: rescale.scale.path,
                object: status::target(view, &rescale.scale.uid, &rescale.scale.version),
                replicas: rescale.to,
            };
            plan.then(
                action
                    .because("what is measured says so")
                    .tell(&about, "SuccessfulRescale", size.clone())
                    .warn(&about, "FailedRescale", format!("{size}; error: {{error}}")),
            );
        }
        plan.look_again_after(self.config.sync_period);
        plan
    }

    fn status(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Option<Planned> {
        let after = status::status(view, &decide(view, now), outcome, now);
        let after = HorizontalPodAutoscaler { status: Some(after), ..(*view.hpa).clone() };
        let about = view.hpa.reference();
        let update = Action::update_status(&*view.hpa, &after)?;
        Some(update.because("the status has changed").warn(&about, "FailedUpdateStatus", "{error}"))
    }

    fn performed(&self, key: &Key, view: &View, outcome: &Outcome, now: Timestamp) {
        let memory = decide(view, now).remembered(view, outcome, now);
        self.memory.lock().insert(key.clone(), memory);
    }

    fn forget(&self, key: &Key) {
        self.memory.lock().remove(key);
    }
}
