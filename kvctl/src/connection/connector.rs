//! One connection to one member: TCP, and TLS where it is asked for; and what its failure means to a user.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoints::Endpoint;
use crate::go_duration;

/// Why no connection came about; each text says what to do.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error(
        "cannot connect to {endpoint}: {source}: see that the member runs and that --endpoints names its client address"
    )]
    Tcp { endpoint: Endpoint, source: io::Error },
    #[error("cannot connect to {endpoint}: no answer within {}: see that the address is right and reachable, or raise --dial-timeout", go_duration::format(*.within))]
    Late { endpoint: Endpoint, within: Duration },
    #[error("{endpoint} does not speak TLS: write http:// for it, or give it certificates")]
    NotTls { endpoint: Endpoint },
    #[error(
        "the certificate of {endpoint} is refused ({why}): give the authority that signed it as --cacert, and use a host name or address that it names"
    )]
    Untrusted { endpoint: Endpoint, why: String },
    #[error(
        "{endpoint} refuses this client's certificate ({why}): give --cert and --key that its authority has signed"
    )]
    Refused { endpoint: Endpoint, why: String },
    #[error("no TLS connection to {endpoint}: {why}")]
    Tls { endpoint: Endpoint, why: String },
}

/// A byte stream in both directions.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open connection, and the certificate chain that the member showed.
pub(super) struct Open {
    pub(super) io: Box<dyn Io>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// Opens connections to one member. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) endpoint: Endpoint,
    /// With the protocols to offer; `None` for plain TCP.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) within: Duration,
}

impl Connector {
    /// Connects within the dial timeout.
    pub(super) async fn open(&self) -> Result<Open, ConnectError> {
        match tokio::time::timeout(self.within, self.open_at_leisure()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Late { endpoint: self.endpoint.clone(), within: self.within }),
        }
    }

    async fn open_at_leisure(&self) -> Result<Open, ConnectError> {
        let tcp = |source| ConnectError::Tcp { endpoint: self.endpoint.clone(), source };
        let stream =
            TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        let Some(tls) = &self.tls else { return Ok(Open { io: Box::new(stream), chain: Vec::new() }) };
        let name = ServerName::try_from(self.endpoint.host.clone())
            .map_err(|why| ConnectError::Tls { endpoint: self.endpoint.clone(), why: why.to_string() })?;
        let connecting = TlsConnector::from(tls.clone()).connect(name, stream).await;
        let stream = connecting.map_err(|why| self.handshake_error(&why))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Open { io: Box::new(stream), chain })
    }

    fn handshake_error(&self, why: &io::Error) -> ConnectError {
        let endpoint = self.endpoint.clone();
        // Whoever does not speak TLS may hang up on it, or answer in another language.
        if matches!(why.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return ConnectError::NotTls { endpoint };
        }
        match why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => ConnectError::NotTls { endpoint },
            Some(rustls::Error::InvalidCertificate(why)) => {
                ConnectError::Untrusted { endpoint, why: why.to_string() }
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                ConnectError::Refused { endpoint, why: format!("{alert:?}") }
            }
            _ => ConnectError::Tls { endpoint, why: why.to_string() },
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.open().await.map(|open| TokioIo::new(open.io)) })
    }
}

/// All texts of an error and its causes, each once.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let this = error.to_string();
        if !text.contains(&this) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&this);
        }
        next = error.source();
    }
    text
}

/// What a connection that broke under a request means. With TLS 1.3 a server can refuse a client's certificate
/// only after the handshake, and a server that wants TLS just hangs up on one who does not speak it.
pub(super) fn broken(endpoint: &Endpoint, tls: bool, why: &str) -> String {
    const ALERT: &str = "received fatal alert: ";
    if let Some(at) = why.find(ALERT) {
        let alert = why[at + ALERT.len()..].split([':', ' ', ')']).next().unwrap_or_default().to_owned();
        return ConnectError::Refused { endpoint: endpoint.clone(), why: alert }.to_string();
    }
    let hint = if tls {
        "if it asks for client certificates, give --cert and --key that its authority has signed; see its log"
    } else {
        "see its log; if it serves TLS, write https:// and give --cacert"
    };
    format!("{endpoint} closed the connection ({why}): {hint}")
}
