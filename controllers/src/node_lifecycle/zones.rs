//! How much of each zone is lost, and how many nodes may be given up how fast: a state machine. Time is handed in; must never
//! wait. The states and what follows from them are those of upstream's node lifecycle controller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::NodeLifecycleOptions;

/// Nodes and the zones where they are.
#[derive(Debug)]
pub(super) struct Zones {
    options: NodeLifecycleOptions,
    nodes: BTreeMap<String, Member>,
    zones: BTreeMap<String, Zone>,
    /// Whether every zone is lost: then it is rather this side that is cut off, and nobody is given up.
    stopped: bool,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Where it is.
    pub(super) zone: String,
    /// Whether it counts.
    pub(super) counts: bool,
    /// Whether it is ready.
    pub(super) ready: bool,
}

/// How much of a zone is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    Partial,
    Full,
}

#[derive(Debug)]
struct Zone {
    state: State,
    rate: f64,
    last: Option<Duration>,
    /// Those that are to be given up, in order.
    waiting: Vec<String>,
    /// Those that may be, and are not yet.
    granted: BTreeSet<String>,
}

/// What followed from a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Consequence {
    /// These are to be looked at.
    pub(super) look_at: Vec<String>,
    /// After all zones were lost, one is not: what was silent is forgiven.
    pub(super) resumed: bool,
}

/// Whether a node may be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Now.
    Now,
    /// Not before so long.
    After(Duration),
    /// Not as it is.
    Never,
}

impl Zones {
    pub(super) fn new(options: NodeLifecycleOptions) -> Self {
        Self { options, nodes: BTreeMap::new(), zones: BTreeMap::new(), stopped: false }
    }

    /// A node is so, or is not there any more.
    pub(super) fn set(&mut self, node: &str, member: Option<Member>) -> Consequence {
        if self.nodes.get(node) == member.as_ref() {
            return Consequence::default();
        }
        let mut look_at = BTreeSet::new();
        let same_zone =
            |before: &Member| member.as_ref().is_some_and(|it| it.zone == before.zone && !it.ready);
        if let Some(before) = self.nodes.get(node).filter(|before| !same_zone(before))
            && let Some(zone) = self.zones.get_mut(&before.zone)
        {
            zone.granted.remove(node);
            if zone.waiting.iter().any(|waits| waits == node) {
                zone.waiting.retain(|waits| waits != node);
                // The others move up.
                look_at.extend(zone.waiting.iter().cloned());
            }
        }
        match member {
            Some(member) => self.nodes.insert(node.to_owned(), member),
            None => self.nodes.remove(node),
        };
        let resumed = self.judge(&mut look_at);
        Consequence { look_at: look_at.into_iter().collect(), resumed }
    }

    /// Takes the state of all zones anew.
    fn judge(&mut self, look_at: &mut BTreeSet<String>) -> bool {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for member in self.nodes.values() {
            let count = counts.entry(&member.zone).or_default();
            if member.counts {
                count.0 += usize::from(member.ready);
                count.1 += usize::from(!member.ready);
            }
        }
        self.zones.retain(|name, _| counts.contains_key(name.as_str()));
        let stopped = !self.nodes.is_empty()
            && counts.values().any(|(_, not_ready)| *not_ready > 0)
            && counts.values().all(|(ready, _)| *ready == 0);
        let turned = stopped != self.stopped;
        self.stopped = stopped;
        for (name, (ready, not_ready)) in counts {
            let state = state(ready, not_ready, self.options.unhealthy_part);
            let rate = match state {
                _ if stopped => 0.0,
                State::Normal | State::Full => self.options.eviction_rate,
                State::Partial if ready + not_ready > self.options.large_zone => {
                    self.options.secondary_eviction_rate
                }
                State::Partial => 0.0,
            };
            let zone = self.zones.entry(name.to_owned()).or_insert_with(|| Zone {
                state,
                rate,
                last: None,
                waiting: Vec::new(),
                granted: BTreeSet::new(),
            });
            if zone.state != state {
                tracing::info!(zone = name, from = ?zone.state, to = ?state, "so much of a zone is lost");
            }
            if turned || (zone.rate - rate).abs() > f64::EPSILON {
                look_at.extend(zone.waiting.iter().cloned());
            }
            (zone.state, zone.rate) = (state, rate);
            if stopped {
                zone.waiting.clear();
                zone.granted.clear();
            }
        }
        if turned {
            let all = self.nodes.len();
            if stopped {
                tracing::warn!(nodes = all, "no node is ready: none is given up until one is");
            } else {
                tracing::info!(nodes = all, "a node is ready again: nodes are judged from here on");
            }
            look_at.extend(self.nodes.keys().cloned());
        }
        turned && !stopped
    }

    /// Whether every zone is lost.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether a node may be given up. It waits its turn; a leave stands until it was used or is not needed.
    pub(super) fn ask(&mut self, node: &str, now: Duration) -> Leave {
        let Some(zone) = self.nodes.get(node).and_then(|member| self.zones.get_mut(&member.zone)) else {
            return Leave::Never;
        };
        if zone.granted.contains(node) {
            return Leave::Now;
        }
        if self.stopped {
            return Leave::Never;
        }
        let place = zone.waiting.iter().position(|waits| waits == node).unwrap_or_else(|| {
            zone.waiting.push(node.to_owned());
            zone.waiting.len() - 1
        });
        if zone.rate <= 0.0 {
            return Leave::Never;
        }
        let pause = Duration::try_from_secs_f64(1.0 / zone.rate).unwrap_or(Duration::MAX);
        let next = zone.last.map_or(now, |last| last.saturating_add(pause));
        let turn = next.saturating_add(pause.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX)));
        if place > 0 || turn > now {
            // Who is before it may be asked a little later.
            return Leave::After(turn.saturating_sub(now).max(Duration::from_millis(1)));
        }
        zone.waiting.remove(0);
        zone.last = Some(now);
        zone.granted.insert(node.to_owned());
        Leave::Now
    }

    /// The leave was used.
    pub(super) fn used(&mut self, node: &str) {
        for zone in self.zones.values_mut() {
            zone.granted.remove(node);
        }
    }
}

