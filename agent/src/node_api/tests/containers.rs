//! Containers that are processes of this machine, for tests.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use barque_streams::process::{TerminalSize, Wanted};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::containers::{BoxConnection, ContainerLog, ExecRequest, PodStreams, Process, RunError};
use super::super::stats::{ContainerStats, CpuStats, FsStats, MemoryStats, PodStats, VolumeStats};
use crate::volumes::Usage;

/// See the module's description. The container `late` has not begun.
pub(super) struct Processes {
    logs: PathBuf,
    /// How often somebody looked at volumes.
    looks: AtomicU64,
    /// When the container `c` has ended.
    pub(super) ended: CancellationToken,
}

impl Processes {
    pub(super) fn new(directory: &Path) -> Self {
        Self { logs: directory.to_owned(), looks: AtomicU64::new(0), ended: CancellationToken::new() }
    }
}

impl PodStreams for Processes {
    async fn exec(&self, _: &Pod, container: &str, request: ExecRequest) -> Result<Process, RunError> {
        if container == "late" {
            return Err(RunError("container is not running".to_owned()));
        }
        let ExecRequest { command, wanted } = request;
        if wanted.tty {
            return Ok(terminal(wanted));
        }
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(piped(wanted.stdin))
            .stdout(piped(wanted.stdout))
            .stderr(piped(wanted.stderr))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| RunError(format!("{:?}: {error}", command[0])))?;
        Ok(Process {
            stdin: child.stdin.take().map(|one| Box::new(one) as _),
            stdout: child.stdout.take().map(|one| Box::new(one) as _),
            stderr: child.stderr.take().map(|one| Box::new(one) as _),
            resize: None,
            exit: async move {
                let status = child.wait().await.map_err(|error| RunError(error.to_string()))?;
                Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
            }
            .boxed(),
        })
    }

    async fn attach(&self, _: &Pod, container: &str, wanted: Wanted) -> Result<Process, RunError> {
        assert_eq!(container, "c");
        // Answers each line until the input ends; then it has failed.
        let (stdin, input) = tokio::io::duplex(1 << 10);
        let (mut output, stdout) = tokio::io::duplex(1 << 10);
        let exit = async move {
            let mut lines = BufReader::new(input).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = output.write_all(format!("heard {line}\n").as_bytes()).await;
            }
            Ok(7)
        };
        Ok(Process {
            stdin: wanted.stdin.then(|| Box::new(stdin) as _),
            stdout: wanted.stdout.then(|| Box::new(stdout) as _),
            stderr: None,
            resize: None,
            exit: exit.boxed(),
        })
    }

    async fn connect(&self, _: &Pod, port: u16) -> Result<BoxConnection, RunError> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        stream.map(|stream| Box::new(stream) as _).map_err(|error| RunError(error.to_string()))
    }

    async fn log(&self, _: &Pod, container: &str, previous: bool) -> Option<ContainerLog> {
        let number = match (container, previous) {
            ("c", false) => 1,
            ("c", true) => 0,
            _ => return None,
        };
        let ended = self.ended.clone().cancelled_owned().boxed();
        Some(ContainerLog { path: self.logs.join(format!("{number}.log")), ended })
    }

    async fn written(&self, _: &Pod) -> BTreeMap<String, Usage> {
        BTreeMap::new()
    }

    async fn volumes(&self, _: &Pod) -> Vec<VolumeStats> {
        let asked = self.looks.fetch_add(1, Ordering::SeqCst) + 1;
        let of = |name: &str, claim: Option<&str>, used| {
            let fs =
                FsStats { at_ns: 1_000_000_000, capacity: 100, available: 60, used, ..FsStats::default() };
            VolumeStats { name: name.to_owned(), claim: claim.map(str::to_owned), fs }
        };
        vec![of("cache", None, 7), of("data", Some("claim"), 40 * asked)]
    }

    async fn stats(&self, _: &Pod) -> Option<PodStats> {
        let cpu = Some(CpuStats { at_ns: 1_000_000_000, used_ns: 2_000_000_000 });
        let memory = Some(MemoryStats { working_set: 4096, ..MemoryStats::default() });
        let container = ContainerStats { name: "c".to_owned(), cpu, memory, ..ContainerStats::default() };
        Some(PodStats { cpu, memory, containers: vec![container], ..PodStats::default() })
    }
}

/// Tells each size of its terminal, and ends well when no more come.
fn terminal(wanted: Wanted) -> Process {
    let (mut output, stdout) = tokio::io::duplex(1 << 10);
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(1);
    let exit = async move {
        while let Some(size) = sizes.recv().await {
            let _ = output.write_all(format!("{}x{}\n", size.width, size.height).as_bytes()).await;
        }
        Ok(0)
    };
    Process {
        stdin: wanted.stdin.then(|| Box::new(tokio::io::sink()) as _),
        stdout: Some(Box::new(stdout)),
        stderr: None,
        resize: Some(resize),
        exit: exit.boxed(),
    }
}
