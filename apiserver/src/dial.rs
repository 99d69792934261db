//! What connections to agents, pods and other servers have in common: how long each step may take, and what Go's clients say when
//! one fails. Must never choose whom to trust.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TCP must be there within this time.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// And TLS within this.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Opens a connection; `told` is the address as errors name it.
///
/// # Errors
/// What Go's clients would say of it.
pub(crate) async fn connect(host: &str, port: u16, told: &impl fmt::Display) -> io::Result<TcpStream> {
    let failed = |kind: io::ErrorKind, why: &str| io::Error::new(kind, format!("dial tcp {told}: {why}"));
    match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(failed(error.kind(), &cause(&error))),
        Err(_) => Err(failed(io::ErrorKind::TimedOut, "i/o timeout")),
    }
}

/// The name that a certificate must be for.
///
/// # Errors
/// When it is none.
pub(crate) fn server_name(host: &str, told: &impl fmt::Display) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("dial tcp {told}: {error}")))
}

/// Shakes hands with `host`, whose certificate must be for `name`.
///
/// # Errors
/// What Go's clients would say of it.
pub(crate) async fn handshake(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
    host: &str,
) -> io::Result<TlsStream<TcpStream>> {
    let handshake = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), tls_cause(&error, host))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")),
    }
}

fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// What Go's clients say of a handshake with `host` that failed.
fn tls_cause(error: &io::Error, host: &str) -> String {
    const PREFIX: &str = "tls: failed to verify certificate: x509:";
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return format!("tls: {error}") };
    match why {
        // An authority of the same name with another key is another authority.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("{PREFIX} certificate signed by unknown authority")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{PREFIX} certificate is not valid for {host}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{PREFIX} certificate has expired or is not yet valid")
        }
        CertificateError::Other(why) => format!("{PREFIX} {}", why.0),
        why => format!("{PREFIX} {why}"),
    }
}
