//! Which flows are stale. Must never ask the kernel.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::services::Dispatch;

/// A flow as the kernel remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The protocol's number.
    pub protocol: u8,
    /// Where the client sent its packets.
    pub destination: (IpAddr, u16),
    /// Who answers them.
    pub answered_by: (IpAddr, u16),
}

/// Addresses and ports of endpoints.
type Endpoints = BTreeSet<(IpAddr, u16)>;

/// Who may answer for which address.
#[derive(Debug, Default)]
pub struct Owners<'a> {
    sockets: HashMap<(u8, IpAddr, u16), HashSet<&'a Endpoints>>,
    node_ports: HashMap<(u8, u16), HashSet<&'a Endpoints>>,
    node: &'a [IpAddr],
}

impl<'a> Owners<'a> {
    /// Those of these services and host ports, on a node with these addresses.
    #[must_use]
    pub fn of(dispatches: impl Iterator<Item = &'a Dispatch>, node: &'a [IpAddr]) -> Self {
        let mut owners = Self { node, ..Self::default() };
        for dispatch in dispatches {
            let protocol = dispatch.protocol.number();
            for (address, port) in &dispatch.addresses {
                owners.sockets.entry((protocol, *address, *port)).or_default().insert(&dispatch.endpoints);
            }
            if let Some(port) = dispatch.node_port {
                owners.node_ports.entry((protocol, port)).or_default().insert(&dispatch.endpoints);
            }
        }
        owners
    }

    /// Whether a flow is to one of them, and answered by somebody who may not.
    #[must_use]
    pub fn is_stale(&self, flow: &Flow) -> bool {
        let (address, port) = flow.destination;
        let socket = self.sockets.get(&(flow.protocol, address, port));
        let by_port = || self.node_ports.get(&(flow.protocol, port)).filter(|_| self.node.contains(&address));
        let Some(owners) = socket.or_else(by_port) else { return false };
        if owners.iter().any(|endpoints| endpoints.contains(&flow.answered_by)) {
            return false;
        }
        // One that was never translated came when nobody was there, and matters only once somebody is.
        flow.answered_by != flow.destination || owners.iter().any(|endpoints| !endpoints.is_empty())
    }
}

/// Where packets are sent to: protocol, addresses, port of the node.
type Place = (u8, Endpoints, Option<u16>);

/// Whether flows of the old way may have to go now: somebody left, or the first one came.
pub(crate) fn matters(old: &[Dispatch], new: &[Dispatch]) -> bool {
    let endpoints = |all: &[Dispatch]| -> HashMap<Place, Endpoints> {
        let place = |one: &Dispatch| (one.protocol.number(), one.addresses.clone(), one.node_port);
        all.iter().map(|one| (place(one), one.endpoints.clone())).collect()
    };
    let (old, new) = (endpoints(old), endpoints(new));
    new.iter().any(|(place, now)| match old.get(place) {
        None => !now.is_empty(),
        Some(before) => (before.is_empty() && !now.is_empty()) || !before.is_subset(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Protocol;

    fn at(text: &str) -> (IpAddr, u16) {
        let (address, port) = text.rsplit_once(':').unwrap();
        (address.parse().unwrap(), port.parse().unwrap())
    }

    fn dispatch(endpoints: &[&str]) -> Dispatch {
        Dispatch {
            protocol: Protocol::Udp,
            addresses: [at("10.43.0.10:53")].into(),
            node_port: Some(30053),
            endpoints: endpoints.iter().map(|text| at(text)).collect(),
        }
    }

    #[test]
    fn flows_to_gone_endpoints_are_stale() {
        let node = ["192.0.2.1".parse().unwrap()];
        let table = [
            // Endpoints, protocol, destination, who answers, whether stale.
            (&["10.42.0.2:53"][..], 17, "10.43.0.10:53", "10.42.0.2:53", false),
            (&["10.42.0.2:53"][..], 17, "10.43.0.10:53", "10.42.0.3:53", true),
            (&["10.42.0.2:53"][..], 17, "10.43.0.10:53", "10.42.0.2:54", true),
            (&["10.42.0.2:53"][..], 17, "10.43.0.10:53", "10.43.0.10:53", true),
            (&[][..], 17, "10.43.0.10:53", "10.43.0.10:53", false),
            (&[][..], 17, "10.43.0.10:53", "10.42.0.2:53", true),
            (&["10.42.0.2:53"][..], 6, "10.43.0.10:53", "10.42.0.3:53", false),
            (&["10.42.0.2:53"][..], 17, "10.43.0.11:53", "10.42.0.3:53", false),
            (&["10.42.0.2:53"][..], 17, "192.0.2.1:30053", "10.42.0.3:53", true),
            (&["10.42.0.2:53"][..], 17, "192.0.2.2:30053", "10.42.0.3:53", false),
        ];
        for (endpoints, protocol, destination, answered_by, stale) in table {
            let dispatch = dispatch(endpoints);
            let flow = Flow { protocol, destination: at(destination), answered_by: at(answered_by) };
            let owners = Owners::of([&dispatch].into_iter(), &node);
            assert_eq!(owners.is_stale(&flow), stale, "{endpoints:?} {flow:?}");
        }
    }

    #[test]
    fn only_who_leaves_and_who_is_first_matters() {
        let (none, one, two) =
            (dispatch(&[]), dispatch(&["10.42.0.2:53"]), dispatch(&["10.42.0.2:53", "10.42.0.3:53"]));
        let matters =
            |old: &Dispatch, new: &Dispatch| matters(std::slice::from_ref(old), std::slice::from_ref(new));
        assert!(matters(&none, &one));
        assert!(!matters(&one, &two));
        assert!(matters(&two, &one));
        assert!(matters(&one, &none));
        assert!(!matters(&one, &one));
    }
}
