//! One [`kube::Client`] over several API servers. A request goes to the server that worked last, and to the next one when
//! that is safe. Must never send a write again whose fate is unknown.
//!
//! Nothing polls: that a server is bad is learned from requests, and it is tried again by one.
//! Connections speak HTTP/1.1, as kube's do.
//! A stream ends with its server; who follows (a watcher of kube's) asks again and reaches another one. One that ends again and
//! again is asked for at a measured pace.

mod choice;
mod credentials;
mod failover;
mod pace;
mod requests;
mod verdict;

use std::path::PathBuf;

use http::Uri;
use kube::Client;

pub use requests::Requests;

/// Where certificates and tokens are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A kubeconfig; its current context counts.
    Kubeconfig(PathBuf),
    /// A kubeconfig, and a file with the URLs of all servers, one a line: servers come and go, and that is seen.
    Joined {
        /// The kubeconfig; its server counts when the file names none.
        kubeconfig: PathBuf,
        /// The file.
        servers: PathBuf,
    },
    /// What a pod finds: the service account's files, and the environment.
    InCluster,
}

/// To whom to speak, and as who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Where certificates and tokens are told.
    pub source: Source,
    /// The servers, the preferred one first; empty is the one of the source.
    pub urls: Vec<Uri>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("{path}: {error}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<kube::config::KubeconfigError>,
    },
    /// The file with servers cannot be used.
    #[error("{path}: {problem}")]
    ServersFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// This is no pod, or its service account's files are missing.
    #[error("the configuration of a pod: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// The kubeconfig wants a proxy.
    #[error("proxy-url is not supported")]
    Proxy,
    /// Certificates, keys or tokens cannot be used.
    #[error(transparent)]
    Client(#[from] Box<kube::Error>),
}

/// A client over these servers. Certificates, keys and tokens are read again when their files change.
///
/// Nobody is asked anything yet. Needs a runtime of tokio: kube's client has a task, which ends with the last clone.
///
/// # Errors
/// When the configuration cannot be read or used.
pub async fn connect(servers: Servers) -> Result<Client, ConnectError> {
    over(servers, None).await
}

/// The same, and each request is counted.
///
/// # Errors
/// As [`connect`].
pub async fn connect_counted(servers: Servers, requests: Requests) -> Result<Client, ConnectError> {
    over(servers, Some(requests)).await
}

async fn over(servers: Servers, requests: Option<Requests>) -> Result<Client, ConnectError> {
    let (credentials, namespace) = credentials::Credentials::load(servers).await?;
    Ok(Client::new(failover::FailOver::new(credentials, requests), namespace))
}

/// The certificates that the source trusts servers by, as PEM; empty when it names none.
///
/// # Errors
/// When the configuration cannot be read or used.
pub async fn authorities(source: &Source) -> Result<String, ConnectError> {
    credentials::authorities(source).await
}
