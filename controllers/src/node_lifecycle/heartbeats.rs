//! When something was last heard of each node: its lease or its status changed. A data structure; time is handed in, of this
//! process's clock. Must never compare that with times that a node tells: clocks differ.

use std::collections::HashMap;
use std::time::Duration;

/// When was heard of whom.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    nodes: HashMap<String, Heard>,
    leases: HashMap<String, Heard>,
    /// Nobody was heard of before this time, when that is later.
    floor: Duration,
}

#[derive(Debug)]
struct Heard {
    /// What is different in the next heartbeat.
    beat: Beat,
    at: Duration,
}

/// The uid and the time that was told; one is compared with the next, with nothing else.
pub(super) type Beat = (String, Option<String>);

impl Heartbeats {
    /// A node's status is so.
    pub(super) fn status(&mut self, node: &str, beat: Beat, now: Duration) {
        hear(&mut self.nodes, node, beat, now);
    }

    /// A node's lease is so.
    pub(super) fn lease(&mut self, node: &str, beat: Beat, now: Duration) {
        hear(&mut self.leases, node, beat, now);
    }

    /// The node is not there any more.
    pub(super) fn node_gone(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Its lease is not there any more.
    pub(super) fn lease_gone(&mut self, node: &str) {
        self.leases.remove(node);
    }

    /// All silence so far is forgiven: it was not the nodes that were silent.
    pub(super) fn forgive(&mut self, now: Duration) {
        self.floor = now;
    }

    /// How long nothing has been heard of a node; zero of one that is not known.
    pub(super) fn silence(&self, node: &str, now: Duration) -> Duration {
        let heard = [self.nodes.get(node), self.leases.get(node)];
        let last = heard.into_iter().flatten().map(|heard| heard.at).max();
        last.map_or(Duration::ZERO, |last| now.saturating_sub(last.max(self.floor)))
    }
}

fn hear(heard: &mut HashMap<String, Heard>, node: &str, beat: Beat, now: Duration) {
    match heard.get_mut(node) {
        Some(known) if known.beat == beat => {}
        Some(known) => *known = Heard { beat, at: now },
        None => {
            heard.insert(node.to_owned(), Heard { beat, at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn beat(time: &str) -> Beat {
        ("u".to_owned(), Some(time.to_owned()))
    }

    #[test]
    fn whatever_changes_last_counts() {
        let mut heard = Heartbeats::default();
        heard.status("n", beat("a"), T(10));
        assert_eq!(heard.silence("n", T(15)), T(5));
        heard.lease("n", beat("x"), T(20));
        heard.status("n", beat("a"), T(30));
        assert_eq!(heard.silence("n", T(30)), T(10), "the same again is no news");
        heard.lease("n", beat("w"), T(31));
        assert_eq!(heard.silence("n", T(31)), T(0), "a clock that was set back is news as well");
        heard.lease_gone("n");
        assert_eq!(heard.silence("n", T(31)), T(21));
        assert_eq!(heard.silence("other", T(31)), T(0));
    }

    #[test]
    fn silence_is_forgiven_for_all() {
        let mut heard = Heartbeats::default();
        heard.status("n", beat("a"), T(10));
        heard.forgive(T(100));
        assert_eq!(heard.silence("n", T(101)), T(1));
    }
}
