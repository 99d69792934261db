//! The ports of a member: bound once, before anything else starts, so that a port in use is told at once.
//!
//! Binds and configures sockets; never reads from one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Url, ValidConfig};
use crate::socket::set_keepalive;
use crate::tls::{ServerTls, TlsError};

/// Connections that the kernel completes before the member has accepted them.
const BACKLOG: u32 = 4096;
/// Why a port cannot be had. The text names the flag.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error("{flag}={url}: address already in use by another process")]
    InUse {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: Url,
    },
    /// The address is of another machine, the port is reserved, and so on.
    #[error("{flag}={url} cannot be listened to")]
    Bind {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// What the system says.
        source: io::Error,
    },
    /// The certificates for it cannot be used.
    #[error("{flag}={url} cannot be served with TLS")]
    Tls {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: Url,
        /// What is wrong with which file.
        source: Arc<TlsError>,
    },
}

/// One bound port.
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// As it was asked for.
    pub url: Url,
    /// What was bound: with the port that the system chose, if it was left to it.
    pub address: SocketAddr,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({} at {})", self.url, self.address)
    }
}

/// All ports of a member.
#[derive(Debug)]
pub struct Listeners {
    /// Of `--listen-client-urls`.
    pub client: Vec<Listener>,
    /// Of `--listen-peer-urls`.
    pub peer: Vec<Listener>,
    /// Of `--listen-metrics-urls`.
    pub metrics: Vec<Listener>,
}

impl Listeners {
    /// Binds all ports and loads the certificates for those with TLS. Needs a Tokio runtime.
    ///
    /// # Errors
    /// The first port that cannot be had; the ones before it are closed again.
    pub fn bind(config: &ValidConfig) -> Result<Self, ListenError> {
        let load = |urls: &[&[Url]], files| {
            let https = urls.iter().any(|urls| urls.iter().any(Url::is_https));
            https.then(|| ServerTls::load(files).map(Arc::new).map_err(Arc::new)).transpose()
        };
        let client_tls = load(&[&config.listen_client_urls, &config.listen_metrics_urls], &config.client_tls);
        let peer_tls = load(&[&config.listen_peer_urls], &config.peer_tls);
        Ok(Self {
            peer: bind_all("--listen-peer-urls", &config.listen_peer_urls, &peer_tls)?,
            client: bind_all("--listen-client-urls", &config.listen_client_urls, &client_tls)?,
            metrics: bind_all("--listen-metrics-urls", &config.listen_metrics_urls, &client_tls)?,
        })
    }
}

type Loaded = Result<Option<Arc<ServerTls>>, Arc<TlsError>>;

fn bind_all(flag: &'static str, urls: &[Url], tls: &Loaded) -> Result<Vec<Listener>, ListenError> {
    urls.iter().map(|url| bind(flag, url, tls)).collect()
}

fn bind(flag: &'static str, url: &Url, tls: &Loaded) -> Result<Listener, ListenError> {
    let tls = match (url.is_https(), tls) {
        (false, _) => None,
        (true, Ok(tls)) => tls.clone(),
        (true, Err(source)) => {
            return Err(ListenError::Tls { flag, url: url.clone(), source: Arc::clone(source) });
        }
    };
    match open(url) {
        Ok((socket, address)) => Ok(Listener { socket, tls, url: url.clone(), address }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ListenError::InUse { flag, url: url.clone() })
        }
        Err(source) => Err(ListenError::Bind { flag, url: url.clone(), source }),
    }
}

fn open(url: &Url) -> io::Result<(TcpListener, SocketAddr)> {
    let address = url.bind_address().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the process before it.
    socket.set_reuseaddr(true)?;
    // Linux hands both down to every accepted connection: no system call for each.
    socket.set_nodelay(true)?;
    set_keepalive(&socket)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemberConfig;

    fn config(client: &str) -> ValidConfig {
        MemberConfig {
            listen_client_urls: vec![client.into()],
            advertise_client_urls: Some(vec!["http://localhost:2379".into()]),
            listen_peer_urls: vec!["http://127.0.0.1:0".into()],
            listen_metrics_urls: vec!["http://127.0.0.1:0".into()],
            ..MemberConfig::default()
        }
        .validate()
        .unwrap()
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_flag() {
        let first = Listeners::bind(&config("http://localhost:0")).unwrap();
        assert_eq!((first.client.len(), first.peer.len(), first.metrics.len()), (1, 1, 1));
        let url = format!("http://{}", first.client[0].address);
        let error = Listeners::bind(&config(&url)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--listen-client-urls={url}: address already in use by another process")
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_names_the_flag() {
        let error = Listeners::bind(&config("http://192.0.2.1:2379")).unwrap_err();
        assert_eq!(error.to_string(), "--listen-client-urls=http://192.0.2.1:2379 cannot be listened to");
    }

    #[tokio::test]
    async fn accepted_connections_have_no_delay_and_are_probed() {
        let listeners = Listeners::bind(&config("http://localhost:0")).unwrap();
        let connecting = tokio::net::TcpStream::connect(listeners.client[0].address);
        let (accepted, _client) = tokio::join!(listeners.client[0].socket.accept(), connecting);
        let (accepted, _) = accepted.unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(rustix::net::sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(rustix::net::sockopt::tcp_keepidle(&accepted).unwrap(), crate::socket::KEEPALIVE);
    }
}
