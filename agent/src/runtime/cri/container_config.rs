//! What a runtime is told of a container. A decision; must never ask anybody. What the image says is the runtime's to add.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use barque_containers::spec::{Mount, Resources, Seccomp};
use barque_cri::v1;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::labels::{
    self, BOUNDS, CONTAINER_NAME, FALL_BACK_TO_LOGS, GRACE, IMAGE, LAST_WORD, MESSAGE_PATH, MESSAGE_POLICY,
    RESTART_COUNT,
};
use crate::containers::env::Environment;
use crate::containers::identity::{
    groups_are_strict, pod_groups, run_as_group, run_as_user, verify_non_root,
};
use crate::containers::mounts::{MountedVolume, Paths, PodFiles, devices, own_mounts};
use crate::containers::rights::{Rights, rights};
use crate::containers::{self, ContainerError, NodeFacts, bounds, own_command, qos};
use crate::pods::spec;

/// What a container is put together from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// The pod.
    pub(super) pod: &'a Pod,
    /// The container.
    pub(super) container: &'a Container,
    /// How many of this name came before it.
    pub(super) attempt: u32,
    /// How often those had ended since one ran for long, and under which name it is kept.
    pub(super) crashes: (&'a str, u32),
    /// Its image, as the runtime has it.
    pub(super) image: &'a v1::Image,
    /// Its environment.
    pub(super) environment: &'a Environment,
    /// The node.
    pub(super) node: &'a NodeFacts,
    /// The pod's volumes by their names.
    pub(super) volumes: &'a std::collections::BTreeMap<String, MountedVolume>,
    /// The prepared parts of volumes, by the index of the mount.
    pub(super) sub_paths: &'a std::collections::BTreeMap<usize, PathBuf>,
    /// The pod's names of hosts, as the agent wrote them.
    pub(super) hosts: &'a Path,
    /// The file of the machine for its last word.
    pub(super) last_word: &'a Path,
    /// Its sandbox's namespaces.
    pub(super) namespaces: &'a v1::NamespaceOption,
    /// The container whose processes it sees, by the runtime's id.
    pub(super) target: Option<&'a str>,
}

/// The container.
///
/// # Errors
/// When the pod asks for what is not there or may not be, in the kubelet's words.
pub(super) fn container_config(inputs: Inputs<'_>) -> Result<v1::ContainerConfig, ContainerError> {
    let Inputs { pod, container, attempt, image, node, .. } = inputs;
    let image_user = image.uid.as_ref().map_or_else(|| image.username.clone(), |uid| uid.value.to_string());
    verify_non_root(pod, container, &image_user)?;
    let rights = rights(pod, container, node)?;
    let files = PodFiles { hosts: Some(inputs.hosts.to_owned()), ..PodFiles::default() };
    let paths = Paths {
        volumes: inputs.volumes,
        sub_paths: inputs.sub_paths,
        files: &files,
        last_word: inputs.last_word,
    };
    let mounts = own_mounts(container, node, paths)?;
    let (command, args) = own_command(container, inputs.environment);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let devices = devices(container, inputs.volumes)?.into_iter().map(|device| v1::Device {
        container_path: text(&device.container_path),
        host_path: text(&device.host_path),
        permissions: device.permissions,
    });
    let mut labels: HashMap<String, String> = containers::labels(pod).into_iter().collect();
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let named = container.image.clone().unwrap_or_default();
    let oom_score_adj = qos::oom_score_adj(pod, container, node.memory_capacity);
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(v1::ImageSpec {
            image: image.id.clone(),
            user_specified_image: named.clone(),
            ..v1::ImageSpec::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs
            .environment
            .iter()
            .map(|(name, value)| v1::KeyValue { key: name.to_owned(), value: value.as_bytes().to_vec() })
            .collect(),
        mounts: mounts.iter().map(mount).collect(),
        devices: devices.collect(),
        labels,
        annotations: annotations(&inputs, &named),
        log_path: format!("{}/{attempt}.log", container.name),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(&bounds::of_container(container), oom_score_adj)),
            security_context: Some(security_context(&inputs, rights)?),
        }),
        stop_signal: stop_signal(container).into(),
    })
}

