//! Netlink's messages as values, and values as messages. Pure: must never send one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use barque_api::ip::Cidr;
use rtnetlink::AddressMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::model::{Forward, Kind, Link, Neighbour, Path, Route, Tunnel};
use crate::names::{Mac, OVERLAY, is_pod_link};

/// The protocol number of the crate's routes, one that no routing daemon uses.
const PROTOCOL: u8 = 98;

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(crate) fn address_message(index: u32, address: Cidr) -> AddressMessage {
    let mut message = match address.address {
        IpAddr::V4(v4) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, address.prefix).build()
        }
        IpAddr::V6(v6) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, address.prefix).build()
        }
    };
    if address.address.is_ipv6() {
        // Nobody else can have it, and nothing answers before the kernel has asked around.
        message.header.flags |= AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

pub(crate) fn route_message(route: &Route, device: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.address_family = family(route.destination.address);
    message.header.destination_prefix_length = route.destination.prefix;
    message.attributes.push(RouteAttribute::Destination(route.destination.address.into()));
    if let Some(device) = device {
        message.attributes.push(RouteAttribute::Oif(device));
    }
    match &route.path {
        Path::Blackhole => message.header.kind = RouteType::BlackHole,
        Path::Direct { source, .. } => {
            // The family of IPv6 has no scopes of routes.
            if route.destination.address.is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
            if let Some(source) = source {
                message.attributes.push(RouteAttribute::PrefSource((*source).into()));
            }
        }
        Path::Gateway { gateway, onlink, .. } => {
            message.attributes.push(RouteAttribute::Gateway((*gateway).into()));
            if *onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
    }
    message
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    Some(Mac(bytes.try_into().ok()?))
}

pub(crate) fn read_link(message: &LinkMessage) -> Option<(String, Link)> {
    let mut name = None;
    let mut link = Link {
        kind: Kind::Other,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        alias: None,
        addresses: Default::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(text) => link.alias = Some(text.clone()),
            LinkAttribute::LinkInfo(infos) => link.kind = read_kind(infos),
            _ => {}
        }
    }
    Some((name?, link))
}

fn read_kind(infos: &[LinkInfo]) -> Kind {
    if infos.contains(&LinkInfo::Kind(InfoKind::Veth)) {
        return Kind::Veth;
    }
    let mut tunnel = Tunnel { vni: 0, port: 0, local: None, learning: true };
    for info in infos {
        let LinkInfo::Data(InfoData::Vxlan(parameters)) = info else { continue };
        for parameter in parameters {
            match parameter {
                InfoVxlan::Id(vni) => tunnel.vni = *vni,
                InfoVxlan::Port(port) => tunnel.port = *port,
                InfoVxlan::Local(local) => tunnel.local = Some((*local).into()),
                InfoVxlan::Local6(local) => tunnel.local = Some((*local).into()),
                InfoVxlan::Learning(learning) => tunnel.learning = *learning,
                _ => {}
            }
        }
        return Kind::Vxlan(tunnel);
    }
    Kind::Other
}

pub(crate) fn read_address(message: &AddressMessage) -> Option<Cidr> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    // On links to one other host the second one is the other host's.
    Some(Cidr { address: find(true).or_else(|| find(false))?, prefix: message.header.prefix_len })
}

pub(crate) fn read_route(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<Route> {
    if message.header.protocol != RouteProtocol::from(PROTOCOL)
        || message.header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let (mut address, mut gateway, mut device, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => address = ip(to),
            RouteAttribute::Gateway(by) => gateway = ip(by),
            RouteAttribute::PrefSource(from) => source = ip(from),
            RouteAttribute::Oif(index) => device = names.get(index).cloned(),
            _ => {}
        }
    }
    let address = address.or_else(|| match message.header.address_family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    })?;
    let path = match (message.header.kind, gateway) {
        (RouteType::BlackHole, _) => Path::Blackhole,
        (_, Some(gateway)) => Path::Gateway {
            device: device?,
            gateway,
            onlink: message.header.flags.contains(RouteFlags::Onlink),
        },
        (_, None) => Path::Direct { device: device?, source },
    };
    Some(Route { destination: Cidr { address, prefix: message.header.destination_prefix_length }, path })
}

/// Where a route of the main table leads, whoever made it; nothing of the default route.
pub(crate) fn read_network(message: &RouteMessage) -> Option<Cidr> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(to) => ip(to),
        _ => None,
    })?;
    Some(Cidr { address, prefix: message.header.destination_prefix_length })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

pub(crate) fn read_neighbour(message: &NeighbourMessage, names: &HashMap<u32, String>) -> Option<Neighbour> {
    let device = names.get(&message.header.ifindex)?;
    if message.header.state != NeighbourState::Permanent || !(device == OVERLAY || is_pod_link(device)) {
        return None;
    }
    let (address, mac) = entry(message);
    let address = match address? {
        NeighbourAddress::Inet(address) => (*address).into(),
        NeighbourAddress::Inet6(address) => (*address).into(),
        _ => return None,
    };
    Some(Neighbour { device: device.clone(), address, mac: mac? })
}

pub(crate) fn read_forward(message: &NeighbourMessage, names: &HashMap<u32, String>) -> Option<Forward> {
    if names.get(&message.header.ifindex).is_none_or(|name| name != OVERLAY) {
        return None;
    }
    let (address, mac) = entry(message);
    let remote = match address? {
        NeighbourAddress::Inet(address) => (*address).into(),
        NeighbourAddress::Inet6(address) => (*address).into(),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.as_slice()).ok()?).into(),
            _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).into(),
        },
        _ => return None,
    };
    Some(Forward { mac: mac?, remote })
}

fn entry(message: &NeighbourMessage) -> (Option<&NeighbourAddress>, Option<Mac>) {
    let (mut address, mut to) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(there) => address = Some(there),
            NeighbourAttribute::LinkLayerAddress(bytes) => to = mac(bytes),
            _ => {}
        }
    }
    (address, to)
}
