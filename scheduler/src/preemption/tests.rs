//! Room that is made, in small clusters.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decision::Decision;
use crate::test_cluster::{TestCluster, merge, requests};

struct Test {
    cluster: TestCluster,
    budgets: Budgets,
    preemptor: Preemptor,
}

/// A pod of so many cores, a priority, and when it started.
fn asks(cpu: &str, priority: i32, started: u32) -> Value {
    let mut pod = requests(json!({"cpu": cpu}));
    let time = format!("2026-01-01T00:00:{started:02}Z");
    merge(&mut pod, json!({"spec": {"priority": priority}, "status": {"startTime": time}}));
    pod
}

impl Test {
    fn new() -> Self {
        Self { cluster: TestCluster::new(), budgets: Budgets::default(), preemptor: Preemptor::new(1) }
    }

    fn plan(&mut self, name: &str, pod: Value) -> Outcome {
        let pod = self.cluster.pending(name, pod);
        let Decision::Refused(refused) = self.cluster.decide(&pod) else { panic!("it fits") };
        let profile = &self.cluster.scheduler.profiles()[0];
        self.preemptor.plan(&self.cluster.snapshot, &pod, profile, &refused, &self.budgets)
    }

    /// The node and the victims' names, or the message.
    fn told(&mut self, pod: Value) -> String {
        match self.plan("p", pod) {
            Outcome::Preempt(preemption) => {
                let victims: Vec<_> = preemption.victims.iter().map(|pod| &*pod.name.name).collect();
                format!("{}: {}", self.cluster.snapshot.node_name(preemption.node), victims.join(" "))
            }
            Outcome::Unhelpful { message, .. } => message,
        }
    }

    fn budget(&mut self, name: &str, app: &str, allowed: i32) {
        let budget = json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
        });
        self.budgets.put(Budget::of(&serde_json::from_value(budget).unwrap()).unwrap());
    }
}

