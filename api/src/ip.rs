//! Addresses and networks of IP, in Kubernetes' strict sense: one address has one text. Texts that it once let pass are
//! known too, for fields that are as old. Must never resolve a name.

use core::net::IpAddr;
use std::fmt;

use crate::field::{FieldError, FieldPath};

/// A network: its first address, and how many bits all its addresses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The address as it was written.
    pub address: IpAddr,
    /// The number of shared bits.
    pub prefix: u8,
}

/// What is wrong with an address in a field that takes one text per address only.
#[must_use]
pub fn validate_ip(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let errors = validate_old_ip(value, path);
    match parse_ip(value) {
        Some(ip) if errors.is_empty() && ip.to_string() != value => {
            vec![FieldError::invalid(path, value, format!("must be in canonical form (\"{ip}\")"))]
        }
        _ => errors,
    }
}

/// What is wrong with an address in a field that takes any text of an address, if it is not ambiguous.
#[must_use]
pub fn validate_old_ip(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let invalid = |detail: &str| vec![FieldError::invalid(path, value, detail)];
    match (parse_ip(value), value.parse::<IpAddr>()) {
        (None, _) => invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        (Some(_), Err(_)) => invalid("must not have leading 0s"),
        (Some(_), Ok(ip)) if is_mapped(ip) => invalid("must not be an IPv4-mapped IPv6 address"),
        (Some(_), Ok(_)) => Vec::new(),
    }
}

/// What is wrong with a network in a field that takes one text per network only.
#[must_use]
pub fn validate_cidr(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let errors = validate_old_cidr(value, path);
    match parse_cidr(value) {
        Some(cidr) if errors.is_empty() && cidr.network().to_string() != value => {
            let detail = format!("must be in canonical form (\"{}\")", cidr.network());
            vec![FieldError::invalid(path, value, detail)]
        }
        _ => errors,
    }
}

/// What is wrong with a network in a field that takes any text of a network, if it is not ambiguous.
#[must_use]
pub fn validate_old_cidr(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let invalid = |detail: &str| vec![FieldError::invalid(path, value, detail)];
    let Some(cidr) = parse_cidr(value) else {
        return invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    };
    let (address, prefix) = value.split_once('/').unwrap_or((value, ""));
    if address.parse::<IpAddr>().is_err() || prefix.len() > 1 && prefix.starts_with('0') {
        invalid("must not have leading 0s in IP or prefix length")
    } else if is_mapped(cidr.address) {
        invalid("must not have an IPv4-mapped IPv6 address")
    } else if cidr.network() != cidr {
        invalid("must not have bits set beyond the prefix length")
    } else {
        Vec::new()
    }
}

/// What is wrong with an address with the length of its network, such as `10.9.8.7/24`.
#[must_use]
pub fn validate_interface_address(value: &str, path: &FieldPath) -> Vec<FieldError> {
    let Some(mut cidr) = parse_cidr(value) else {
        let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        return vec![FieldError::invalid(path, value, detail)];
    };
    if is_mapped(cidr.address) {
        cidr = Cidr {
            address: cidr.address.to_canonical(),
            prefix: if cidr.prefix > 32 { cidr.prefix.saturating_sub(96) } else { cidr.prefix },
        };
    }
    if cidr.to_string() == value {
        return Vec::new();
    }
    vec![FieldError::invalid(path, value, format!("must be in canonical form (\"{cidr}\")"))]
}

/// An address, also with zeros before its numbers.
#[must_use]
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut plain = String::with_capacity(text.len());
    for part in text.split_inclusive([':', '.']) {
        let end = part.trim_end_matches([':', '.']).len();
        let significant = part[..end].trim_start_matches('0');
        plain.push_str(if significant.is_empty() && end > 0 { "0" } else { significant });
        plain.push_str(&part[end..]);
    }
    plain.parse().ok()
}

/// An address and a length, also with zeros before numbers.
#[must_use]
pub fn parse_cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address = parse_ip(address)?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u8 = prefix.parse().ok()?;
    (prefix <= bits(address)).then_some(Cidr { address, prefix })
}

impl Cidr {
    /// The network by its first address.
    #[must_use]
    pub fn network(self) -> Self {
        let spare = u32::from(bits(self.address) - self.prefix);
        let address = match self.address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(spare).unwrap_or(0);
                IpAddr::V4((ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(spare).unwrap_or(0);
                IpAddr::V6((ip.to_bits() & mask).into())
            }
        };
        Self { address, prefix: self.prefix }
    }

    /// Whether the address is one of the network.
    #[must_use]
    pub fn contains(self, ip: IpAddr) -> bool {
        let same_family = ip.is_ipv4() == self.address.is_ipv4();
        same_family && Self { address: ip, prefix: self.prefix }.network().address == self.network().address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

const fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str, &FieldPath) -> Vec<FieldError>;

    #[test]
    fn texts_and_what_is_wrong_with_them() {
        let table: &[(Check, &str, &str)] = &[
            (validate_ip, "10.9.8.7", ""),
            (validate_ip, "2001:db8::ffff", ""),
            (validate_ip, "::1.2.3.4", "must be in canonical form (\"::102:304\")"),
            (validate_ip, "2001:DB8::FFFF", "must be in canonical form (\"2001:db8::ffff\")"),
            (validate_ip, "1.2.3", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (validate_ip, "", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (validate_ip, "fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (validate_ip, "1.2.3.256", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            (validate_ip, "010.2.3.4", "must not have leading 0s"),
            (validate_ip, "::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            (validate_old_ip, "2001:DB8::FFFF", ""),
            (validate_cidr, "10.9.8.0/24", ""),
            (validate_cidr, "0.0.0.0/0", ""),
            (validate_cidr, "2001:db8::/64", ""),
            (validate_cidr, "2001:DB8::/64", "must be in canonical form (\"2001:db8::/64\")"),
            (validate_cidr, "10.9.8.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            (validate_cidr, "10.9.8.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            (validate_cidr, "10.9.8.0/024", "must not have leading 0s in IP or prefix length"),
            (validate_cidr, "10.09.8.0/24", "must not have leading 0s in IP or prefix length"),
            (validate_cidr, "10.9.8.7/24", "must not have bits set beyond the prefix length"),
            (validate_cidr, "::ffff:1.2.3.0/120", "must not have an IPv4-mapped IPv6 address"),
            (validate_interface_address, "10.9.8.7/24", ""),
            (validate_interface_address, "010.9.8.7/24", "must be in canonical form (\"10.9.8.7/24\")"),
            (
                validate_interface_address,
                "::ffff:192.168.0.1/120",
                "must be in canonical form (\"192.168.0.1/24\")",
            ),
        ];
        let path = FieldPath::of("a");
        for (check, text, detail) in table {
            let errors = check(text, &path);
            let found = errors.first().map_or("", |error| &error.detail);
            assert_eq!((found, errors.len()), (*detail, usize::from(!detail.is_empty())), "{text}");
        }
    }

    #[test]
    fn networks_know_their_addresses() {
        let network = parse_cidr("10.9.8.0/22").unwrap();
        assert!(network.contains("10.9.11.255".parse().unwrap()));
        assert!(!network.contains("10.9.12.0".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        assert!(parse_cidr("::/0").unwrap().contains("::1".parse().unwrap()));
    }
}
