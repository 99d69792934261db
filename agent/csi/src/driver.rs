//! One driver, over its socket. Every call is safe to repeat, as the specification asks of drivers. Must never decide what is mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::registration::registration_client::RegistrationClient;
use crate::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use crate::wire::node_client::NodeClient;
use crate::wire::node_service_capability::Type;
use crate::wire::node_service_capability::rpc::Type as Rpc;
use crate::wire::{
    NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};

/// How long a driver may take for one call, as the kubelet has it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a driver did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nobody answers on its socket.
    #[error("the driver cannot be reached at {0}: {1}")]
    Unreachable(PathBuf, #[source] tonic::transport::Error),
    /// It refused, in its own words.
    #[error("rpc error: code = {:?} desc = {}", .0.code(), .0.message())]
    Refused(#[from] tonic::Status),
    /// It did not answer in time.
    #[error("the driver has not answered within {} seconds", PATIENCE.as_secs())]
    Silent,
}

/// What a driver can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Volumes are made ready on the node once, before pods get them.
    pub stages: bool,
    /// It gives files to a group itself.
    pub gives_to_groups: bool,
    /// It tells modes with one writer apart.
    pub knows_single_writers: bool,
}

/// What a driver says of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// What it calls the node.
    pub node_id: String,
    /// How many volumes it can have here; nothing for as many as there are.
    pub most_volumes: Option<i64>,
    /// Where the node is, by the labels' keys.
    pub topology: BTreeMap<String, String>,
}

/// A driver that has told that it is there. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Driver {
    node: NodeClient<Channel>,
}

/// Connects to a socket; nothing else listens to requests with its address.
async fn connect(socket: &Path) -> Result<Channel, DriverError> {
    let path = socket.to_owned();
    let dial = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(Duration::from_secs(10));
    let channel = endpoint.connect_with_connector(dial).await;
    channel.map_err(|error| DriverError::Unreachable(socket.to_owned(), error))
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, DriverError> {
    let answer = tokio::time::timeout(PATIENCE, call).await.map_err(|_| DriverError::Silent)?;
    Ok(answer?.into_inner())
}

/// The plugin behind a socket of the directory of registrations.
pub(crate) struct Plugin(RegistrationClient<Channel>);

impl Plugin {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, DriverError> {
        Ok(Self(RegistrationClient::new(connect(socket).await?)))
    }

    pub(crate) async fn info(&mut self) -> Result<PluginInfo, DriverError> {
        within(self.0.get_info(InfoRequest {})).await
    }

    /// Tells it whether it was taken.
    pub(crate) async fn tell(&mut self, error: Option<String>) -> Result<(), DriverError> {
        let status =
            RegistrationStatus { plugin_registered: error.is_none(), error: error.unwrap_or_default() };
        within(self.0.notify_registration_status(status)).await.map(drop)
    }
}

impl Driver {
    /// The one that listens on this socket.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn connect(socket: &Path) -> Result<Self, DriverError> {
        Ok(Self { node: NodeClient::new(connect(socket).await?) })
    }

    /// `NodeGetInfo`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn node_info(&self) -> Result<NodeInfo, DriverError> {
        let info = within(self.node.clone().node_get_info(NodeGetInfoRequest {})).await?;
        let most_volumes = Some(info.max_volumes_per_node).filter(|most| *most > 0);
        let topology = info.accessible_topology.unwrap_or_default().segments.into_iter().collect();
        Ok(NodeInfo { node_id: info.node_id, most_volumes, topology })
    }

    /// `NodeGetCapabilities`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn capabilities(&self) -> Result<Capabilities, DriverError> {
        let told = within(self.node.clone().node_get_capabilities(NodeGetCapabilitiesRequest {})).await?;
        let has = |wanted: Rpc| {
            let kinds = told.capabilities.iter().filter_map(|one| one.r#type.as_ref());
            kinds.map(|Type::Rpc(rpc)| rpc.r#type()).any(|kind| kind == wanted)
        };
        Ok(Capabilities {
            stages: has(Rpc::StageUnstageVolume),
            gives_to_groups: has(Rpc::VolumeMountGroup),
            knows_single_writers: has(Rpc::SingleNodeMultiWriter),
        })
    }

    /// `NodeStageVolume`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn stage(&self, request: NodeStageVolumeRequest) -> Result<(), DriverError> {
        within(self.node.clone().node_stage_volume(request)).await.map(drop)
    }

    /// `NodeUnstageVolume`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn unstage(&self, volume_id: &str, staging: &Path) -> Result<(), DriverError> {
        let request = NodeUnstageVolumeRequest {
            volume_id: volume_id.to_owned(),
            staging_target_path: staging.to_string_lossy().into_owned(),
        };
        within(self.node.clone().node_unstage_volume(request)).await.map(drop)
    }

    /// `NodePublishVolume`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), DriverError> {
        within(self.node.clone().node_publish_volume(request)).await.map(drop)
    }

    /// `NodeUnpublishVolume`
    ///
    /// # Errors
    /// When the driver refuses.
    pub async fn unpublish(&self, volume_id: &str, target: &Path) -> Result<(), DriverError> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: target.to_string_lossy().into_owned(),
        };
        within(self.node.clone().node_unpublish_volume(request)).await.map(drop)
    }
}
