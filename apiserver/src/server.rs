//! One API server: its parts put together, started and stopped in the right order. Must never decide how a request is
//! answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use barque_store::config::TlsFiles;
use barque_store::tls::{ServerTls, TlsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::config::ValidConfig;
use crate::http::documents;
use crate::http::handler::{ApiHandler, Parts};
use crate::http::serve::{AnyCertificate, Connections};
use crate::registry::collections::{Collections, Settings};
use crate::registry::pipeline::Pipeline;
use crate::storage::Storage;
use crate::streaming::Streaming;
use crate::streaming::dial::AgentFlags;

/// How long requests may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 100_000;

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Its certificate and key.
    pub tls: TlsFiles,
    /// Where clients inside of the cluster find it, without the port.
    pub hostname: String,
    /// How agents of nodes are reached.
    pub agents: AgentFlags,
}

/// A server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Its port cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The port.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Its certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that serves.
pub struct Running {
    /// Where it listens, with the port that the system chose, if it was left to it.
    pub address: SocketAddr,
    connections: Connections,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Stops accepting, ends watches, lets requests finish, then ends everything else.
    pub async fn stop(self) {
        if !self.connections.shutdown(DRAIN).await {
            tracing::warn!("some requests were cut off");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Serves as the flags say until `stop`, then drains.
///
/// # Errors
/// When the server cannot start.
pub async fn run(config: ValidConfig, stop: CancellationToken) -> Result<(), ServerError> {
    let settings = ServerSettings {
        bind: config.bind,
        tls: config.tls,
        hostname: config.hostname,
        agents: config.agents,
    };
    let kept = Settings {
        storage: config.storage,
        root: config.root,
        encryption: config.encryption,
        event_ttl: config.event_ttl,
    };
    let running = start(&settings, kept).await?;
    tracing::info!(address = %running.address, version = documents::VERSION, "serving");
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

/// Starts a server.
///
/// # Errors
/// When its port cannot be had, or its certificate cannot be used.
pub async fn start<S: Storage>(settings: &ServerSettings, kept: Settings<S>) -> Result<Running, ServerError> {
    let provider = rustls::crypto::ring::default_provider();
    let verifier = Arc::new(AnyCertificate::new(&provider, Vec::new()));
    let tls = ServerTls::with_verifier(&settings.tls, verifier)?;
    let failed = |source| ServerError::Listen { address: settings.bind, source };
    let listener = TcpListener::bind(settings.bind).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let collections = Collections::start(kept, &tasks, &stop);
    let admission = Admission::new(collections.clone());
    let connections = Connections::default();
    let streaming = Streaming::new(settings.agents.clone(), tasks.clone(), connections.draining())?;
    let handler = ApiHandler::new(Parts {
        streaming,
        pipeline: Pipeline { collections, admission },
        address: format!("{}:{}", settings.hostname, address.port()),
        stop: connections.draining(),
    });
    connections.serve(listener, Arc::new(move || tls.current()), handler, CONNECTIONS);
    Ok(Running { address, connections, tasks, stop })
}
