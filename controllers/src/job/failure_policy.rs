//! What a Job's rules say of a pod that failed. A decision; must never look at more than the pod.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::kind::Object as _;

/// What follows from a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It counts, as without rules.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed, for this reason.
    FailJob(String),
}

/// What follows from this pod's failure: the first rule that matches decides.
pub(super) fn consequence(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Consequence {
    let rules = policy.iter().flat_map(|policy| &policy.rules).enumerate();
    rules
        .filter_map(|(at, rule)| Some((at, rule, matching(rule, pod)?)))
        .find_map(|(at, rule, what)| {
            Some(match rule.action.as_str() {
                "Count" => Consequence::Count,
                "Ignore" => Consequence::Ignore,
                "FailIndex" => Consequence::FailIndex,
                "FailJob" => Consequence::FailJob(format!("{what} matching FailJob rule at index {at}")),
                // A rule of a later release.
                _ => return None,
            })
        })
        .unwrap_or(Consequence::Count)
}

/// What about the pod matches, in words.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (status, key) = (pod.status.as_ref()?, pod.key());
    if let Some(wanted) = &rule.on_exit_codes {
        let statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        return statuses.into_iter().find_map(|container| {
            let code = failing_code(container, wanted)?;
            Some(format!("Container {} for pod {key} failed with exit code {code}", container.name))
        });
    }
    let patterns = rule.on_pod_conditions.as_ref()?;
    let conditions = status.conditions.as_ref()?;
    let fits = |type_: &str, state: &str| {
        patterns.iter().any(|it| it.type_ == type_ && it.status.as_deref().unwrap_or("True") == state)
    };
    let found = conditions.iter().find(|condition| fits(&condition.type_, &condition.status))?;
    Some(format!("Pod {key} has condition {}", found.type_))
}

fn failing_code(container: &ContainerStatus, wanted: &PodFailurePolicyOnExitCodesRequirement) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    if code == 0 || wanted.container_name.as_ref().is_some_and(|name| *name != container.name) {
        return None;
    }
    let fits = match wanted.operator.as_str() {
        "In" => wanted.values.contains(&code),
        "NotIn" => !wanted.values.contains(&code),
        _ => false,
    };
    fits.then_some(code)
}
