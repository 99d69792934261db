//! The addresses of one service network: which can be given away, and in which order they are tried. Pure; must never know
//! which of them are taken.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use barque_api::ip::{Cidr, parse_cidr};

/// Networks of IPv6 are not larger than this, because addresses are counted in 64 bits.
const SHORTEST_PREFIX_V6: u8 = 64;

/// Which protocol an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `IPv4`
    V4,
    /// `IPv6`
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As `ipFamilies` has it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.name() == name)
    }

    /// As `ipFamilies` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// A network from which addresses of services are taken. Its first address, and with IPv4 its last one, are never given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    network: Cidr,
}

impl IpRange {
    /// From its text, such as `10.96.0.0/16`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let cidr = parse_cidr(text).ok_or_else(|| "it is no network".to_owned())?;
        let range = Self { network: cidr.network() };
        if range.family() == Family::V6 && cidr.prefix < SHORTEST_PREFIX_V6 {
            return Err(format!(
                "a network of IPv6 may have a prefix of {SHORTEST_PREFIX_V6} bits at the shortest"
            ));
        }
        if range.first() > range.last() {
            return Err("it has no address to give away".to_owned());
        }
        Ok(range)
    }

    /// The network, by its first address.
    #[must_use]
    pub const fn network(self) -> Cidr {
        self.network
    }

    /// Of its addresses.
    #[must_use]
    pub const fn family(self) -> Family {
        Family::of(self.network.address)
    }

    /// Whether it has this address to give away.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        Family::of(ip) == self.family() && (self.first()..=self.last()).contains(&number(ip))
    }

    /// All addresses in the order in which they are to be tried: those of the upper band from a random one on, then those of the
    /// lower band, which are left to people who choose addresses themselves (KEP-3070). `seed` is any number.
    pub fn candidates(self, seed: u64) -> impl Iterator<Item = IpAddr> {
        let (first, last, family) = (self.first(), self.last(), self.family());
        let middle = first + u128::from(self.band());
        rotated(middle, last + 1, seed)
            .chain(rotated(first, middle, seed))
            .map(move |one| address(one, family))
    }

    /// How many addresses at the lower end are left to people: min(max(16, size/16), 256), none of a small network.
    fn band(self) -> u16 {
        let size = self.size();
        if size <= 16 { 0 } else { u16::try_from((size / 16).clamp(16, 256)).unwrap_or(256) }
    }

    /// All addresses, usable or not.
    fn size(self) -> u128 {
        let bits = if self.family() == Family::V4 { 32 } else { 128 };
        1_u128 << u32::from(bits - self.network.prefix).min(127)
    }

    fn first(self) -> u128 {
        number(self.network.address) + 1
    }

    fn last(self) -> u128 {
        let last = number(self.network.address) + (self.size() - 1);
        if self.family() == Family::V4 { last.saturating_sub(1) } else { last }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network.fmt(f)
    }
}

/// The numbers from `from` up to before `end`, beginning anywhere.
fn rotated(from: u128, end: u128, seed: u64) -> impl Iterator<Item = u128> {
    let count = end.saturating_sub(from);
    let start = u128::from(seed).checked_rem(count).unwrap_or(0);
    (0..count).map(move |step| from + (start + step) % count)
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match (family, u32::try_from(number)) {
        (Family::V4, Ok(bits)) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> IpRange {
        IpRange::parse(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_ends_of_a_network_are_not_given_away() {
        let table = [
            ("10.96.0.0/16", "10.96.0.0", false),
            ("10.96.0.0/16", "10.96.0.1", true),
            ("10.96.0.0/16", "10.96.255.254", true),
            ("10.96.0.0/16", "10.96.255.255", false),
            ("10.96.0.0/16", "10.97.0.1", false),
            ("fd00::/112", "fd00::", false),
            ("fd00::/112", "fd00::ffff", true),
            ("fd00::/112", "10.96.0.1", false),
            ("10.96.0.7/30", "10.96.0.5", true),
        ];
        for (network, address, expected) in table {
            assert_eq!(range(network).contains(ip(address)), expected, "{address} of {network}");
        }
    }

    #[test]
    fn the_lower_band_comes_last() {
        // Of 256 addresses 16 are left to people.
        let small = range("10.96.0.0/24");
        let all: Vec<_> = small.candidates(1000).collect();
        assert_eq!(all.len(), 254);
        assert!(all[..238].iter().all(|one| *one >= ip("10.96.0.17")), "{all:?}");
        assert!(all[238..].iter().all(|one| *one < ip("10.96.0.17")), "{all:?}");
        let mut sorted = all;
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 254, "each once");
        // min(max(16, size/16), 256), none of a network of at most 16.
        let bands = [("10.96.0.0/28", 0), ("10.96.0.0/27", 16), ("10.96.0.0/22", 64), ("10.96.0.0/12", 256)];
        for (network, band) in bands {
            assert_eq!(range(network).band(), band, "{network}");
        }
        let huge = range("fd00::/64").candidates(u64::MAX).next().unwrap();
        assert!(huge >= ip("fd00::101") && range("fd00::/64").contains(huge), "{huge}");
    }

    #[test]
    fn what_is_no_network_is_told() {
        for (text, why) in [
            ("10.96.0.0", "it is no network"),
            ("10.96.0.0/31", "it has no address to give away"),
            ("fd00::/63", "a network of IPv6 may have a prefix of 64"),
        ] {
            assert!(IpRange::parse(text).unwrap_err().starts_with(why), "{text}");
        }
    }
}
