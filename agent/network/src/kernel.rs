//! The kernel's links, addresses, routes and neighbours over netlink: observed as values, changed by actions. Must never
//! decide anything.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Arc;

use barque_api::ip::Cidr;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::proto::Connection;
use rtnetlink::sys::{SocketAddr, TokioSocket};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, MulticastGroup,
    RouteMessageBuilder,
};
use rustix::io::Errno;
use tokio::sync::Mutex;

use crate::error::{NetworkError, system_error};
use crate::messages::{
    address_message, family, read_address, read_forward, read_link, read_neighbour, read_network, read_route,
    route_message,
};
use crate::model::{Action, Kind, Link, Neighbour, Observed, Outer, Route, Tunnel, single};
use crate::names::{Mac, OVERLAY, PodLink};

/// A socket, and what drives it.
pub(crate) struct Socket {
    /// Must be polled while requests run.
    pub(crate) connection: Connection<RouteNetlinkMessage, TokioSocket>,
    /// What requests are made with.
    pub(crate) kernel: Kernel,
}

impl Socket {
    /// One in the network namespace of the calling thread, within a runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { connection, kernel: Kernel { handle, listing: Arc::default() } })
    }

    /// One that is also told of every change of a link.
    pub(crate) fn open_with_changes() -> io::Result<(Self, Changes)> {
        let (connection, handle, changes) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        Ok((Self { connection, kernel: Kernel { handle, listing: Arc::default() } }, changes))
    }
}

/// What the kernel tells without being asked.
pub(crate) type Changes = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// The kernel of one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    handle: Handle,
    /// Held while all of a kind are listed: the kernel does that once at a time for a socket, and says busy otherwise.
    listing: Arc<Mutex<()>>,
}

type Result<T> = core::result::Result<T, NetworkError>;

impl Kernel {
    /// What there is.
    pub(crate) async fn observe(&self) -> Result<Observed> {
        let _listing = self.listing.lock().await;
        let mut names = HashMap::new();
        let mut links = BTreeMap::new();
        for message in all(self.handle.link().get().execute(), "listing links").await? {
            let Some((name, link)) = read_link(&message) else { continue };
            names.insert(message.header.index, name.clone());
            links.insert(name, link);
        }
        for (index, address) in self.addresses().await? {
            if let Some(link) = names.get(&index).and_then(|name| links.get_mut(name)) {
                link.addresses.insert(address);
            }
        }
        let mut observed = Observed { links, ..Observed::default() };
        for family in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            for message in all(self.handle.route().get(family).execute(), "listing routes").await? {
                observed.routes.extend(read_route(&message, &names));
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.handle.neighbours().get().set_address_family(family).execute();
            for message in all(request, "listing neighbours").await? {
                observed.neighbours.extend(read_neighbour(&message, &names));
            }
        }
        if observed.links.get(OVERLAY).is_some_and(|link| matches!(link.kind, Kind::Vxlan(_))) {
            let request = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
            for message in all(request, "listing forwarding entries").await? {
                observed.forwards.extend(read_forward(&message, &names));
            }
        }
        Ok(observed)
    }

    /// The interface that has the address.
    pub(crate) async fn outer(&self, address: IpAddr) -> Result<Option<Outer>> {
        let _listing = self.listing.lock().await;
        let addresses = self.addresses().await?;
        let Some((index, _)) = addresses.into_iter().find(|(_, cidr)| cidr.address == address) else {
            return Ok(None);
        };
        for message in all(self.handle.link().get().execute(), "listing links").await? {
            if message.header.index == index
                && let Some((name, link)) = read_link(&message)
            {
                return Ok(Some(Outer { name, mtu: link.mtu }));
            }
        }
        Ok(None)
    }

    async fn addresses(&self) -> Result<Vec<(u32, Cidr)>> {
        let messages = all(self.handle.address().get().execute(), "listing addresses").await?;
        Ok(messages
            .iter()
            .filter_map(|message| Some((message.header.index, read_address(message)?)))
            .collect())
    }

