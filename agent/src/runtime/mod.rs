//! What runs containers, as the pods' workers see it: told what to do, asked what is, waited for. Must never decide what
//! should run.

pub mod cri;
pub mod embedded;
pub mod hollow;
pub mod provisions;

use std::future::Future;
use std::time::Duration;

use barque_api::ip::Cidr;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use k8s_openapi::api::core::v1::Pod;

use tokio::sync::watch;

use crate::pods::observed::Observed;
use crate::pods::probes::ProbeKind;

/// A runtime of one node. Every act is safe to repeat; what came of it the next observation tells.
pub trait Runtime: Send + Sync + 'static {
    /// The networks that pods get addresses from, the preferred one first. Addresses that are in use stay as they are.
    fn set_pod_networks(&self, networks: &[Cidr]);

    /// Why pods can have no network now; nothing when they can.
    fn network_problem(&self) -> Option<String>;

    /// Tells each time that [`Runtime::network_problem`] may say something else.
    fn network_changes(&self) -> BoxStream<'static, ()>;

    /// Pods of which something is there that an agent before this one made, with their names and nothing else.
    fn left_behind(&self) -> impl Future<Output = Vec<Pod>> + Send;

    /// What there is of a pod.
    fn observe(&self, pod: &Pod) -> impl Future<Output = Observed> + Send;

    /// Waits until [`Runtime::observe`] may tell something that it has not told yet.
    fn changed(&self, pod: &Pod) -> impl Future<Output = ()> + Send;

    /// Makes the pod's sandbox, with its network.
    fn create_sandbox(&self, pod: &Pod) -> impl Future<Output = Result<(), SandboxError>> + Send;

    /// Whether the image of a container is there already, as its pull policy asks for.
    fn has_image(&self, pod: &Pod, container: &str) -> impl Future<Output = Result<bool, PullError>> + Send;

    /// Sees to it that the image of a container is there. The answer is a sentence for people that says how.
    fn pull(&self, pod: &Pod, container: &str) -> impl Future<Output = Result<String, PullError>> + Send;

    /// Creates an instance of a container and starts it.
    fn start(
        &self,
        pod: &Pod,
        container: &str,
        attempt: u32,
    ) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Runs what a container's start is followed by.
    ///
    /// # Errors
    /// What came of it instead.
    fn post_start(&self, pod: &Pod, container: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// Runs what a container's stop begins with, to its end.
    ///
    /// # Errors
    /// What came of it instead.
    fn pre_stop(&self, pod: &Pod, container: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// Asks a container to stop, and kills it when the grace is over, even if nobody waits for that. Asked again it can only end
    /// sooner.
    fn stop(
        &self,
        pod: &Pod,
        container: &str,
        grace: Duration,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Gives containers that run, and the pod as a whole, the bounds that the pod says. The whole grows before they do; it shrinks
    /// after them, if it may.
    fn resize(
        &self,
        pod: &Pod,
        containers: &[String],
        shrinks: bool,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Takes the sandbox away with its network. What is known of the containers stays.
    fn remove_sandbox(&self, pod: &Pod) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Forgets a pod that nothing is left of.
    fn forget(&self, pod: &Pod) -> impl Future<Output = ()> + Send;

    /// Asks a probe of a container.
    ///
    /// # Errors
    /// What the container answered instead.
    fn probe(
        &self,
        pod: &Pod,
        container: &str,
        kind: ProbeKind,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SandboxError {
    /// The network is not ready; [`Runtime::changed`] tells when it is.
    #[error("{0}")]
    NetworkNotReady(String),
    /// A volume is not there.
    #[error("{0}")]
    Volumes(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Why there is no image.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct PullError {
    /// In the kubelet's word: `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`.
    pub reason: &'static str,
    /// The story.
    pub message: String,
}

/// Why a container does not run.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct StartError {
    /// In the kubelet's word: `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`.
    pub reason: &'static str,
    /// The story.
    pub message: String,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// Each change in a channel, until who tells of it is gone.
fn changes<T: Send + Sync + 'static>(told: watch::Receiver<T>) -> BoxStream<'static, ()> {
    let next = |mut told: watch::Receiver<T>| async move { told.changed().await.ok().map(|()| ((), told)) };
    stream::unfold(told, next).boxed()
}
