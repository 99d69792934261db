//! What controllers of nodes, and of what runs on them, are told, checked. Must never read a file, the environment or the clock.

use std::time::Duration;

use super::ConfigError;
use crate::node_ipam::Range;

/// How soon a node that is not heard of is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failover {
    /// As upstream.
    #[default]
    Upstream,
    /// Soon, for small clusters that must be whole again within half a minute.
    Fast,
}

/// What was said, as kube-controller-manager's flags say it.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// What stands where nothing else is said.
    pub failover: Failover,
    /// How long nothing is heard of a node before it is unknown.
    pub monitor_grace_period: Option<Duration>,
    /// The same for a node that has never said anything.
    pub startup_grace_period: Option<Duration>,
    /// Nodes a second that are given up, in a zone that is well or wholly lost.
    pub eviction_rate: Option<f64>,
    /// Nodes a second that are given up, in a large zone of which much is lost.
    pub secondary_eviction_rate: Option<f64>,
    /// Zones of no more nodes are small: when much of one is lost, none is given up.
    pub large_cluster_size_threshold: Option<usize>,
    /// The part of a zone that must be lost before much is.
    pub unhealthy_zone_threshold: Option<f64>,
    /// So many pods that have ended may stay; with zero, all may.
    pub terminated_pod_gc_threshold: usize,
    /// Whether nodes get ranges of addresses for their pods.
    pub allocate_node_cidrs: bool,
    /// Where these come from, one range for each family.
    pub cluster_cidr: Vec<String>,
    /// Ranges of services, which no node gets.
    pub service_cluster_ip_range: Vec<String>,
    /// The size of a node's range, whatever the family, when there is one.
    pub node_cidr_mask_size: Option<u8>,
    /// The size of a node's range of IPv4.
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// The size of a node's range of IPv6.
    pub node_cidr_mask_size_ipv6: Option<u8>,
}

/// Where nodes' ranges come from.
#[derive(Debug, Clone)]
pub(crate) struct NodeIpamOptions {
    /// A range for each family, with the size of its parts.
    pub(crate) clusters: Vec<(Range, u8)>,
    /// Ranges of services.
    pub(crate) services: Vec<Range>,
}

/// How nodes are judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NodeLifecycleOptions {
    pub(crate) monitor_grace: Duration,
    pub(crate) startup_grace: Duration,
    pub(crate) eviction_rate: f64,
    pub(crate) secondary_eviction_rate: f64,
    pub(crate) large_zone: usize,
    pub(crate) unhealthy_part: f64,
}

impl NodeLifecycleOptions {
    /// Upstream's since 1.32.
    const UPSTREAM: Self = Self {
        monitor_grace: Duration::from_secs(50),
        startup_grace: Duration::from_secs(60),
        eviction_rate: 0.1,
        secondary_eviction_rate: 0.01,
        large_zone: 50,
        unhealthy_part: 0.55,
    };
    /// Two renewals of a lease may be missed, as nodes renew theirs every ten seconds; and nodes that go together are given up
    /// together.
    const FAST: Self = Self { monitor_grace: Duration::from_secs(20), eviction_rate: 1.0, ..Self::UPSTREAM };
}

impl Default for NodeLifecycleOptions {
    fn default() -> Self {
        Self::UPSTREAM
    }
}

impl NodeOptions {
    pub(super) fn lifecycle(&self) -> Result<NodeLifecycleOptions, ConfigError> {
        let stands = match self.failover {
            Failover::Upstream => NodeLifecycleOptions::UPSTREAM,
            Failover::Fast => NodeLifecycleOptions::FAST,
        };
        let made = NodeLifecycleOptions {
            monitor_grace: self.monitor_grace_period.unwrap_or(stands.monitor_grace),
            startup_grace: self.startup_grace_period.unwrap_or(stands.startup_grace),
            eviction_rate: self.eviction_rate.unwrap_or(stands.eviction_rate),
            secondary_eviction_rate: self.secondary_eviction_rate.unwrap_or(stands.secondary_eviction_rate),
            large_zone: self.large_cluster_size_threshold.unwrap_or(stands.large_zone),
            unhealthy_part: self.unhealthy_zone_threshold.unwrap_or(stands.unhealthy_part),
        };
        if made.monitor_grace.is_zero() {
            return wrong("node-monitor-grace-period", "must be greater than 0");
        }
        if !(made.eviction_rate.is_finite() && made.eviction_rate >= 0.0) {
            return wrong("node-eviction-rate", "must be 0 or more");
        }
        if !(made.secondary_eviction_rate.is_finite() && made.secondary_eviction_rate >= 0.0) {
            return wrong("secondary-node-eviction-rate", "must be 0 or more");
        }
        if !(0.0..=1.0).contains(&made.unhealthy_part) {
            return wrong("unhealthy-zone-threshold", "must be from 0 to 1");
        }
        Ok(made)
    }
}

fn wrong<T>(flag: &'static str, text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Nodes(flag, text.into()))
}

