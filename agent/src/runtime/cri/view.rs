//! What a runtime tells of sandboxes and containers, in the agent's own terms. A decision: must never ask the runtime.

use core::net::IpAddr;
use std::path::PathBuf;

use barque_containers::spec::{
    ContainerSpec, ContainerState, Exit, Phase, SandboxSpec, SandboxState, TerminationMessage,
};
use barque_cri::v1;

use super::labels::{FALL_BACK_TO_LOGS, IMAGE, LAST_WORD, POD_UID, RESTART_COUNT, told_bounds};

/// Something of a pod, by its id in the runtime, and what it is now. What differs from before is news.
pub(super) type Fingerprint = Vec<(String, i32)>;

/// What a runtime has of one pod, or of all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listed {
    /// Sandboxes, the newest first.
    pub(super) sandboxes: Vec<v1::PodSandbox>,
    /// Containers in no order.
    pub(super) containers: Vec<v1::Container>,
}

impl Listed {
    /// In the order in which they are looked at.
    pub(super) fn new(mut sandboxes: Vec<v1::PodSandbox>, containers: Vec<v1::Container>) -> Self {
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
        Self { sandboxes, containers }
    }

    /// What of it may be news.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let sandboxes = self.sandboxes.iter().map(|sandbox| (sandbox.id.clone(), sandbox.state));
        let containers = self.containers.iter().map(|container| (container.id.clone(), container.state));
        let mut all: Fingerprint = sandboxes.chain(containers).collect();
        all.sort_unstable();
        all
    }

    /// By the uids of the pods that they belong to. What has none is not the agent's.
    pub(super) fn by_pod(self) -> std::collections::BTreeMap<String, Self> {
        let mut pods: std::collections::BTreeMap<String, Self> = std::collections::BTreeMap::new();
        for sandbox in self.sandboxes {
            if let Some(uid) = sandbox.labels.get(POD_UID).cloned() {
                pods.entry(uid).or_default().sandboxes.push(sandbox);
            }
        }
        for container in self.containers {
            if let Some(uid) = container.labels.get(POD_UID).cloned() {
                pods.entry(uid).or_default().containers.push(container);
            }
        }
        pods
    }
}

/// The addresses of a sandbox, the preferred one first.
pub(super) fn addresses(status: &v1::PodSandboxStatus) -> Vec<IpAddr> {
    let Some(network) = &status.network else { return Vec::new() };
    let more = network.additional_ips.iter().map(|more| more.ip.as_str());
    [network.ip.as_str()].into_iter().chain(more).filter_map(|text| text.parse().ok()).collect()
}

/// A sandbox.
pub(super) fn sandbox(status: &v1::PodSandboxStatus) -> SandboxState {
    SandboxState {
        spec: SandboxSpec {
            id: status.id.clone(),
            labels: status.labels.clone().into_iter().collect(),
            resources: told_bounds(&status.annotations),
            ..SandboxSpec::default()
        },
        created_ns: status.created_at,
        ready: status.state() == v1::PodSandboxState::SandboxReady,
        network_namespace: None,
    }
}

/// The log of a container, and where its last word would be.
pub(super) fn last_word(status: &v1::ContainerStatus) -> Option<TerminationMessage> {
    let path = status.annotations.get(LAST_WORD)?;
    Some(TerminationMessage {
        path: PathBuf::from(path),
        fall_back_to_logs: status.annotations.contains_key(FALL_BACK_TO_LOGS),
    })
}

/// A container; the last word is that of one that has ended.
pub(super) fn container(status: &v1::ContainerStatus, last_word: String) -> ContainerState {
    let metadata = status.metadata.clone().unwrap_or_default();
    let attempt = status.annotations.get(RESTART_COUNT).and_then(|text| text.parse().ok());
    let image = status.image.clone().unwrap_or_default();
    let named = [status.annotations.get(IMAGE).cloned(), Some(image.user_specified_image)];
    let named = named.into_iter().flatten().find(|name| !name.is_empty());
    ContainerState {
        spec: ContainerSpec {
            id: status.id.clone(),
            name: metadata.name,
            attempt: attempt.unwrap_or(metadata.attempt),
            labels: status.labels.clone().into_iter().collect(),
            annotations: status.annotations.clone().into_iter().collect(),
            image: named.unwrap_or(image.image),
            image_id: status.image_ref.clone(),
            log_path: PathBuf::from(&status.log_path),
            resources: told_bounds(&status.annotations),
            ..ContainerSpec::default()
        },
        created_ns: status.created_at,
        phase: phase(status, last_word),
        pid: None,
    }
}

