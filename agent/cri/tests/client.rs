//! The client over a real socket, with a runtime of the test's own behind it.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use barque_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use barque_cri::v1::{
    ContainerStatusRequest, ContainerStatusResponse, ExecSyncRequest, ExecSyncResponse, StopContainerRequest,
    VersionRequest, VersionResponse,
};
use barque_cri::{Client, CriError, Endpoint};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// Knows its version, one command, and no container.
struct Runtime;

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, request: Request<VersionRequest>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: request.into_inner().version,
            runtime_name: "test".to_owned(),
            runtime_version: "7".to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Result<Response<ContainerStatusResponse>, Status> {
        Err(Status::not_found(format!("no container {}", request.into_inner().container_id)))
    }

    async fn exec_sync(&self, _: Request<ExecSyncRequest>) -> Result<Response<ExecSyncResponse>, Status> {
        // More than a client takes unless it is told to.
        Ok(Response::new(ExecSyncResponse { stdout: vec![b'x'; 8 << 20], ..ExecSyncResponse::default() }))
    }
}

#[tokio::test]
async fn answers_and_refusals_of_a_runtime_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runtime.sock");
    let client = Client::new(Endpoint::from(path.clone())).unwrap();
    let version = || client.version(VersionRequest { version: "v1".to_owned() });
    let error = version().await.unwrap_err();
    assert!(matches!(error, CriError::Unreachable { call: "Version", .. }), "{error}");
    assert!(error.to_string().contains(&format!("unix://{}", path.display())), "{error}");

    let sockets = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let serving = tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(Runtime))
        .serve_with_incoming(sockets);
    let asking = async {
        let told = version().await.unwrap();
        assert_eq!((told.runtime_name.as_str(), told.version.as_str()), ("test", "v1"));
        let request = ContainerStatusRequest { container_id: "c".to_owned(), verbose: false };
        let error = client.container_status(request).await.unwrap_err();
        assert_eq!(error.to_string(), "ContainerStatus: no container c");
        assert!(error.is_not_found());
        let said = client.exec_sync(ExecSyncRequest::default()).await.unwrap();
        assert_eq!(said.stdout.len(), 8 << 20);
        let error = client.stop_container(StopContainerRequest::default()).await.unwrap_err();
        assert!(matches!(error, CriError::Unimplemented { call: "StopContainer", .. }), "{error}");
    };
    tokio::select! {
        served = serving => panic!("{served:?}"),
        () = asking => {}
    }
}
