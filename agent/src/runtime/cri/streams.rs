//! What runs in pods, for clients of the node API: commands, streams of containers, ports, logs, by way of the runtime. Must never
//! decide who may.

use barque_containers::spec::Phase;
use barque_cri::v1;
use barque_streams::process::{TerminalSize, Wanted};
use bytes::Bytes;
use futures::future::OptionFuture;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::collections::BTreeMap;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot};

use super::CriRuntime;
use super::streaming::{self, BUFFER_BYTES, Given, Inner, Opened};
use crate::node_api::containers::{
    BoxConnection, BoxRead, BoxWrite, ContainerLog, ExecRequest, PodStreams, Process, RunError,
};
use crate::node_api::stats::{PodStats, VolumeStats};
use crate::pods::spec;
use crate::volumes::Usage;

/// Sizes of a terminal that wait; the client waits when there are more.
const SIZES: usize = 8;

fn failed(error: &dyn std::fmt::Display) -> RunError {
    RunError(error.to_string())
}

/// A pipe, when it is wanted: the client's end, and ours.
fn pipe(wanted: bool) -> (Option<DuplexStream>, Option<DuplexStream>) {
    if wanted {
        let (one, other) = tokio::io::duplex(BUFFER_BYTES);
        (Some(one), Some(other))
    } else {
        (None, None)
    }
}

impl CriRuntime {
    /// The container of this name that runs, by the runtime's id.
    async fn running(&self, pod: &Pod, name: &str) -> Result<String, RunError> {
        let newest = self.newest(pod, name).await;
        let running = newest.filter(|state| matches!(state.phase, Phase::Running { .. }));
        let none = || RunError(format!("container {name:?} of pod {} does not run", spec::title(pod)));
        running.map(|state| state.spec.id).ok_or_else(none)
    }

    /// What is run at a URL. Its streams move while its end is waited for; when that is dropped, the runtime sees a client that has
    /// gone.
    async fn process(url: &str, wanted: Wanted) -> Result<Process, RunError> {
        let given = Given {
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            // A terminal has one output.
            stderr: wanted.stderr && !wanted.tty,
            resize: wanted.tty,
        };
        let connection = streaming::connect(url, Inner::Process).await.map_err(RunError)?;
        let (session, driving) = streaming::begin(connection);
        let mut driving = Box::pin(driving);
        let opened = tokio::select! {
            opened = streaming::open(&session, given) => opened.map_err(RunError)?,
            () = &mut driving => return Err(RunError("the runtime hung up".to_owned())),
        };
        let Opened { stdin, stdout, stderr, resize, error } = opened;
        let (client_in, own_in) = pipe(given.stdin);
        let (own_out, client_out) = pipe(given.stdout);
        let (own_err, client_err) = pipe(given.stderr);
        let (sizes, mut of_sizes) = mpsc::channel::<TerminalSize>(SIZES);
        let exit = async move {
            let outputs = async {
                let said =
                    OptionFuture::from(stdout.zip(own_out).map(|(from, to)| streaming::pour_out(from, to)));
                let warned =
                    OptionFuture::from(stderr.zip(own_err).map(|(from, to)| streaming::pour_out(from, to)));
                tokio::join!(said, warned, streaming::ended(error)).2
            };
            let resizing = async {
                while let (Some(size), Some(to)) = (of_sizes.recv().await, &resize) {
                    let text = json!({"Width": size.width, "Height": size.height}).to_string();
                    if to.write(Bytes::from(text)).await.is_err() {
                        break;
                    }
                }
            };
            let inputs = async {
                let fed =
                    OptionFuture::from(own_in.zip(stdin).map(|(from, to)| streaming::pour_in(from, to)));
                tokio::join!(fed, resizing);
                // What it says to the end is what counts.
                std::future::pending::<()>().await;
            };
            let driven = async {
                driving.await;
                // What has come is read to its end, which is near.
                std::future::pending::<()>().await;
            };
            let _open = session;
            tokio::select! {
                ended = outputs => ended.map_err(RunError),
                () = inputs => Ok(0),
                () = driven => Ok(0),
            }
        };
        Ok(Process {
            stdin: client_in.map(|stream| Box::new(stream) as BoxWrite),
            stdout: client_out.map(|stream| Box::new(stream) as BoxRead),
            stderr: client_err.map(|stream| Box::new(stream) as BoxRead),
            resize: given.resize.then_some(sizes),
            exit: Box::pin(exit),
        })
    }
}

