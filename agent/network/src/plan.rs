//! What to change, from what should be and what is. Pure: must never touch the kernel, and never plan to change what is
//! not the crate's own.
//!
//! A link is the crate's own by its name and kind, a route by its protocol number, a neighbour or a forwarding entry by
//! its link.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use barque_api::ip::Cidr;

use crate::addresses;
use crate::model::{
    Action, Backend, Desired, Forward, Kind, Link, Neighbour, Observed, Path, Route, Tunnel, single,
};
use crate::names::{self, Mac, OVERLAY};

/// The overlay's network identifier.
pub(crate) const VNI: u32 = 1;

/// The overlay's UDP port, the one that Linux gave VXLAN first and that firewalls of Kubernetes nodes let through.
pub(crate) const PORT: u16 = 8472;

/// What the overlay puts around a packet: inner Ethernet, VXLAN, UDP and the outer IP header.
pub(crate) fn overhead(outer: IpAddr) -> u32 {
    if outer.is_ipv4() { 50 } else { 70 }
}

/// What should be, in the kernel's terms.
#[derive(Debug, Default)]
pub(crate) struct Target {
    overlay: Option<(Tunnel, Mac, BTreeSet<Cidr>)>,
    routes: BTreeMap<Cidr, Path>,
    neighbours: BTreeMap<(String, IpAddr), Mac>,
    forwards: BTreeMap<Mac, IpAddr>,
    /// What cannot be done, in sentences.
    pub(crate) problems: Vec<String>,
}

/// What should be, and what of it cannot.
pub(crate) fn target(desired: &Desired) -> Target {
    let mut target = Target::default();
    for network in &desired.pod_networks {
        target.routes.insert(network.network(), Path::Blackhole);
    }
    for (link, pod) in &desired.pods {
        for address in &pod.addresses {
            let source = desired.addresses.iter().copied().find(|own| own.is_ipv4() == address.is_ipv4());
            target.routes.insert(single(*address), Path::Direct { device: link.clone(), source });
            target.neighbours.insert((link.clone(), *address), pod.mac);
        }
    }
    match desired.backend {
        Backend::Vxlan => target.tunnel(desired),
        Backend::HostGateway => target.gateways(desired),
        Backend::None => {}
    }
    target
}

impl Target {
    fn tunnel(&mut self, desired: &Desired) {
        let Some(local) = desired.addresses.first().copied() else { return };
        if desired.pod_networks.is_empty() || desired.outer.is_none() {
            return;
        }
        let tunnel = Tunnel { vni: VNI, port: PORT, local: Some(local), learning: false };
        let own = desired.pod_networks.iter().filter_map(|network| addresses::own(*network)).map(single);
        self.overlay = Some((tunnel, names::overlay_mac(local), own.collect()));
        for peer in &desired.peers {
            let Some(remote) =
                peer.addresses.iter().copied().find(|address| address.is_ipv4() == local.is_ipv4())
            else {
                let family = if local.is_ipv4() { "IPv4" } else { "IPv6" };
                self.problems.push(format!("node {} has no {family} address to tunnel to", peer.name));
                continue;
            };
            // The other node derives its hardware address from the one that it is known by.
            let mac = peer
                .addresses
                .first()
                .copied()
                .map_or_else(|| names::overlay_mac(remote), names::overlay_mac);
            if remote == local || self.forwards.get(&mac).is_some_and(|other| *other != remote) {
                self.problems.push(format!("node {} has the address {remote} of another node", peer.name));
                continue;
            }
            let mut reached = false;
            for network in &peer.pod_networks {
                let Some(gateway) = addresses::own(*network) else { continue };
                let path = Path::Gateway { device: OVERLAY.to_owned(), gateway, onlink: true };
                if self.route(&peer.name, *network, path, desired) {
                    self.neighbours.insert((OVERLAY.to_owned(), gateway), mac);
                    reached = true;
                }
            }
            if reached {
                self.forwards.insert(mac, remote);
            }
        }
    }

    fn gateways(&mut self, desired: &Desired) {
        let Some(outer) = &desired.outer else { return };
        for peer in &desired.peers {
            for network in &peer.pod_networks {
                let same = |address: &IpAddr| address.is_ipv4() == network.address.is_ipv4();
                let Some(gateway) = peer.addresses.iter().copied().find(same) else {
                    let problem = format!(
                        "node {} has no address of the family of its pod network {network}",
                        peer.name
                    );
                    self.problems.push(problem);
                    continue;
                };
                let path = Path::Gateway { device: outer.name.clone(), gateway, onlink: false };
                self.route(&peer.name, *network, path, desired);
            }
        }
    }

    /// A route to another node's pod network, unless it would take somebody else's addresses.
    fn route(&mut self, peer: &str, network: Cidr, path: Path, desired: &Desired) -> bool {
        let network = network.network();
        let own = |own: &&Cidr| own.contains(network.address) || network.contains(own.network().address);
        if let Some(own) = desired.pod_networks.iter().find(own) {
            self.problems
                .push(format!("node {peer} has the pod network {network}, which overlaps this node's {own}"));
            return false;
        }
        if self.routes.contains_key(&network) {
            self.problems.push(format!("node {peer} has the pod network {network} of another node"));
            return false;
        }
        self.routes.insert(network, path);
        true
    }