#[test]
fn as_few_go_as_can_be_and_the_least_important() {
    let mut test = Test::new();
    test.cluster.node("a", json!({}));
    test.cluster.running("low", "a", asks("2", 1, 0));
    test.cluster.running("middle", "a", asks("1", 2, 0));
    test.cluster.running("high", "a", asks("1", 9, 0));
    assert_eq!(test.told(asks("1", 10, 0)), "a: low");
    assert_eq!(test.told(asks("2", 10, 0)), "a: low");
    assert_eq!(test.told(asks("3", 10, 0)), "a: middle low");
    // Equals are never evicted.
    assert_eq!(
        test.told(asks("1", 1, 0)),
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    );
    assert_eq!(test.told(asks("4", 9, 0)), "preemption: 0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn nodes_are_chosen_by_budgets_then_importance_then_number_then_age() {
    let mut test = Test::new();
    for name in ["a", "b", "c", "d", "e"] {
        test.cluster.node(name, json!({}));
    }
    let web = |mut pod: Value| {
        merge(&mut pod, json!({"metadata": {"labels": {"app": "web"}}}));
        pod
    };
    test.budget("web", "web", 0);
    test.cluster.running("a1", "a", web(asks("4", 1, 0)));
    test.cluster.running("b1", "b", asks("4", 5, 0));
    test.cluster.running("c1", "c", asks("2", 3, 9));
    test.cluster.running("c2", "c", asks("2", 3, 9));
    test.cluster.running("d1", "d", asks("4", 3, 1));
    test.cluster.running("e1", "e", asks("4", 3, 2));
    let pod = || asks("4", 10, 0);
    // The youngest of those with one victim of priority 3.
    assert_eq!(test.told(pod()), "e: e1");
    test.cluster.snapshot.remove_node("e");
    assert_eq!(test.told(pod()), "d: d1");
    test.cluster.snapshot.remove_node("d");
    assert_eq!(test.told(pod()), "c: c1 c2");
    test.cluster.snapshot.remove_node("c");
    assert_eq!(test.told(pod()), "b: b1");
    test.cluster.snapshot.remove_node("b");
    let Outcome::Preempt(preemption) = test.plan("p", pod()) else { panic!() };
    assert_eq!(preemption.violations, 1);
    // What is found is forgotten when budgets change.
    test.budget("web", "web", 1);
    let Outcome::Preempt(preemption) = test.plan("p", pod()) else { panic!() };
    assert_eq!(preemption.violations, 0);
    test.budgets.remove("default", "web");
    assert!(matches!(test.plan("p", pod()), Outcome::Preempt(_)));
}

#[test]
fn pods_that_a_budget_keeps_are_spared_first() {
    let mut test = Test::new();
    test.cluster.node("a", json!({}));
    test.budget("web", "web", 0);
    let mut kept = asks("2", 1, 0);
    merge(&mut kept, json!({"metadata": {"labels": {"app": "web"}}}));
    test.cluster.running("kept", "a", kept);
    test.cluster.running("free", "a", asks("2", 2, 0));
    assert_eq!(test.told(asks("2", 10, 0)), "a: free");
}

#[test]
fn those_that_never_preempt_or_wait_already_do_not() {
    let mut test = Test::new();
    test.cluster.node("a", json!({}));
    test.cluster.running("low", "a", asks("4", 1, 0));
    let mut never = asks("1", 10, 0);
    merge(&mut never, json!({"spec": {"preemptionPolicy": "Never"}}));
    assert_eq!(test.told(never), "preemption: not eligible due to preemptionPolicy=Never.");
    let mut leaving = asks("4", 1, 0);
    merge(&mut leaving, json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    test.cluster.running("low", "a", leaving);
    let mut waits = asks("1", 10, 0);
    merge(&mut waits, json!({"status": {"nominatedNodeName": "a"}}));
    assert_eq!(test.told(waits), "preemption: not eligible due to a terminating pod on the nominated node.");
}

#[test]
fn what_eviction_cannot_help_is_told_apart() {
    let mut test = Test::new();
    test.cluster.node("a", json!({"spec": {"unschedulable": true}}));
    test.cluster.node("b", json!({"status": {"allocatable": {"cpu": "1"}}}));
    test.cluster.node("c", json!({}));
    test.cluster.running("equal", "c", asks("4", 10, 0));
    assert_eq!(
        test.told(asks("2", 10, 0)),
        "preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn a_pod_is_told_everything_in_one_sentence() {
    let mut test = Test::new();
    test.cluster.node("a", json!({}));
    for name in ["b", "c"] {
        test.cluster
            .node(name, json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
    }
    test.cluster.running("equal", "a", asks("4", 0, 0));
    let pod = test.cluster.pending("p", asks("1", 0, 0));
    let Decision::Refused(refused) = test.cluster.decide(&pod) else { panic!() };
    let outcome = test.plan("p", asks("1", 0, 0));
    assert_eq!(
        outcome.told_after(&refused),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {k: v}. \
         preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, \
         2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn room_that_is_made_is_kept_for_whom_it_is_made() {
    let mut test = Test::new();
    let a = test.cluster.node("a", json!({}));
    test.cluster.running("low", "a", asks("4", 1, 0));
    let Outcome::Preempt(preemption) = test.plan("p", asks("3", 10, 0)) else { panic!() };
    let pod = test.cluster.pending("p", asks("3", 10, 0));
    test.cluster.snapshot.nominate(&pod, preemption.node);
    test.cluster.snapshot.remove_pod("low");
    // Others of no more priority get what is left; of more, everything.
    assert_eq!(test.cluster.answer("q", asks("1", 10, 0)), "a");
    assert_eq!(test.cluster.answer("q", asks("2", 10, 0)), "0/1 nodes are available: 1 Insufficient cpu.");
    assert_eq!(test.cluster.answer("q", asks("2", 11, 0)), "a");
    let mut nominated = asks("3", 10, 0);
    merge(&mut nominated, json!({"status": {"nominatedNodeName": "a"}}));
    assert_eq!(test.cluster.answer("p", nominated), "a");
    // Who has room made by evicting others displaces the one that waits.
    test.cluster.running("middle", "a", asks("4", 5, 0));
    let Outcome::Preempt(preemption) = test.plan("r", asks("4", 20, 0)) else { panic!() };
    assert_eq!(preemption.displaced.iter().map(|pod| &*pod.uid).collect::<Vec<_>>(), ["p"]);
    test.cluster.snapshot.unnominate("p");
    assert!(test.cluster.snapshot.nominated_on(a).is_empty());
}

#[test]
fn neighbours_are_evicted_too() {
    let mut test = Test::new();
    test.cluster.node("a", json!({}));
    let term =
        json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}});
    let far = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let mut web = asks("1", 1, 0);
    merge(&mut web, json!({"metadata": {"labels": {"app": "web"}}}));
    test.cluster.running("web", "a", web.clone());
    test.cluster.running("other", "a", asks("1", 0, 0));
    let mut pod = asks("1", 10, 0);
    merge(&mut pod, json!({"spec": {"affinity": far}}));
    assert_eq!(test.told(pod.clone()), "a: web");
    // The other way round.
    let mut lonely = asks("1", 1, 0);
    merge(&mut lonely, json!({"spec": {"affinity": far}}));
    test.cluster.running("web", "a", lonely);
    let mut high = web;
    merge(&mut high, json!({"spec": {"priority": 10}}));
    assert_eq!(test.told(high), "a: web");
    // Room for one that wants to be alone is not given to those that it does not want.
    test.cluster.snapshot.remove_pod("web");
    let node = test.cluster.snapshot.node("a").unwrap();
    let pod = test.cluster.pending("p", pod);
    test.cluster.snapshot.nominate(&pod, node);
    let mut web = asks("1", 1, 0);
    merge(&mut web, json!({"metadata": {"labels": {"app": "web"}}}));
    assert_eq!(
        test.cluster.answer("q", web),
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    );
}

#[test]
fn enough_nodes_are_tried() {
    let args = |percentage, absolute| PreemptionArgs {
        min_candidate_nodes_percentage: percentage,
        min_candidate_nodes_absolute: absolute,
    };
    let table = [(10, 100, 5000, 500), (10, 100, 500, 100), (10, 100, 50, 50), (0, 1, 50, 1)];
    for (percentage, absolute, nodes, expected) in table {
        assert_eq!(candidates(&args(percentage, absolute), nodes), expected);
    }
}

proptest! {
    /// Once the victims are gone the pod fits, and not while any of them is there; and what was kept in memory is what is
    /// found afresh.
    #[test]
    fn victims_are_enough_and_all_needed(
        pods in prop::collection::vec((0..4usize, 1..4i32, 0..6i32), 0..16),
        asked in prop::collection::vec((1..5i32, 1..8i32), 1..5),
    ) {
        let mut test = Test::new();
        for node in 0..4 {
            test.cluster.node(&node.to_string(), json!({}));
        }
        for (at, (node, cpu, priority)) in pods.into_iter().enumerate() {
            let free = 4000 - test.cluster.snapshot.columns.requested[0][node];
            if i64::from(cpu) * 1000 <= free {
                test.cluster.running(&format!("r{at}"), &node.to_string(), asks(&cpu.to_string(), priority, at as u32));
            }
        }
        for (at, (cpu, priority)) in asked.into_iter().enumerate() {
            let object = asks(&cpu.to_string(), priority, 0);
            let pod = test.cluster.pending(&format!("p{at}"), object);
            let decision = test.cluster.decide(&pod);
            let node = match decision {
                Decision::Placed(placement) => placement.node,
                Decision::Refused(refused) => {
                    let profile = test.cluster.scheduler.profiles()[0].clone();
                    let snapshot = &test.cluster.snapshot;
                    let plan = |preemptor: &mut Preemptor| {
                        preemptor.plan(snapshot, &pod, &profile, &refused, &test.budgets)
                    };
                    let (known, fresh) = (plan(&mut test.preemptor), plan(&mut Preemptor::new(1)));
                    let (Outcome::Preempt(known), Outcome::Preempt(fresh)) = (&known, &fresh) else {
                        let neither = !matches!(known, Outcome::Preempt(_)) && !matches!(fresh, Outcome::Preempt(_));
                        prop_assert!(neither);
                        continue;
                    };
                    let names = |one: &Preemption| one.victims.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
                    prop_assert_eq!((known.node, names(known)), (fresh.node, names(fresh)));
                    let used = |removed: usize| {
                        let all = snapshot.columns.requested[0][known.node.at()];
                        let gone = known.victims.iter().enumerate().filter(|(at, _)| *at != removed);
                        all - gone.map(|(_, pod)| pod.ask.requests.cpu_milli).sum::<i64>() + i64::from(cpu) * 1000
                    };
                    prop_assert!(used(usize::MAX) <= 4000);
                    for (at, victim) in known.victims.iter().enumerate() {
                        prop_assert!(victim.ask.priority < priority && used(at) > 4000);
                    }
                    let (node, victims) = (known.node, names(known));
                    for victim in victims {
                        test.cluster.snapshot.remove_pod(&victim);
                    }
                    node
                }
            };
            test.cluster.snapshot.assume(&pod, node, &crate::snapshot::ClaimPlan::default());
        }
    }
}
