//! What the agent knows, in the words of CRI. Pure; must never ask anybody.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap};

use barque_containers::Stats;
use barque_containers::spec::{
    ContainerSpec, ContainerState, Mount, Phase, PidShare, Resources, SandboxState, Share,
};
use barque_cri::v1;
use barque_images::Image;

use crate::runtime::cri::labels::{BOUNDS, bounds};

/// The kubelet's name for how many came before.
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";

fn map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

/// Whether these labels are among those.
pub(super) fn selects(selector: &HashMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn sandbox_metadata(state: &SandboxState) -> v1::PodSandboxMetadata {
    let label = |name: &str| state.spec.labels.get(&format!("io.kubernetes.pod.{name}")).cloned();
    v1::PodSandboxMetadata {
        name: label("name").unwrap_or_default(),
        uid: state.spec.id.clone(),
        namespace: label("namespace").unwrap_or_default(),
        attempt: 0,
    }
}

/// Whether containers can run in it.
pub(super) fn sandbox_state(state: &SandboxState) -> v1::PodSandboxState {
    if state.ready { v1::PodSandboxState::SandboxReady } else { v1::PodSandboxState::SandboxNotready }
}

/// A sandbox of a list.
pub(super) fn sandbox(state: &SandboxState) -> v1::PodSandbox {
    v1::PodSandbox {
        id: state.spec.id.clone(),
        metadata: Some(sandbox_metadata(state)),
        state: sandbox_state(state).into(),
        created_at: state.created_ns,
        labels: map(&state.spec.labels),
        annotations: HashMap::new(),
        runtime_handler: String::new(),
    }
}

/// A sandbox, all of it.
pub(super) fn sandbox_status(state: &SandboxState, addresses: &[IpAddr]) -> v1::PodSandboxStatus {
    let share = |share| match share {
        Share::Pod => v1::NamespaceMode::Pod,
        Share::Host => v1::NamespaceMode::Node,
    };
    let pid = match state.spec.pid {
        PidShare::Container => v1::NamespaceMode::Container,
        PidShare::Pod => v1::NamespaceMode::Pod,
        PidShare::Host => v1::NamespaceMode::Node,
    };
    let mut all = addresses.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: all.next().unwrap_or_default(),
        additional_ips: all.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = v1::NamespaceOption {
        network: share(state.spec.network).into(),
        pid: pid.into(),
        ipc: share(state.spec.ipc).into(),
        target_id: String::new(),
    };
    v1::PodSandboxStatus {
        id: state.spec.id.clone(),
        metadata: Some(sandbox_metadata(state)),
        state: sandbox_state(state).into(),
        created_at: state.created_ns,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options: Some(options) }) }),
        labels: map(&state.spec.labels),
        annotations: HashMap::new(),
        runtime_handler: String::new(),
    }
}

/// Where a container is in its life.
pub(super) fn container_state(state: &ContainerState) -> v1::ContainerState {
    match state.phase {
        Phase::Created => v1::ContainerState::ContainerCreated,
        Phase::Running { .. } => v1::ContainerState::ContainerRunning,
        Phase::Exited(_) => v1::ContainerState::ContainerExited,
    }
}

fn container_metadata(spec: &ContainerSpec) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }
}

fn annotations(spec: &ContainerSpec) -> HashMap<String, String> {
    let mut all = map(&spec.annotations);
    all.insert(RESTART_COUNT.to_owned(), spec.attempt.to_string());
    // An agent that speaks CRI looks for them there; they may have changed since the container was made.
    all.insert(BOUNDS.to_owned(), bounds(&spec.resources));
    all
}

fn image_spec(spec: &ContainerSpec) -> v1::ImageSpec {
    v1::ImageSpec {
        image: spec.image.clone(),
        user_specified_image: spec.image.clone(),
        ..v1::ImageSpec::default()
    }
}