    fn has_route(&self, route: &Route) -> bool {
        self.routes.get(&route.destination) == Some(&route.path)
    }

    fn has_neighbour(&self, neighbour: &Neighbour) -> bool {
        self.neighbours.get(&(neighbour.device.clone(), neighbour.address)) == Some(&neighbour.mac)
    }

    fn has_forward(&self, forward: &Forward) -> bool {
        self.forwards.get(&forward.mac) == Some(&forward.remote)
    }
}

/// The pods whose link is gone; only a new attachment helps them.
pub(crate) fn lost<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a String> {
    desired.pods.keys().filter(|name| !observed.links.get(*name).is_some_and(|link| link.kind == Kind::Veth))
}

/// The steps from what is to what should be, in an order in which each can be done.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let target = target(desired);
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    for (name, link) in &observed.links {
        let wanted = match &link.kind {
            Kind::Veth if names::is_pod_link(name) => desired.pods.contains_key(name),
            Kind::Vxlan(tunnel) if name == OVERLAY => target
                .overlay
                .as_ref()
                .is_some_and(|(wanted, mac, _)| wanted == tunnel && Some(*mac) == link.mac),
            _ => true,
        };
        if !wanted {
            gone.insert(name);
        }
    }
    let mut actions = Vec::new();
    // What goes with its link needs no step of its own.
    let stays = |device: Option<&str>| !device.is_some_and(|device| gone.contains(device));
    for route in observed.routes.iter().filter(|route| stays(route.path.device()) && !target.has_route(route))
    {
        actions.push(Action::DeleteRoute(route.clone()));
    }
    for neighbour in &observed.neighbours {
        if stays(Some(&neighbour.device)) && !target.has_neighbour(neighbour) {
            actions.push(Action::DeleteNeighbour(neighbour.clone()));
        }
    }
    for forward in
        observed.forwards.iter().filter(|forward| stays(Some(OVERLAY)) && !target.has_forward(forward))
    {
        actions.push(Action::DeleteForward(*forward));
    }
    actions.extend(gone.iter().map(|name| Action::DeleteLink((*name).to_owned())));

    let kept = |name: &str| observed.links.get(name).filter(|_| !gone.contains(name));
    if let Some((tunnel, mac, own)) = &target.overlay {
        let link = kept(OVERLAY);
        if link.is_none() {
            actions.push(Action::CreateOverlay { tunnel: *tunnel, mac: *mac, mtu: desired.mtu });
        } else if link.is_some_and(|link| link.mtu != desired.mtu) {
            actions.push(Action::SetMtu { name: OVERLAY.to_owned(), mtu: desired.mtu });
        }
        let nothing = BTreeSet::new();
        let there = link.map_or(&nothing, |link| &link.addresses);
        for address in
            there.iter().filter(|address| !own.contains(address) && !is_link_local(address.address))
        {
            actions.push(Action::DeleteAddress { name: OVERLAY.to_owned(), address: *address });
        }
        for address in own.iter().filter(|address| !there.contains(address)) {
            actions.push(Action::AddAddress { name: OVERLAY.to_owned(), address: *address });
        }
        if !link.is_some_and(|link| link.up) {
            actions.push(Action::SetUp(OVERLAY.to_owned()));
        }
    }
    for (name, pod) in &desired.pods {
        if let Some(link) = kept(name) {
            actions.extend(tend(name, link, &pod.alias));
        }
    }

    let usable = |device: &str| device == OVERLAY && target.overlay.is_some() || kept(device).is_some();
    let observed_on = |device: Option<&str>| stays(device);
    for (mac, remote) in &target.forwards {
        let forward = Forward { mac: *mac, remote: *remote };
        if !(observed_on(Some(OVERLAY)) && observed.forwards.contains(&forward)) {
            actions.push(Action::AddForward(forward));
        }
    }
    for ((device, address), mac) in &target.neighbours {
        let neighbour = Neighbour { device: device.clone(), address: *address, mac: *mac };
        if usable(device) && !(observed_on(Some(device)) && observed.neighbours.contains(&neighbour)) {
            actions.push(Action::AddNeighbour(neighbour));
        }
    }
    for (destination, path) in &target.routes {
        let route = Route { destination: *destination, path: path.clone() };
        let device = path.device();
        if device.is_none_or(&usable) && !(observed_on(device) && observed.routes.contains(&route)) {
            actions.push(Action::AddRoute(route));
        }
    }
    actions
}

/// What the node's end of a pod's link needs.
pub(crate) fn tend(name: &str, link: &Link, alias: &str) -> Vec<Action> {
    let mut actions = Vec::new();
    if link.alias.as_deref() != Some(alias) {
        actions.push(Action::SetAlias { name: name.to_owned(), alias: alias.to_owned() });
    }
    if !link.up {
        actions.push(Action::SetUp(name.to_owned()));
    }
    actions
}

/// The kernel gives each device one; it is nobody's to delete.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
