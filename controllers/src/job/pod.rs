//! What a Job asks of a single pod. Decisions; must never change it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::kind::Object as _;
use crate::pods;

/// Kept by a pod until its Job has it on its account.
pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Which completion a pod is for; annotation and label.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How many pods of the same index have failed before it.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How many of the same index have failed before it in a way that does not count.
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// Whether a Job has it still to account for.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// The same without the finalizer.
pub(super) fn untracked(pod: &Pod) -> Pod {
    let mut free = pod.clone();
    if let Some(finalizers) = &mut free.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    free.metadata.finalizers = free.metadata.finalizers.filter(|all| !all.is_empty());
    free
}

/// Tracked from here on.
pub(super) fn track(pod: &mut Pod) {
    if !is_tracked(pod) {
        pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    }
}

pub(super) fn succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Whether it counts as failed. One that is deleted does, unless only those that have really ended do: it may be that no node
/// is left that could tell.
pub(super) fn failed(pod: &Pod, replaces_failed_only: bool) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => !replaces_failed_only && pod.is_deleting(),
    }
}

/// Which completion it is for.
pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.annotation(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// How many of its index have failed before it and count.
pub(super) fn failures_before(pod: &Pod) -> i32 {
    count(pod, FAILURES)
}

/// How many of its index have failed before it and do not count.
pub(super) fn ignored_failures_before(pod: &Pod) -> i32 {
    count(pod, IGNORED_FAILURES)
}

fn count(pod: &Pod, annotation: &str) -> i32 {
    // Anybody can write it.
    pod.annotation(annotation)
        .and_then(|text| text.parse().ok())
        .filter(|count| *count >= 0)
        .unwrap_or_default()
}

/// When it ended: as its containers say, else as its readiness does, else when it was deleted, else when it was made.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    from_containers(pod).or_else(|| from_readiness(pod)).or_else(|| from_deletion(pod)).or_else(|| {
        let created = pod.metadata.creation_timestamp.as_ref()?;
        Some(created.0)
    })
}

fn from_containers(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars: Vec<_> = init
        .filter(|container| container.restart_policy.as_deref() == Some("Always"))
        .map(|container| &container.name)
        .collect();
    let regular = status.container_statuses.iter().flatten();
    let of_sidecars =
        status.init_container_statuses.iter().flatten().filter(|status| sidecars.contains(&&status.name));
    let end =
        |status: &ContainerStatus| Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    let ends: Option<Vec<_>> = regular.chain(of_sidecars).map(end).collect();
    ends?.into_iter().max()
}

fn from_readiness(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready =
        conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "False")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

fn from_deletion(pod: &Pod) -> Option<Timestamp> {
    let deletion = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = u64::try_from(pod.metadata.deletion_grace_period_seconds.unwrap_or_default()).ok()?;
    deletion.checked_sub(Duration::from_secs(grace)).ok()
}