/// A container of a list.
pub(super) fn container(sandbox: &str, state: &ContainerState) -> v1::Container {
    let spec = &state.spec;
    v1::Container {
        id: spec.id.clone(),
        pod_sandbox_id: sandbox.to_owned(),
        metadata: Some(container_metadata(spec)),
        image: Some(image_spec(spec)),
        image_ref: spec.image_id.clone(),
        state: container_state(state).into(),
        created_at: state.created_ns,
        labels: map(&spec.labels),
        annotations: annotations(spec),
        image_id: spec.image_id.clone(),
    }
}

/// A container, all of it.
pub(super) fn container_status(state: &ContainerState) -> v1::ContainerStatus {
    let spec = &state.spec;
    let mut told = v1::ContainerStatus {
        id: spec.id.clone(),
        metadata: Some(container_metadata(spec)),
        state: container_state(state).into(),
        created_at: state.created_ns,
        image: Some(image_spec(spec)),
        image_ref: spec.image_id.clone(),
        image_id: spec.image_id.clone(),
        labels: map(&spec.labels),
        annotations: annotations(spec),
        mounts: spec.mounts.iter().filter(|mount| mount.kind == "bind").map(mount).collect(),
        log_path: spec.log_path.to_string_lossy().into_owned(),
        resources: Some(v1::ContainerResources { linux: Some(resources(&spec.resources)) }),
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: spec.process.user.uid.into(),
                gid: spec.process.user.gid.into(),
                supplemental_groups: spec
                    .process
                    .user
                    .additional_gids
                    .iter()
                    .map(|gid| (*gid).into())
                    .collect(),
            }),
        }),
        stop_signal: v1::Signal::from_str_name(&format!("SIGNAL_{}", spec.stop_signal))
            .unwrap_or_default()
            .into(),
        ..v1::ContainerStatus::default()
    };
    match &state.phase {
        Phase::Created => {}
        Phase::Running { started_ns } => told.started_at = *started_ns,
        Phase::Exited(exit) => {
            told.started_at = exit.started_ns.unwrap_or_default();
            told.finished_at = exit.finished_ns;
            told.exit_code = exit.code;
            told.message.clone_from(&exit.message);
            let reason = match (exit.oom_killed, exit.started_ns, exit.code) {
                (true, ..) => "OOMKilled",
                (_, None, _) => "StartError",
                (_, _, 0) => "Completed",
                _ => "Error",
            };
            reason.clone_into(&mut told.reason);
        }
    }
    told
}

fn mount(mount: &Mount) -> v1::Mount {
    let has = |option: &str| mount.options.iter().any(|it| it == option);
    let propagation = if has("rshared") {
        v1::MountPropagation::PropagationBidirectional
    } else if has("rslave") {
        v1::MountPropagation::PropagationHostToContainer
    } else {
        v1::MountPropagation::PropagationPrivate
    };
    v1::Mount {
        container_path: mount.destination.to_string_lossy().into_owned(),
        host_path: mount.source.clone(),
        readonly: has("ro") || has("rro"),
        selinux_relabel: false,
        propagation: propagation.into(),
        recursive_read_only: has("rro"),
    }
}

fn resources(bounds: &Resources) -> v1::LinuxContainerResources {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: bounds.cpu_period_us.map(signed).unwrap_or_default(),
        cpu_quota: bounds.cpu_quota_us.unwrap_or_default(),
        cpu_shares: bounds.cpu_shares.map(signed).unwrap_or_default(),
        memory_limit_in_bytes: bounds.memory_bytes.unwrap_or_default(),
        ..v1::LinuxContainerResources::default()
    }
}

fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

/// What a container uses.
pub(super) fn container_stats(state: &ContainerState, stats: &Stats, at_ns: i64) -> v1::ContainerStats {
    let spec = &state.spec;
    let limit = spec.resources.memory_bytes.and_then(|limit| u64::try_from(limit).ok());
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: spec.id.clone(),
            metadata: Some(container_metadata(spec)),
            labels: map(&spec.labels),
            annotations: annotations(spec),
        }),
        cpu: Some(cpu(stats, at_ns)),
        memory: Some(memory(stats, limit, at_ns)),
        writable_layer: None,
    }
}