fn state(ready: usize, not_ready: usize, unhealthy_part: f64) -> State {
    #[allow(clippy::cast_precision_loss, reason = "there are not so many nodes")]
    let part = not_ready as f64 / (ready + not_ready).max(1) as f64;
    match (ready, not_ready) {
        (0, 1..) => State::Full,
        (_, 3..) if part >= unhealthy_part => State::Partial,
        _ => State::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn zones(of: &[(&str, &str, bool)]) -> Zones {
        let mut zones = Zones::new(NodeLifecycleOptions::default());
        for (node, zone, ready) in of {
            zones.set(node, member(zone, *ready));
        }
        zones
    }

    fn member(zone: &str, ready: bool) -> Option<Member> {
        Some(Member { zone: zone.to_owned(), counts: true, ready })
    }

    #[test]
    fn how_much_is_lost() {
        let check = |ready, not_ready, expected| assert_eq!(state(ready, not_ready, 0.55), expected);
        check(0, 0, State::Normal);
        check(3, 0, State::Normal);
        check(0, 1, State::Full);
        check(1, 2, State::Normal);
        check(1, 3, State::Partial);
        check(3, 3, State::Normal);
        check(45, 55, State::Partial);
        check(46, 54, State::Normal);
    }

    #[test]
    fn nodes_are_given_up_one_after_the_other() {
        let mut zones = zones(&[("a", "z", false), ("b", "z", false), ("c", "z", true)]);
        assert_eq!(zones.ask("a", T(0)), Leave::Now);
        assert_eq!(zones.ask("a", T(1)), Leave::Now, "it was not used yet");
        assert_eq!(zones.ask("b", T(1)), Leave::After(T(9)));
        assert_eq!(zones.ask("b", T(10)), Leave::Now);
        zones.used("b");
        assert_eq!(zones.ask("b", T(11)), Leave::After(T(9)));
    }

    #[test]
    fn those_behind_one_that_is_well_again_move_up() {
        let mut zones = zones(&[("a", "z", false), ("b", "z", false), ("c", "z", true), ("d", "z", true)]);
        assert_eq!(zones.ask("a", T(0)), Leave::Now);
        zones.used("a");
        assert_eq!(zones.ask("a", T(0)), Leave::After(T(10)));
        assert_eq!(zones.ask("b", T(0)), Leave::After(T(20)));
        assert_eq!(zones.set("a", member("z", true)).look_at, ["b"]);
        assert_eq!(zones.ask("b", T(0)), Leave::After(T(10)));
    }

    #[test]
    fn when_every_zone_is_lost_nobody_is_given_up() {
        let mut zones = zones(&[("a", "y", true), ("b", "z", true)]);
        assert_eq!(zones.set("a", member("y", false)), Consequence::default());
        assert_eq!(zones.ask("a", T(0)), Leave::Now, "one zone is lost whole");
        let lost = zones.set("b", member("z", false));
        assert_eq!((lost.look_at, lost.resumed), (vec!["a".to_owned(), "b".to_owned()], false));
        assert!(zones.stopped());
        assert_eq!(zones.ask("b", T(100)), Leave::Never);
        let back = zones.set("b", member("z", true));
        assert_eq!((back.look_at.len(), back.resumed), (2, true));
        assert_eq!(zones.ask("a", T(100)), Leave::Now);
    }

    #[test]
    fn in_a_small_zone_that_is_mostly_lost_nobody_is_given_up() {
        let of = [("a", "z", false), ("b", "z", false), ("c", "z", false), ("d", "z", true)];
        let mut small = zones(&of);
        assert_eq!(small.ask("a", T(0)), Leave::Never);
        assert_eq!(small.set("b", member("z", true)).look_at, ["a"], "it is better now");
        assert_eq!(small.ask("a", T(0)), Leave::Now);
        let mut large = Zones::new(NodeLifecycleOptions { large_zone: 3, ..NodeLifecycleOptions::default() });
        for (node, zone, ready) in of {
            large.set(node, member(zone, ready));
        }
        assert_eq!(large.ask("a", T(0)), Leave::Now);
        assert_eq!(large.ask("b", T(0)), Leave::After(T(100)));
    }

    #[test]
    fn nodes_that_do_not_count_change_nothing() {
        let mut zones = zones(&[("a", "z", true)]);
        let aside = Member { zone: "z".to_owned(), counts: false, ready: false };
        assert_eq!(zones.set("b", Some(aside)), Consequence::default());
        assert!(!zones.stopped());
        assert_eq!(zones.ask("b", T(0)), Leave::Now);
    }

    #[test]
    fn no_nodes_are_no_disruption() {
        let mut zones = zones(&[("a", "z", true)]);
        assert_eq!(zones.set("a", None), Consequence::default());
        assert!(!zones.stopped());
    }
}