    /// The link of this name, with its number.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<(u32, Link)>> {
        let message = self.link_message(name).await?;
        Ok(message.and_then(|message| Some((message.header.index, read_link(&message)?.1))))
    }

    /// Whether packets can go by the link: both its ends are up and the kernel has noticed.
    pub(crate) async fn is_running(&self, name: &str) -> Result<bool> {
        let up = LinkAttribute::OperState(State::Up);
        Ok(self.link_message(name).await?.is_some_and(|message| message.attributes.contains(&up)))
    }

    async fn link_message(&self, name: &str) -> Result<Option<LinkMessage>> {
        let mut links = Box::pin(self.handle.link().get().match_name(name.to_owned()).execute());
        match links.try_next().await {
            Ok(message) => Ok(message),
            Err(error) => match absent(error) {
                None => Ok(None),
                Some(source) => {
                    Err(NetworkError::Kernel { what: format!("looking for the link {name}"), source })
                }
            },
        }
    }

    async fn index(&self, name: &str) -> Result<u32> {
        match self.link(name).await? {
            Some((index, _)) => Ok(index),
            None => Err(NetworkError::Kernel {
                what: format!("looking for the link {name}"),
                source: Errno::NODEV.into(),
            }),
        }
    }

    /// Creates a pod's link, the other end in the pod's namespace.
    pub(crate) async fn create_pod_link(
        &self,
        link: &PodLink,
        inside: &str,
        mtu: u32,
        namespace: BorrowedFd<'_>,
    ) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(inside)
            .address(link.pod_mac.0.to_vec())
            .mtu(mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(link.name.clone())
            .address(link.host_mac.0.to_vec())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let what = || format!("creating the link {} of a pod", link.name);
        self.add_link(message, what).await
    }

    /// Creates a pair of links, the other end in another namespace.
    pub(crate) async fn create_link_into(
        &self,
        name: &str,
        inside: &str,
        namespace: BorrowedFd<'_>,
    ) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(inside.to_owned())
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let what = || format!("creating the link {name}");
        self.add_link(message, what).await
    }

    async fn add_link(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<()> {
        let adding = self.handle.link().add(message).execute();
        adding.await.map_err(|error| NetworkError::kernel(what(), error))
    }

    async fn change_link(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<()> {
        let changing = self.handle.link().set(message).execute();
        changing.await.map_err(|error| NetworkError::kernel(what(), error))
    }

    /// Creates a bridge.
    pub(crate) async fn create_bridge(&self, name: &str) -> Result<()> {
        let message = LinkBridge::new(name).build();
        let what = || format!("creating the bridge {name}");
        self.add_link(message, what).await
    }

    /// Puts a link on a bridge.
    pub(crate) async fn set_bridge(&self, name: &str, bridge: &str) -> Result<()> {
        let message =
            LinkUnspec::new_with_index(self.index(name).await?).controller(self.index(bridge).await?);
        let what = || format!("putting the link {name} on the bridge {bridge}");
        self.change_link(message.build(), what).await
    }

    /// Creates a pair of links, both ends in this namespace.
    pub(crate) async fn create_veth(&self, name: &str, peer: &str) -> Result<()> {
        let message = LinkVeth::new(name, peer).build();
        let what = || format!("creating the links {name} and {peer}");
        self.add_link(message, what).await
    }

    /// Deletes the link of this name, if there is one.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<()> {
        let Some((index, _)) = self.link(name).await? else { return Ok(()) };
        done(self.handle.link().del(index).execute().await, || format!("deleting the link {name}"))
    }

    /// Sets the link's largest packet and takes it up.
    pub(crate) async fn set_up(&self, name: &str, mtu: Option<u32>) -> Result<()> {
        let mut message = LinkUnspec::new_with_index(self.index(name).await?).up();
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let what = || format!("taking the link {name} up");
        self.change_link(message.build(), what).await
    }

    /// Takes the link down.
    pub(crate) async fn set_down(&self, name: &str) -> Result<()> {
        let message = LinkUnspec::new_with_index(self.index(name).await?).down();
        let what = || format!("taking the link {name} down");
        self.change_link(message.build(), what).await
    }

    /// Gives the link an address in a network that is behind the link.
    pub(crate) async fn add_network_address(&self, name: &str, address: Cidr) -> Result<()> {
        let request = self.handle.address().add(self.index(name).await?, address.address, address.prefix);
        let what = || format!("giving the link {name} the address {address}");
        request.replace().execute().await.map_err(|error| NetworkError::kernel(what(), error))
    }

    /// The networks of IPv4 that have a route, but for the default one.
    pub(crate) async fn networks(&self) -> Result<Vec<Cidr>> {
        let _listing = self.listing.lock().await;
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        Ok(all(request, "listing routes").await?.iter().filter_map(read_network).collect())
    }

    /// Gives the link an address without a network, which is not asked around for.
    pub(crate) async fn add_address(&self, name: &str, address: IpAddr) -> Result<()> {
        let message = address_message(self.index(name).await?, single(address));
        let request =
            self.handle.address().add(message.header.index, address, message.header.prefix_len).replace();
        let request = with_message(request, message);
        let what = || format!("giving the link {name} the address {address}");
        request.execute().await.map_err(|error| NetworkError::kernel(what(), error))
    }

    /// Says where a neighbour is, whatever was said before.
    pub(crate) async fn set_neighbour(&self, neighbour: &Neighbour) -> Result<()> {
        let index = self.index(&neighbour.device).await?;
        let request = self.handle.neighbours().add(index, neighbour.address);
        let what = || format!("adding the neighbour {} on {}", neighbour.address, neighbour.device);
        request
            .link_layer_address(&neighbour.mac.0)
            .replace()
            .execute()
            .await
            .map_err(|error| NetworkError::kernel(what(), error))
    }

    /// Adds a route; if `own` the namespace is the crate's alone and what was there is replaced.
    pub(crate) async fn add_route(&self, route: &Route, own: bool) -> Result<()> {
        let message = route_message(route, self.route_device(route).await?);
        let request = self.handle.route().add(message);
        let request = if own { request.replace() } else { request };
        let Err(error) = request.execute().await else { return Ok(()) };
        let source = system_error(error);
        if source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
            return Err(NetworkError::ForeignRoute { destination: route.destination });
        }
        Err(NetworkError::Kernel { what: format!("adding the route to {}", route.destination), source })
    }

    /// Adds a route, or replaces it, that belongs to the machine and not to the crate: no pass over the crate's own takes it away.
    pub(crate) async fn add_static_route(&self, route: &Route) -> Result<()> {
        let mut message = route_message(route, self.route_device(route).await?);
        message.header.protocol = RouteProtocol::Static;
        let what = || format!("adding the route to {}", route.destination);
        let adding = self.handle.route().add(message).replace().execute();
        adding.await.map_err(|error| NetworkError::kernel(what(), error))
    }

    async fn route_device(&self, route: &Route) -> Result<Option<u32>> {
        match route.path.device() {
            Some(device) => Ok(Some(self.index(device).await?)),
            None => Ok(None),
        }
    }

    /// Does one step. What is to be deleted and is gone already is no error.
    pub(crate) async fn act(&self, action: &Action) -> Result<()> {
        let neighbours = self.handle.neighbours();
        match action {
            Action::DeleteRoute(route) => {
                let device = match self.route_device(route).await {
                    // With its device a route goes too.
                    Err(_) => return Ok(()),
                    Ok(device) => device,
                };
                let request = self.handle.route().del(route_message(route, device));
                done(request.execute().await, || format!("deleting the route to {}", route.destination))
            }
            Action::DeleteNeighbour(neighbour) => {
                let Some((index, _)) = self.link(&neighbour.device).await? else { return Ok(()) };
                let mut message = NeighbourMessage::default();
                message.header.family = family(neighbour.address);
                message.header.ifindex = index;
                message.attributes.push(NeighbourAttribute::Destination(neighbour.address.into()));
                done(neighbours.del(message).execute().await, || {
                    format!("deleting the neighbour {} on {}", neighbour.address, neighbour.device)
                })
            }
            Action::DeleteForward(forward) => {
                let Some((index, _)) = self.link(OVERLAY).await? else { return Ok(()) };
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Bridge;
                message.header.ifindex = index;
                message.header.flags = NeighbourFlags::Own;
                message.header.state = NeighbourState::Permanent;
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(forward.mac.0.to_vec()));
                message.attributes.push(NeighbourAttribute::Destination(forward.remote.into()));
                done(neighbours.del(message).execute().await, || {
                    format!("deleting the forwarding entry of {}", forward.remote)
                })
            }
            Action::DeleteLink(name) => self.delete_link(name).await,
            Action::CreateOverlay { tunnel, mac, mtu } => self.create_overlay(tunnel, *mac, *mtu).await,
            Action::SetMtu { name, mtu } => self.set_up(name, Some(*mtu)).await,
            Action::SetUp(name) => self.set_up(name, None).await,
            Action::SetAlias { name, alias } => {
                let message = LinkUnspec::new_with_index(self.index(name).await?)
                    .append_extra_attribute(LinkAttribute::IfAlias(alias.clone()));
                let request = self.handle.link().set(message.build());
                let what = || format!("describing the link {name}");
                request.execute().await.map_err(|error| NetworkError::kernel(what(), error))
            }
            Action::DeleteAddress { name, address } => {
                let Some((index, _)) = self.link(name).await? else { return Ok(()) };
                let request = self.handle.address().del(address_message(index, *address));
                done(request.execute().await, || format!("taking the address {address} from {name}"))
            }
            Action::AddAddress { name, address } => self.add_address(name, address.address).await,
            Action::AddForward(forward) => {
                let index = self.index(OVERLAY).await?;
                let request = neighbours
                    .add_bridge(index, &forward.mac.0)
                    .destination(forward.remote)
                    .flags(NeighbourFlags::Own)
                    .replace();
                let what = || format!("adding the forwarding entry of {}", forward.remote);
                request.execute().await.map_err(|error| NetworkError::kernel(what(), error))
            }
            Action::AddNeighbour(neighbour) => self.set_neighbour(neighbour).await,
            Action::AddRoute(route) => self.add_route(route, false).await,
        }
    }

    async fn create_overlay(&self, tunnel: &Tunnel, mac: Mac, mtu: u32) -> Result<()> {
        if self.link(OVERLAY).await?.is_some() {
            return Err(NetworkError::ForeignLink { name: OVERLAY.to_owned() });
        }
        let message = LinkVxlan::new(OVERLAY, tunnel.vni).port(tunnel.port).learning(tunnel.learning);
        let message = match tunnel.local {
            Some(IpAddr::V4(local)) => message.local(local),
            Some(IpAddr::V6(local)) => message.local6(local),
            None => message,
        };
        let message = message.address(mac.0.to_vec()).mtu(mtu).build();
        let Err(error) = self.handle.link().add(message).execute().await else { return Ok(()) };
        let source = system_error(error);
        let what = if source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
            format!(
                "another VXLAN device has the network {} and port {} already; remove it",
                tunnel.vni, tunnel.port
            )
        } else {
            format!("creating the VXLAN device {OVERLAY}")
        };
        Err(NetworkError::Kernel { what, source })
    }
}

async fn all<T>(
    stream: impl Stream<Item = core::result::Result<T, rtnetlink::Error>>,
    what: &str,
) -> Result<Vec<T>> {
    stream.try_collect().await.map_err(|error| NetworkError::kernel(what, error))
}

fn with_message(
    mut request: rtnetlink::AddressAddRequest,
    message: AddressMessage,
) -> rtnetlink::AddressAddRequest {
    *request.message_mut() = message;
    request
}

/// The error, unless it says that there is no such thing.
fn absent(error: rtnetlink::Error) -> Option<io::Error> {
    let error = system_error(error);
    let gone = [Errno::NODEV, Errno::NOENT, Errno::SRCH, Errno::ADDRNOTAVAIL, Errno::NXIO];
    let is_gone = gone.iter().any(|gone| error.raw_os_error() == Some(gone.raw_os_error()));
    (!is_gone).then_some(error)
}

/// The outcome of a deletion.
fn done(outcome: core::result::Result<(), rtnetlink::Error>, what: impl FnOnce() -> String) -> Result<()> {
    match outcome.err().and_then(absent) {
        None => Ok(()),
        Some(source) => Err(NetworkError::Kernel { what: what(), source }),
    }
}
