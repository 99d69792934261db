//! What runs here, for tools that speak CRI (`crictl`): sandboxes, containers, images, commands and streams, over a socket that only
//! root can open. Must never make a sandbox or a container: what those are is the pod's to say, which CRI does not know.
//!
//! Ids are the agent's: a sandbox has its pod's uid, a container `UID_NAME_ATTEMPT`; each is also found by a beginning of it that no
//! other has.

mod images;
mod refuse;
mod runtime;
mod streams;
mod tell;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_cri::v1::image_service_server::ImageServiceServer;
use barque_cri::v1::runtime_service_server::RuntimeServiceServer;
use futures::stream;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::streams::StreamServer;
use super::EmbeddedRuntime;

/// Those who may open the socket: its owner, who is root.
const OWNER: u32 = 0o600;

/// Why CRI is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServedError {
    /// Something that is no socket has its name.
    #[error("--cri-socket: {0} is there, and no socket")]
    Taken(PathBuf),
    /// It cannot be made.
    #[error("--cri-socket: {0} cannot be listened on")]
    Socket(PathBuf, #[source] io::Error),
    /// Streams have a port of their own.
    #[error("--cri-socket: no port for streams")]
    Streams(#[source] io::Error),
}

/// The service, bound.
pub struct CriServer {
    listener: UnixListener,
    streams: StreamServer,
    runtime: Arc<EmbeddedRuntime>,
}

/// What answers.
#[derive(Clone)]
struct Service {
    runtime: Arc<EmbeddedRuntime>,
    streams: StreamServer,
}

impl CriServer {
    /// Listens at this path; a socket that is left of an earlier agent gives way.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub async fn bind(path: &Path, runtime: Arc<EmbeddedRuntime>) -> Result<Self, ServedError> {
        let socket = |error| ServedError::Socket(path.to_owned(), error);
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path).map_err(socket)?,
            Ok(_) => return Err(ServedError::Taken(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(socket(error)),
        }
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(socket)?;
        }
        let listener = UnixListener::bind(path).map_err(socket)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(OWNER)).map_err(socket)?;
        let streams = StreamServer::bind().await.map_err(ServedError::Streams)?;
        Ok(Self { listener, streams, runtime })
    }

    /// Serves until the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, streams, runtime } = self;
        let service = Service { runtime: runtime.clone(), streams: streams.clone() };
        let accepted = stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await.map(|(connection, _)| connection);
            Some((accepted, listener))
        });
        let serving = Server::builder()
            .add_service(RuntimeServiceServer::new(service.clone()))
            .add_service(ImageServiceServer::new(service))
            .serve_with_incoming_shutdown(Box::pin(accepted), stop.cancelled());
        let (served, ()) = tokio::join!(serving, streams.run(runtime, stop.clone()));
        if let Err(error) = served {
            tracing::error!(%error, "CRI is not served any more");
        }
    }
}
