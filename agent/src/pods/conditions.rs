//! The conditions of a pod, with the kubelet's reasons and messages. A decision; conditions of others are none of its
//! business.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use super::plan::Refusal;
use super::resize::condition as known;
use super::spec::{self, Kind};
use crate::clock::told;

/// What the conditions are made from.
pub(super) struct Facts<'a> {
    pub(super) init: &'a [ContainerStatus],
    pub(super) main: &'a [ContainerStatus],
    pub(super) phase: &'a str,
    pub(super) has_sandbox: bool,
    /// Why it was ended for the node's sake.
    pub(super) disruption: Option<&'a Refusal>,
}

/// One condition, before it is known since when it holds.
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    const fn yes() -> Self {
        Self { holds: true, reason: None, message: None }
    }

    const fn no(reason: &'static str, message: Option<String>) -> Self {
        Self { holds: false, reason: Some(reason), message }
    }
}

/// Those that the agent writes.
pub(super) fn conditions(pod: &Pod, facts: &Facts<'_>, now: Timestamp) -> Vec<PodCondition> {
    let containers_ready = containers_ready(pod, facts);
    let sandbox = Verdict { holds: facts.has_sandbox, reason: None, message: None };
    let all = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialised(pod, facts)),
        ("Ready", ready(pod, &containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ];
    let disruption = facts.disruption.map(|refusal| {
        let message = Some(refusal.message.clone());
        ("DisruptionTarget", Verdict { holds: true, reason: Some("TerminationByKubelet"), message })
    });
    all.into_iter().chain(disruption).map(|(kind, verdict)| condition(pod, kind, verdict, now)).collect()
}

fn condition(pod: &Pod, kind: &str, verdict: Verdict, now: Timestamp) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = known(pod, kind).filter(|before| before.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: before
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| Some(told(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    }
}

fn find<'a>(list: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    list.iter().find(|status| status.name == name)
}

fn initialised(pod: &Pod, facts: &Facts<'_>) -> Verdict {
    if facts.phase == "Succeeded" {
        return Verdict { holds: true, reason: Some("PodCompleted"), message: None };
    }
    let begun = |status: &ContainerStatus| {
        let has_ended = status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
        let state = status.state.as_ref();
        has_ended || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    if facts.main.iter().any(begun) {
        return Verdict::yes();
    }
    let incomplete: Vec<_> = spec::init_containers(pod)
        .filter(|container| {
            let status = find(facts.init, container.name);
            !status.is_some_and(|status| match container.kind {
                Kind::Sidecar => status.started == Some(true),
                _ => status.ready,
            })
        })
        .map(|container| container.name)
        .collect();
    if incomplete.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(pod: &Pod, facts: &Facts<'_>) -> Verdict {
    match facts.phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let sidecars = spec::init_containers(pod).filter(|container| container.kind == Kind::Sidecar);
    let unready: Vec<_> = sidecars
        .map(|container| (container.name, facts.init))
        .chain(spec::main_containers(pod).map(|container| (container.name, facts.main)))
        .filter(|(name, list)| !find(list, name).is_some_and(|status| status.ready))
        .map(|(name, _)| name)
        .collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::no("ContainersNotReady", Some(message))
}

fn ready(pod: &Pod, containers: &Verdict) -> Verdict {
    if !containers.holds {
        return Verdict { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let gates = spec::spec(pod).and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let closed: Vec<_> = gates
        .iter()
        .filter_map(|gate| {
            let name = &gate.condition_type;
            match known(pod, name) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate {name:?} does not exist."))
                }
                Some(condition) if condition.status == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate {name:?} is not \"True\", but {}",
                    condition.status
                )),
            }
        })
        .collect();
    if closed.is_empty() {
        Verdict::yes()
    } else {
        Verdict::no("ReadinessGatesNotReady", Some(closed.join(", ")))
    }
}
