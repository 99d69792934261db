//! The queue, with time handed in.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plugins::Plugin;
use crate::test_cluster::{TestCluster, merge, node, requests};

struct Test {
    cluster: TestCluster,
    queue: Queue,
}

const fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn by(plugin: Plugin) -> PluginSet {
    PluginSet::default().with(plugin)
}

impl Test {
    fn new() -> Self {
        Self { cluster: TestCluster::new(), queue: Queue::new(Settings::default()) }
    }

    fn put(&mut self, name: &str, more: Value, now: Duration) {
        let pod = self.cluster.pending(name, more);
        self.queue.put(pod, now);
    }

    fn next(&mut self, now: Duration) -> Option<String> {
        self.queue.next(now).map(|next| next.pod.name.name.to_string())
    }

    /// One that was refused at a time.
    fn refused(&mut self, name: &str, more: Value, plugin: Plugin, now: Duration) {
        self.put(name, more, now);
        assert_eq!(self.next(now).as_deref(), Some(name));
        self.queue.refused(name, by(plugin), now);
    }

    fn gone(&mut self, name: &str, more: Value) -> Event {
        Event::PodGone(self.cluster.pending(name, more))
    }
}

fn priority(priority: i32) -> Value {
    json!({"spec": {"priority": priority}})
}

#[test]
fn pods_come_by_priority_and_then_by_time() {
    let mut test = Test::new();
    test.put("late", priority(0), at(3));
    test.put("early", priority(0), at(2));
    test.put("high", priority(9), at(4));
    let order: Vec<_> = std::iter::from_fn(|| test.next(at(5))).collect();
    assert_eq!(order, ["high", "early", "late"]);
    assert_eq!(test.queue.counts(), Counts { in_flight: 3, ..Counts::default() });
    for name in order {
        test.queue.placed(&name);
    }
    assert_eq!(test.queue.counts(), Counts::default());
}

#[test]
fn pods_rest_twice_as_long_after_every_refusal() {
    let mut test = Test::new();
    let mut now = at(0);
    test.put("p", json!({}), now);
    for seconds in [1, 2, 4, 8, 10, 10] {
        assert_eq!(test.next(now).as_deref(), Some("p"));
        test.queue.refused("p", by(Plugin::NodeResourcesFit), now);
        let event = test.gone("gone", json!({}));
        test.queue.event(event, now);
        let until = now + Duration::from_secs(seconds);
        assert_eq!(test.queue.next_change(), Some(until));
        now = until - at(1);
        test.queue.advance(now);
        assert_eq!(test.queue.counts().backing_off, 1);
        now = until;
        test.queue.advance(now);
        assert_eq!(test.queue.counts().active, 1);
    }
}

#[test]
fn pods_that_rest_come_early_when_nothing_else_is_to_be_done_but_not_after_errors() {
    let mut test = Test::new();
    test.refused("p", json!({}), Plugin::NodeResourcesFit, at(0));
    test.queue.event(Event::Anything, at(1));
    test.put("q", json!({}), at(2));
    assert_eq!(test.next(at(2)).as_deref(), Some("q"));
    test.queue.failed("q", at(2));
    assert_eq!(test.next(at(3)).as_deref(), Some("p"));
    assert_eq!(test.next(at(3)), None);
    assert_eq!(test.next(at(1002)).as_deref(), Some("q"));
}

#[test]
fn every_move_into_a_part_of_the_queue_is_counted() {
    let mut test = Test::new();
    test.refused("p", json!({}), Plugin::NodeResourcesFit, at(0));
    let gone = test.gone("gone", json!({}));
    test.queue.event(gone, at(1));
    test.queue.advance(at(1000));
    test.put("gated", json!({"spec": {"schedulingGates": [{"name": "g"}]}}), at(1000));
    let expected = [
        (("AssignedPodDelete", "backoff"), 1),
        (("BackoffComplete", "active"), 1),
        (("ScheduleAttemptFailure", "unschedulable"), 1),
        (("UnscheduledPodAdd", "active"), 1),
        (("UnscheduledPodAdd", "gated"), 1),
    ];
    assert_eq!(test.queue.take_incoming(), Incoming::from(expected));
    assert_eq!(test.queue.take_incoming(), Incoming::new());
}

#[test]
fn what_happens_while_a_pod_is_decided_on_is_not_lost() {
    let mut test = Test::new();
    let gone = test.gone("gone", json!({}));
    // Before: it has seen that.
    test.queue.event(gone.clone(), at(0));
    test.refused("p", json!({}), Plugin::NodeResourcesFit, at(1));
    assert_eq!(test.queue.counts().unschedulable, 1);
    // Meanwhile.
    test.put("q", json!({}), at(2));
    assert_eq!(test.next(at(2)).as_deref(), Some("q"));
    test.queue.event(Event::Volume, at(3));
    test.queue.refused("q", by(Plugin::NodeResourcesFit), at(4));
    assert_eq!(test.queue.counts().unschedulable, 2);
    test.put("r", json!({}), at(5));
    assert_eq!(test.next(at(5)).as_deref(), Some("r"));
    test.queue.event(gone, at(6));
    test.queue.refused("r", by(Plugin::NodeResourcesFit), at(7));
    assert_eq!(test.queue.counts(), Counts { backing_off: 3, ..Counts::default() });
    assert!(test.queue.events.is_empty());
}