impl NodeOptions {
    /// Where nodes' ranges come from; nothing when they get none.
    pub(super) fn ipam(&self) -> Result<Option<NodeIpamOptions>, ConfigError> {
        if !self.allocate_node_cidrs {
            return Ok(None);
        }
        if self.cluster_cidr.is_empty() {
            return wrong("cluster-cidr", "must be said when --allocate-node-cidrs is");
        }
        let ranges = |flag, all: &[String]| {
            let read = |text: &String| text.parse::<Range>().map_err(|()| text.clone());
            match all.iter().map(read).collect::<Result<Vec<_>, _>>() {
                Err(text) => wrong(flag, format!("{text:?} is not a range of addresses")),
                Ok(both) if both.len() > 2 || both.len() == 2 && both[0].is_v6() == both[1].is_v6() => {
                    wrong(flag, "must have one range, or one of each family")
                }
                Ok(ranges) => Ok(ranges),
            }
        };
        let clusters = ranges("cluster-cidr", &self.cluster_cidr)?;
        let of_family = [self.node_cidr_mask_size_ipv4, self.node_cidr_mask_size_ipv6];
        if clusters.len() == 2 && self.node_cidr_mask_size.is_some() {
            return wrong("node-cidr-mask-size", "is for one family; there is one flag for each");
        }
        if self.node_cidr_mask_size.is_some() && of_family.iter().any(Option::is_some) {
            return wrong("node-cidr-mask-size", "does not go with the flags for each family");
        }
        let mut made = Vec::new();
        for range in clusters {
            let (flag, said, standard) = if range.is_v6() {
                ("node-cidr-mask-size-ipv6", self.node_cidr_mask_size_ipv6, 64)
            } else {
                ("node-cidr-mask-size-ipv4", self.node_cidr_mask_size_ipv4, 24)
            };
            let mask = self.node_cidr_mask_size.or(said).unwrap_or(standard);
            let longest = if range.is_v6() { 128 } else { 32 };
            if mask < range.mask() || mask > longest {
                return wrong(flag, format!("must be from {} to {longest} for {range}", range.mask()));
            }
            if range.is_v6() && mask - range.mask() > 16 {
                return wrong(flag, format!("must not be more than 16 above that of {range}"));
            }
            made.push((range, mask));
        }
        let services = ranges("service-cluster-ip-range", &self.service_cluster_ip_range)?;
        Ok(Some(NodeIpamOptions { clusters: made, services }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_stands_before_the_profile() {
        let upstream = NodeOptions::default().lifecycle().unwrap();
        assert_eq!((upstream.monitor_grace.as_secs(), upstream.eviction_rate), (50, 0.1));
        let fast = NodeOptions { failover: Failover::Fast, ..NodeOptions::default() };
        let made = fast.lifecycle().unwrap();
        assert_eq!((made.monitor_grace.as_secs(), made.eviction_rate), (20, 1.0));
        let said = NodeOptions { monitor_grace_period: Some(Duration::from_secs(30)), ..fast };
        assert_eq!(said.lifecycle().unwrap().monitor_grace.as_secs(), 30);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |options: NodeOptions| options.lifecycle().unwrap_err().to_string();
        let options = NodeOptions { unhealthy_zone_threshold: Some(1.5), ..NodeOptions::default() };
        assert!(refused(options).contains("--unhealthy-zone-threshold"));
        let options = NodeOptions { eviction_rate: Some(-1.0), ..NodeOptions::default() };
        assert!(refused(options).contains("--node-eviction-rate"));
        let options = NodeOptions { monitor_grace_period: Some(Duration::ZERO), ..NodeOptions::default() };
        assert!(refused(options).contains("--node-monitor-grace-period"));
    }

    #[test]
    fn ranges_of_nodes_fit_into_those_of_the_cluster() {
        let said = |cluster: &[&str], masks: [Option<u8>; 3]| {
            let options = NodeOptions {
                allocate_node_cidrs: true,
                cluster_cidr: cluster.iter().map(|text| (*text).to_owned()).collect(),
                node_cidr_mask_size: masks[0],
                node_cidr_mask_size_ipv4: masks[1],
                node_cidr_mask_size_ipv6: masks[2],
                ..NodeOptions::default()
            };
            let made = options.ipam().map(|made| made.unwrap().clusters);
            made.map(|all| all.iter().map(|(range, mask)| format!("{range}-{mask}")).collect::<Vec<_>>())
        };
        let none = [None; 3];
        assert_eq!(said(&["10.0.0.0/16", "fd00::/56"], none).unwrap(), ["10.0.0.0/16-24", "fd00::/56-64"]);
        assert_eq!(said(&["10.0.0.0/16"], [Some(20), None, None]).unwrap(), ["10.0.0.0/16-20"]);
        assert!(said(&[], none).is_err());
        assert!(said(&["10.0.0.0/25"], none).is_err(), "larger than the whole");
        assert!(said(&["fd00::/40"], none).is_err(), "too many");
        assert!(said(&["10.0.0.0/16", "10.1.0.0/16"], none).is_err(), "both of one family");
        assert!(said(&["10.0.0.0/16", "fd00::/56"], [Some(24), None, None]).is_err());
        assert!(said(&["10.0.0.0/16"], [Some(24), Some(24), None]).is_err());
    }
}
