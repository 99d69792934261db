//! What the node API needs of whatever runs containers, and of whoever knows the pods. Vocabulary; must never say how.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use barque_streams::process::{TerminalSize, Wanted};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::stats::{PodStats, VolumeStats};
use crate::volumes::Usage;

/// What reads.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// What writes.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;
/// A connection to a port.
pub type BoxConnection = Box<dyn Connection>;

/// A connection to a port of a pod.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// The pods of this node, as the agent knows them.
pub trait KnownPods: Send + Sync + 'static {
    /// The one of this name.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;

    /// All of them.
    fn all(&self) -> Vec<Arc<Pod>>;
}

/// What runs in pods, from the outside. A container that the runtime does not run is an error, not a wait.
pub trait PodStreams: Send + Sync + 'static {
    /// Runs a command in a container that runs. When the process is dropped its client has gone; what still runs then is
    /// killed.
    fn exec(
        &self,
        pod: &Pod,
        container: &str,
        request: ExecRequest,
    ) -> impl Future<Output = Result<Process, RunError>> + Send;

    /// Joins the streams of what a container runs, from now on. When the process is dropped its client has gone, and the
    /// container runs on; it has read all of its input if it was made with `stdinOnce`.
    fn attach(
        &self,
        pod: &Pod,
        container: &str,
        wanted: Wanted,
    ) -> impl Future<Output = Result<Process, RunError>> + Send;

    /// Connects to a port of a pod, on the loopback address inside of its network.
    fn connect(&self, pod: &Pod, port: u16) -> impl Future<Output = Result<BoxConnection, RunError>> + Send;

    /// The log of a container's newest instance, or of the one before; nothing when there is none.
    fn log(
        &self,
        pod: &Pod,
        container: &str,
        previous: bool,
    ) -> impl Future<Output = Option<ContainerLog>> + Send;

    /// What a pod uses; nothing when nothing of it runs.
    fn stats(&self, pod: &Pod) -> impl Future<Output = Option<PodStats>> + Send;

    /// What containers of a pod wrote into their roots, by their names. Looks at every file: not for those who ask often.
    fn written(&self, pod: &Pod) -> impl Future<Output = BTreeMap<String, Usage>> + Send;

    /// What the volumes of a pod hold that are there. Looks at every file of some: not for those who ask often.
    fn volumes(&self, pod: &Pod) -> impl Future<Output = Vec<VolumeStats>> + Send;
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its words; at least one.
    pub command: Vec<String>,
    /// Which streams it gets; others are empty, or go nowhere.
    pub wanted: Wanted,
}

/// Something that runs, and its streams: those that were wanted are there.
pub struct Process {
    /// What it reads; shut down, it reads the end.
    pub stdin: Option<BoxWrite>,
    /// What it writes.
    pub stdout: Option<BoxRead>,
    /// Its errors.
    pub stderr: Option<BoxRead>,
    /// Takes the sizes of its terminal.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// Its exit code, once it has ended; 128 and the signal for what a signal ended.
    pub exit: BoxFuture<'static, Result<i32, RunError>>,
}

/// Why something does not run, in a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// The log of one instance of a container.
pub struct ContainerLog {
    /// The file that is written, in the format of CRI. Files of before a rotation lie beside it, with a moment after the name:
    /// `0.log.20260102-150405`.
    pub path: PathBuf,
    /// Resolves when the instance has ended and all that it said is in the file.
    pub ended: BoxFuture<'static, ()>,
}
