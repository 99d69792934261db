//! `/healthz`, `/livez`, `/readyz` and `/metrics` over TLS. Must never change anything, or say what a stranger may not know:
//! whoever reaches the port may read it.

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Writes what a scrape is told, in Prometheus' text format.
type Text = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// The content type of metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once.
const CONNECTIONS: usize = 64;
/// A connection must have shaken hands, and the head of a request must have come, within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure that has nothing to do with one connection, such as no free file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port.
    #[error("{0} cannot be listened on")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The certificate.
    #[error("{path} is no certificate or key in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: rustls::pki_types::pem::Error,
    },
    /// Certificate and key.
    #[error("the certificate")]
    Certificate(#[from] rustls::Error),
    /// The certificate that signs itself.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
}

/// A port that is bound.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

/// Listens. Without files, the certificate signs itself and lives as long as the process.
///
/// # Errors
/// When the port is taken, or a file is no certificate or key.
pub async fn bind(address: SocketAddr, files: Option<&(PathBuf, PathBuf)>) -> Result<Server, ServeError> {
    let (chain, key) = match files {
        Some((certificate, key)) => read(certificate, key)?,
        None => make(address)?,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
    let address = listener.local_addr().map_err(|error| ServeError::Listen(address, error))?;
    Ok(Server { listener, address, acceptor: TlsAcceptor::from(Arc::new(config)) })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(certificate: &PathBuf, key: &PathBuf) -> Result<Identity, ServeError> {
    let pem = |path: &PathBuf| {
        let path = path.clone();
        move |error| ServeError::Pem { path, error }
    };
    let bytes = |path: &PathBuf| fs::read(path).map_err(rustls::pki_types::pem::Error::Io).map_err(pem(path));
    let chain = CertificateDer::pem_slice_iter(&bytes(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(pem(certificate))?;
    let key_bytes = bytes(key)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&key_bytes).map_err(pem(key))?))
}

fn make(address: SocketAddr) -> Result<Identity, ServeError> {
    let names = vec!["localhost".to_owned(), address.ip().to_string()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    Ok((vec![cert.der().clone()], key.into()))
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the token is cancelled; `metrics` writes what a scrape is told, in Prometheus' text format.
    pub async fn run(self, metrics: impl Fn() -> Vec<u8> + Send + Sync + 'static, stop: CancellationToken) {
        let metrics: Text = Arc::new(metrics);
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                let Ok(seat) = seats.clone().acquire_owned().await else { return };
                while connections.try_join_next().is_some() {}
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (acceptor, metrics) = (self.acceptor.clone(), metrics.clone());
                        connections.spawn(async move {
                            let _seat = seat;
                            converse(stream, acceptor, metrics).await;
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
        connections.shutdown().await;
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, metrics: Text) {
    let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let answers = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &*metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answers)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn answer(method: &Method, path: &str, metrics: &dyn Fn() -> Vec<u8>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match path {
        _ if method != Method::GET && method != Method::HEAD => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into())
        }
        "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "text/plain; charset=utf-8", "ok".into()),
        "/metrics" => (StatusCode::OK, METRICS, metrics()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "404 page not found\n".into()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_and_metrics_are_answered_and_nothing_else() {
        let status =
            |method: &Method, path: &str| answer(method, path, &|| b"a 1\n".to_vec()).status().as_u16();
        for path in ["/healthz", "/livez", "/readyz", "/metrics"] {
            assert_eq!(status(&Method::GET, path), 200);
            assert_eq!(status(&Method::POST, path), 405);
        }
        assert_eq!(status(&Method::GET, "/"), 404);
        let answered = answer(&Method::GET, "/metrics", &|| b"a 1\n".to_vec());
        assert_eq!(answered.headers()[header::CONTENT_TYPE], METRICS);
    }
}
