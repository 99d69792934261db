//! How one member connects to another: TCP, and TLS where the URL says https.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::ClientTls;
use crate::socket::set_keepalive;

/// Why no connection came about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Not `http://host:port` or `https://host:port`.
    #[error("{0} is not a URL of a member")]
    Url(Uri),
    /// https, and this member was given no certificates.
    #[error("{0} is https: --peer-trusted-ca-file must name the authorities of the members' certificates")]
    NoTls(Uri),
    /// TCP.
    #[error("cannot connect to {uri}")]
    Tcp {
        /// Where to.
        uri: Uri,
        /// What the system says.
        source: io::Error,
    },
    /// TLS: a certificate was refused, by this side or the other.
    #[error("no TLS connection to {uri}")]
    Tls {
        /// Where to.
        uri: Uri,
        /// What rustls says.
        source: io::Error,
    },
    /// Nobody answered in time.
    #[error("no connection to {uri} within {} ms", within.as_millis())]
    Late {
        /// Where to.
        uri: Uri,
        /// The deadline.
        within: Duration,
    },
}

/// For `tonic::transport::Endpoint::connect_with_connector`. The certificate must be for the URL's host, a name
/// or an address. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PeerConnector {
    tls: Option<Arc<ClientTls>>,
    within: Duration,
}

impl PeerConnector {
    /// `within` bounds TCP and TLS together. Without `tls` only http URLs work.
    #[must_use]
    pub fn new(tls: Option<Arc<ClientTls>>, within: Duration) -> Self {
        Self { tls, within }
    }

    /// Connects to the URL's host and port.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(self, uri: Uri) -> Result<PeerStream, ConnectError> {
        match tokio::time::timeout(self.within, self.connect_at_leisure(&uri)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Late { uri, within: self.within }),
        }
    }

    async fn connect_at_leisure(&self, uri: &Uri) -> Result<PeerStream, ConnectError> {
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(ConnectError::Url(uri.clone()));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(tls)) => Some(tls),
            (Some("https"), None) => return Err(ConnectError::NoTls(uri.clone())),
            _ => None,
        };
        let tcp = |source| ConnectError::Tcp { uri: uri.clone(), source };
        let stream = TcpStream::connect((host, port)).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        set_keepalive(&stream).map_err(tcp)?;
        let Some(tls) = tls else { return Ok(PeerStream::Plain(stream)) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Url(uri.clone()))?;
        match TlsConnector::from(tls.current()).connect(name, stream).await {
            Ok(stream) => Ok(PeerStream::Tls(Box::new(stream))),
            Err(source) => Err(ConnectError::Tls { uri: uri.clone(), source }),
        }
    }
}

impl tower::Service<Uri> for PeerConnector {
    type Response = TokioIo<PeerStream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}

/// A connection to a member.
#[derive(Debug)]
pub enum PeerStream {
    /// http.
    Plain(TcpStream),
    /// https.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