/// What an agent that comes back, and others who look, know it by.
fn annotations(inputs: &Inputs<'_>, image: &str) -> HashMap<String, String> {
    let container = inputs.container;
    let message_path = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let (crashes_key, crashes) = inputs.crashes;
    let mut all: HashMap<String, String> = [
        (RESTART_COUNT, inputs.attempt.to_string()),
        (MESSAGE_PATH, message_path.unwrap_or("/dev/termination-log").to_owned()),
        (MESSAGE_POLICY, policy.to_owned()),
        (GRACE, spec::grace(inputs.pod).as_secs().to_string()),
        (IMAGE, image.to_owned()),
        (LAST_WORD, inputs.last_word.to_string_lossy().into_owned()),
        (crashes_key, crashes.to_string()),
        (BOUNDS, labels::bounds(&bounds::of_container(container))),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    if policy == "FallbackToLogsOnError" {
        all.insert(FALL_BACK_TO_LOGS.to_owned(), String::new());
    }
    all
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

/// What a container may use, as runtimes are told it.
pub(super) fn resources(bounds: &Resources, oom_score_adj: i32) -> v1::LinuxContainerResources {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: bounds.cpu_period_us.map(signed).unwrap_or_default(),
        cpu_quota: bounds.cpu_quota_us.unwrap_or_default(),
        cpu_shares: bounds.cpu_shares.map(signed).unwrap_or_default(),
        memory_limit_in_bytes: bounds.memory_bytes.unwrap_or_default(),
        oom_score_adj: oom_score_adj.into(),
        hugepage_limits: bounds
            .huge_pages
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        ..v1::LinuxContainerResources::default()
    }
}

fn security_context(
    inputs: &Inputs<'_>,
    rights: Rights,
) -> Result<v1::LinuxContainerSecurityContext, ContainerError> {
    let Inputs { pod, container, image, .. } = inputs;
    let wanted = container.security_context.as_ref().and_then(|own| own.capabilities.as_ref());
    let of_image = image.uid.as_ref().map(|uid| uid.value);
    let user = run_as_user(pod, container).or(of_image);
    let mut namespaces = inputs.namespaces.clone();
    if let Some(target) = inputs.target {
        namespaces.set_pid(v1::NamespaceMode::Target);
        target.clone_into(&mut namespaces.target_id);
    }
    let paths = |list: Vec<PathBuf>| -> Vec<String> {
        list.into_iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    let (seccomp, old_path) = seccomp(&rights.seccomp);
    let policy = if groups_are_strict(pod) {
        v1::SupplementalGroupsPolicy::Strict
    } else {
        v1::SupplementalGroupsPolicy::Merge
    };
    let number = |value: i64| v1::Int64Value { value };
    Ok(v1::LinuxContainerSecurityContext {
        capabilities: Some(v1::Capability {
            add_capabilities: wanted.and_then(|wanted| wanted.add.clone()).unwrap_or_default(),
            drop_capabilities: wanted.and_then(|wanted| wanted.drop.clone()).unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: rights.privileged,
        namespace_options: Some(namespaces),
        run_as_user: user.map(number),
        // A name, which the runtime looks up in the image.
        run_as_username: if user.is_none() { image.username.clone() } else { String::new() },
        // A group alone belongs to nobody: runtimes refuse it.
        run_as_group: run_as_group(pod, container)
            .map(|group| match user.is_some() || !image.username.is_empty() {
                true => Ok(number(group)),
                false => {
                    Err(ContainerError::Config("runAsGroup is specified without a runAsUser".to_owned()))
                }
            })
            .transpose()?,
        readonly_rootfs: rights.read_only_root,
        supplemental_groups: pod_groups(pod).collect(),
        supplemental_groups_policy: policy.into(),
        no_new_privs: rights.no_new_privileges,
        masked_paths: paths(rights.masked),
        readonly_paths: paths(rights.read_only),
        seccomp: Some(seccomp),
        seccomp_profile_path: old_path,
        apparmor: None,
    })
}

/// What filters system calls, also in the words of runtimes that know no other.
fn seccomp(seccomp: &Seccomp) -> (v1::SecurityProfile, String) {
    use v1::security_profile::ProfileType;
    let (kind, path, old) = match seccomp {
        Seccomp::Unconfined => (ProfileType::Unconfined, String::new(), "unconfined".to_owned()),
        Seccomp::RuntimeDefault => (ProfileType::RuntimeDefault, String::new(), "runtime/default".to_owned()),
        Seccomp::File(path) => {
            let path = path.to_string_lossy().into_owned();
            (ProfileType::Localhost, path.clone(), format!("localhost/{path}"))
        }
    };
    (v1::SecurityProfile { profile_type: kind.into(), localhost_ref: path }, old)
}

/// How the pod wants it to be asked to stop; else it is the image's affair.
fn stop_signal(container: &Container) -> v1::Signal {
    let said = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let word =
        said.map(|said| said.to_uppercase().replace("RTMIN+", "RTMINPLUS").replace("RTMAX-", "RTMAXMINUS"));
    word.and_then(|word| v1::Signal::from_str_name(&format!("SIGNAL_{word}"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::containers::env::{Sources, environment};

    fn made(of_pod: Value, of_container: Value, image: &v1::Image) -> Result<v1::ContainerConfig, String> {
        let mut container = of_container;
        (container["name"], container["image"]) = (json!("c"), json!("busybox"));
        let mut spec = of_pod;
        spec["containers"] = json!([container]);
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        let node = NodeFacts { recursive_read_only: true, ..NodeFacts::default() };
        let environment = environment(&pod, &container, &Sources::default(), &node, &[]).unwrap();
        let volume = MountedVolume { path: "/v".into(), read_only: false, is_device: false };
        container_config(Inputs {
            pod: &pod,
            container: &container,
            attempt: 3,
            crashes: ("crashes", 2),
            image,
            environment: &environment,
            node: &node,
            volumes: &[("v".to_owned(), volume)].into(),
            sub_paths: &BTreeMap::new(),
            hosts: Path::new("/hosts"),
            last_word: Path::new("/word"),
            namespaces: &v1::NamespaceOption::default(),
            target: None,
        })
        .map_err(|error| error.to_string())
    }

    fn image() -> v1::Image {
        v1::Image {
            id: "sha256:1".to_owned(),
            uid: Some(v1::Int64Value { value: 0 }),
            ..v1::Image::default()
        }
    }

    fn context(of_pod: Value, own: Value, image: &v1::Image) -> v1::LinuxContainerSecurityContext {
        let made = made(of_pod, json!({"securityContext": own}), image).unwrap();
        made.linux.unwrap().security_context.unwrap()
    }

    #[test]
    fn a_container_is_what_its_pod_says() {
        let made = made(
            json!({"terminationGracePeriodSeconds": 7}),
            json!({
                "command": ["run", "$(A)"], "args": ["$$(A)"], "env": [{"name": "A", "value": "x"}], "tty": true,
                "terminationMessagePolicy": "FallbackToLogsOnError", "lifecycle": {"stopSignal": "SIGRTMIN+3"},
                "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "v", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": "Enabled",
                    "mountPropagation": "HostToContainer"}],
            }),
            &image(),
        )
        .unwrap();
        assert_eq!(
            (made.command, made.args),
            (vec!["run".to_owned(), "x".to_owned()], vec!["$(A)".to_owned()])
        );
        assert!(made.envs.contains(&v1::KeyValue { key: "A".to_owned(), value: b"x".to_vec() }));
        assert_eq!((made.log_path.as_str(), made.tty), ("c/3.log", true));
        assert_eq!(made.image.unwrap().image, "sha256:1");
        assert_eq!(made.stop_signal, i32::from(v1::Signal::Sigrtminplus3));
        let note = |key: &str| made.annotations[key].as_str();
        assert_eq!(
            (note(IMAGE), note(RESTART_COUNT), note("crashes"), note(GRACE)),
            ("busybox", "3", "2", "7")
        );
        assert!(made.annotations.contains_key(FALL_BACK_TO_LOGS));
        assert_eq!(made.labels["io.kubernetes.container.name"], "c");
        let resources = made.linux.unwrap().resources.unwrap();
        assert_eq!((resources.cpu_quota, resources.cpu_period, resources.cpu_shares), (50_000, 100_000, 512));
        assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
        let places: Vec<_> =
            made.mounts.iter().map(|it| (it.container_path.as_str(), it.host_path.as_str())).collect();
        assert_eq!(places, [("/m", "/v"), ("/dev/termination-log", "/word"), ("/etc/hosts", "/hosts")]);
        let volume = &made.mounts[0];
        assert!(volume.readonly && volume.recursive_read_only);
        assert_eq!(volume.propagation(), v1::MountPropagation::PropagationHostToContainer);
    }

    #[test]
    fn as_whom_it_runs_is_said_by_pod_or_image() {
        let named = v1::Image { uid: None, username: "nginx".to_owned(), ..image() };
        let who = |of_pod: Value, own: Value, image: &v1::Image| {
            let context = context(of_pod, own, image);
            (
                context.run_as_user.map(|it| it.value),
                context.run_as_username,
                context.run_as_group.map(|it| it.value),
            )
        };
        assert_eq!(who(json!({}), json!({}), &image()), (Some(0), String::new(), None));
        assert_eq!(who(json!({}), json!({}), &named), (None, "nginx".to_owned(), None));
        assert_eq!(
            who(json!({}), json!({"runAsUser": 5, "runAsGroup": 6}), &named),
            (Some(5), String::new(), Some(6))
        );
        let refused = made(json!({}), json!({"securityContext": {"runAsNonRoot": true}}), &image());
        assert!(refused.unwrap_err().contains("image will run as root"));
    }

    #[test]
    fn what_it_may_do_is_passed_on() {
        let strict =
            json!({"securityContext": {"supplementalGroups": [7], "supplementalGroupsPolicy": "Strict"}});
        let made = context(
            strict,
            json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                "allowPrivilegeEscalation": false, "seccompProfile": {"type": "RuntimeDefault"}}),
            &image(),
        );
        let capabilities = made.capabilities.clone().unwrap();
        assert_eq!(
            (&capabilities.add_capabilities[..], &capabilities.drop_capabilities[..]),
            (&["NET_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
        );
        assert!(made.readonly_rootfs && made.no_new_privs && !made.privileged);
        assert_eq!(made.supplemental_groups, [7]);
        assert_eq!(made.supplemental_groups_policy(), v1::SupplementalGroupsPolicy::Strict);
        assert_eq!(made.seccomp_profile_path, "runtime/default");
        assert!(made.masked_paths.contains(&"/proc/kcore".to_owned()));
        let privileged = context(json!({}), json!({"privileged": true}), &image());
        assert!(privileged.privileged && privileged.masked_paths.is_empty());
        assert_eq!(privileged.seccomp_profile_path, "unconfined");
    }
}
