//! What runs in pods, for clients of the node API: commands, streams of containers, ports, logs. Must never decide who may.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeMap;

use barque_containers::spec::Phase;
use barque_containers::{Error, ExecSpec, Streams};
use barque_streams::process::{TerminalSize, Wanted};
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::EmbeddedRuntime;
use crate::error_story::story;
use crate::node_api::containers::{
    BoxConnection, BoxRead, BoxWrite, ContainerLog, ExecRequest, PodStreams, Process, RunError,
};
use crate::node_api::stats::{PodStats, VolumeStats};
use crate::pods::spec;
use crate::volumes::Usage;

/// Sizes of a terminal that wait; the client waits when there are more.
const SIZES: usize = 8;

pub(super) fn failed(error: &Error) -> RunError {
    RunError(story(error))
}

/// As the node API wants them.
pub(super) fn process(streams: Streams) -> Process {
    let Streams { stdin, stdout, stderr, mut resizer, end } = streams;
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(SIZES);
    let exit = async move {
        let resizing = async {
            while let Some(size) = sizes.recv().await {
                // A terminal that is gone has no size.
                let _ = resizer.resize(size.width, size.height).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = end.wait() => ended.map_err(|error| failed(&error)),
            () = resizing => Err(RunError("its terminal has no sizes any more".to_owned())),
        }
    };
    Process {
        stdin: stdin.map(|stream| Box::new(stream) as BoxWrite),
        stdout: stdout.map(|stream| Box::new(stream) as BoxRead),
        stderr: stderr.map(|stream| Box::new(stream) as BoxRead),
        resize: Some(resize),
        exit: Box::pin(exit),
    }
}

impl EmbeddedRuntime {
    /// The container of this name that runs.
    fn running(&self, pod: &Pod, name: &str) -> Result<String, RunError> {
        let newest = self.newest(pod, name);
        let running = newest.filter(|state| matches!(state.phase, Phase::Running { .. }));
        let none = || RunError(format!("container {name:?} of pod {} does not run", spec::title(pod)));
        running.map(|state| state.spec.id).ok_or_else(none)
    }
}

impl EmbeddedRuntime {
    /// Connects to a port on the loopback address inside of a sandbox.
    pub(super) async fn connect_in(&self, sandbox: &str, port: u16) -> Result<BoxConnection, RunError> {
        let state = self.containers.sandbox(sandbox).map_err(|error| failed(&error))?;
        let places =
            [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
        let mut first = None;
        for place in places {
            let connected = match &state.network_namespace {
                Some(namespace) => barque_network::connect_tcp(namespace, place).await,
                None => TcpStream::connect(place).await,
            };
            match connected {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(RunError(first.map(|error| error.to_string()).unwrap_or_default()))
    }
}

impl PodStreams for EmbeddedRuntime {
    async fn exec(&self, pod: &Pod, container: &str, request: ExecRequest) -> Result<Process, RunError> {
        let id = self.running(pod, container)?;
        let spec =
            ExecSpec { args: request.command, terminal: request.wanted.tty, stdin: request.wanted.stdin };
        self.containers.exec(&id, spec).await.map(process).map_err(|error| failed(&error))
    }

    async fn attach(&self, pod: &Pod, container: &str, wanted: Wanted) -> Result<Process, RunError> {
        let id = self.running(pod, container)?;
        let streams = self.containers.attach(&id, wanted.stdin, wanted.stdout, wanted.stderr).await;
        streams.map(process).map_err(|error| failed(&error))
    }

    async fn connect(&self, pod: &Pod, port: u16) -> Result<BoxConnection, RunError> {
        self.connect_in(spec::uid(pod), port).await.map_err(|error| {
            RunError(format!(
                "failed to connect to localhost:{port} inside of pod {}: {error}",
                spec::title(pod)
            ))
        })
    }

    async fn log(&self, pod: &Pod, container: &str, previous: bool) -> Option<ContainerLog> {
        let mut all: Vec<_> =
            self.states(pod).into_iter().filter(|state| state.spec.name == container).collect();
        all.sort_by_key(|state| state.spec.attempt);
        let mut newest_first = all.into_iter().rev();
        let state = if previous { newest_first.nth(1) } else { newest_first.next() }?;
        let (containers, id) = (self.containers.clone(), state.spec.id);
        let changes = containers.changes(spec::uid(pod)).ok();
        let ended = async move {
            let Some(mut changes) = changes else { return };
            loop {
                changes.borrow_and_update();
                let runs = containers.container(&id).is_ok_and(|it| !matches!(it.phase, Phase::Exited(_)));
                // One that is not there any more says nothing more.
                if !runs || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        Some(ContainerLog { path: state.spec.log_path, ended: Box::pin(ended) })
    }

    async fn stats(&self, pod: &Pod) -> Option<PodStats> {
        self.usage(pod)
    }

    async fn volumes(&self, pod: &Pod) -> Vec<VolumeStats> {
        let supplies = &self.provisions.supplies;
        let now = i64::try_from(supplies.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        supplies.volumes.stats(pod, now).await
    }

    async fn written(&self, pod: &Pod) -> BTreeMap<String, Usage> {
        self.written_by(pod).await
    }
}
