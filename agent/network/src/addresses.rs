//! The addresses of one node's pods. A data structure: must never give one address twice at a time.

use core::net::IpAddr;
use std::collections::HashSet;

use barque_api::ip::Cidr;

/// The addresses of some networks, given one after the other, so that one that came back is given again as late as can
/// be. The first address of a network and the one after it (the node's own) are never given, nor is the last one of an
/// IPv4 network.
#[derive(Debug, Default)]
pub struct Addresses {
    networks: Vec<Network>,
    used: HashSet<IpAddr>,
}

#[derive(Debug)]
struct Network {
    cidr: Cidr,
    /// Where the search goes on, counted from the network's first address.
    next: u128,
}

impl Addresses {
    /// From now on these networks; what is used stays used. Giving goes on after the highest address in use, so that a
    /// restart does not give again what came back just before it.
    pub fn set_networks(&mut self, networks: &[Cidr]) {
        if self.networks.iter().map(|network| network.cidr).eq(networks.iter().map(|cidr| cidr.network())) {
            return;
        }
        self.networks = networks.iter().map(|cidr| Network::new(cidr.network(), &self.used)).collect();
    }

    /// Whether there are networks.
    #[must_use]
    pub fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    /// The addresses are in use, whether they belong to the networks or not.
    pub fn claim(&mut self, addresses: &[IpAddr]) {
        self.used.extend(addresses);
    }

    /// The addresses are free again.
    pub fn release(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.used.remove(address);
        }
    }

    /// One address of each network, in the networks' order.
    ///
    /// # Errors
    ///
    /// The network that is used up; nothing is taken then.
    pub fn take(&mut self) -> Result<Vec<IpAddr>, Cidr> {
        let mut taken = Vec::with_capacity(self.networks.len());
        for network in &mut self.networks {
            taken.push(network.take(&self.used).ok_or(network.cidr)?);
        }
        self.claim(&taken);
        Ok(taken)
    }
}

/// The network itself has the first address, the node the next one.
const FIRST: u128 = 2;

impl Network {
    fn new(cidr: Cidr, used: &HashSet<IpAddr>) -> Self {
        let highest = used.iter().filter(|address| cidr.contains(**address)).max();
        let next = highest.map_or(FIRST, |address| number(*address) - number(cidr.address) + 1);
        Self { cidr, next }
    }

    /// One after the last offset that may be given.
    fn end(&self) -> u128 {
        let bits: u32 = if self.cidr.address.is_ipv4() { 32 } else { 128 };
        let size = 1_u128.checked_shl(bits - u32::from(self.cidr.prefix)).unwrap_or(u128::MAX);
        // The last address of an IPv4 network means all of them.
        if self.cidr.address.is_ipv4() { size.saturating_sub(1) } else { size }
    }

    fn take(&mut self, used: &HashSet<IpAddr>) -> Option<IpAddr> {
        let end = self.end();
        // Among as many addresses as are used and one more, one is free.
        let tries = end.saturating_sub(FIRST).min(used.len() as u128 + 1);
        for _ in 0..tries {
            let offset = if (FIRST..end).contains(&self.next) { self.next } else { FIRST };
            self.next = offset + 1;
            let address = at(self.cidr, offset)?;
            if !used.contains(&address) {
                return Some(address);
            }
        }
        None
    }
}

/// The address that the node itself has in a pod network: the one after the first.
pub(crate) fn own(network: Cidr) -> Option<IpAddr> {
    let own = at(network.network(), 1)?;
    network.contains(own).then_some(own)
}

/// The address with this offset from the network's first one.
fn at(network: Cidr, offset: u128) -> Option<IpAddr> {
    match network.address {
        IpAddr::V4(first) => {
            let address = first.to_bits().checked_add(u32::try_from(offset).ok()?)?;
            Some(IpAddr::V4(address.into()))
        }
        IpAddr::V6(first) => Some(IpAddr::V6(first.to_bits().checked_add(offset)?.into())),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use barque_api::ip::parse_cidr;
    use proptest::prelude::*;

    use super::*;

    fn of(networks: &[&str]) -> Addresses {
        let mut addresses = Addresses::default();
        let networks: Vec<_> = networks.iter().map(|text| parse_cidr(text).unwrap()).collect();
        addresses.set_networks(&networks);
        addresses
    }

    fn take(addresses: &mut Addresses) -> String {
        match addresses.take() {
            Ok(taken) => taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(cidr) => format!("{cidr} is used up"),
        }
    }

    #[test]
    fn addresses_are_given_once_and_again_when_they_are_back() {
        let mut addresses = of(&["10.0.1.0/29"]);
        let given: Vec<_> = (0..6).map(|_| take(&mut addresses)).collect();
        assert_eq!(
            given,
            ["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6", "10.0.1.0/29 is used up"]
        );
        addresses.release(&["10.0.1.4".parse().unwrap()]);
        assert_eq!(take(&mut addresses), "10.0.1.4");
        assert_eq!(take(&mut addresses), "10.0.1.0/29 is used up");
    }

    #[test]
    fn an_address_that_came_back_waits_until_the_others_were_given() {
        let mut addresses = of(&["10.0.1.0/29"]);
        take(&mut addresses);
        addresses.release(&["10.0.1.2".parse().unwrap()]);
        assert_eq!(take(&mut addresses), "10.0.1.3");
    }

    #[test]
    fn after_a_restart_giving_goes_on_behind_what_is_in_use() {
        let mut addresses = Addresses::default();
        addresses.claim(&["10.0.1.5".parse().unwrap(), "10.9.9.9".parse().unwrap()]);
        addresses.set_networks(&[parse_cidr("10.0.1.0/29").unwrap()]);
        assert_eq!(take(&mut addresses), "10.0.1.6");
        assert_eq!(take(&mut addresses), "10.0.1.2");
    }

    #[test]
    fn of_two_networks_each_gives_one_or_none_does() {
        let mut addresses = of(&["10.0.1.0/30", "fd00:1::/64"]);
        assert_eq!(take(&mut addresses), "10.0.1.2 fd00:1::2");
        assert_eq!(take(&mut addresses), "10.0.1.0/30 is used up");
        assert_eq!(addresses.used.len(), 2);
    }

    #[test]
    fn a_network_too_small_for_a_pod_gives_nothing() {
        assert_eq!(take(&mut of(&["10.0.1.4/31"])), "10.0.1.4/31 is used up");
        assert_eq!(take(&mut of(&["fd00::/128"])), "fd00::/128 is used up");
        assert_eq!(own(parse_cidr("10.0.1.4/32").unwrap()), None);
        assert_eq!(own(parse_cidr("10.0.1.4/30").unwrap()), Some("10.0.1.5".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_at_a_time(
            prefix in 24_u8..=30,
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..200),
        ) {
            let network = Cidr { address: "10.7.0.0".parse().unwrap(), prefix };
            let mut addresses = Addresses::default();
            addresses.set_networks(&[network]);
            let mut held: Vec<IpAddr> = Vec::new();
            let room = (1_usize << (32 - prefix)) - 3;
            for (take, which) in steps {
                if take {
                    match addresses.take() {
                        Ok(taken) => {
                            prop_assert!(!held.contains(&taken[0]) && network.contains(taken[0]));
                            held.push(taken[0]);
                        }
                        Err(_) => prop_assert_eq!(held.len(), room, "full only when all are held"),
                    }
                } else if !held.is_empty() {
                    let back = held.swap_remove(which.index(held.len()));
                    addresses.release(&[back]);
                }
            }
        }
    }
}
