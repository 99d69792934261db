//! Services and names on a node: the proxy in the packet filter, and the resolver at the cluster's address. Started here; must
//! never decide anything.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use barque_api::ip::Cidr;
use barque_dns::{Dns, Zone, follow, nameservers};
use barque_network::Network;
use barque_proxy::services::Protocol;
use barque_proxy::{Block, Proxy, Streams};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::agent::Process;
use crate::config::ContainerConfig;
use crate::container_node::ContainerNodeError;
use crate::fan_out::Events;
use crate::node::identity::Identity;

/// The port of DNS.
const DNS: u16 = 53;
/// How long answers about the cluster may be remembered, in seconds.
const TTL: u32 = 5;

/// What names are made from.
pub(crate) struct Names {
    /// All services.
    pub(crate) services: Events<Service>,
    /// All slices.
    pub(crate) slices: Events<EndpointSlice>,
    /// All namespaces.
    pub(crate) namespaces: Events<Namespace>,
}

/// Every node answers at the cluster's address itself, so that no packet of a question is translated or leaves the machine.
pub(crate) async fn start_names(
    config: &ContainerConfig,
    network: &Network,
    events: Names,
    process: &Process,
) -> Result<(), ContainerNodeError> {
    if config.cluster_dns.is_empty() {
        return Ok(());
    }
    for address in &config.cluster_dns {
        network.add_local_address(*address).await.map_err(ContainerNodeError::Network)?;
    }
    let of_machine = tokio::fs::read_to_string(&config.resolv_conf).await.unwrap_or_else(|error| {
        tracing::warn!(path = %config.resolv_conf.display(), %error, "no names outside of the cluster are known");
        String::new()
    });
    let domain = format!("{}.", config.cluster_domain);
    let zone = Zone::new(&domain, TTL, config.cluster_dns.clone()).map_err(ContainerNodeError::Names)?;
    let names = Arc::new(RwLock::new(barque_dns::Names::new(zone)));
    let listen = config.cluster_dns.iter().map(|address| SocketAddr::new(*address, DNS)).collect();
    let settings = barque_dns::Settings::new(listen, nameservers(&of_machine));
    let metrics = barque_dns::Metrics::new(process.metrics.registry());
    let dns = Dns::bind(&settings, names.clone(), metrics).map_err(ContainerNodeError::Names)?;
    process.spawn(follow(names.clone(), events.services, process.stop.clone()));
    process.spawn(follow(names.clone(), events.slices, process.stop.clone()));
    process.spawn(follow(names, events.namespaces, process.stop.clone()));
    process.spawn(dns.run(process.stop.clone()));
    Ok(())
}

/// What the node answers itself, which no service takes from it.
fn own_names(config: &ContainerConfig) -> Vec<(IpAddr, u16, Protocol)> {
    let both = |address: &IpAddr| [(*address, DNS, Protocol::Udp), (*address, DNS, Protocol::Tcp)];
    config.cluster_dns.iter().flat_map(both).collect()
}

/// The networks in the proxy's words. Those that were read are well formed.
fn blocks(cidrs: &[Cidr]) -> Vec<Block> {
    cidrs.iter().filter_map(|cidr| Block::new(cidr.address, cidr.prefix)).collect()
}

/// Services, policies and ports of hosts, in the packet filter.
pub(crate) fn start_proxy(
    config: &ContainerConfig,
    identity: &Identity,
    mut own_networks: watch::Receiver<Vec<Cidr>>,
    streams: Streams,
    process: &Process,
) -> Result<(), ContainerNodeError> {
    let settings = barque_proxy::Settings {
        cluster_cidrs: blocks(&config.cluster_cidrs),
        local_addresses: own_names(config),
        ..barque_proxy::Settings::default()
    };
    let metrics = barque_proxy::Metrics::in_registry(process.metrics.registry().clone());
    let proxy = Proxy::open(settings, metrics).map_err(ContainerNodeError::Proxy)?;
    let labels = identity.default_labels().into_iter().chain(identity.labels.clone());
    let zone =
        labels.into_iter().find(|(key, _)| key == "topology.kubernetes.io/zone").map(|(_, zone)| zone.into());
    let facts = barque_proxy::NodeFacts {
        name: identity.name.as_str().into(),
        zone,
        addresses: identity.addresses.clone(),
        pod_cidrs: blocks(&own_networks.borrow_and_update()),
    };
    let (sender, node) = watch::channel(facts);
    let stop = process.stop.clone();
    process.spawn(async move {
        while let Some(Ok(())) = stop.run_until_cancelled(own_networks.changed()).await {
            let cidrs = blocks(&own_networks.borrow_and_update());
            sender.send_modify(|facts| facts.pod_cidrs = cidrs);
        }
    });
    let stop = process.stop.clone();
    process.spawn(async move {
        if let Err(error) = proxy.run(node, streams, stop).await {
            tracing::error!(%error, "services are not served any more");
        }
    });
    Ok(())
}
