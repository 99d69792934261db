//! A container, put together from what the pod, the image and the node say. A decision.

use std::collections::BTreeMap;
use std::path::PathBuf;

use barque_containers::spec::{ContainerSpec, Process, TerminationMessage};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::env::Environment;
use super::expansion::expand;
use super::hostname::names;
use super::identity::{Accounts, identity};
use super::mounts::{MountedVolume, Paths, PodFiles, devices, last_word, mounts};
use super::rights::rights;
use super::sandbox::labels;
use super::{ContainerError, ImageFacts, NodeFacts, bounds, name, namespace, qos};
use crate::pods::spec;

/// Where programs are looked for, unless the image says it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container is put together from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container, as [`find`](super::find) finds it.
    pub container: &'a Container,
    /// How many of this name came before it.
    pub attempt: u32,
    /// Its image.
    pub image: &'a ImageFacts,
    /// The accounts in the image.
    pub accounts: &'a Accounts,
    /// Its environment.
    pub environment: &'a Environment,
    /// The node.
    pub node: &'a NodeFacts,
    /// The pod's volumes by their names.
    pub volumes: &'a BTreeMap<String, MountedVolume>,
    /// The prepared parts of volumes, by the index of the mount.
    pub sub_paths: &'a BTreeMap<usize, PathBuf>,
    /// What the pod's containers share.
    pub files: &'a PodFiles,
}

/// The container.
///
/// # Errors
/// When the pod asks for what is not there or may not be, in the kubelet's words.
pub fn container_spec(inputs: Inputs<'_>) -> Result<ContainerSpec, ContainerError> {
    let Inputs { pod, container, attempt, image, node, .. } = inputs;
    let user = identity(pod, container, &image.user, inputs.accounts)?;
    let rights = rights(pod, container, node)?;
    let word = last_word(pod, &container.name, attempt, node);
    let paths =
        Paths { volumes: inputs.volumes, sub_paths: inputs.sub_paths, files: inputs.files, last_word: &word };
    let uid = spec::uid(pod);
    let mut labels = labels(pod);
    labels.insert("io.kubernetes.container.name".to_owned(), container.name.clone());
    let to_logs = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let logs = node.logs.join(format!("{}_{}_{uid}", namespace(pod), name(pod))).join(&container.name);
    Ok(ContainerSpec {
        id: format!("{uid}_{}_{attempt}", container.name),
        name: container.name.clone(),
        attempt,
        labels,
        annotations: BTreeMap::new(),
        image: container.image.clone().unwrap_or_default(),
        image_id: image.id.clone(),
        layers: image.layers.clone(),
        read_only_root: rights.read_only_root,
        mounts: mounts(container, node, paths)?,
        devices: devices(container, inputs.volumes)?,
        process: Process {
            args: command(container, image, inputs.environment)?,
            env: environment(container, image, inputs.environment, &names(pod, node)?.hostname),
            cwd: working_dir(container, image),
            user,
            terminal: container.tty == Some(true),
            capabilities: rights.capabilities,
            no_new_privileges: rights.no_new_privileges,
            oom_score_adj: qos::oom_score_adj(pod, container, node.memory_capacity),
        },
        resources: bounds::of_container(container),
        masked_paths: rights.masked,
        read_only_paths: rights.read_only,
        privileged: rights.privileged,
        seccomp: rights.seccomp,
        log_path: logs.join(format!("{attempt}.log")),
        termination_message: Some(TerminationMessage { path: word, fall_back_to_logs: to_logs }),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        stop_signal: stop_signal(container, image),
    })
}

/// What runs: the pod's command replaces that of the image with its words, the pod's words only the image's words.
fn command(
    container: &Container,
    image: &ImageFacts,
    environment: &Environment,
) -> Result<Vec<String>, ContainerError> {
    let (mut command, mut words) = own_command(container, environment);
    if command.is_empty() {
        command = image.entrypoint.clone();
        if words.is_empty() {
            words = image.cmd.clone();
        }
    }
    command.extend(words);
    if command.is_empty() {
        return Err(ContainerError::Create("no command specified".to_owned()));
    }
    Ok(command)
}

/// The program and the words that the pod says itself.
#[must_use]
pub fn own_command(container: &Container, environment: &Environment) -> (Vec<String>, Vec<String>) {
    let own = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, |name| environment.get(name))).collect()
    };
    (own(&container.command), own(&container.args))
}

/// What the image says, then what the pod says; a later one replaces an earlier one.
fn environment(
    container: &Container,
    image: &ImageFacts,
    environment: &Environment,
    hostname: &str,
) -> Vec<String> {
    let mut all: Vec<(&str, &str)> = vec![("PATH", PATH)];
    let of_image = image.env.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
    let terminal = (container.tty == Some(true)).then_some(("TERM", "xterm"));
    let later =
        terminal.into_iter().chain(of_image).chain([("HOSTNAME", hostname)]).chain(environment.iter());
    for (name, value) in later {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(variable) => variable.1 = value,
            None => all.push((name, value)),
        }
    }
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn working_dir(container: &Container, image: &ImageFacts) -> PathBuf {
    let own = container.working_dir.as_deref().filter(|path| !path.is_empty());
    PathBuf::from("/").join(own.unwrap_or(&image.working_dir))
}

/// The signals that images name by number.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// How the container is asked to stop: as the pod says, else as the image does.
fn stop_signal(container: &Container, image: &ImageFacts) -> String {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let said = own.unwrap_or(&image.stop_signal).to_uppercase();
    let number = said.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    match number {
        Some(number) => SIGNALS.get(number).map_or_else(|| said, |name| format!("SIG{name}")),
        None if said.is_empty() => "SIGTERM".to_owned(),
        None if said.starts_with("SIG") => said,
        None => format!("SIG{said}"),
    }
}