fn cpu(stats: &Stats, at_ns: i64) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: at_ns,
        usage_core_nano_seconds: number(stats.cpu_ns),
        // A rate needs two moments.
        usage_nano_cores: None,
    }
}

fn memory(stats: &Stats, limit: Option<u64>, at_ns: i64) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp: at_ns,
        working_set_bytes: number(stats.memory_working_set),
        available_bytes: limit.and_then(|limit| number(limit.saturating_sub(stats.memory_working_set))),
        usage_bytes: number(stats.memory_usage),
        rss_bytes: number(stats.memory_rss),
        page_faults: number(stats.page_faults),
        major_page_faults: number(stats.major_page_faults),
    }
}

/// An image.
pub(super) fn image(image: &Image) -> v1::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = if user.is_empty() { Some(0) } else { user.parse().ok() };
    v1::Image {
        id: image.id.to_string(),
        repo_tags: image.references.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size_bytes,
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: None,
        pinned: image.pinned,
    }
}

#[cfg(test)]
mod tests {
    use barque_containers::spec::{Exit, SandboxSpec};

    use super::*;

    #[test]
    fn a_sandbox_is_told_with_its_pod() {
        let labels = [("io.kubernetes.pod.name", "p"), ("io.kubernetes.pod.namespace", "ns")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let spec = SandboxSpec {
            id: "u".into(),
            labels: labels.into(),
            network: Share::Host,
            ..SandboxSpec::default()
        };
        let state = SandboxState { spec, created_ns: 7, ready: true, network_namespace: None };
        let told = sandbox_status(&state, &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        let metadata = told.metadata.unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid.as_str()),
            ("p", "ns", "u")
        );
        let network = told.network.unwrap();
        assert_eq!((network.ip.as_str(), network.additional_ips[0].ip.as_str()), ("10.0.0.1", "fd00::1"));
        let options = told.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.network(), v1::NamespaceMode::Node);
        assert_eq!(sandbox(&state).state(), v1::PodSandboxState::SandboxReady);
    }

    #[test]
    fn a_container_is_told_with_its_end() {
        let spec = ContainerSpec {
            id: "u_c_2".into(),
            name: "c".into(),
            attempt: 2,
            stop_signal: "SIGTERM".into(),
            ..ContainerSpec::default()
        };
        let ended = Exit {
            code: 3,
            signal: None,
            oom_killed: false,
            started_ns: Some(5),
            finished_ns: 9,
            message: "bye".into(),
        };
        let state = ContainerState { spec, created_ns: 1, phase: Phase::Exited(ended), pid: None };
        let told = container_status(&state);
        assert_eq!((told.exit_code, told.reason.as_str(), told.message.as_str()), (3, "Error", "bye"));
        assert_eq!((told.created_at, told.started_at, told.finished_at), (1, 5, 9));
        assert_eq!(told.annotations[RESTART_COUNT], "2");
        assert_eq!(told.stop_signal(), v1::Signal::Sigterm);
        let listed = container("u", &state);
        assert_eq!(
            (listed.pod_sandbox_id.as_str(), listed.state()),
            ("u", v1::ContainerState::ContainerExited)
        );
    }

    #[test]
    fn labels_select_what_has_them_all() {
        let has: BTreeMap<String, String> =
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
        let wants = |pairs: &[(&str, &str)]| {
            let selector =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            selects(&selector, &has)
        };
        assert!(wants(&[]) && wants(&[("a", "1")]) && wants(&[("a", "1"), ("b", "2")]));
        assert!(!wants(&[("a", "2")]) && !wants(&[("c", "1")]));
    }
}
