//! Nodes that are not heard of any more: their conditions become unknown, taints keep new pods away and make the old ones leave,
//! and their pods are not ready. Must never judge by a clock that is not this process's, and never wake for a heartbeat: each
//! node has a timer for the moment when its last one is too old.

mod heartbeats;
mod plan;
mod taints;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::clock::Clock;
use crate::config::NodeLifecycleOptions;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::Plan;
use crate::pods;
use heartbeats::Heartbeats;
use taints::Eviction;
use zones::{Leave, Member, Zones};

/// Where nodes have their leases.
const LEASES: &str = "kube-node-lease";

/// The controller.
pub(crate) struct NodeLifecycle {
    options: NodeLifecycleOptions,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen of nodes, and when.
struct Seen {
    heartbeats: Heartbeats,
    zones: Zones,
    /// Whether those that were there at the beginning have been seen all at once: before, all of them may seem lost.
    listed: bool,
    /// Their uids, of those that were told of as new.
    known: HashMap<String, String>,
    /// Pods that have been seen to be not ready since nothing was heard of their node. One that is ready after that is so because
    /// somebody else says it.
    marked: HashMap<String, HashSet<String>>,
}

/// One node.
pub(crate) enum View {
    /// It is not there any more.
    Gone { name: String, uid: String },
    /// It is there.
    Here(Box<Here>),
}

/// One node that is there.
pub(crate) struct Here {
    node: Arc<Node>,
    lease: Option<Arc<Lease>>,
    /// Whether nobody was told of it yet.
    is_new: bool,
    silence: Duration,
    patience: Duration,
    stopped: bool,
    /// Whether it may be given up, if it is to be.
    leave: Option<Leave>,
    /// Its pods that are ready and must not be.
    pods: Vec<Arc<Pod>>,
}

impl NodeLifecycle {
    /// One that has seen nothing yet.
    pub(crate) fn new(options: NodeLifecycleOptions, clock: Clock) -> Self {
        let seen = Seen {
            heartbeats: Heartbeats::default(),
            zones: Zones::new(options),
            listed: false,
            known: HashMap::new(),
            marked: HashMap::new(),
        };
        Self { options, clock, seen: Arc::new(Mutex::new(seen)) }
    }
}

impl Seen {
    /// All at once, if that was not yet.
    fn list(&mut self, caches: &Caches, now: Duration) {
        if !self.listed {
            self.listed = true;
            for node in caches.of::<Node>().all() {
                self.node(&node.key().name, Some(&node), now);
            }
        }
    }

    /// A node is so; who is to be looked at besides.
    fn node(&mut self, name: &str, node: Option<&Node>, now: Duration) -> Vec<String> {
        match node {
            Some(node) => {
                let told = taints::condition(node, "Ready").map(|ready| {
                    ready.last_heartbeat_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default()
                });
                self.heartbeats.status(name, (node.uid().to_owned(), told), now);
            }
            None => self.heartbeats.node_gone(name),
        }
        if node.is_none_or(|node| taints::ready(node) != Some("Unknown")) {
            self.marked.remove(name);
        }
        let consequence = self.zones.set(name, node.map(member));
        if consequence.resumed {
            self.heartbeats.forgive(now);
        }
        consequence.look_at
    }

    /// Pods that are ready and must not be, as nothing is heard of their node.
    fn unmarked(&mut self, name: &str, pods: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
        let marked = self.marked.entry(name.to_owned()).or_default();
        let (ready, other): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pods::is_ready(pod));
        marked.extend(other.iter().map(|pod| pod.uid().to_owned()));
        ready.into_iter().filter(|pod| !marked.contains(pod.uid())).collect()
    }
}

/// What zones count of a node.
fn member(node: &Node) -> Member {
    let label = |names: [&str; 2]| names.into_iter().find_map(|name| node.label(name)).unwrap_or_default();
    let region = label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]);
    let zone = label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]);
    Member {
        zone: format!("{region}/{zone}"),
        counts: node.label("node.kubernetes.io/exclude-disruption").is_none(),
        ready: taints::ready(node) == Some("True"),
    }
}

fn keys(names: Vec<String>) -> Vec<Key> {
    names.into_iter().map(|name| Key::new("", &name)).collect()
}

/// Whether a pod came to a node, or its readiness changed.
fn concerns(change: &Change<Pod>) -> bool {
    let of = |pod: &Arc<Pod>| (pods::node(pod).to_owned(), pods::is_ready(pod));
    change.new.is_some() && change.new.as_ref().map(of) != change.old.as_ref().map(of)
}

impl Controller for NodeLifecycle {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        let (seen, clock) = (self.seen.clone(), self.clock.clone());
        watches.mapped::<Node>(move |change, caches| {
            let mut seen = seen.lock();
            let now = clock.now();
            seen.list(caches, now);
            keys(seen.node(&change.latest().key().name, change.new.as_deref(), now))
        });
        watches.objects::<Node>();
        let (seen, clock) = (self.seen.clone(), self.clock.clone());
        watches.mapped::<Lease>(move |change, _| {
            let lease = change.latest();
            let Key { namespace, name } = lease.key();
            if namespace == LEASES {
                let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
                let beat = (lease.uid().to_owned(), renewed.map(|time| time.0.to_string()));
                let mut seen = seen.lock();
                match change.new {
                    Some(_) => seen.heartbeats.lease(&name, beat, clock.now()),
                    None => seen.heartbeats.lease_gone(&name),
                }
            }
            Vec::new()
        });
        watches.index::<Pod>(pods::BY_NODE, pods::by_node);
        watches.mapped::<Pod>(|change, caches| {
            let node = Key::new("", pods::node(change.latest()));
            let lost =
                || caches.of::<Node>().get(&node).is_some_and(|it| taints::ready(&it) == Some("Unknown"));
            if concerns(change) && lost() { vec![node] } else { Vec::new() }
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        seen.list(caches, now);
        let name = &key.name;
        let Some(node) = caches.of::<Node>().get(key) else {
            let uid = seen.known.remove(name)?;
            return Some(View::Gone { name: name.clone(), uid });
        };
        let before = seen.known.insert(name.clone(), node.uid().to_owned());
        let is_new = before.is_none_or(|uid| uid != node.uid());
        let ready = taints::ready(&node);
        let stopped = seen.zones.stopped();
        let leave = match taints::eviction(&node, stopped) {
            Eviction::Begin(_) => Some(seen.zones.ask(name, now)),
            _ => {
                seen.zones.used(name);
                None
            }
        };
        let pods = match ready {
            Some("Unknown") => seen.unmarked(name, caches.of::<Pod>().with(pods::BY_NODE, name)),
            _ => Vec::new(),
        };
        Some(View::Here(Box::new(Here {
            lease: caches.of::<Lease>().get(&Key::new(LEASES, name)),
            is_new,
            silence: seen.heartbeats.silence(name, now),
            patience: if ready.is_some() { self.options.monitor_grace } else { self.options.startup_grace },
            stopped,
            leave,
            pods,
            node,
        })))
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}
