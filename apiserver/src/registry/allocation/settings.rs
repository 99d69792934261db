//! From which networks and ports services are served: the words of `--service-cluster-ip-range` and
//! `--service-node-port-range`, understood. Must never look at what is taken.

use std::fmt;

use barque_api::ip::Cidr;

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
    /// No networks that can be used.
    #[error(
        "--service-cluster-ip-range={value:?}: {why}; name a network such as 10.96.0.0/16, or one of each family with a \
         comma between"
    )]
    Ranges {
        /// Its value.
        value: String,
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
        let wrong = |why: String| NetworkError::Ranges { value: cluster_ip_range.to_owned(), why };
        let networks = cluster_ip_range.split(',').map(|text| IpRange::parse(text.trim()));
        let ranges = networks.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        if ranges.len() > 2 {
            return Err(wrong("there may be two networks at most".to_owned()));
        }
        if let [first, second] = &ranges[..]
            && first.family() == second.family()
        {
            return Err(wrong("two networks must be of different families".to_owned()));
        }
        let node_ports = PortRange::parse(node_port_range);
        let node_ports = node_ports.ok_or_else(|| NetworkError::Ports(node_port_range.to_owned()))?;
        Ok(Self { ranges, node_ports })
    }

    /// The networks.
    #[must_use]
    pub fn networks(&self) -> Vec<Cidr> {
        self.ranges.iter().map(|range| range.network()).collect()
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
        let told = [
            ("", "it is no network"),
            ("10.0.0.0", "it is no network"),
            ("10.0.0.0/16,10.1.0.0/16", "two networks must be of different families"),
            ("10.0.0.0/16,fd00::/112,fd01::/112", "there may be two networks at most"),
            ("fd00::/48", "a network of IPv6 may have a prefix of 64 bits at the shortest"),
        ];
        for (ranges, why) in told {
            let start = format!("--service-cluster-ip-range={ranges:?}: {why}; name a network such as");
            assert!(wrong(ranges).starts_with(&start), "{}", wrong(ranges));
        }
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
