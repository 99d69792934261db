//! What an autoscaler says of itself. A decision; time is handed in.

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::decision::{ABLE, Condition, Decision, Ending, ZERO, scaled};
use crate::kind::{Key, Kind, Object as _};
use crate::plan::{ObjectId, Outcome};

/// Scales, of whatever kind.
const SCALE: Kind =
    Kind { group: "autoscaling", version: "v1", kind: "Scale", plural: "scales", namespaced: true };

/// What is scaled, as it was read.
pub(super) fn target(view: &View, uid: &str, version: &str) -> ObjectId {
    let key = Key::new(&view.hpa.key().namespace, &view.hpa.spec.scale_target_ref.name);
    ObjectId { kind: SCALE, key, uid: uid.to_owned(), version: version.to_owned() }
}

fn set(conditions: &mut Vec<HorizontalPodAutoscalerCondition>, made: &Condition, now: Timestamp) {
    let status = if made.is { "True" } else { "False" };
    let at = conditions.iter().position(|it| it.type_ == made.type_).unwrap_or_else(|| {
        let type_ = made.type_.to_owned();
        conditions.push(HorizontalPodAutoscalerCondition { type_, ..Default::default() });
        conditions.len() - 1
    });
    let condition = &mut conditions[at];
    if condition.status != status {
        condition.last_transition_time = Some(Time(now));
    }
    status.clone_into(&mut condition.status);
    condition.reason = Some(made.reason.to_owned());
    condition.message = Some(made.message.clone());
}

/// The status that follows.
pub(super) fn status(
    view: &View,
    decision: &Decision,
    outcome: &Outcome,
    now: Timestamp,
) -> HorizontalPodAutoscalerStatus {
    let mut status = view.hpa.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.take().unwrap_or_default();
    for condition in &decision.conditions {
        set(&mut conditions, condition, now);
    }
    let desired = status.desired_replicas;
    let numbers =
        |status: &mut HorizontalPodAutoscalerStatus, current, desired, metrics: &Vec<MetricStatus>| {
            status.current_replicas = Some(current);
            status.desired_replicas = desired;
            status.current_metrics = (!metrics.is_empty()).then(|| metrics.clone());
            status.observed_generation = view.hpa.metadata.generation;
        };
    match (&decision.ending, &decision.rescale) {
        (Ending::NoScale, _) => {}
        (Ending::Failed { current, metrics }, _) => numbers(&mut status, *current, desired, metrics),
        (Ending::Calculated { current, metrics }, None) => numbers(&mut status, *current, *current, metrics),
        (Ending::Calculated { current, metrics }, Some(rescale)) => {
            let done = scaled(outcome).map(|tried| tried.result.as_ref().map_err(|failure| &failure.message));
            let error = match done {
                Some(Ok(_)) => None,
                Some(Err(message)) => Some(message.as_str()),
                None => Some("it was not tried"),
            };
            let able = match error {
                None => {
                    let message =
                        format!("the HPA controller was able to update the target scale to {}", rescale.to);
                    Condition { type_: ABLE, is: true, reason: "SucceededRescale", message }
                }
                Some(error) => {
                    let message =
                        format!("the HPA controller was unable to update the target scale: {error}");
                    Condition { type_: ABLE, is: false, reason: "FailedUpdateScale", message }
                }
            };
            set(&mut conditions, &able, now);
            if error.is_some() {
                numbers(&mut status, *current, desired, metrics);
            } else {
                numbers(&mut status, *current, rescale.to, metrics);
                status.last_scale_time = Some(Time(now));
                set(&mut conditions, &to_zero(decision.to_zero), now);
            }
        }
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

fn to_zero(is: bool) -> Condition {
    let (reason, message) = if is {
        ("ScaledToZero", "the HPA controller scaled the workload to zero")
    } else {
        ("NotScaledToZero", "the HPA controller did not scale the workload to zero")
    };
    Condition { type_: ZERO, is, reason, message: message.to_owned() }
}
