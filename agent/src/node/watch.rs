//! One watch of nodes for all nodes of the process: each is told what the cluster knows of it. Must never decide anything.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the cluster knows of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Seen {
    /// Nobody has said yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// This.
    Present(Arc<Node>),
}

/// Tells each node of its changes until the token is cancelled.
pub async fn follow(
    nodes: HashMap<String, watch::Sender<Seen>>,
    mut events: impl Stream<Item = watcher::Result<Event<Node>>> + Unpin,
    stop: CancellationToken,
) {
    let mut listed = HashMap::new();
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(node)) => {
                if let Some(name) = ours(&nodes, &node) {
                    listed.insert(name, lean(node));
                }
            }
            Ok(Event::InitDone) => {
                for (name, sender) in &nodes {
                    let seen = listed.remove(name).map_or(Seen::Absent, |node| Seen::Present(Arc::new(node)));
                    sender.send_replace(seen);
                }
            }
            Ok(Event::Apply(node)) => {
                if let Some(sender) = ours(&nodes, &node).and_then(|name| nodes.get(&name)) {
                    sender.send_replace(Seen::Present(Arc::new(lean(node))));
                }
            }
            Ok(Event::Delete(node)) => {
                if let Some(sender) = ours(&nodes, &node).and_then(|name| nodes.get(&name)) {
                    sender.send_replace(Seen::Absent);
                }
            }
            // The watcher asks again by itself.
            Err(error) => tracing::warn!(%error, "the watch of nodes broke off"),
        }
    }
}

fn ours<T>(nodes: &HashMap<String, T>, node: &Node) -> Option<String> {
    node.metadata.name.clone().filter(|name| nodes.contains_key(name))
}

/// Without what an agent never reads.
#[must_use]
pub fn lean(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    node
}
