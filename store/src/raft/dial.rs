//! The seam between this member and the network: how connections to other members come about. Everything that is
//! said over them is real wherever they lead.

use std::fmt;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls::{ConnectError, PeerConnector};

/// Bytes to and from another member.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// A connection to another member.
pub type Connection = Box<dyn Wire>;

/// Makes connections to other members.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Connects to the URL's host and port.
    fn connect(&self, uri: Uri) -> BoxFuture<'static, Result<Connection, ConnectError>>;

    /// Whether nobody listens there though the machine answers: the process is gone. Unlike a broken connection this
    /// cannot be caused by a busy network.
    fn refuses(&self, uri: Uri) -> BoxFuture<'static, bool>;
}

/// TCP, and TLS where the URL says https.
#[derive(Debug)]
pub struct Tcp {
    connector: PeerConnector,
    within: Duration,
}

impl Tcp {
    /// Without certificates only http URLs work. An attempt that takes longer than `within` has failed.
    #[must_use]
    pub fn new(tls: Option<std::sync::Arc<crate::tls::ClientTls>>, within: Duration) -> Self {
        Self { connector: PeerConnector::new(tls, within), within }
    }
}

impl Dial for Tcp {
    fn connect(&self, uri: Uri) -> BoxFuture<'static, Result<Connection, ConnectError>> {
        let connecting = self.connector.clone().connect(uri);
        async move { Ok(Box::new(connecting.await?) as Connection) }.boxed()
    }

    fn refuses(&self, uri: Uri) -> BoxFuture<'static, bool> {
        let within = self.within;
        async move {
            let Some(authority) = uri.authority() else { return false };
            let host = authority.host().trim_matches(['[', ']']);
            let address = (host, authority.port_u16().unwrap_or(2380));
            let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            let connecting = tokio::time::timeout(within, TcpStream::connect(address));
            connecting.await.is_ok_and(|connected| connected.is_err_and(refused))
        }
        .boxed()
    }
}
