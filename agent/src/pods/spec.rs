//! What a pod asks for, read in the terms of the plan: kinds of containers, who is restarted, how long stopping may take.
//! A decision; must never look at a runtime.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use k8s_openapi::jiff::Timestamp;

use crate::clock::{after, between};

/// The shortest grace that a container is given, as the kubelet's.
pub const SHORTEST_GRACE: Duration = Duration::from_secs(2);
/// The grace of pods that do not say one.
const GRACE: Duration = Duration::from_secs(30);

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that runs as long as the pod.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Added by somebody who looks for something.
    Ephemeral,
}

/// A container of a pod.
#[derive(Debug, Clone, Copy)]
pub struct ContainerSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub kind: Kind,
    /// The image that it shall run.
    pub image: &'a str,
    /// As it stands in the pod; an ephemeral one does not stand among the others.
    pub container: Option<&'a Container>,
}

fn of_container(container: &Container, kind: Kind) -> ContainerSpec<'_> {
    let image = container.image.as_deref().unwrap_or_default();
    ContainerSpec { name: &container.name, kind, image, container: Some(container) }
}

/// The init containers and sidecars, in their order.
pub fn init_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = ContainerSpec<'_>> {
    let list = spec(pod).and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    list.iter().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        of_container(container, if sidecar { Kind::Sidecar } else { Kind::Init })
    })
}

/// The main containers.
pub fn main_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = ContainerSpec<'_>> {
    let list = spec(pod).map(|spec| spec.containers.as_slice()).unwrap_or_default();
    list.iter().map(|container| of_container(container, Kind::Main))
}

/// The ephemeral containers.
pub fn ephemeral_containers(pod: &Pod) -> impl DoubleEndedIterator<Item = ContainerSpec<'_>> {
    let list = spec(pod).and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default();
    list.iter().map(|container| ContainerSpec {
        name: &container.name,
        kind: Kind::Ephemeral,
        image: container.image.as_deref().unwrap_or_default(),
        container: None,
    })
}

/// All containers.
pub fn containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    init_containers(pod).chain(main_containers(pod)).chain(ephemeral_containers(pod))
}

/// The container of this name.
#[must_use]
pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<ContainerSpec<'a>> {
    containers(pod).find(|container| container.name == name)
}

/// The specification.
#[must_use]
pub fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// Whether the pod is to be deleted.
#[must_use]
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// The phase that the API server knows.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Whether it is over for a pod in this phase.
#[must_use]
pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The pod's uid; empty for one that is not stored.
#[must_use]
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// The pod as messages name it: `name_namespace(uid)`.
#[must_use]
pub fn title(pod: &Pod) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}_{}({})", text(&pod.metadata.name), text(&pod.metadata.namespace), uid(pod))
}

/// Whether the pod lives in the network of its host.
#[must_use]
pub fn uses_host_network(pod: &Pod) -> bool {
    spec(pod).is_some_and(|spec| spec.host_network == Some(true))
}

impl<'a> ContainerSpec<'a> {
    /// Whether it is started again after an end with this code. Rules of the container come first, then its own policy,
    /// then that of the pod.
    #[must_use]
    pub fn is_restarted(&self, pod: &Pod, code: i32) -> bool {
        match self.kind {
            Kind::Sidecar => return true,
            Kind::Ephemeral => return false,
            Kind::Init if code == 0 => return false,
            Kind::Init | Kind::Main => {}
        }
        let own = self.container.and_then(|container| container.restart_policy.as_deref());
        if own.is_some() && self.has_rule_for(code) {
            return true;
        }
        match own.or_else(|| spec(pod).and_then(|spec| spec.restart_policy.as_deref())) {
            Some("Never") => false,
            Some("OnFailure") => code != 0,
            _ => true,
        }
    }

    /// Whether one that the agent stopped is started again.
    #[must_use]
    pub fn is_restarted_after_a_stop(&self, pod: &Pod) -> bool {
        self.is_restarted(pod, 137)
    }

    fn has_rule_for(&self, code: i32) -> bool {
        let rules = self.container.and_then(|container| container.restart_policy_rules.as_deref());
        rules.unwrap_or_default().iter().any(|rule| {
            let Some(codes) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else {
                return false;
            };
            let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    }

    /// Its probes: startup, liveness, readiness.
    #[must_use]
    pub fn probes(&self) -> [Option<&'a Probe>; 3] {
        match self.container.filter(|_| self.kind != Kind::Init) {
            Some(it) => [it.startup_probe.as_ref(), it.liveness_probe.as_ref(), it.readiness_probe.as_ref()],
            None => [None; 3],
        }
    }
}

/// How long stopping may take that nobody has asked for in particular.
#[must_use]
pub fn grace(pod: &Pod) -> Duration {
    let seconds = spec(pod).and_then(|spec| spec.termination_grace_period_seconds);
    seconds.map_or(GRACE, of_seconds).max(SHORTEST_GRACE)
}

/// How long the containers of a deleted pod have from now on. The API server has counted the grace from the deletion, by
/// its own clock: what that leaves is never more than the grace itself.
#[must_use]
pub fn grace_of_deletion(pod: &Pod, now: Timestamp) -> Duration {
    let Some(end) = &pod.metadata.deletion_timestamp else { return grace(pod) };
    let whole = pod.metadata.deletion_grace_period_seconds.map_or_else(|| grace(pod), of_seconds);
    between(now, end.0).min(whole).max(SHORTEST_GRACE)
}

/// When the pod has been active for as long as it may.
#[must_use]
pub fn deadline(pod: &Pod) -> Option<Timestamp> {
    let seconds = spec(pod)?.active_deadline_seconds?;
    let start = pod.status.as_ref()?.start_time.as_ref()?;
    Some(after(start.0, of_seconds(seconds)))
}

fn of_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(policy: &str, container: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": {"restartPolicy": policy, "containers": [container]}})).unwrap()
    }

    #[test]
    fn who_is_restarted_follows_from_rules_then_the_container_then_the_pod() {
        let restarted = |policy: &str, container: serde_json::Value, code: i32| {
            let pod = pod(policy, &container);
            main_containers(&pod).next().unwrap().is_restarted(&pod, code)
        };
        let plain = || json!({"name": "c"});
        assert!(restarted("Always", plain(), 0) && restarted("Always", plain(), 1));
        assert!(!restarted("OnFailure", plain(), 0) && restarted("OnFailure", plain(), 1));
        assert!(!restarted("Never", plain(), 0) && !restarted("Never", plain(), 1));
        let own = || {
            json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]})
        };
        assert!(restarted("Always", own(), 42) && !restarted("Always", own(), 1));
        let but = json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 3]}}]});
        assert!(restarted("Never", but.clone(), 1) && !restarted("Always", but, 3));
    }

    #[test]
    fn the_grace_of_a_deletion_is_what_is_left_of_it() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut pod = pod("Always", &json!({"name": "c"}));
        assert_eq!(grace_of_deletion(&pod, at(0)), Duration::from_secs(30));
        pod.metadata.deletion_timestamp = Some(crate::clock::told(at(100)));
        pod.metadata.deletion_grace_period_seconds = Some(40);
        for (now, left) in [(60, 40), (70, 30), (99, 2), (200, 2), (0, 40)] {
            assert_eq!(grace_of_deletion(&pod, at(now)), Duration::from_secs(left), "at {now}");
        }
    }
}