#[test]
fn pods_are_tried_again_after_five_minutes_in_any_case() {
    let mut test = Test::new();
    test.refused("p", json!({}), Plugin::NodeAffinity, at(0));
    assert_eq!(test.next(at(299_999)), None);
    assert_eq!(test.queue.next_change(), Some(at(300_000)));
    assert_eq!(test.next(at(300_000)).as_deref(), Some("p"));
}

#[test]
fn gated_pods_wait_for_their_gates() {
    let mut test = Test::new();
    test.put("p", json!({"spec": {"schedulingGates": [{"name": "a"}]}}), at(0));
    assert_eq!((test.next(at(1)), test.queue.counts().gated), (None, 1));
    test.queue.event(Event::Anything, at(2));
    assert_eq!(test.next(at(400_000)), None);
    test.put("p", json!({}), at(400_001));
    assert_eq!(test.next(at(400_001)).as_deref(), Some("p"));
}

#[test]
fn a_change_of_the_pod_itself_may_help_it() {
    let mut test = Test::new();
    let large = || requests(json!({"cpu": "9"}));
    test.refused("p", large(), Plugin::NodeResourcesFit, at(0));
    test.put("p", large(), at(1));
    assert_eq!(test.queue.counts().unschedulable, 1);
    test.put("p", requests(json!({"cpu": "1"})), at(2));
    assert_eq!(test.queue.counts().backing_off, 1);
    // In flight: once it is refused.
    test.put("q", large(), at(3));
    assert_eq!(test.next(at(3)).as_deref(), Some("q"));
    test.put("q", requests(json!({"cpu": "1"})), at(4));
    test.queue.refused("q", by(Plugin::NodeResourcesFit), at(5));
    assert_eq!(test.queue.counts().backing_off, 2);
}

#[test]
fn pods_that_are_removed_do_not_come_back() {
    let mut test = Test::new();
    test.put("p", json!({}), at(0));
    assert_eq!(test.next(at(0)).as_deref(), Some("p"));
    test.queue.remove("p");
    test.queue.refused("p", by(Plugin::NodeResourcesFit), at(1));
    test.queue.failed("p", at(1));
    assert_eq!(test.queue.counts(), Counts::default());
}

