//! Calls of webhooks: one HTTPS request with a JSON body to a URL or a service of the cluster, within a time and a size. Must
//! never believe a server whose certificate is not the one that was asked for, follow it elsewhere, or wait longer than told.

mod idle;
mod target;
pub mod validation;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use barque_api::kind::GroupResource;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::registry::collections::Collections;
use crate::storage::Storage;
use idle::{Idle, Peer};
use target::{Address, Target};

/// Answers have at most so many bytes: those about many objects at once are as large as lists.
const ANSWER_MOST: usize = 64 << 20;
/// How the server calls itself.
const AGENT: &str = "kube-apiserver-admission";

/// A webhook was not called, or did not answer well.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It is not said well whom to call.
    #[error("{0}")]
    Config(String),
    /// Nobody was reached, or somebody else.
    #[error("Post {url:?}: {why}")]
    Unreachable {
        /// Whom it was about.
        url: String,
        /// What happened.
        why: String,
    },
    /// There was no answer in time.
    #[error("Post {url:?}: context deadline exceeded")]
    Late {
        /// Whom it was about.
        url: String,
    },
    /// The answer tells of a failure; the text is its beginning.
    #[error("the server responded with the status code {code}: {text}")]
    Failed {
        /// Of HTTP.
        code: u16,
        /// What it said.
        text: String,
    },
    /// The answer is too large, or no JSON.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

pub(crate) use idle::{Connection, Failure};

/// A connection, and what came over it.
type Exchanged = (Connection, Result<(StatusCode, Bytes), Failure>);

/// Calls webhooks. Cloning copies pointers.
pub struct WebhookClient<S: Storage> {
    collections: Collections<S>,
    /// Whom everybody believes; read when a webhook says nothing else.
    common: Arc<OnceLock<Arc<RootCertStore>>>,
    /// Connections for the next call.
    idle: Arc<Idle>,
}

impl<S: Storage> Clone for WebhookClient<S> {
    fn clone(&self) -> Self {
        Self {
            collections: self.collections.clone(),
            common: Arc::clone(&self.common),
            idle: Arc::clone(&self.idle),
        }
    }
}

impl<S: Storage> WebhookClient<S> {
    /// Services are looked up in these.
    #[must_use]
    pub fn new(collections: Collections<S>) -> Self {
        Self { collections, common: Arc::default(), idle: Arc::default() }
    }

    /// Sends `body` to the webhook that a `clientConfig` names, and returns what it answers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, config: &Value, body: Vec<u8>, timeout: Duration) -> Result<Value, CallError> {
        let target = Target::of(config).map_err(CallError::Config)?;
        let url = format!("{}?timeout={}s", target.url, timeout.as_secs());
        let called = self.call_at_leisure(&target, &url, body);
        match tokio::time::timeout(timeout, called).await {
            Ok(answered) => answered,
            Err(_) => Err(CallError::Late { url }),
        }
    }

    async fn call_at_leisure(&self, target: &Target, url: &str, body: Vec<u8>) -> Result<Value, CallError> {
        let unreachable = |why: String| CallError::Unreachable { url: url.to_owned(), why };
        let (host, port) = self.address(&target.address).await.map_err(unreachable)?;
        let request =
            Request::post(format!("{}?{}", target.path, url.rsplit('?').next().unwrap_or_default()))
                .header(HOST, &target.authority)
                .header(USER_AGENT, AGENT)
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json")
                .body(Full::new(Bytes::from(body)))
                .map_err(|error| CallError::Config(error.to_string()))?;
        let (server_name, bundle) = (target.server_name.clone(), target.bundle.clone());
        let peer = Peer { host, port, server_name, bundle };
        let (connection, answer) = self.exchange(&peer, url, request).await?;
        let (code, answer) = answer.map_err(|failure| match failure {
            Failure::Io(why) | Failure::Unsent(_, why) => unreachable(why),
            Failure::TooLarge => CallError::Unreadable(format!("it has more than {ANSWER_MOST} bytes")),
        })?;
        self.idle.put(peer, connection, Instant::now());
        if !code.is_success() {
            let text: String = String::from_utf8_lossy(&answer).chars().take(256).collect();
            return Err(CallError::Failed { code: code.as_u16(), text });
        }
        serde_json::from_slice(&answer).map_err(|error| CallError::Unreadable(error.to_string()))
    }

    /// Sends a request over a connection that waits, or a new one.
    async fn exchange(
        &self,
        peer: &Peer,
        url: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Exchanged, CallError> {
        let unreachable = |why: String| CallError::Unreachable { url: url.to_owned(), why };
        if let Some(mut connection) = self.idle.take(peer, Instant::now()) {
            match connection.exchange(request, ANSWER_MOST).await {
                // It was closed while it waited, and the webhook knows of nothing.
                Err(Failure::Unsent(unsent, _)) => request = *unsent,
                answer => return Ok((connection, answer)),
            }
        }
        let roots = target::roots(&peer.bundle).map_err(CallError::Config)?;
        let roots = roots.map_or_else(|| self.common_roots(), Arc::new);
        let stream = connect(&peer.host, peer.port, &peer.server_name, roots).await.map_err(unreachable)?;
        let mut connection = Connection::open(stream).await.map_err(unreachable)?;
        let answer = connection.exchange(request, ANSWER_MOST).await;
        Ok((connection, answer))
    }

    fn common_roots(&self) -> Arc<RootCertStore> {
        let read = || {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        Arc::clone(self.common.get_or_init(read))
    }

    /// Where to connect to.
    async fn address(&self, address: &Address) -> Result<(String, u16), String> {
        match address {
            Address::Host { host, port } => Ok((host.clone(), *port)),
            Address::Service { namespace, name, port } => {
                let services = GroupResource::new("", "services");
                let service = self.collections.object(&services, namespace, name).await;
                let service = service.map_err(|status| status.message)?;
                let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
                Ok((target::address_of(&service, *port)?, *port))
            }
        }
    }
}

/// A connection to a server whose certificate is for `name`, of one of these authorities.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    name: &str,
    roots: Arc<RootCertStore>,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let dial = |error: std::io::Error| format!("dial tcp {host}:{port}: {error}");
    let stream = TcpStream::connect((host, port)).await.map_err(dial)?;
    stream.set_nodelay(true).map_err(dial)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| format!("tls: {error}"))
}
