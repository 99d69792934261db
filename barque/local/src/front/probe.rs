//! Whether a server is ready, asked as clients would: `/readyz` over TLS. Must never be longer at it than told, as a paused
//! server takes connections and says nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
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
pub(super) struct Prober(TlsConnector);

impl Prober {
    /// One that believes servers with certificates of the authorities of a file.
    pub(super) fn of(path: &Path) -> Result<Self, AuthorityError> {
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
        Ok(Self(TlsConnector::from(Arc::new(config))))
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
        let stream = self.0.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
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

fn http(error: hyper::Error) -> String {
    format!("HTTP: {error}")
}