fn phase(status: &v1::ContainerStatus, last_word: String) -> Phase {
    let started_ns = Some(status.started_at).filter(|at| *at > 0);
    let ended = |code, message| {
        // One that never ran may have no end either.
        let finished_ns = if status.finished_at > 0 { status.finished_at } else { status.created_at };
        Phase::Exited(Exit {
            code,
            signal: None,
            oom_killed: status.reason == "OOMKilled",
            // containerd notes the start when it has heard of it; what ends at once has ended before.
            started_ns: started_ns.map(|started_ns| started_ns.min(finished_ns)),
            finished_ns,
            message,
        })
    };
    match status.state() {
        v1::ContainerState::ContainerCreated => Phase::Created,
        v1::ContainerState::ContainerRunning => {
            Phase::Running { started_ns: started_ns.unwrap_or(status.created_at) }
        }
        v1::ContainerState::ContainerExited => {
            let message = if last_word.is_empty() { status.message.clone() } else { last_word };
            ended(status.exit_code, message)
        }
        // It is ended before another one is started, whatever it still does.
        v1::ContainerState::ContainerUnknown => {
            ended(255, "the container runtime has lost track of the container".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: v1::ContainerState) -> v1::ContainerStatus {
        v1::ContainerStatus {
            id: "abc".to_owned(),
            metadata: Some(v1::ContainerMetadata { name: "c".to_owned(), attempt: 2 }),
            state: state.into(),
            created_at: 10,
            image: Some(v1::ImageSpec { image: "sha256:1".to_owned(), ..v1::ImageSpec::default() }),
            image_ref: "r@sha256:2".to_owned(),
            ..v1::ContainerStatus::default()
        }
    }

    #[test]
    fn a_container_is_told_as_the_agent_made_it() {
        let mut told = status(v1::ContainerState::ContainerRunning);
        told.started_at = 20;
        let state = container(&told, String::new());
        assert_eq!((state.spec.name.as_str(), state.spec.attempt), ("c", 2));
        assert_eq!((state.spec.image.as_str(), state.spec.image_id.as_str()), ("sha256:1", "r@sha256:2"));
        assert_eq!(state.phase, Phase::Running { started_ns: 20 });
        told.annotations = [(IMAGE, "busybox"), (RESTART_COUNT, "7")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let state = container(&told, String::new());
        assert_eq!((state.spec.image.as_str(), state.spec.attempt), ("busybox", 7));
        assert_eq!(
            container(&status(v1::ContainerState::ContainerCreated), String::new()).phase,
            Phase::Created
        );
    }

    #[test]
    fn how_it_ended_is_told_with_its_last_word() {
        let mut told = status(v1::ContainerState::ContainerExited);
        (told.started_at, told.finished_at, told.exit_code) = (20, 30, 137);
        (told.reason, told.message) = ("OOMKilled".to_owned(), "of the runtime".to_owned());
        let exit = |told: &v1::ContainerStatus, word: &str| match container(told, word.to_owned()).phase {
            Phase::Exited(exit) => exit,
            other => panic!("{other:?}"),
        };
        let ended = exit(&told, "bye");
        assert_eq!((ended.code, ended.oom_killed, ended.message.as_str()), (137, true, "bye"));
        assert_eq!((ended.started_ns, ended.finished_ns), (Some(20), 30));
        assert_eq!(exit(&told, "").message, "of the runtime");
        told.started_at = 31;
        let at_once = exit(&told, "");
        assert_eq!(
            (at_once.started_ns, at_once.finished_ns),
            (Some(30), 30),
            "nothing ends before it starts"
        );
        (told.started_at, told.finished_at) = (0, 0);
        let never = exit(&told, "");
        assert_eq!((never.started_ns, never.finished_ns), (None, 10));
        assert_eq!(exit(&status(v1::ContainerState::ContainerUnknown), "").code, 255);
    }

    #[test]
    fn what_belongs_to_no_pod_is_not_the_agents() {
        let labels = |uid: &str| [(POD_UID.to_owned(), uid.to_owned())].into();
        let sandbox = |id: &str, created_at| v1::PodSandbox {
            id: id.to_owned(),
            created_at,
            labels: labels("u"),
            ..v1::PodSandbox::default()
        };
        let container = v1::Container { id: "c".to_owned(), state: 1, ..v1::Container::default() };
        let of_pod = v1::Container { labels: labels("u"), ..container.clone() };
        let listed = Listed::new(vec![sandbox("old", 1), sandbox("new", 2)], vec![container, of_pod]);
        let pods = listed.by_pod();
        assert_eq!(pods.keys().collect::<Vec<_>>(), ["u"]);
        assert_eq!(pods["u"].sandboxes[0].id, "new");
        let expected = [("c", 1), ("new", 0), ("old", 0)].map(|(id, state)| (id.to_owned(), state));
        assert_eq!(pods["u"].fingerprint(), expected);
    }

    #[test]
    fn all_addresses_count_that_are_some() {
        let ips = |ip: &str, more: &[&str]| {
            let more = more.iter().map(|ip| v1::PodIp { ip: (*ip).to_owned() }).collect();
            let network = v1::PodSandboxNetworkStatus { ip: ip.to_owned(), additional_ips: more };
            addresses(&v1::PodSandboxStatus { network: Some(network), ..v1::PodSandboxStatus::default() })
        };
        let both: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(ips("10.0.0.2", &["fd00::2"]), both);
        assert_eq!(ips("", &[]), Vec::<IpAddr>::new());
    }
}
