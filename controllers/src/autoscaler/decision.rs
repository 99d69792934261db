//! What is decided about an autoscaler in one pass. A decision; time, memory and measurements are handed in.

use std::sync::Arc;
use std::time::Duration;

use barque_api::labels::Selector;
use barque_api::quantity::Quantity;
use barque_client::events::Kind as Gravity;
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler, MetricSpec, MetricStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::behavior::{self, Behavior, Limits, Memory};
use super::metrics::{Invalid, Proposal, Said, Surroundings, say};
use super::replicas::{Rules, Tolerances};
use crate::kind::Object as _;
use crate::owners;
use crate::plan::{Outcome, Tried};
use crate::question::Question;
use crate::scale::{Scalable, Scale, Search};

/// A condition to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) type_: &'static str,
    pub(super) is: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What its target shall have from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) scale: Scale,
    pub(super) to: i32,
    pub(super) reason: String,
}

/// How a pass ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ending {
    /// The target's scale is not known: only conditions are told.
    NoScale,
    /// Nothing could be calculated.
    Failed { current: i32, metrics: Vec<MetricStatus> },
    /// It stays, or is changed.
    Calculated { current: i32, metrics: Vec<MetricStatus> },
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) conditions: Vec<Condition>,
    pub(super) notes: Vec<(Gravity, &'static str, String)>,
    pub(super) rescale: Option<Rescale>,
    pub(super) ending: Ending,
    /// Whether it scales to nothing, if that is done.
    pub(super) to_zero: bool,
    /// What is remembered, but for what comes of the scaling.
    memory: Memory,
}

pub(super) const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";
pub(super) const ZERO: &str = "ScaledToZero";

fn target(view: &View) -> (String, &HorizontalPodAutoscaler) {
    (view.hpa.key().namespace, &view.hpa)
}

fn search(view: &View) -> Search {
    let (namespace, hpa) = target(view);
    let reference = &hpa.spec.scale_target_ref;
    let it = Scalable {
        namespace: &namespace,
        api_version: reference.api_version.as_deref().unwrap_or_default(),
        kind: &reference.kind,
        name: &reference.name,
    };
    it.search(&view.answers)
}

fn metrics(view: &View) -> &[MetricSpec] {
    view.hpa.spec.metrics.as_deref().unwrap_or_default()
}

fn least(view: &View) -> i32 {
    view.hpa.spec.min_replicas.unwrap_or(1)
}

/// Whether it was scaled to nothing by an autoscaler, and may come back.
fn may_wake(view: &View) -> (bool, bool) {
    let conditions =
        view.hpa.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let was = conditions.iter().any(|it| it.type_ == ZERO && it.status == "True");
    (was, was && (least(view) != 0 || has_outer_metrics(view)))
}

/// Whether something is measured that is there without pods.
fn has_outer_metrics(view: &View) -> bool {
    metrics(view).iter().any(|metric| matches!(metric.type_.as_str(), "Object" | "External"))
}

/// Whether what is measured counts, or the limits alone say what is to be done.
fn measures(view: &View, scale: &Scale) -> bool {
    if scale.wanted == 0 {
        return may_wake(view).1;
    }
    (least(view)..=view.hpa.spec.max_replicas).contains(&scale.wanted)
}

fn tolerance(rules: Option<&HPAScalingRules>, default: f64) -> f64 {
    let own = rules.and_then(|rules| rules.tolerance.as_ref());
    own.and_then(|own| Quantity::parse(&own.0).ok()).map_or(default, |own| own.as_f64())
}

fn tolerances(view: &View) -> Tolerances {
    let behavior = view.hpa.spec.behavior.as_ref();
    Tolerances {
        up: tolerance(behavior.and_then(|it| it.scale_up.as_ref()), view.config.tolerance),
        down: tolerance(behavior.and_then(|it| it.scale_down.as_ref()), view.config.tolerance),
    }
}

fn selected(view: &View, selector: &Selector) -> Vec<Arc<Pod>> {
    view.pods.iter().filter(|pod| owners::matches(selector, &***pod)).cloned().collect()
}

fn said(view: &View, scale: &Scale, pods: &[Arc<Pod>], now: Timestamp) -> Vec<Said> {
    let (namespace, _) = target(view);
    let around = Surroundings {
        namespace: &namespace,
        scale,
        pods,
        answers: &view.answers,
        rules: Rules { tolerances: tolerances(view), config: &view.config, now, current: scale.wanted },
    };
    metrics(view).iter().map(|metric| say(metric, &around)).collect()
}

