//! Running something in a container, and taking part in its streams, for the agent.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::containers::Containers;
use crate::error::Error;
use crate::spec::{ContainerState, Process};
use crate::streams::{Stream, Streams};
use crate::wire::Request;

/// What is executed. User, environment and rights are the container's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its words.
    pub args: Vec<String>,
    /// It has a terminal.
    pub terminal: bool,
    /// It has an input.
    pub stdin: bool,
}

/// What came of something that was executed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code; 128 and the signal for one that a signal ended.
    pub code: i32,
    /// The beginning of its output.
    pub stdout: Vec<u8>,
    /// The beginning of its errors.
    pub stderr: Vec<u8>,
}

/// So much of each stream is kept, the rest is read and dropped: the bound of the runtimes.
const KEPT: usize = 16 << 20;

impl Containers {
    /// Runs something with streams.
    pub async fn exec(&self, container: &str, spec: ExecSpec) -> Result<Streams, Error> {
        self.exec_within(container, spec, None).await
    }

    /// Runs something to its end. The shim ends it when the time is over, also if nobody waits any more; 16 MiB of each
    /// stream are kept.
    pub async fn exec_sync(
        &self,
        container: &str,
        args: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let spec = ExecSpec { args, terminal: false, stdin: false };
        let mut streams = self.exec_within(container, spec, timeout).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut from_stdout, mut from_stderr) = (streams.stdout.take(), streams.stderr.take());
        let end = {
            let ended = streams.end.wait();
            let reading = async {
                tokio::join!(
                    collect(from_stdout.as_mut(), &mut stdout),
                    collect(from_stderr.as_mut(), &mut stderr)
                );
                std::future::pending::<()>().await;
            };
            tokio::select! {
                end = ended => end,
                // It reads until the end, and never ends itself.
                () = reading => return Err(Error::ShimGone(container.to_owned())),
            }
        };
        // What it wrote is there; what somebody writes who has inherited the stream is not waited for.
        for (stream, kept) in [(&from_stdout, &mut stdout), (&from_stderr, &mut stderr)] {
            if let Some(stream) = stream {
                stream.drain(kept, KEPT);
            }
        }
        match (end, timeout) {
            (Ok(code), _) => Ok(ExecOutput { code, stdout, stderr }),
            (Err(Error::State(_)), Some(limit)) => Err(Error::TimedOut(limit)),
            (Err(error), _) => Err(error),
        }
    }

    async fn exec_within(
        &self,
        container: &str,
        spec: ExecSpec,
        timeout: Option<Duration>,
    ) -> Result<Streams, Error> {
        let (shim, state) = self.shim_and_state(container)?;
        let process = Process { args: spec.args, terminal: spec.terminal, ..state.spec.process };
        let request = Request::Exec {
            id: container.to_owned(),
            process: Box::new(process),
            stdin: spec.stdin,
            timeout_ms: timeout.map(milliseconds),
        };
        shim.streams(&format!("container {container}"), &request).await
    }

    /// Takes part in a container's streams, from now on. A client that does not read for some seconds is cut off.
    pub async fn attach(
        &self,
        container: &str,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Streams, Error> {
        let shim = self.shim_of(container)?;
        let request = Request::Attach { id: container.to_owned(), stdin, stdout, stderr };
        shim.streams(&format!("container {container}"), &request).await
    }

    /// The state of one container.
    pub fn container(&self, id: &str) -> Result<ContainerState, Error> {
        self.shim_and_state(id).map(|(_, state)| state)
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads to the end, and keeps the beginning.
async fn collect(stream: Option<&mut Stream>, kept: &mut Vec<u8>) {
    let Some(stream) = stream else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..length.min(KEPT.saturating_sub(kept.len()))]);
    }
}