#[test]
fn each_plugin_knows_what_may_help() {
    let cpu = |cpu: &str| Arc::new(node("n", json!({"status": {"allocatable": {"cpu": cpu}}})));
    let labelled = |zone: &str| Arc::new(node("n", json!({"metadata": {"labels": {"zone": zone}}})));
    let cordoned = |is: bool| Arc::new(node("n", json!({"spec": {"unschedulable": is}})));
    let tainted =
        |key: &str| Arc::new(node("n", json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}})));
    let changed = |old: &Arc<crate::node::NodeSpec>, new: &Arc<crate::node::NodeSpec>| Event::NodeChanged {
        old: old.clone(),
        new: new.clone(),
    };
    let web = || json!({"metadata": {"labels": {"app": "web"}}});
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
    let affinity = |kind: &str| json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}});
    let spread = {
        let mut constraint = term.clone();
        merge(&mut constraint, json!({"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}));
        json!({"spec": {"topologySpreadConstraints": [constraint]}})
    };
    let port = |port: u16| json!({"spec": {"containers": [{"name": "c", "image": "app", "ports": [{"containerPort": 1, "hostPort": port}]}]}});
    let claim = |name: &str| json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}});
    let key = |name: &str| Event::Claim(ClaimKeyOf(name).into());
    let mut test = Test::new();
    let mut gone = |more: Value| Event::PodGone(test.cluster.pending("other", more));
    let (gone_plain, gone_web, gone_80) = (gone(json!({})), gone(web()), gone(port(80)));
    let gone_far = gone(affinity("podAntiAffinity"));
    let placed_web = Event::PodPlaced(test.cluster.pending("other", web()));
    let placed_plain = Event::PodPlaced(test.cluster.pending("other", json!({})));
    let table = [
        (Plugin::NodeResourcesFit, requests(json!({"cpu": "5"})), gone_plain.clone(), true),
        (Plugin::NodeResourcesFit, requests(json!({"cpu": "5"})), Event::NodeAdded(cpu("4")), false),
        (Plugin::NodeResourcesFit, requests(json!({"cpu": "5"})), Event::NodeAdded(cpu("5")), true),
        (Plugin::NodeResourcesFit, requests(json!({"cpu": "5"})), changed(&cpu("4"), &cpu("6")), true),
        (Plugin::NodeResourcesFit, requests(json!({"cpu": "5"})), changed(&cpu("7"), &cpu("6")), false),
        (Plugin::NodeResourcesFit, json!({}), changed(&labelled("x"), &labelled("y")), false),
        (Plugin::NodeUnschedulable, json!({}), changed(&cordoned(true), &cordoned(false)), true),
        (Plugin::NodeUnschedulable, json!({}), changed(&cordoned(false), &cordoned(true)), false),
        (Plugin::NodeUnschedulable, json!({}), gone_plain.clone(), false),
        (Plugin::TaintToleration, json!({}), changed(&tainted("a"), &cordoned(false)), true),
        (Plugin::TaintToleration, json!({}), Event::NodeAdded(tainted("a")), false),
        (
            Plugin::NodeAffinity,
            json!({"spec": {"nodeSelector": {"zone": "x"}}}),
            Event::NodeAdded(labelled("x")),
            true,
        ),
        (
            Plugin::NodeAffinity,
            json!({"spec": {"nodeSelector": {"zone": "x"}}}),
            Event::NodeAdded(labelled("y")),
            false,
        ),
        (Plugin::NodePorts, port(80), gone_80.clone(), true),
        (Plugin::NodePorts, port(81), gone_80, false),
        (Plugin::VolumeBinding, claim("a"), key("a"), true),
        (Plugin::VolumeBinding, claim("a"), key("b"), false),
        (Plugin::VolumeBinding, claim("a"), Event::Class, true),
        (Plugin::VolumeZone, claim("a"), changed(&labelled("x"), &labelled("y")), true),
        (Plugin::NodeVolumeLimits, claim("a"), Event::Limits, true),
        (Plugin::NodeVolumeLimits, claim("a"), gone_plain.clone(), false),
        (Plugin::VolumeRestrictions, claim("a"), gone_plain.clone(), false),
        (Plugin::PodTopologySpread, spread.clone(), placed_web.clone(), true),
        (Plugin::PodTopologySpread, spread.clone(), placed_plain.clone(), false),
        (Plugin::PodTopologySpread, spread.clone(), Event::NodeAdded(labelled("x")), true),
        (Plugin::PodTopologySpread, spread, Event::NodeAdded(cpu("4")), false),
        (Plugin::InterPodAffinity, affinity("podAffinity"), placed_web, true),
        (Plugin::InterPodAffinity, affinity("podAffinity"), placed_plain, false),
        (Plugin::InterPodAffinity, affinity("podAntiAffinity"), gone_web, true),
        (Plugin::InterPodAffinity, affinity("podAntiAffinity"), gone_plain.clone(), false),
        (Plugin::InterPodAffinity, web(), gone_far, true),
        (Plugin::InterPodAffinity, affinity("podAffinity"), Event::Namespace, true),
        (Plugin::NodeAffinity, json!({}), Event::Anything, true),
    ];
    for (plugin, pod, event, helps) in table {
        let pod = test.cluster.pending("p", pod);
        assert_eq!(hints::may_help(by(plugin), &event, &pod), helps, "{plugin:?} {event:?}");
    }
    // Two were in the way; help for one of them is help.
    let pod = test.cluster.pending("p", json!({}));
    let both = by(Plugin::NodeAffinity).with(Plugin::NodeResourcesFit);
    assert!(hints::may_help(both, &gone_plain, &pod));
}

/// A claim of the pods above.
struct ClaimKeyOf<'a>(&'a str);

impl From<ClaimKeyOf<'_>> for crate::volume::ClaimKey {
    fn from(ClaimKeyOf(name): ClaimKeyOf<'_>) -> Self {
        Self { namespace: "default".into(), name: name.into() }
    }
}

proptest! {
    /// Whatever happens, every pod is in one place until it is placed or removed.
    #[test]
    fn no_pod_is_lost(steps in prop::collection::vec((0..7u8, 0..5usize, 0..4000u64), 1..120)) {
        let mut test = Test::new();
        let (mut there, mut flying) = (BTreeSet::new(), BTreeSet::new());
        let mut now = Duration::ZERO;
        for (what, which, ms) in steps {
            let name = format!("p{which}");
            match what {
                0 | 1 => {
                    let gates = if ms % 3 == 0 { json!([{"name": "a"}]) } else { json!([]) };
                    test.put(&name, json!({"spec": {"schedulingGates": gates, "priority": ms % 2}}), now);
                    there.insert(name);
                }
                2 => {
                    if let Some(next) = test.next(now) {
                        prop_assert!(there.contains(&next) && flying.insert(next));
                    }
                }
                3 => {
                    test.queue.refused(&name, by(Plugin::NodeResourcesFit), now);
                    flying.remove(&name);
                }
                4 => {
                    test.queue.failed(&name, now);
                    flying.remove(&name);
                }
                5 => {
                    let event = if ms % 2 == 0 { Event::Anything } else { Event::Volume };
                    test.queue.event(event, now);
                }
                _ => {
                    test.queue.remove(&name);
                    flying.remove(&name);
                    there.remove(&name);
                }
            }
            now += at(ms);
            let counts = test.queue.counts();
            let all = counts.active + counts.backing_off + counts.unschedulable + counts.gated + counts.in_flight;
            prop_assert_eq!((all, counts.in_flight), (there.len(), flying.len()));
            prop_assert!(!flying.is_empty() || test.queue.events.is_empty());
            prop_assert!(test.queue.unschedulable.values().map(BTreeSet::len).sum::<usize>() == counts.unschedulable);
        }
    }
}
