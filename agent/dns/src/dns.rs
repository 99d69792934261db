//! A node's DNS server as a whole: its sockets, what it knows, and whom it asks. Must never ask itself.

use core::net::{IpAddr, SocketAddr};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::CacheSettings;
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::serve::Server;

/// What a DNS server is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens, for datagrams and connections. They need not be on an interface yet. Not the unspecified address:
    /// replies would not come from the address that was asked.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for what is not the cluster's, in this order; its own addresses are left out.
    pub upstreams: Vec<SocketAddr>,
    /// For how long others' answers are remembered.
    pub cache: CacheSettings,
    /// How long another name server may take until the next one is asked, or the same one again; four tries should be less
    /// than the five seconds that clients wait.
    pub patience: Duration,
    /// How many questions may wait for other name servers; the next ones are refused.
    pub concurrent: usize,
}

impl Settings {
    /// The usual bounds, for a server that listens here and asks these.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, upstreams: Vec<SocketAddr>) -> Self {
        Self {
            listen,
            upstreams,
            cache: CacheSettings::default(),
            patience: Duration::from_millis(1200),
            concurrent: 1000,
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The cluster's domain is no name.
    #[error("{0:?} is not the name of a domain")]
    Domain(String),
    /// It cannot listen.
    #[error("cannot listen for DNS on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A DNS server that listens and does not answer yet.
#[derive(Debug)]
pub struct Dns {
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    server: Arc<Server>,
    own: Vec<IpAddr>,
}

impl Dns {
    /// Opens the sockets; within a runtime.
    ///
    /// # Errors
    ///
    /// An address cannot be listened on.
    pub fn bind(settings: &Settings, names: Arc<RwLock<Names>>, metrics: Metrics) -> Result<Self, DnsError> {
        let mut sockets = Vec::with_capacity(settings.listen.len());
        let mut addresses = Vec::with_capacity(settings.listen.len());
        for address in &settings.listen {
            let (udp, tcp, bound) =
                bind(*address).map_err(|source| DnsError::Listen { address: *address, source })?;
            sockets.push((udp, tcp));
            addresses.push(bound);
        }
        let own: Vec<IpAddr> = names.read().zone.servers.clone();
        let upstreams = without_own(&settings.upstreams, &addresses, &own);
        let server = Server {
            names,
            forwarder: Forwarder::new(&upstreams, settings.cache, settings.patience, metrics.clone()),
            metrics,
            slots: Arc::new(Semaphore::new(settings.concurrent)),
        };
        Ok(Self { sockets, addresses, server: Arc::new(server), own })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What asks others from now on, when the node's resolver configuration has changed.
    #[must_use]
    pub fn upstreams(&self) -> Upstreams {
        Upstreams {
            forwarder: self.server.forwarder.clone(),
            addresses: self.addresses.clone(),
            own: self.own.clone(),
        }
    }

    /// Answers until the token is cancelled, then finishes what was begun.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        for (udp, tcp) in self.sockets {
            let udp = Arc::clone(&self.server).datagrams(Arc::new(udp), tasks.clone(), stop.clone());
            tasks.spawn(udp);
            let tcp = Arc::clone(&self.server).connections(tcp, tasks.clone(), stop.clone());
            tasks.spawn(tcp);
        }
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

/// Who is asked for what is not the cluster's.
#[derive(Debug, Clone)]
pub struct Upstreams {
    forwarder: Forwarder,
    addresses: Vec<SocketAddr>,
    own: Vec<IpAddr>,
}

impl Upstreams {
    /// From now on these, without the server itself.
    pub fn set(&self, upstreams: &[SocketAddr]) {
        self.forwarder.set_servers(&without_own(upstreams, &self.addresses, &self.own));
    }
}

/// The name servers without the ones that are this server.
fn without_own(upstreams: &[SocketAddr], listen: &[SocketAddr], own: &[IpAddr]) -> Vec<SocketAddr> {
    let is_own = |address: &SocketAddr| {
        let address = *address;
        let here = |listen: &SocketAddr| listen.port() == address.port() && listen.ip() == address.ip();
        listen.iter().any(here) || own.contains(&address.ip())
    };
    let (own, others): (Vec<_>, Vec<_>) = upstreams.iter().copied().partition(is_own);
    if !own.is_empty() {
        tracing::warn!(?own, "the node's resolver names this server itself; it is not asked");
    }
    if others.is_empty() {
        tracing::warn!("no other name server is known; only the cluster's names are answered");
    }
    others
}

/// How many ports are tried until one is free for datagrams and connections.
const PORTS: usize = 16;

fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    let mut tries = if address.port() == 0 { PORTS } else { 1 };
    loop {
        tries -= 1;
        let udp = UdpSocket::from_std(socket(address, SocketType::DGRAM)?.into())?;
        let bound = udp.local_addr()?;
        match socket(bound, SocketType::STREAM) {
            Ok(tcp) => return Ok((udp, TcpListener::from_std(tcp.into())?, bound)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    // The address may come to an interface later.
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        rustix::net::listen(&socket, 1024)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_never_its_own_upstream() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let upstreams =
            ["10.96.0.10:53", "169.254.20.10:53", "127.0.0.53:53", "169.254.20.10:5353"].map(parse);
        let left = without_own(&upstreams, &[parse("169.254.20.10:53")], &["10.96.0.10".parse().unwrap()]);
        assert_eq!(left, [parse("127.0.0.53:53"), parse("169.254.20.10:5353")]);
    }
}
