//! Finds out how large packets to other machines may be, without root: datagrams that nobody may cut go to a port where nobody
//! listens, and a machine that gets one says so (ICMP, RFC 1191 and RFC 8201).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::time::Duration;

use futures::future::join_all;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::net::UdpSocket;

use super::super::judge::path::{Arrival, PathSeen, Sizes, interface};

/// Where nobody listens: the first one that traceroute uses.
const PORT: u16 = 33434;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Answers get lost, and are given sparingly.
const ATTEMPTS: usize = 2;
/// Any way takes this, in bytes.
const SMALL: u32 = 576;
/// No datagram is larger, in bytes with its headers.
const LARGEST: u32 = 65_535;

/// The ways to these machines, all at once.
pub(crate) async fn paths(to: Vec<(String, IpAddr)>) -> Vec<PathSeen> {
    let looking = to.into_iter().map(|(name, address)| async move {
        let seen = look(address).await.map_err(|error| error.to_string());
        PathSeen { name, address, seen }
    });
    join_all(looking).await
}

async fn look(to: IpAddr) -> io::Result<Sizes> {
    let socket = connect(to).await?;
    let wanted = match to {
        IpAddr::V4(to) if !to.is_loopback() => of_interface(to),
        _ => None,
    };
    let wanted = match wanted {
        Some(mtu) => mtu,
        None => mtu(&socket, to)?,
    };
    let wanted = wanted.min(LARGEST);
    for _ in 0..ATTEMPTS {
        match send(&socket, to, wanted).await? {
            Arrival::Unanswered => {}
            // What it was refused for is no answer about its size.
            arrives => return Ok(Sizes { wanted, arrives }),
        }
    }
    let small = send(&socket, to, SMALL.min(wanted)).await?;
    let arrives = if small == Arrival::Confirmed { Arrival::Lost } else { Arrival::Unanswered };
    Ok(Sizes { wanted, arrives })
}

async fn connect(to: IpAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(SocketAddr::new(to, PORT)).await?;
    match to {
        IpAddr::V4(_) => sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?,
        IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?,
    }
    Ok(socket)
}

/// What the kernel knows of the way.
fn mtu(socket: &UdpSocket, to: IpAddr) -> io::Result<u32> {
    Ok(if to.is_ipv4() { sockopt::ip_mtu(socket)? } else { sockopt::ipv6_mtu(socket)? })
}

/// That of the interface by which packets leave.
fn of_interface(to: Ipv4Addr) -> Option<u32> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    let name = interface(&routes, to)?;
    // What is below /proc is of this process' network, whatever file systems it sees; without IPv6 there is only the other one.
    let places = [format!("/proc/sys/net/ipv6/conf/{name}/mtu"), format!("/sys/class/net/{name}/mtu")];
    let text = places.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    text.trim().parse().ok()
}

/// Sends a packet of `size` bytes with its headers, and waits for what becomes of it.
async fn send(socket: &UdpSocket, to: IpAddr, size: u32) -> io::Result<Arrival> {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let packet = vec![0; usize::try_from(size.saturating_sub(headers)).unwrap_or_default()];
    let outcome = match socket.send(&packet).await {
        Err(error) => Err(error),
        Ok(_) => match tokio::time::timeout(PATIENCE, socket.recv(&mut [0; 64])).await {
            Err(_) => return Ok(Arrival::Unanswered),
            Ok(outcome) => outcome,
        },
    };
    match outcome {
        // Somebody listens there after all.
        Ok(_) => Ok(Arrival::Confirmed),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::CONNREFUSED) => Ok(Arrival::Confirmed),
            Some(Errno::MSGSIZE) => Ok(Arrival::Smaller(mtu(socket, to)?)),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_packet_to_this_machine_arrives() {
        let seen = paths(vec![("own".to_owned(), IpAddr::from([127, 0, 0, 9]))]).await;
        let sizes = seen[0].seen.as_ref().unwrap();
        assert_eq!(sizes.arrives, Arrival::Confirmed);
        assert!(sizes.wanted >= 1280, "{sizes:?}");
    }
}
