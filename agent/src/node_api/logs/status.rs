//! Why a container has no log, in the kubelet's words. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// The sentence for a container of a pod that has no log of the instance that was asked for.
pub(crate) fn why_none(pod: &Pod, container: &str, previous: bool) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let place = format!("container {container:?} in pod {name:?}");
    if previous {
        return format!("previous terminated {place} not found");
    }
    let Some(status) = status_of(pod, container) else { return format!("{place} is not available") };
    let state = status.state.clone().unwrap_or_default();
    match (state.waiting, state.terminated) {
        (Some(waiting), _) => match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => format!("{place} is waiting to start: image can't be pulled"),
            "ImagePullBackOff" => format!("{place} is waiting to start: trying and failing to pull image"),
            reason => format!("{place} is waiting to start: {reason}"),
        },
        (None, Some(_)) => format!("{place} is terminated"),
        (None, None) => format!("{place} is waiting to start - no logs yet"),
    }
}

fn status_of<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|one| one.name == container)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_state_of_a_container_says_why() {
        let told = |state: serde_json::Value, previous| {
            let status = json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state});
            let pod = json!({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [status]}});
            why_none(&serde_json::from_value(pod).unwrap(), "c", previous)
        };
        let waiting = |reason: &str| told(json!({"waiting": {"reason": reason}}), false);
        let place = "container \"c\" in pod \"p\"";
        assert_eq!(waiting("ContainerCreating"), format!("{place} is waiting to start: ContainerCreating"));
        assert_eq!(waiting("ErrImagePull"), format!("{place} is waiting to start: image can't be pulled"));
        assert_eq!(told(json!({"terminated": {"exitCode": 1}}), false), format!("{place} is terminated"));
        assert_eq!(told(json!({}), false), format!("{place} is waiting to start - no logs yet"));
        assert_eq!(told(json!({}), true), format!("previous terminated {place} not found"));
        assert_eq!(why_none(&Pod::default(), "c", false), "container \"c\" in pod \"\" is not available");
    }
}
