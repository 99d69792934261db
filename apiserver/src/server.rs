//! One API server: its parts put together, started and stopped in the right order. Must never decide how a request is
//! answered.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_store::config::TlsFiles;
use barque_store::tls::{ServerTls, TlsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::http::handler::{ApiHandler, Parts};
use crate::http::serve::{AnyCertificate, Connections};
use crate::registry::allocation::ServiceAllocator;
use crate::registry::allocation::repair::Repair;
use crate::registry::allocation::settings::ServiceNetwork;
use crate::registry::collections::{Collections, Settings};
use crate::registry::pipeline::Pipeline;
use crate::storage::Storage;

/// How long requests may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 100_000;

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Its certificate.
    pub cert_file: PathBuf,
    /// The certificate's key.
    pub key_file: PathBuf,
    /// From which networks and ports services are served.
    pub services: ServiceNetwork,
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

/// Starts a server.
///
/// # Errors
/// When its port cannot be had, or its certificate cannot be used.
pub async fn start<S: Storage>(config: &Config, settings: Settings<S>) -> Result<Running, ServerError> {
    let provider = rustls::crypto::ring::default_provider();
    let files = TlsFiles {
        cert_file: Some(config.cert_file.clone()),
        key_file: Some(config.key_file.clone()),
        ..TlsFiles::default()
    };
    let tls = ServerTls::with_verifier(&files, Arc::new(AnyCertificate::new(&provider, Vec::new())))?;
    let listener = TcpListener::bind(config.bind).await;
    let listener = listener.map_err(|source| ServerError::Listen { address: config.bind, source })?;
    let address = listener.local_addr();
    let address = address.map_err(|source| ServerError::Listen { address: config.bind, source })?;

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let collections = Collections::start(settings, &tasks, &stop);
    let admission = Admission::new(collections.clone());
    let services = ServiceAllocator::new(collections.clone(), &config.services);
    tasks.spawn(Repair::new(services.clone()).run(stop.clone()));
    let connections = Connections::default();
    let handler = ApiHandler::new(Parts {
        pipeline: Pipeline { collections, admission, services },
        address: address.to_string(),
        stop: connections.draining(),
    });
    connections.serve(listener, Arc::new(move || tls.current()), handler, CONNECTIONS);
    Ok(Running { address, connections, tasks, stop })
}
