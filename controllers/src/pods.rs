//! What controllers ask of pods. Decisions; time is handed in.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;

use crate::kind::Object as _;

/// Its phase; empty when nobody has said.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether it has ended, well or not.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it runs or may come to run, and nobody has deleted it.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.is_deleting()
}

/// Whether it has been deleted and has not ended yet.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.is_deleting()
}

/// The field by which a pod asks for one node.
pub(crate) const NAME_FIELD: &str = "metadata.name";

/// The node that it asks for by name, in the way of pods of DaemonSets.
pub(crate) fn asked_node(pod: &Pod) -> Option<&str> {
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == NAME_FIELD && field.operator == "In")?;
    field.values.as_ref()?.first().map(String::as_str)
}

/// The node that it is bound to; empty is none.
pub(crate) fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// The index of pods by the node that they are bound to.
pub(crate) const BY_NODE: &str = "node";

/// The values of that index.
pub(crate) fn by_node(pod: &Pod) -> Vec<String> {
    Some(node(pod)).filter(|node| !node.is_empty()).map(str::to_owned).into_iter().collect()
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether it is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

/// Since when it is ready; nothing when it is not or that was not said.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)?.last_transition_time.as_ref().map(|time| time.0)
}

/// When it last became ready or stopped being so; nothing when that was not said.
pub(crate) fn readiness_changed(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Whether it has been ready for so long.
pub(crate) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds <= 0 || available_in(pod, min_ready_seconds, now) == Some(Duration::ZERO))
}

/// How long until it has been ready for so long; nothing when it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let since = ready_since(pod)?;
    let wait = Duration::from_secs(u64::try_from(min_ready_seconds).unwrap_or_default());
    let passed = now.duration_since(since);
    // Ready in the future: a clock differs. It waits from now on.
    let passed = Duration::try_from(passed).unwrap_or_default();
    Some(wait.saturating_sub(passed))
}

/// A pod of which is said why it is about to go: a reason in one word, and a sentence.
pub(crate) fn disrupted(pod: &Pod, (reason, message): (&str, &str), now: Timestamp) -> Pod {
    let mut pod = pod.clone();
    let generation = pod.metadata.generation;
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let before = conditions.iter_mut().find(|condition| condition.type_ == "DisruptionTarget");
    let since = before.as_ref().filter(|before| before.status == "True");
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        observed_generation: generation,
        last_transition_time: since.map_or(Some(Time(now)), |since| since.last_transition_time.clone()),
        last_probe_time: None,
    };
    match before {
        Some(before) => *before = condition,
        None => conditions.push(condition),
    }
    pod
}

/// A new pod of a template, controlled by this owner. Its name begins with the owner's.
pub(crate) fn from_template(template: &PodTemplateSpec, namespace: &str, owner: &OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(format!("{}-", owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
