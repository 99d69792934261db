//! For how long nodes may believe what they have read of objects: the more nodes there are, the longer. Only nodes that ask again
//! and again look at it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// From so many nodes down one step lower, above so many one step higher, and the seconds of the step. The ranges overlap, so that
/// one node more or less does not change all of them again and again.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The controller.
#[derive(Default)]
pub(crate) struct NodeTtl {
    step: Arc<Mutex<usize>>,
}

/// A node, and the seconds that it is to show.
pub(crate) struct View {
    node: Arc<Node>,
    seconds: u32,
}

/// The step for so many nodes, seen from another.
fn step(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

/// When the number of nodes has changed so much, all of them are looked at.
fn turned(current: &Mutex<usize>, change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    if change.old.is_some() && change.new.is_some() {
        return Vec::new();
    }
    let nodes = caches.of::<Node>().all();
    let mut current = current.lock();
    let next = step(*current, nodes.len());
    if next == *current {
        return Vec::new();
    }
    *current = next;
    nodes.iter().map(|node| node.key()).collect()
}

impl Controller for NodeTtl {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        let current = self.step.clone();
        watches.mapped::<Node>(move |change, caches| turned(&current, change, caches));
        watches.objects::<Node>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let node = caches.of::<Node>().get(key)?;
        Some(View { node, seconds: STEPS[*self.step.lock()].2 })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let seconds = view.seconds.to_string();
        let mut after = (*view.node).clone();
        after.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), seconds);
        if let Some(update) = Action::update(&*view.node, &after) {
            plan.then(update.because("there are so many nodes"));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::simulation::World;

    #[test]
    fn steps_overlap() {
        let check = |from, nodes, expected| assert_eq!(step(from, nodes), expected, "{nodes} nodes");
        check(0, 100, 0);
        check(0, 101, 1);
        check(1, 90, 1);
        check(1, 89, 0);
        check(0, 5000, 4);
        check(4, 1800, 4);
        check(4, 1799, 3);
        check(4, 0, 0);
    }

    #[test]
    fn every_node_shows_the_time_of_the_step() {
        let mut world = World::new(1);
        world.run(NodeTtl::default);
        let shown = |world: &World| -> Vec<String> {
            let nodes = world.api.all::<Node>();
            nodes.iter().map(|node| node.annotation(ANNOTATION).unwrap().to_owned()).collect()
        };
        world.create::<Node>(json!({"metadata": {"name": "first"}}));
        world.settle();
        assert_eq!(shown(&world), ["0"]);
        for number in 0..100 {
            world.create::<Node>(json!({"metadata": {"name": format!("n{number}")}}));
        }
        world.settle();
        assert_eq!(shown(&world), vec!["15"; 101]);
    }
}