/// What must be known before it can be decided.
pub(super) fn questions(view: &View) -> Vec<Question> {
    let scale = match search(view) {
        Search::Ask(question) => return vec![question],
        Search::Found(scale) => scale,
        Search::Missing(_) | Search::Failed(_) => return Vec::new(),
    };
    if !measures(view, &scale) || scale.selector.is_empty() || scale.selector.parse::<Selector>().is_err() {
        return Vec::new();
    }
    let mut questions = Vec::new();
    // Which time it is does not change what is asked.
    for said in said(view, &scale, &[], Timestamp::UNIX_EPOCH) {
        if let Said::Ask(question) = said
            && !questions.contains(&question)
        {
            questions.push(question);
        }
    }
    questions
}

impl Decision {
    fn condition(&mut self, type_: &'static str, is: bool, reason: &'static str, message: impl Into<String>) {
        let made = Condition { type_, is, reason, message: message.into() };
        match self.conditions.iter_mut().find(|it| it.type_ == type_) {
            Some(there) => *there = made,
            None => self.conditions.push(made),
        }
    }

    fn warn(&mut self, reason: &'static str, text: impl Into<String>) {
        self.notes.push((Gravity::Warning, reason, text.into()));
    }

    /// What is remembered, knowing how it went.
    pub(super) fn remembered(&self, view: &View, outcome: &Outcome, now: Timestamp) -> Memory {
        let mut memory = self.memory.clone();
        if let (Some(rescale), Some(Tried { result: Ok(_), .. })) = (&self.rescale, scaled(outcome))
            && let Some(behavior) = behavior(view)
        {
            memory.scaled(rescale.scale.wanted, rescale.to, &behavior, now);
        }
        memory
    }
}

/// What became of scaling.
pub(super) fn scaled(outcome: &Outcome) -> Option<&Tried> {
    outcome.tried.iter().find(|tried| matches!(tried.planned.action, crate::plan::Action::Scale { .. }))
}

fn behavior(view: &View) -> Option<Behavior> {
    let said = view.hpa.spec.behavior.as_ref()?;
    Some(Behavior::of(said, view.config.downscale_stabilization))
}

