//! What probes and hooks do in containers: commands, and questions over the network. Must never decide what their answers mean.

use core::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, LifecycleHandler, Pod, Probe};

use crate::containers::find;
use crate::handlers::{Question, ask};
use crate::pods::probes::ProbeKind;
use crate::pods::spec;

/// So much of what a command said is told.
const TOLD: usize = 1024;
/// Longer than any grace is.
const HOOK: Duration = Duration::from_secs(3600);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Hook {
    /// When the container has been started.
    PostStart,
    /// Before it is asked to stop.
    PreStop,
}

/// What a command said until it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Said {
    /// Its exit code.
    pub(in super::super) code: i32,
    /// Its output, then its errors.
    pub(in super::super) text: Vec<u8>,
}

/// Why a command has not ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum NotRun {
    /// Its time was over.
    TimedOut,
    /// Anything else.
    Failed(String),
}

/// What probes and hooks need of a runtime.
pub(in super::super) trait Inside: Sync {
    /// Runs a command in a container that runs.
    fn run(
        &self,
        pod: &Pod,
        container: &str,
        command: Vec<String>,
        patience: Duration,
    ) -> impl Future<Output = Result<Said, NotRun>> + Send;

    /// The pod's addresses, those of the node in its network.
    fn addresses(&self, pod: &Pod) -> impl Future<Output = Vec<IpAddr>> + Send;
}

/// Asks a probe of a container.
pub(in super::super) async fn probe(
    inside: &impl Inside,
    pod: &Pod,
    name: &str,
    kind: ProbeKind,
) -> Result<(), String> {
    let container = spec::find(pod, name);
    let Some(probe) = container.and_then(|container| kind.of(&container)) else { return Ok(()) };
    let Some(container) = container.and_then(|container| container.container) else { return Ok(()) };
    let seconds = probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1);
    let patience = Duration::from_secs(seconds.max(1));
    match (&probe.exec, question(probe)) {
        (Some(exec), _) => command(inside, pod, name, exec, patience).await,
        (None, Some(question)) => over_network(inside, pod, container, question, patience).await,
        (None, None) => Ok(()),
    }
}

/// Runs a hook of a container, if it has one.
pub(in super::super) async fn hook(
    inside: &impl Inside,
    pod: &Pod,
    name: &str,
    hook: Hook,
) -> Result<(), String> {
    let Some(container) = find(pod, name) else { return Ok(()) };
    let lifecycle = container.lifecycle.as_ref();
    let handler = match hook {
        Hook::PostStart => lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()),
        Hook::PreStop => lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()),
    };
    match handler {
        None => Ok(()),
        Some(LifecycleHandler { exec: Some(exec), .. }) => command(inside, pod, name, exec, HOOK).await,
        Some(LifecycleHandler { http_get: Some(page), .. }) => {
            over_network(inside, pod, &container, Question::Http(page), HOOK).await
        }
        Some(LifecycleHandler { sleep: Some(sleep), .. }) => {
            tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default())).await;
            Ok(())
        }
        Some(_) => Err("the hook names nothing that can be run".to_owned()),
    }
}

async fn over_network(
    inside: &impl Inside,
    pod: &Pod,
    container: &Container,
    question: Question<'_>,
    patience: Duration,
) -> Result<(), String> {
    let Some(address) = inside.addresses(pod).await.first().copied() else {
        return Err("the pod has no address".to_owned());
    };
    ask(question, container, address, patience).await
}

async fn command(
    inside: &impl Inside,
    pod: &Pod,
    name: &str,
    exec: &ExecAction,
    patience: Duration,
) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    let words = command.join(" ");
    match inside.run(pod, name, command, patience).await {
        Ok(said) if said.code == 0 => Ok(()),
        Ok(mut said) => {
            said.text.truncate(TOLD);
            let text = String::from_utf8_lossy(&said.text).trim_end().to_owned();
            Err(if text.is_empty() { format!("command {words:?} exited with {}", said.code) } else { text })
        }
        Err(NotRun::TimedOut) => {
            Err(format!("command timed out: {words:?} timed out after {}s", patience.as_secs()))
        }
        Err(NotRun::Failed(why)) => Err(why),
    }
}

fn question(probe: &Probe) -> Option<Question<'_>> {
    let http = probe.http_get.as_ref().map(Question::Http);
    let tcp = || probe.tcp_socket.as_ref().map(Question::Tcp);
    http.or_else(tcp).or_else(|| probe.grpc.as_ref().map(Question::Grpc))
}
