//! A pod's side of its link: the interface, its addresses and the ways out. Must never touch the node's own interfaces.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path as FilePath;
use std::time::Duration;

use barque_api::ip::Cidr;
use futures::StreamExt as _;

use crate::error::NetworkError;
use crate::kernel::{Changes, Kernel, Socket};
use crate::model::{Kind, Neighbour, Path, Route, single};
use crate::names::{POD_INTERFACE, PodLink};
use crate::namespace;

/// Where a pod sends what is not for itself, an address that no interface has.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The same of IPv6.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The gateway of a pod with this address.
pub(crate) fn gateway(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() }
}

/// How long the kernel may take to notice that both ends of a link are up.
const NOTICE: Duration = Duration::from_secs(10);

/// Gives the namespace a link to the node, unless it has it, and all that belongs to it; then what `node_side` does, and
/// comes back when packets can go by the link.
pub(crate) async fn connect(
    node: &Kernel,
    path: &FilePath,
    link: &PodLink,
    addresses: &[IpAddr],
    mtu: u32,
    node_side: impl Future<Output = Result<(), NetworkError>>,
) -> Result<(), NetworkError> {
    let entering = |source: io::Error| NetworkError::Kernel {
        what: format!("entering the network namespace {}", path.display()),
        source,
    };
    let namespace = namespace::open(path).map_err(entering)?;
    let (Socket { connection, kernel: pod }, changes) =
        namespace::connect(&namespace).await.map_err(entering)?;
    let work = async {
        configure(node, &pod, path, &namespace, link, addresses, mtu).await?;
        node_side.await?;
        let running = tokio::time::timeout(NOTICE, wait_until_running(&pod, POD_INTERFACE, changes));
        running.await.unwrap_or_else(|elapsed| {
            let what = format!("waiting for the link {} to come up", link.name);
            Err(NetworkError::Kernel { what, source: elapsed.into() })
        })
    };
    tokio::select! {
        // It ends when all handles are gone, which is after the work.
        () = connection => Err(entering(io::Error::other("the socket closed"))),
        outcome = work => outcome,
    }
}

/// The end that came up first is made ready by a worker of the kernel; what is sent before that is lost.
pub(crate) async fn wait_until_running(
    inside: &Kernel,
    interface: &str,
    mut changes: Changes,
) -> Result<(), NetworkError> {
    while !inside.is_running(interface).await? {
        if changes.next().await.is_none() {
            break;
        }
    }
    Ok(())
}

async fn configure(
    node: &Kernel,
    pod: &Kernel,
    path: &FilePath,
    namespace: &File,
    link: &PodLink,
    addresses: &[IpAddr],
    mtu: u32,
) -> Result<(), NetworkError> {
    let outside = node.link(&link.name).await?;
    if outside.as_ref().is_some_and(|(_, outside)| outside.kind != Kind::Veth) {
        return Err(NetworkError::ForeignLink { name: link.name.clone() });
    }
    match pod.link(POD_INTERFACE).await? {
        Some((_, inside)) if inside.mac == Some(link.pod_mac) && outside.is_some() => {}
        Some(_) => {
            return Err(NetworkError::Occupied { namespace: path.to_owned(), interface: POD_INTERFACE });
        }
        None => {
            // Its other end is in a namespace that the pod had before.
            if outside.is_some() {
                node.delete_link(&link.name).await?;
            }
            node.create_pod_link(link, POD_INTERFACE, mtu, namespace.as_fd()).await?;
        }
    }
    pod.set_up("lo", None).await?;
    pod.set_up(POD_INTERFACE, Some(mtu)).await?;
    for address in addresses {
        pod.add_address(POD_INTERFACE, *address).await?;
        let gateway = gateway(*address);
        let device = POD_INTERFACE.to_owned();
        pod.set_neighbour(&Neighbour { device: device.clone(), address: gateway, mac: link.host_mac })
            .await?;
        if gateway.is_ipv4() {
            let path = Path::Direct { device: device.clone(), source: None };
            pod.add_route(&Route { destination: single(gateway), path }, true).await?;
        }
        let everything = match address {
            IpAddr::V4(_) => Cidr { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 },
            IpAddr::V6(_) => Cidr { address: Ipv6Addr::UNSPECIFIED.into(), prefix: 0 },
        };
        let path = Path::Gateway { device, gateway, onlink: false };
        pod.add_route(&Route { destination: everything, path }, true).await?;
    }
    Ok(())
}
