//! A driver that mounts nothing and remembers what it was asked for.

use std::path::Path;
use std::sync::Arc;

use barque_csi::registration::registration_server::{Registration, RegistrationServer};
use barque_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use barque_csi::wire::node_server::{Node, NodeServer};
use barque_csi::wire::node_service_capability::rpc::Type as Kind;
use barque_csi::wire::node_service_capability::{Rpc, Type};
use barque_csi::wire::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, Topology,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

struct State {
    info: PluginInfo,
    told: watch::Sender<Option<String>>,
    calls: std::sync::Mutex<Vec<String>>,
}

/// Ends when it is dropped.
pub(crate) struct Fake {
    state: Arc<State>,
    serves: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Fake {
    pub(crate) async fn start(socket: &Path, name: &str, version: &str) -> Self {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: name.into(),
            endpoint: socket.to_str().unwrap().into(),
            supported_versions: vec![version.into()],
        };
        let state =
            Arc::new(State { info, told: watch::Sender::new(None), calls: std::sync::Mutex::default() });
        let listener = UnixListener::bind(socket).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(RegistrationServer::from_arc(state.clone()))
            .add_service(NodeServer::from_arc(state.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let serves = tokio::spawn(async move { server.await.unwrap() }).abort_handle();
        Self { state, serves }
    }

    /// Whether it was taken, and why not.
    pub(crate) async fn told(&self) -> String {
        self.state.told.subscribe().wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }
}

impl State {
    fn called(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

#[tonic::async_trait]
impl Registration for State {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        status: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = status.into_inner();
        self.told.send_replace(Some(format!("{} {}", status.plugin_registered, status.error)));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for State {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        self.called(format!("stage {}", request.into_inner().volume_id));
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called(format!("unstage {} {}", request.volume_id, request.staging_target_path));
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let volume = request.into_inner().volume_id;
        if volume == "missing" {
            return Err(Status::not_found(format!("volume {volume} is not here")));
        }
        self.called(format!("publish {volume}"));
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called(format!("unpublish {} {}", request.volume_id, request.target_path));
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let stages = NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: Kind::StageUnstageVolume.into() })),
        };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![stages] }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: "node-7".into(),
            max_volumes_per_node: 3,
            accessible_topology: Some(Topology {
                segments: [("example.com/rack".to_owned(), "r1".to_owned())].into(),
            }),
        }))
    }
}
