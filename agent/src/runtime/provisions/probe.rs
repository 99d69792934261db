//! What probes and hooks do in containers: commands, and questions over the network. Must never decide what their answers mean.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, LifecycleHandler, Pod, Probe};

use super::EmbeddedRuntime;
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
pub(super) enum Hook {
    /// When the container has been started.
    PostStart,
    /// Before it is asked to stop.
    PreStop,
}

impl EmbeddedRuntime {
    pub(super) async fn ask(&self, pod: &Pod, name: &str, kind: ProbeKind) -> Result<(), String> {
        let container = spec::find(pod, name);
        let Some(probe) = container.and_then(|container| kind.of(&container)) else { return Ok(()) };
        let Some(container) = container.and_then(|container| container.container) else { return Ok(()) };
        let seconds = probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1);
        let patience = Duration::from_secs(seconds.max(1));
        match (&probe.exec, question(probe)) {
            (Some(exec), _) => self.command(pod, name, exec, patience).await,
            (None, Some(question)) => self.over_network(pod, container, question, patience).await,
            (None, None) => Ok(()),
        }
    }

    pub(super) async fn hook(&self, pod: &Pod, name: &str, hook: Hook) -> Result<(), String> {
        let Some(container) = find(pod, name) else { return Ok(()) };
        let lifecycle = container.lifecycle.as_ref();
        let handler = match hook {
            Hook::PostStart => lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()),
            Hook::PreStop => lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref()),
        };
        match handler {
            None => Ok(()),
            Some(LifecycleHandler { exec: Some(exec), .. }) => self.command(pod, name, exec, HOOK).await,
            Some(LifecycleHandler { http_get: Some(page), .. }) => {
                self.over_network(pod, &container, Question::Http(page), HOOK).await
            }
            Some(LifecycleHandler { sleep: Some(sleep), .. }) => {
                tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default()))
                    .await;
                Ok(())
            }
            Some(_) => Err("the hook names nothing that can be run".to_owned()),
        }
    }

    async fn over_network(
        &self,
        pod: &Pod,
        container: &Container,
        question: Question<'_>,
        patience: Duration,
    ) -> Result<(), String> {
        let Some(address) = self.addresses(pod).first().copied() else {
            return Err("the pod has no address".to_owned());
        };
        ask(question, container, address, patience).await
    }

    async fn command(
        &self,
        pod: &Pod,
        name: &str,
        exec: &ExecAction,
        patience: Duration,
    ) -> Result<(), String> {
        let Some(newest) = self.newest(pod, name) else {
            return Err("the container does not run".to_owned());
        };
        let command = exec.command.clone().unwrap_or_default();
        let words = command.join(" ");
        match self.parts.containers.exec_sync(&newest.spec.id, command, Some(patience)).await {
            Ok(output) if output.code == 0 => Ok(()),
            Ok(output) => {
                let mut said = output.stdout;
                said.extend(output.stderr);
                said.truncate(TOLD);
                let said = String::from_utf8_lossy(&said).trim_end().to_owned();
                Err(if said.is_empty() {
                    format!("command {words:?} exited with {}", output.code)
                } else {
                    said
                })
            }
            Err(barque_containers::Error::TimedOut(_)) => {
                Err(format!("command timed out: {words:?} timed out after {}s", patience.as_secs()))
            }
            Err(error) => Err(super::story(&error)),
        }
    }
}

fn question(probe: &Probe) -> Option<Question<'_>> {
    let http = probe.http_get.as_ref().map(Question::Http);
    let tcp = || probe.tcp_socket.as_ref().map(Question::Tcp);
    http.or_else(tcp).or_else(|| probe.grpc.as_ref().map(Question::Grpc))
}
