//! Whether a server is ready, asked as clients would: `/readyz` over TLS. Must never be longer at it than told, as a paused
//! server takes connections and says nothing; or let a file of authorities that cannot be used replace one that could.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Server;

/// What is asked for.
const READY: &str = "/readyz";

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is no certificate.
    #[error("--certificate-authority={path} holds no certificates in PEM: {source}")]
    Certificate {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate is of no use.
    #[error("--certificate-authority={path} holds a certificate that is of no use: {source}")]
    Authority {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// Asks servers.
#[derive(Clone)]
pub(super) struct Prober {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    stamp: Stamp,
    connector: TlsConnector,
}

/// Inode, length and time of a change; nothing for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

impl Prober {
    /// One that believes servers with certificates of the authorities of a file, which is followed.
    pub(super) fn of(path: &Path) -> Result<Self, AuthorityError> {
        // Before reading: a change in between is then seen as one.
        let stamp = stamp(path);
        let state = State { stamp, connector: connector(path)? };
        Ok(Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) })
    }

    fn connector(&self) -> TlsConnector {
        let mut state = self.state.lock();
        let stamp = stamp(&self.path);
        if stamp != state.stamp {
            state.stamp = stamp;
            match connector(&self.path) {
                Ok(connector) => state.connector = connector,
                Err(error) => tracing::error!("changed authorities are not used, the old ones stay: {error}"),
            }
        }
        state.connector.clone()
    }

    /// Asks one, no longer than told; the reason when it is not ready.
    pub(super) async fn probe(&self, server: &Server, longest: Duration) -> Result<(), String> {
        tokio::time::timeout(longest, self.ask(server))
            .await
            .unwrap_or_else(|_| Err(format!("did not answer within {}s", longest.as_secs_f64())))
    }

    async fn ask(&self, server: &Server) -> Result<(), String> {
        let name = ServerName::try_from(server.host.clone()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(|error| format!("does not take connections: {error}"))?;
        let stream = self.connector().connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let request = Request::get(READY)
            .header(HOST, server.name.as_str())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let asking = sender.send_request(request);
        let answer = tokio::select! {
            answer = asking => answer.map_err(http)?,
            ended = connection => {
                return Err(ended.err().map_or("closed the connection".to_owned(), http));
            }
        };
        match answer.status() {
            StatusCode::OK => Ok(()),
            other => Err(format!("answers {} to {READY}", other.as_u16())),
        }
    }
}

fn connector(path: &Path) -> Result<TlsConnector, AuthorityError> {
    let wrong = |source| AuthorityError::Certificate { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
        roots
            .add(certificate.map_err(wrong)?)
            .map_err(|source| AuthorityError::Authority { path: path.to_owned(), source })?;
    }
    if roots.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn http(error: hyper::Error) -> String {
    format!("HTTP: {error}")
}
