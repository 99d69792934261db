//! From which networks and ports services are served: the words of `--service-cluster-ip-range` and
//! `--service-node-port-range`, understood. Must never look at what is taken.

use std::fmt;

use super::ip_range::{Family, IpRange};

/// What a cluster has for its services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNetwork {
    /// One range, or one of each family; the first family is that of services that name none.
    pub ranges: Vec<IpRange>,
    /// Node ports.
    pub node_ports: PortRange,
}

/// What is wrong with a flag, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not one or two networks.
    #[error(
        "--service-cluster-ip-range={0:?} must name one network, or one of IPv4 and one of IPv6, with a comma between them"
    )]
    Count(String),
    /// Two of one family.
    #[error("--service-cluster-ip-range={0:?} names two networks of one IP family")]
    SameFamily(String),
    /// A network that cannot be used.
    #[error("--service-cluster-ip-range: {network:?} cannot be used: {why}")]
    Network {
        /// Its text.
        network: String,
        /// What is wrong.
        why: String,
    },
    /// No range of ports.
    #[error("--service-node-port-range={0:?} is no range of ports, such as 30000-32767")]
    Ports(String),
}

impl ServiceNetwork {
    /// Reads both flags.
    ///
    /// # Errors
    /// What is wrong with the first that is wrong.
    pub fn parse(cluster_ip_range: &str, node_port_range: &str) -> Result<Self, NetworkError> {
        let mut ranges = Vec::new();
        for network in cluster_ip_range.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let wrong = |why| NetworkError::Network { network: network.to_owned(), why };
            ranges.push(IpRange::parse(network).map_err(wrong)?);
        }
        match &ranges[..] {
            [_] => {}
            [first, second] if first.family() != second.family() => {}
            [_, _] => return Err(NetworkError::SameFamily(cluster_ip_range.to_owned())),
            _ => return Err(NetworkError::Count(cluster_ip_range.to_owned())),
        }
        let node_ports = PortRange::parse(node_port_range);
        let node_ports = node_ports.ok_or_else(|| NetworkError::Ports(node_port_range.to_owned()))?;
        Ok(Self { ranges, node_ports })
    }

    /// The IP families that services can have, the default one first.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.ranges.iter().map(|range| range.family()).collect()
    }
}

/// Ports that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// From `30000-32767`, `30000+2767` or `30000`, as Kubernetes reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u16>().ok();
        let (first, last) = if let Some((first, last)) = text.split_once('-') {
            (number(first)?, number(last)?)
        } else if let Some((first, more)) = text.split_once('+') {
            let first = number(first)?;
            (first, first.saturating_add(number(more)?))
        } else {
            (number(text)?, number(text)?)
        };
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// How many there are.
    #[must_use]
    pub const fn size(self) -> usize {
        (self.last - self.first) as usize + 1
    }

    /// The port's distance from the lowest one; nothing for one that is not in the range.
    #[must_use]
    pub fn offset(self, port: i64) -> Option<usize> {
        let port = u16::try_from(port).ok().filter(|port| (self.first..=self.last).contains(port))?;
        Some(usize::from(port - self.first))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_has_one_network_or_one_of_each_family() {
        let families = |ranges: &str| ServiceNetwork::parse(ranges, "30000-32767").map(|net| net.families());
        assert_eq!(families("10.96.0.0/16"), Ok(vec![Family::V4]));
        assert_eq!(families("fd00::/112, 10.96.0.0/16"), Ok(vec![Family::V6, Family::V4]));
        let wrong = |ranges: &str| families(ranges).unwrap_err().to_string();
        assert!(wrong("").contains("must name one network"));
        assert!(wrong("10.0.0.0/16,10.1.0.0/16").ends_with("names two networks of one IP family"));
        assert_eq!(
            wrong("10.0.0.0"),
            "--service-cluster-ip-range: \"10.0.0.0\" cannot be used: it is no network, such as 10.96.0.0/16"
        );
    }

    #[test]
    fn ranges_of_ports_are_read_as_kubernetes_does() {
        for (text, read) in [
            ("30000-32767", Some("30000-32767")),
            ("30000+10", Some("30000-30010")),
            ("80", Some("80-80")),
            ("1-65535", Some("1-65535")),
            ("0-10", None),
            ("10-9", None),
            ("1-65536", None),
            ("", None),
            ("a-b", None),
        ] {
            let range = PortRange::parse(text).map(|range| range.to_string());
            assert_eq!(range.as_deref(), read, "{text}");
        }
        assert_eq!(PortRange::parse("1-65535").unwrap().size(), 65_535);
        let error = ServiceNetwork::parse("10.96.0.0/16", "many").unwrap_err().to_string();
        assert_eq!(error, "--service-node-port-range=\"many\" is no range of ports, such as 30000-32767");
    }
}
