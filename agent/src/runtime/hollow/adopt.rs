//! What an agent that comes back knows of containers that never were more than their status. A decision; must never start or
//! end anything.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_containers::spec::Resources;
use k8s_openapi::api::core::v1::{Container as Described, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;

use super::SCHEME;
use super::timeline::Life;
use crate::clock::between;
use crate::containers::bounds::of_container;
use crate::pods::failures::delay;
use crate::pods::observed::{Container, Exit, HEALTHY_RUN, Instance, Sandbox, State};
use crate::pods::spec;

/// The sandbox and the containers that the pod's status tells of.
pub(super) fn adopt(pod: &Pod, now: Timestamp) -> (Option<Sandbox>, BTreeMap<String, Life>) {
    let Some(status) = &pod.status else { return (None, BTreeMap::new()) };
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let lives: BTreeMap<_, _> = lists
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|status| Some((status.name.clone(), life(status, now)?)))
        .collect();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let has_sandbox = conditions
        .iter()
        .any(|condition| condition.type_ == "PodReadyToStartContainers" && condition.status == "True");
    let alive = lives.values().any(|life| life.container.newest.exit().is_none());
    if !has_sandbox && !alive {
        return (None, lives);
    }
    let addresses = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok());
    let addresses = if spec::uses_host_network(pod) { Vec::new() } else { addresses.collect() };
    let first = lives.values().map(|life| life.container.newest.created).min();
    let started = status.start_time.as_ref().map(|time| time.0);
    let created = first.into_iter().chain(started).min().unwrap_or(now);
    (Some(Sandbox { created, addresses, ready: true, bounds: None }), lives)
}

fn life(status: &ContainerStatus, now: Timestamp) -> Option<Life> {
    let id = status.container_id.as_ref().filter(|id| id.starts_with(SCHEME))?;
    let state = status.state.as_ref()?;
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let attempt = u32::try_from(status.restart_count).unwrap_or_default();
    let instance = |id: &str, attempt: u32, created: Timestamp, state: State| Instance {
        id: id.to_owned(),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        attempt,
        created,
        state,
        killed_at: None,
        bounds: bounds(status),
    };
    let ended = |ended: &ContainerStateTerminated, attempt: u32| {
        let exit = exit(ended, now);
        let id = ended.container_id.clone().unwrap_or_else(|| id.clone());
        instance(&id, attempt, exit.started_at, State::Exited(exit))
    };
    let newest = if let Some(running) = &state.running {
        let since = running.started_at.as_ref().map_or(now, |time| time.0);
        instance(id, attempt, since, State::Running { since })
    } else if let Some(terminated) = &state.terminated {
        ended(terminated, attempt)
    } else if let Some(last) = last.filter(|last| last.container_id.as_ref() == Some(id)) {
        ended(last, attempt)
    } else {
        instance(id, attempt, now, State::Created)
    };
    let before = last
        .filter(|last| last.container_id.as_ref() != Some(&newest.id))
        .map(|last| ended(last, attempt.saturating_sub(1)));
    let crashes = match newest.exit() {
        None => attempt,
        Some(exit) if between(exit.started_at, exit.finished_at) >= HEALTHY_RUN => 1,
        Some(_) => {
            let message = state.waiting.as_ref().and_then(|waiting| waiting.message.as_deref());
            message.and_then(crashes_told).unwrap_or(attempt.saturating_add(1))
        }
    };
    Some(Life { container: Container { newest, before, crashes }, asked_to_stop: None })
}

/// What it was told to have.
fn bounds(status: &ContainerStatus) -> Option<Resources> {
    let told = Described { resources: Some(status.resources.clone()?), ..Described::default() };
    Some(of_container(&told))
}

fn exit(ended: &ContainerStateTerminated, now: Timestamp) -> Exit {
    let finished_at = ended.finished_at.as_ref().map_or(now, |time| time.0);
    Exit {
        code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone(),
        started_at: ended.started_at.as_ref().map_or(finished_at, |time| time.0),
        finished_at,
    }
}

/// How often a container has crashed, from the back-off that the agent told: `back-off 40s restarting ...`.
fn crashes_told(message: &str) -> Option<u32> {
    let text = message.strip_prefix("back-off ")?.split(' ').next()?;
    let nanos = barque_api::time::GoDuration::parse(text).ok()?.nanos();
    let told = Duration::from_nanos(u64::try_from(nanos).ok()?);
    (1..=16).find(|failures| delay(*failures) == told).map(|failures| failures + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_was_told_is_known_again() {
        let time = |second: i64| at(second).to_string();
        let ended = |id: &str, from: i64, to: i64| json!({"terminated": {"containerID": id, "exitCode": 3, "reason": "Error", "startedAt": time(from), "finishedAt": time(to)}});
        let status = |name: &str, restarts: i32, state: serde_json::Value, last: serde_json::Value| {
            json!({"name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": restarts,
                "containerID": format!("hollow://{name}/{restarts}"), "state": state, "lastState": last})
        };
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": []},
            "status": {"startTime": time(5), "podIPs": [{"ip": "10.0.0.7"}], "containerStatuses": [
                status("runs", 1, json!({"running": {"startedAt": time(20)}}), ended("hollow://runs/0", 10, 15)),
                status("waits", 4, json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=waits"}}), ended("hollow://waits/4", 30, 31)),
                status("done", 0, ended("hollow://done/0", 10, 12), json!({})),
                {"name": "new", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {}}},
                {"name": "other", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": "containerd://1", "state": {"running": {}}},
            ]},
        }))
        .unwrap();
        let (sandbox, lives) = adopt(&pod, at(100));
        let sandbox = sandbox.unwrap();
        assert_eq!((sandbox.created, sandbox.addresses), (at(5), vec!["10.0.0.7".parse().unwrap()]));
        assert_eq!(lives.keys().collect::<Vec<_>>(), ["done", "runs", "waits"]);
        let runs = &lives["runs"].container;
        assert_eq!((runs.newest.running_since(), runs.newest.attempt, runs.crashes), (Some(at(20)), 1, 1));
        assert_eq!(runs.before.as_ref().unwrap().attempt, 0);
        let waits = &lives["waits"].container;
        assert_eq!((waits.newest.attempt, waits.crashes, waits.before.is_none()), (4, 4, true));
        assert_eq!(waits.newest.exit().unwrap().finished_at, at(31));
        assert_eq!(lives["done"].container.crashes, 1);
    }

    #[test]
    fn a_pod_that_was_never_started_has_nothing() {
        let pod: Pod = serde_json::from_value(json!({"status": {"phase": "Pending"}})).unwrap();
        assert_eq!(adopt(&pod, at(0)), (None, BTreeMap::new()));
    }
}
