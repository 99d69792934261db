//! Pods with volumes of a driver that binds directories, as real ones do.

use std::fs;
use std::path::{Path, PathBuf};
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
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::super::mount_table::MountTable;
use super::super::testing::{Root, is_root};
use super::super::{ImageLayers, NodeDrivers, Volumes};
use super::volume::{CsiVolume, attachment_name};
use crate::clock::Clock;
use crate::containers::NodeFacts;
use crate::references::References;
use crate::references::testing::Server;

const NAME: &str = "bind.example.com";

/// Binds the directory of a volume to where it is wanted.
struct Driver {
    data: PathBuf,
    calls: Mutex<Vec<String>>,
}

impl Driver {
    fn called(&self, call: String) {
        self.calls.lock().push(call);
    }

    fn bind(&self, from: &Path, to: &str) -> Result<(), Status> {
        fs::create_dir_all(to)?;
        let is_there = MountTable::read()?.has(Path::new(to));
        if is_there { Ok(()) } else { Ok(mount_bind(from, to).map_err(std::io::Error::from)?) }
    }
}

fn gone(path: &str) -> Result<(), Status> {
    if MountTable::read()?.has(Path::new(path)) {
        unmount(path, UnmountFlags::empty()).map_err(std::io::Error::from)?;
    }
    Ok(())
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let (r#type, name, endpoint) = ("CSIPlugin".to_owned(), NAME.to_owned(), String::new());
        Ok(Response::new(PluginInfo { r#type, name, endpoint, supported_versions: vec!["1.0.0".to_owned()] }))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let (context, secret) = (request.publish_context.get("lun"), request.secrets.get("key"));
        self.called(format!("stage {} {context:?} {secret:?}", request.volume_id));
        let data = self.data.join(&request.volume_id);
        fs::create_dir_all(&data)?;
        self.bind(&data, &request.staging_target_path)?;
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called(format!("unstage {}", request.volume_id));
        gone(&request.staging_target_path)?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let pod = request.volume_context.get("csi.storage.k8s.io/pod.name");
        self.called(format!("publish {} {pod:?}", &request.volume_id[..4]));
        let from = match request.staging_target_path.as_str() {
            "" => self.data.join("inline"),
            staging => PathBuf::from(staging),
        };
        fs::create_dir_all(&from)?;
        self.bind(&from, &request.target_path)?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.called(format!("unpublish {}", &request.volume_id[..4]));
        gone(&request.target_path)?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let kind = Rpc { r#type: Kind::StageUnstageVolume.into() };
        let stages = NodeServiceCapability { r#type: Some(Type::Rpc(kind)) };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![stages] }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "n".to_owned(), ..NodeGetInfoResponse::default() }))
    }
}

struct NoImages;

impl ImageLayers for NoImages {
    fn layers<'a>(
        &'a self,
        _: &'a Pod,
        _: &'a str,
        _: Option<&'a str>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<PathBuf>, String>> + Send + 'a>> {
        Box::pin(std::future::ready(Err("there are no images here".to_owned())))
    }
}

/// A node with the driver.
struct World {
    root: Root,
    server: Server,
    driver: Arc<Driver>,
    drivers: barque_csi::Drivers,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl World {
    async fn start() -> Self {
        let root = Root::new();
        let (drivers, stop) = (barque_csi::Drivers::default(), CancellationToken::new());
        let sockets = root.path().join("plugins_registry");
        let mut tasks = vec![tokio::spawn(drivers.run(&sockets, stop.clone()).unwrap())];
        let driver = Arc::new(Driver { data: root.path().join("data"), calls: Mutex::default() });
        let listener = UnixListener::bind(sockets.join("bind.sock")).unwrap();
        let server = tonic::transport::Server::builder()
            .add_service(RegistrationServer::from_arc(Arc::clone(&driver)))
            .add_service(NodeServer::from_arc(Arc::clone(&driver)))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        tasks.push(tokio::spawn(async move { server.await.unwrap() }));
        drivers.follow().wait_for(|all| all.contains_key(NAME)).await.unwrap();
        Self { root, server: Server::default(), driver, drivers, stop, tasks }
    }

    /// Those of an agent that begins now.
    fn volumes(&self) -> Volumes {
        let client = self.server.client();
        let references = References::new(client.clone(), self.stop.clone());
        let drivers = NodeDrivers { node: "n".to_owned(), drivers: self.drivers.clone() };
        let root = self.root.path().to_owned();
        Volumes::new(root, client, references, Arc::new(NoImages), drivers, Clock::system())
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.driver.calls.lock())
    }

    async fn end(self) {
        self.stop.cancel();
        drop(self.drivers);
        for task in self.tasks {
            task.await.unwrap();
        }
        let left = MountTable::read().unwrap().below(self.root.path());
        assert!(left.is_empty(), "{left:?}");
    }
}

fn pod(uid: &str, volume: Value) -> Pod {
    let value = json!({
        "metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"volumes": [volume], "containers": [{"name": "c"}]},
    });
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn pods_share_a_volume_that_is_given_back_by_the_last_one() {
    if !is_root() {
        return;
    }
    let world = World::start().await;
    let secret = json!({"name": "k", "namespace": "ns"});
    let csi = json!({"driver": NAME, "volumeHandle": "vol-1", "nodeStageSecretRef": secret});
    let spec = json!({"claimRef": {"uid": "c"}, "accessModes": ["ReadWriteOnce"], "csi": csi});
    world.server.put("persistentvolumes/pv", json!({"spec": spec}));
    let claim = json!({"metadata": {"uid": "c"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    world.server.put("persistentvolumeclaims/c", claim);
    world.server.put("secrets/k", json!({"data": {"key": "c2VjcmV0"}}));
    let volume = || json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    let (one, two, node) = (pod("one", volume()), pod("two", volume()), NodeFacts::default());
    let volumes = world.volumes();

    // It is not attached as long as nobody says so.
    let error = volumes.ready(&one, &node).await.unwrap_err().to_string();
    assert!(error.ends_with("volume vol-1 is not attached to this node yet"), "{error}");
    let attached = CsiVolume { driver: NAME.into(), handle: "vol-1".into(), ..CsiVolume::default() };
    let attachment = format!("volumeattachments/{}", attachment_name(&attached, "n"));
    let status = json!({"attached": true, "attachmentMetadata": {"lun": "7"}});
    let spec = json!({"attacher": NAME, "nodeName": "n", "source": {"persistentVolumeName": "pv"}});
    world.server.put(&attachment, json!({"spec": spec, "status": status}));

    let mounted = volumes.ready(&one, &node).await.unwrap();
    fs::write(mounted["v"].path.join("file"), "kept").unwrap();
    assert_eq!(world.calls(), ["stage vol-1 Some(\"7\") Some(\"secret\")", "publish vol- None"]);
    volumes.ready(&one, &node).await.unwrap();
    assert_eq!(world.calls(), [""; 0], "it is there");
    let mounted = volumes.ready(&two, &node).await.unwrap();
    assert_eq!(fs::read_to_string(mounted["v"].path.join("file")).unwrap(), "kept");
    world.calls();

    // Another agent gives back what the one before asked for.
    let volumes = world.volumes();
    volumes.tear_down("one").await.unwrap();
    assert_eq!(world.calls(), ["unpublish vol-"]);
    volumes.tear_down("two").await.unwrap();
    assert_eq!(world.calls(), ["unpublish vol-", "unstage vol-1"]);
    volumes.tear_down("two").await.unwrap();
    assert_eq!(world.calls(), [""; 0]);
    assert_eq!(fs::read_to_string(world.root.path().join("data/vol-1/file")).unwrap(), "kept");
    world.end().await;
}

#[tokio::test]
async fn a_volume_that_is_described_in_the_pod_is_the_pods_alone() {
    if !is_root() {
        return;
    }
    let world = World::start().await;
    let volume = json!({"name": "v", "csi": {"driver": NAME, "volumeAttributes": {"a": "b"}}});
    let (pod, node) = (pod("one", volume), NodeFacts::default());
    let volumes = world.volumes();
    let error = volumes.ready(&pod, &node).await.unwrap_err().to_string();
    assert!(error.ends_with("volume mode \"Ephemeral\" not supported by driver bind.example.com"), "{error}");
    let spec =
        json!({"volumeLifecycleModes": ["Ephemeral"], "podInfoOnMount": true, "requiresRepublish": true});
    world.server.put(&format!("csidrivers/{NAME}"), json!({"spec": spec}));
    volumes.ready(&pod, &node).await.unwrap();
    volumes.ready(&pod, &node).await.unwrap();
    assert_eq!(world.calls(), ["publish csi- Some(\"one\")"; 2], "it wants to be asked again");
    volumes.tear_down("one").await.unwrap();
    assert_eq!(world.calls(), ["unpublish csi-"]);
    world.end().await;
}

#[tokio::test]
async fn a_driver_that_is_not_there_is_named_and_nothing_is_lost() {
    if !is_root() {
        return;
    }
    let world = World::start().await;
    let missing = json!({"name": "v", "csi": {"driver": "none.example.com"}});
    let node = NodeFacts::default();
    let volumes = world.volumes();
    let error = volumes.ready(&pod("two", missing), &node).await.unwrap_err().to_string();
    let why = "driver name none.example.com not found in the list of registered CSI drivers";
    assert!(error.ends_with(why), "{error}");
    volumes.tear_down("two").await.unwrap();

    world.server.put(&format!("csidrivers/{NAME}"), json!({"spec": {"volumeLifecycleModes": ["Ephemeral"]}}));
    let there = pod("one", json!({"name": "v", "csi": {"driver": NAME}}));
    volumes.ready(&there, &node).await.unwrap();
    let socket = world.root.path().join("plugins_registry/bind.sock");
    let away = world.root.path().join("away.sock");
    fs::rename(&socket, &away).unwrap();
    world.drivers.follow().wait_for(|all| all.is_empty()).await.unwrap();
    let error = volumes.tear_down("one").await.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, format!("driver name {NAME} not found in the list of registered CSI drivers"));
    fs::rename(&away, &socket).unwrap();
    world.drivers.follow().wait_for(|all| !all.is_empty()).await.unwrap();
    volumes.tear_down("one").await.unwrap();
    world.end().await;
}