/// Decides.
pub(super) fn decide(view: &View, now: Timestamp) -> Decision {
    let mut decision = Decision {
        conditions: Vec::new(),
        notes: Vec::new(),
        rescale: None,
        ending: Ending::NoScale,
        to_zero: false,
        memory: view.memory.clone(),
    };
    let scale = match search(view) {
        Search::Found(scale) => scale,
        Search::Missing(why) | Search::Failed(why) => {
            let message = format!("the HPA controller was unable to get the target's current scale: {why}");
            decision.condition(ABLE, false, "FailedGetScale", message);
            decision.warn("FailedGetScale", why);
            return decision;
        }
        Search::Ask(question) => {
            let why = format!("{} was not answered", question.path);
            decision.warn("FailedGetScale", why);
            return decision;
        }
    };
    let current = scale.wanted;
    let message = "the HPA controller was able to get the target's current scale";
    decision.condition(ABLE, true, "SucceededGetScale", message);
    decision.memory.begin(current, now);
    let limits = Limits { least: least(view), most: view.hpa.spec.max_replicas };
    let calculated = |metrics| Ending::Calculated { current, metrics };
    let (to, reason) = if measures(view, &scale) {
        let (wanted, name, statuses) = match measured(view, &scale, now, &mut decision) {
            Ok(measured) => measured,
            Err((error, metrics)) => {
                decision.warn("FailedComputeMetricsReplicas", error);
                decision.ending = Ending::Failed { current, metrics };
                return decision;
            }
        };
        decision.ending = calculated(statuses);
        normalized(view, &scale, limits, (wanted, &name), now, &mut decision)
    } else {
        decision.ending = calculated(Vec::new());
        if current == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            decision.condition(ACTIVE, false, "ScalingDisabled", message);
            return decision;
        }
        if current > limits.most {
            (limits.most, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else {
            (limits.least, "Current number of replicas below Spec.MinReplicas".to_owned())
        }
    };
    if to != current {
        decision.to_zero = current > 0 && to == 0 && limits.least == 0 && has_outer_metrics(view);
        decision.rescale = Some(Rescale { scale, to, reason });
    }
    decision
}

/// How many by what is measured, within limits and rates, and why.
fn normalized(
    view: &View,
    scale: &Scale,
    limits: Limits,
    (wanted, name): (i32, &str),
    now: Timestamp,
    decision: &mut Decision,
) -> (i32, String) {
    let current = scale.wanted;
    let wanted = wanted.max(0);
    let mut reason = match wanted.cmp(&current) {
        std::cmp::Ordering::Greater => format!("{name} above target"),
        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
        std::cmp::Ordering::Equal => String::new(),
    };
    let downscale = view.config.downscale_stabilization;
    let (normalized, window) = match behavior(view) {
        None => {
            let memory = &decision.memory;
            (behavior::normalize(memory, downscale, limits, current, wanted, now), downscale)
        }
        Some(behavior) => {
            let memory = &decision.memory;
            let window: Duration = behavior.up.window.max(behavior.down.window);
            (behavior::normalize_by(&behavior, memory, limits, current, wanted, now), window)
        }
    };
    decision.memory.recommend(wanted, now, window);
    let ((able, able_reason, able_text), (limited, why, text)) = (normalized.able, normalized.limited);
    decision.condition(ABLE, able, able_reason, able_text);
    decision.condition(LIMITED, limited, why, text);
    let mut to = normalized.replicas;
    if current == 0 && limits.least != 0 && may_wake(view).0 && to < limits.least {
        to = limits.least;
        if reason.is_empty() {
            "Current number of replicas below Spec.MinReplicas".clone_into(&mut reason);
        }
    }
    (to, reason)
}

type Wanted = (i32, String, Vec<MetricStatus>);

/// The most that any metric wants, its name, and what stands in the status for all; or why it cannot be said.
fn measured(
    view: &View,
    scale: &Scale,
    now: Timestamp,
    decision: &mut Decision,
) -> Result<Wanted, (String, Vec<MetricStatus>)> {
    let selector = selector(scale, decision).map_err(|why| (why, Vec::new()))?;
    decision.memory.selector.clone_from(&scale.selector);
    let pods = selected(view, &selector);
    if let Some(why) = ambiguous(view, scale, &pods) {
        decision.warn("AmbiguousSelector", why.clone());
        decision.condition(ACTIVE, false, "AmbiguousSelector", why.clone());
        return Err((why, Vec::new()));
    }
    let all = said(view, scale, &pods, now);
    let count = all.len();
    let mut statuses = Vec::new();
    let mut invalid = Vec::new();
    let mut best: Option<Box<Proposal>> = None;
    for said in all {
        let result = match said {
            Said::Known(result) => result,
            Said::Ask(question) => {
                let error = format!("{} was not answered", question.path);
                Err(Invalid { reason: "FailedGetResourceMetric", error, what: "metric value".to_owned() })
            }
        };
        match result {
            Ok(proposal) => {
                statuses.push(proposal.status.clone());
                if best.as_ref().is_none_or(|best| best.replicas == 0 || proposal.replicas > best.replicas) {
                    best = Some(proposal);
                }
            }
            Err(error) => {
                decision.warn(error.reason, error.error.clone());
                // As upstream: one that says nothing stands there empty.
                statuses.push(MetricStatus::default());
                invalid.push(error);
            }
        }
    }
    let (replicas, name) = best.map_or((0, String::new()), |best| (best.replicas, best.name));
    let down = !invalid.is_empty() && replicas < scale.wanted;
    if invalid.len() >= count || down {
        let Some(first) = invalid.first() else {
            // An autoscaler without metrics, which the API fills in.
            return Err(("invalid metrics (0 invalid out of 0)".to_owned(), statuses));
        };
        let message = format!("the HPA was unable to compute the replica count: {}", first.error);
        decision.condition(ACTIVE, false, first.reason, message);
        let what = &first.what;
        let error = if what.is_empty() {
            first.error.clone()
        } else {
            format!("failed to get {what}: {}", first.error)
        };
        let error =
            format!("invalid metrics ({} invalid out of {count}), first error is: {error}", invalid.len());
        return Err((error, statuses));
    }
    let message = format!("the HPA was able to successfully calculate a replica count from {name}");
    decision.condition(ACTIVE, true, "ValidMetricFound", message);
    Ok((replicas, name, statuses))
}

fn selector(scale: &Scale, decision: &mut Decision) -> Result<Selector, String> {
    if scale.selector.is_empty() {
        let why = "selector is required";
        decision.warn("SelectorRequired", why);
        let message = "the HPA target's scale is missing a selector";
        decision.condition(ACTIVE, false, "InvalidSelector", message);
        return Err(why.to_owned());
    }
    scale.selector.parse::<Selector>().map_err(|error| {
        let why = format!("couldn't convert selector into a corresponding internal selector object: {error}");
        decision.warn("InvalidSelector", why.clone());
        decision.condition(ACTIVE, false, "InvalidSelector", why.clone());
        why
    })
}

/// Two autoscalers for the same pods would work against each other.
fn ambiguous(view: &View, scale: &Scale, pods: &[Arc<Pod>]) -> Option<String> {
    let others = view.others.iter().filter(|(_, text)| {
        !text.is_empty()
            && text
                .parse::<Selector>()
                .is_ok_and(|selector| pods.iter().any(|pod| owners::matches(&selector, &**pod)))
    });
    let other = others.map(|(key, _)| key).next()?;
    let own = view.hpa.key();
    Some(format!(
        "pods by selector {} are controlled by more than one HPA (e.g. [{{{} {}}} {{{} {}}}])",
        scale.selector, own.name, own.namespace, other.name, other.namespace
    ))
}
