//! Keeps the node's network in step with the cluster: its own pod networks, and the ways to those of all other nodes. Must never
//! touch a pod.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::{Cidr, parse_cidr};
use barque_network::{Network, Peer};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fan_out::Events;

/// The wait after something could not be set up; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Everything is looked over so often, for what others have changed.
const LOOK: Duration = Duration::from_secs(600);

/// The task that keeps links.
pub(crate) struct Links {
    /// What is kept.
    pub(crate) network: Arc<Network>,
    /// This node's name.
    pub(crate) node: String,
    /// This node's pod networks.
    pub(crate) networks: watch::Receiver<Vec<Cidr>>,
    /// All nodes.
    pub(crate) nodes: Events<Node>,
    /// Told when the network may have become ready, or not.
    pub(crate) changed: watch::Sender<u64>,
}

/// A node as the network sees it; nothing when it has no pods' networks or no address.
fn peer(node: &Node) -> Option<Peer> {
    let spec = node.spec.as_ref()?;
    let many = spec.pod_cidrs.clone().filter(|cidrs| !cidrs.is_empty());
    let cidrs = many.or_else(|| spec.pod_cidr.clone().map(|one| vec![one])).unwrap_or_default();
    let pod_networks: Vec<Cidr> = cidrs.iter().filter_map(|text| parse_cidr(text)).collect();
    let told = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = told.iter().filter(|address| address.type_ == "InternalIP");
    let addresses: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
    let name = node.metadata.name.clone()?;
    (!pod_networks.is_empty() && !addresses.is_empty()).then_some(Peer { name, addresses, pod_networks })
}

/// The other nodes, as they are told.
#[derive(Default)]
struct Peers {
    known: BTreeMap<String, Peer>,
    listed: Option<BTreeMap<String, Peer>>,
}

impl Peers {
    /// Takes in what is told of another node. Says whether anything is different now.
    fn take(&mut self, event: Event<Node>, own: &str) -> bool {
        let other = |node: &Node| node.metadata.name.as_deref().is_some_and(|name| name != own);
        match event {
            Event::Init => {
                self.listed = Some(BTreeMap::new());
                false
            }
            Event::InitApply(node) => {
                if let Some(peer) = peer(&node).filter(|_| other(&node)) {
                    self.listed.get_or_insert_default().insert(peer.name.clone(), peer);
                }
                false
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let differs = listed != self.known;
                self.known = listed;
                differs
            }
            Event::Apply(node) if other(&node) => match peer(&node) {
                Some(peer) => self.known.insert(peer.name.clone(), peer.clone()) != Some(peer),
                None => self.remove(&node),
            },
            Event::Delete(node) => self.remove(&node),
            Event::Apply(_) => false,
        }
    }

    fn remove(&mut self, node: &Node) -> bool {
        node.metadata.name.as_ref().is_some_and(|name| self.known.remove(name).is_some())
    }
}

impl Links {
    /// Keeps them until the token is cancelled. Links stay as they are then.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(mut self) {
        let mut peers = Peers::default();
        let (mut due, mut wait) = (Instant::now() + LOOK, RETRY);
        self.networks.mark_changed();
        loop {
            let done = tokio::select! {
                changed = self.networks.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let networks = self.networks.borrow_and_update().clone();
                    self.network.set_node(&networks).await
                }
                event = self.nodes.next() => match event {
                    None => return,
                    Some(Err(_)) => continue,
                    Some(Ok(event)) => {
                        if !peers.take(event, &self.node) {
                            continue;
                        }
                        self.network.set_peers(peers.known.values().cloned().collect()).await
                    }
                },
                () = pin!(sleep_until(due)) => self.network.repair().await,
            };
            match done {
                Ok(()) => (due, wait) = (Instant::now() + LOOK, RETRY),
                Err(error) => {
                    tracing::warn!(%error, "the network of the node is not as it should be");
                    due = Instant::now() + wait;
                    wait = (wait * 2).min(LONGEST_RETRY);
                }
            }
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, address: &str, cidrs: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"podCIDRs": cidrs},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
        .unwrap()
    }

    #[test]
    fn other_nodes_with_networks_are_peers() {
        let mut peers = Peers::default();
        let (a, b) =
            (node("a", "10.0.0.1", json!(["10.1.0.0/24"])), node("b", "10.0.0.2", json!(["10.1.1.0/24"])));
        assert!(!peers.take(Event::Init, "a"));
        for node in [&a, &b, &node("c", "10.0.0.3", json!([]))] {
            assert!(!peers.take(Event::InitApply(node.clone()), "a"));
        }
        assert!(peers.take(Event::InitDone, "a"));
        assert_eq!(peers.known.keys().collect::<Vec<_>>(), ["b"]);
        assert!(!peers.take(Event::Apply(a), "a"), "a node is not its own peer");
        assert!(!peers.take(Event::Apply(b.clone()), "a"), "nothing is different");
        let moved = node("b", "10.0.0.9", json!(["10.1.1.0/24"]));
        assert!(peers.take(Event::Apply(moved), "a"));
        assert_eq!(peers.known["b"].addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(peers.take(Event::Delete(b.clone()), "a") && !peers.take(Event::Delete(b), "a"));
    }
}
