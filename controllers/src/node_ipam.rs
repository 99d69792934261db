//! Every node has a range of addresses for its pods, of each family. Must never give a range twice, nor change one that is given.

mod ranges;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::config::NodeIpamOptions;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Told};
use barque_client::events::Kind as Gravity;
use ranges::Pool;
pub(crate) use ranges::Range;

/// The controller.
pub(crate) struct NodeIpam {
    pools: Vec<Pool>,
    service: Vec<Range>,
    promised: Mutex<Promises>,
}

/// Ranges that are on their way to nodes, which do not show them yet.
#[derive(Default)]
struct Promises {
    /// By the node's name, with its uid.
    to: HashMap<String, (String, Vec<Range>)>,
    /// Behind the range that was promised last, in each pool: one that was just given back is not given at once.
    next: Vec<u64>,
}

/// A node without a range.
pub(crate) struct View {
    node: Arc<Node>,
    /// One of each pool; nothing when one of these is used up.
    ranges: Option<Vec<Range>>,
}

impl NodeIpam {
    /// One that has promised nothing yet.
    pub(crate) fn new(options: &NodeIpamOptions) -> Self {
        let pools: Vec<_> = options.clusters.iter().map(|(range, mask)| Pool::new(*range, *mask)).collect();
        let next = vec![0; pools.len()];
        let promised = Mutex::new(Promises { to: HashMap::new(), next });
        Self { pools, service: options.services.clone(), promised }
    }

    /// The ranges for a node: those that were promised to it before, or the next free ones.
    fn promise(&self, node: &Node, caches: &Caches) -> Option<Vec<Range>> {
        let mut promised = self.promised.lock();
        let name = node.key().name;
        let nodes = caches.of::<Node>();
        // Who shows a range, or is not there any more, needs no promise.
        promised.to.retain(|name, (uid, _)| {
            let there = nodes.get(&Key::new("", name));
            there.is_some_and(|node| node.uid() == uid && ranges_of(&node).next().is_none())
        });
        if let Some((_, ranges)) = promised.to.get(&name) {
            return Some(ranges.clone());
        }
        let mut taken = self.service.clone();
        taken.extend(promised.to.values().flat_map(|(_, ranges)| ranges.iter().copied()));
        for node in nodes.all() {
            taken.extend(ranges_of(&node).filter_map(|text| text.parse::<Range>().ok()));
        }
        let mut ranges = Vec::new();
        let mut next = promised.next.clone();
        for (pool, next) in self.pools.iter().zip(&mut next) {
            let number = pool.free(&taken, *next)?;
            *next = number + 1;
            ranges.push(pool.range(number));
        }
        promised.next = next;
        promised.to.insert(name, (node.uid().to_owned(), ranges.clone()));
        Some(ranges)
    }
}

/// The ranges that a node shows.
fn ranges_of(node: &Node) -> impl Iterator<Item = &str> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref()).filter(|_| all.is_empty());
    all.iter().chain(first).map(String::as_str).filter(|text| !text.is_empty())
}

/// When one goes, which may have had a range, those that have none are looked at.
fn waiting(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    if change.new.is_some() {
        return Vec::new();
    }
    let nodes = caches.of::<Node>().all();
    nodes.iter().filter(|node| ranges_of(node).next().is_none()).map(|node| node.key()).collect()
}

impl Controller for NodeIpam {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Node>();
        watches.mapped::<Node>(waiting);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let node = caches.of::<Node>().get(key)?;
        if node.is_deleting() || ranges_of(&node).next().is_some() {
            return None;
        }
        let ranges = self.promise(&node, caches);
        Some(View { node, ranges })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let node = &*view.node;
        let Some(ranges) = &view.ranges else {
            plan.notes.push(status(node, "CIDRNotAvailable"));
            return plan;
        };
        let mut after = node.clone();
        let spec = after.spec.get_or_insert_default();
        let all: Vec<_> = ranges.iter().map(Range::to_string).collect();
        spec.pod_cidr = all.first().cloned();
        spec.pod_cidrs = Some(all);
        if let Some(update) = Action::update(node, &after) {
            let mut update = update.because("it has no range of addresses for pods");
            update.failed = Some(status(node, "CIDRAssignmentFailed"));
            plan.then(update);
        }
        plan
    }
}

fn status(node: &Node, status: &'static str) -> Told {
    let name = node.key().name;
    Told {
        text: format!("Node {name} status is now: {status}"),
        regarding: ObjectReference { resource_version: None, ..node.reference() },
        gravity: Gravity::Normal,
        reason: status,
    }
}
