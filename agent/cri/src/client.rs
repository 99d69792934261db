//! Asks a runtime over its socket. A call that fails says why in a sentence; nothing is asked twice by itself. Must never decide
//! what is asked.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::endpoint::Endpoint;
use crate::error::CriError;
use crate::v1;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::runtime_service_client::RuntimeServiceClient;

/// How long a runtime may take for anything that has no time of its own, as the kubelet's `--runtime-request-timeout`.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a sandbox may take: its image may have to be pulled, and plugins run for its network.
const SANDBOX_PATIENCE: Duration = Duration::from_secs(240);
/// Lists of many containers are long.
const LONGEST_ANSWER_BYTES: usize = 16 << 20;
/// Runtimes tell of a command up to 16 MiB of each of its two outputs.
const LONGEST_OUTPUT_BYTES: usize = 33 << 20;

/// What a runtime tells as it happens.
pub type Events = tonic::Streaming<v1::ContainerEventResponse>;

/// Asks a runtime. Clones are the same connection, which is made when it is needed, and anew when it broke off.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// Calls that ask a service and answer what it says.
macro_rules! calls {
    ($service:ident: $($(#[$doc:meta])* $name:ident($call:literal, $request:ident) -> $answer:ident, $patience:expr;)+) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// When the runtime is not there, or refuses.
            pub async fn $name(&self, request: v1::$request) -> Result<v1::$answer, CriError> {
                let mut service = self.$service.clone();
                let answer = service.$name(within(request, $patience)).await;
                self.answer($call, answer)
            }
        )+
    };
}

/// A request that ends after so long.
fn within<T>(message: T, patience: Option<Duration>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(patience) = patience {
        request.set_timeout(patience);
    }
    request
}

/// So many seconds of the runtime's own, and what it takes besides.
fn beyond(seconds: i64) -> Option<Duration> {
    let own = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Duration::from_secs(own).checked_add(PATIENCE)
}

impl Client {
    /// A client of the runtime at this socket. It is not connected to yet.
    ///
    /// # Errors
    /// When the path cannot be that of a socket.
    pub fn new(endpoint: Endpoint) -> Result<Self, CriError> {
        let made = tonic::transport::Endpoint::from_shared(endpoint.to_string());
        let channel = match made {
            Ok(made) => made.connect_lazy(),
            Err(error) => {
                let message = error.to_string();
                return Err(CriError::Unreachable { endpoint, call: "connect", message });
            }
        };
        let runtime =
            RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LONGEST_ANSWER_BYTES);
        let images = ImageServiceClient::new(channel).max_decoding_message_size(LONGEST_ANSWER_BYTES);
        Ok(Self { endpoint, runtime, images })
    }

    /// Where the runtime is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn answer<T>(&self, call: &'static str, answer: Result<Response<T>, Status>) -> Result<T, CriError> {
        answer.map(Response::into_inner).map_err(|status| CriError::of(&self.endpoint, call, &status))
    }

    calls! { runtime:
        /// The runtime's name and version.
        version("Version", VersionRequest) -> VersionResponse, Some(PATIENCE);
        /// Whether it and its network are ready.
        status("Status", StatusRequest) -> StatusResponse, Some(PATIENCE);
        /// What it is told of the cluster.
        update_runtime_config("UpdateRuntimeConfig", UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse, Some(PATIENCE);
        /// How it is set.
        runtime_config("RuntimeConfig", RuntimeConfigRequest) -> RuntimeConfigResponse, Some(PATIENCE);
        /// Makes a sandbox with its network.
        run_pod_sandbox("RunPodSandbox", RunPodSandboxRequest) -> RunPodSandboxResponse, Some(SANDBOX_PATIENCE);
        /// Ends everything in a sandbox and takes its network away. One that has stopped stays so.
        stop_pod_sandbox("StopPodSandbox", StopPodSandboxRequest) -> StopPodSandboxResponse, Some(PATIENCE);
        /// Removes a sandbox with its containers. One that is not there is removed.
        remove_pod_sandbox("RemovePodSandbox", RemovePodSandboxRequest) -> RemovePodSandboxResponse, Some(PATIENCE);
        /// All that is known of a sandbox.
        pod_sandbox_status("PodSandboxStatus", PodSandboxStatusRequest) -> PodSandboxStatusResponse, Some(PATIENCE);
        /// Sandboxes.
        list_pod_sandbox("ListPodSandbox", ListPodSandboxRequest) -> ListPodSandboxResponse, Some(PATIENCE);
        /// Makes a container in a sandbox.
        create_container("CreateContainer", CreateContainerRequest) -> CreateContainerResponse, Some(PATIENCE);
        /// Starts it.
        start_container("StartContainer", StartContainerRequest) -> StartContainerResponse, Some(PATIENCE);
        /// Removes it.
        remove_container("RemoveContainer", RemoveContainerRequest) -> RemoveContainerResponse, Some(PATIENCE);
        /// Containers.
        list_containers("ListContainers", ListContainersRequest) -> ListContainersResponse, Some(PATIENCE);
        /// All that is known of a container.
        container_status("ContainerStatus", ContainerStatusRequest) -> ContainerStatusResponse, Some(PATIENCE);
        /// Bounds a container that runs otherwise.
        update_container_resources("UpdateContainerResources", UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse, Some(PATIENCE);
        /// Lets the runtime open a container's log anew, after its file was renamed.
        reopen_container_log("ReopenContainerLog", ReopenContainerLogRequest) -> ReopenContainerLogResponse, Some(PATIENCE);
        /// Where a command is run over a stream.
        exec("Exec", ExecRequest) -> ExecResponse, Some(PATIENCE);
        /// Where a container's streams are joined.
        attach("Attach", AttachRequest) -> AttachResponse, Some(PATIENCE);
        /// Where ports of a sandbox are forwarded.
        port_forward("PortForward", PortForwardRequest) -> PortForwardResponse, Some(PATIENCE);
        /// What a container uses.
        container_stats("ContainerStats", ContainerStatsRequest) -> ContainerStatsResponse, Some(PATIENCE);
        /// What containers use.
        list_container_stats("ListContainerStats", ListContainerStatsRequest) -> ListContainerStatsResponse, Some(PATIENCE);
        /// What a sandbox uses.
        pod_sandbox_stats("PodSandboxStats", PodSandboxStatsRequest) -> PodSandboxStatsResponse, Some(PATIENCE);
        /// What sandboxes use.
        list_pod_sandbox_stats("ListPodSandboxStats", ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse, Some(PATIENCE);
    }

    calls! { images:
        /// Images.
        list_images("ListImages", ListImagesRequest) -> ListImagesResponse, Some(PATIENCE);
        /// An image; nothing when it is not there.
        image_status("ImageStatus", ImageStatusRequest) -> ImageStatusResponse, Some(PATIENCE);
        /// Pulls an image, for as long as that takes.
        pull_image("PullImage", PullImageRequest) -> PullImageResponse, None;
        /// Removes an image. One that is not there is removed.
        remove_image("RemoveImage", RemoveImageRequest) -> RemoveImageResponse, Some(PATIENCE);
        /// What images take of the disk.
        image_fs_info("ImageFsInfo", ImageFsInfoRequest) -> ImageFsInfoResponse, Some(PATIENCE);
    }

    /// Runs a command to its end, in the time that it has.
    ///
    /// # Errors
    /// When the runtime is not there or refuses, or when the time is over.
    pub async fn exec_sync(&self, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, CriError> {
        let patience = beyond(request.timeout);
        let mut service = self.runtime.clone().max_decoding_message_size(LONGEST_OUTPUT_BYTES);
        let answer = service.exec_sync(within(request, patience)).await;
        self.answer("ExecSync", answer)
    }

    /// Asks a container to stop, and ends it after the time that it has. Answers when it has ended.
    ///
    /// # Errors
    /// When the runtime is not there or refuses, or when the container does not end.
    pub async fn stop_container(
        &self,
        request: v1::StopContainerRequest,
    ) -> Result<v1::StopContainerResponse, CriError> {
        let patience = beyond(request.timeout).or(Some(PATIENCE));
        let mut service = self.runtime.clone();
        let answer = service.stop_container(within(request, patience)).await;
        self.answer("StopContainer", answer)
    }

    /// What happens to containers from now on, for as long as the connection holds.
    ///
    /// # Errors
    /// When the runtime is not there, or does not tell.
    pub async fn events(&self) -> Result<Events, CriError> {
        let mut service = self.runtime.clone();
        let answer = service.get_container_events(v1::GetEventsRequest {}).await;
        self.answer("GetContainerEvents", answer)
    }
}