impl PodStreams for CriRuntime {
    async fn exec(&self, pod: &Pod, container: &str, request: ExecRequest) -> Result<Process, RunError> {
        let wanted = request.wanted;
        let asked = v1::ExecRequest {
            container_id: self.running(pod, container).await?,
            cmd: request.command,
            tty: wanted.tty,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let answer = self.client.exec(asked).await.map_err(|error| failed(&error))?;
        Self::process(&answer.url, wanted).await
    }

    async fn attach(&self, pod: &Pod, container: &str, wanted: Wanted) -> Result<Process, RunError> {
        let asked = v1::AttachRequest {
            container_id: self.running(pod, container).await?,
            stdin: wanted.stdin,
            tty: wanted.tty,
            stdout: wanted.stdout,
            stderr: wanted.stderr && !wanted.tty,
        };
        let answer = self.client.attach(asked).await.map_err(|error| failed(&error))?;
        Self::process(&answer.url, wanted).await
    }

    async fn connect(&self, pod: &Pod, port: u16) -> Result<BoxConnection, RunError> {
        let Some(sandbox) = self.look(spec::uid(pod)).await.sandbox else {
            return Err(RunError(format!("pod {} does not run", spec::title(pod))));
        };
        let asked = v1::PortForwardRequest { pod_sandbox_id: sandbox.spec.id, port: vec![port.into()] };
        let answer = self.client.port_forward(asked).await.map_err(|error| failed(&error))?;
        let connection = streaming::connect(&answer.url, Inner::Ports).await.map_err(RunError)?;
        let (session, driving) = streaming::begin(connection);
        let (client, own) = tokio::io::duplex(BUFFER_BYTES);
        let (opened, is_open) = oneshot::channel();
        // It ends with either side, or with the agent.
        let forwarding = async move {
            let headers = |kind: &str| {
                [("streamtype", kind), ("port", &port.to_string()), ("requestid", "0")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec()
            };
            let opening = async {
                let error = session.open(headers("error")).await?;
                let data = session.open(headers("data")).await?;
                Ok::<_, barque_streams::spdy::session::SessionError>((error, data))
            };
            let ((mut error, to_error), (from, to)) = match opening.await {
                Ok(streams) => streams,
                Err(error) => {
                    let _ = opened.send(Err(failed(&error)));
                    return;
                }
            };
            let _ = to_error.finish().await;
            let _ = opened.send(Ok(()));
            let (read, write) = tokio::io::split(own);
            let outward = streaming::pour_out(from, write);
            let inward = async {
                streaming::pour_in(read, to).await;
                std::future::pending::<()>().await;
            };
            let refused = async {
                if let Some(bytes) = error.read().await {
                    tracing::debug!(said = %String::from_utf8_lossy(&bytes), "a port is not forwarded");
                    return;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = outward => {}
                () = inward => {}
                () = refused => {}
            }
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = forwarding => {}
                () = driving => {}
                () = stop.cancelled() => {}
            }
        });
        match is_open.await {
            Ok(Ok(())) => Ok(Box::new(client)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RunError("the runtime hung up".to_owned())),
        }
    }

    async fn log(&self, pod: &Pod, container: &str, previous: bool) -> Option<ContainerLog> {
        let uid = spec::uid(pod);
        let there = self.look(uid).await.containers;
        let told = self.provisions.with_ended(uid, there);
        let mut all: Vec<_> = told.into_iter().filter(|state| state.spec.name == container).collect();
        all.sort_by_key(|state| state.spec.attempt);
        let mut newest_first = all.into_iter().rev();
        let state = if previous { newest_first.nth(1) } else { newest_first.next() }?;
        let (seen, uid, id) = (self.seen.clone(), uid.to_owned(), state.spec.id);
        let runs = !matches!(state.phase, Phase::Exited(_));
        let ended = async move {
            if runs {
                seen.ended(&uid, &id).await;
            }
        };
        Some(ContainerLog { path: state.spec.log_path, ended: Box::pin(ended) })
    }

    async fn stats(&self, pod: &Pod) -> Option<PodStats> {
        self.usage(pod).await
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
