//! The flags about nodes and what runs on them.

use std::error::Error;

use barque_controllers::config::{Failover, NodeOptions};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

use super::time;

/// How nodes are judged, and what they get.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// How soon nodes are given up: upstream's times, or fast, which sets --node-monitor-grace-period=20s and
    /// --node-eviction-rate=1 where these are not said. Pods leave after that when their tolerations of
    /// node.kubernetes.io/unreachable end: with tolerationSeconds: 10, about 30 s after their node was last heard of.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_NODE_FAILOVER",
        default_value = "upstream",
        value_name = "PROFILE"
    )]
    node_failover: Profile,
    /// Without effect: nodes have timers and are not looked at in periods. Understood because upstream is started with it.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_NODE_MONITOR_PERIOD",
        default_value = "5s",
        value_name = "TIME"
    )]
    node_monitor_period: String,
    /// How long nothing is heard of a node before it is unknown; several times what nodes wait between renewals of their leases
    /// [default: 50s].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_MONITOR_GRACE_PERIOD", value_name = "TIME")]
    node_monitor_grace_period: Option<String>,
    /// The same for a node that has never said anything [default: 1m0s].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_STARTUP_GRACE_PERIOD", value_name = "TIME")]
    node_startup_grace_period: Option<String>,
    /// How many nodes a second are given up in a zone [default: 0.1].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_EVICTION_RATE", value_name = "RATE")]
    node_eviction_rate: Option<f64>,
    /// The same in a zone of which much is lost, if it is large [default: 0.01].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_SECONDARY_NODE_EVICTION_RATE", value_name = "RATE")]
    secondary_node_eviction_rate: Option<f64>,
    /// Zones of no more nodes are small: when much of one is lost, no node of it is given up [default: 50].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_LARGE_CLUSTER_SIZE_THRESHOLD", value_name = "COUNT")]
    large_cluster_size_threshold: Option<usize>,
    /// The part of a zone's nodes, at least three, that must be lost before much of it is [default: 0.55].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_UNHEALTHY_ZONE_THRESHOLD", value_name = "PART")]
    unhealthy_zone_threshold: Option<f64>,

    /// How many pods that have ended may stay before the oldest go; 0 keeps all.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_TERMINATED_POD_GC_THRESHOLD",
        default_value_t = 12500,
        value_name = "COUNT"
    )]
    terminated_pod_gc_threshold: usize,

    /// Whether nodes get ranges of addresses for their pods.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_ALLOCATE_NODE_CIDRS",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    allocate_node_cidrs: bool,
    /// Where nodes' ranges come from: one range, or one of each family, comma separated.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_CLUSTER_CIDR",
        value_name = "RANGES",
        value_delimiter = ','
    )]
    cluster_cidr: Vec<String>,
    /// Ranges of services, which no node gets.
    #[arg(
        long,
        env = "BARQUE_CONTROLLER_MANAGER_SERVICE_CLUSTER_IP_RANGE",
        value_name = "RANGES",
        value_delimiter = ','
    )]
    service_cluster_ip_range: Vec<String>,
    /// The size of a node's range in a cluster of one family [default: 24 for IPv4, 64 for IPv6].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_CIDR_MASK_SIZE", value_name = "BITS")]
    node_cidr_mask_size: Option<u8>,
    /// The size of a node's range of IPv4 [default: 24].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_CIDR_MASK_SIZE_IPV4", value_name = "BITS")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The size of a node's range of IPv6 [default: 64].
    #[arg(long, env = "BARQUE_CONTROLLER_MANAGER_NODE_CIDR_MASK_SIZE_IPV6", value_name = "BITS")]
    node_cidr_mask_size_ipv6: Option<u8>,
}

/// How soon nodes are given up.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Profile {
    /// As upstream.
    Upstream,
    /// Soon.
    Fast,
}

impl NodesArgs {
    /// What was said, with times read.
    pub(crate) fn into_options(self) -> Result<NodeOptions, Box<dyn Error>> {
        let perhaps = |flag, text: Option<String>| text.map(|text| time(flag, &text)).transpose();
        time("node-monitor-period", &self.node_monitor_period)?;
        Ok(NodeOptions {
            failover: match self.node_failover {
                Profile::Upstream => Failover::Upstream,
                Profile::Fast => Failover::Fast,
            },
            monitor_grace_period: perhaps("node-monitor-grace-period", self.node_monitor_grace_period)?,
            startup_grace_period: perhaps("node-startup-grace-period", self.node_startup_grace_period)?,
            eviction_rate: self.node_eviction_rate,
            secondary_eviction_rate: self.secondary_node_eviction_rate,
            large_cluster_size_threshold: self.large_cluster_size_threshold,
            unhealthy_zone_threshold: self.unhealthy_zone_threshold,
            terminated_pod_gc_threshold: self.terminated_pod_gc_threshold,
            allocate_node_cidrs: self.allocate_node_cidrs,
            cluster_cidr: self.cluster_cidr,
            service_cluster_ip_range: self.service_cluster_ip_range,
            node_cidr_mask_size: self.node_cidr_mask_size,
            node_cidr_mask_size_ipv4: self.node_cidr_mask_size_ipv4,
            node_cidr_mask_size_ipv6: self.node_cidr_mask_size_ipv6,
        })
    }
}
