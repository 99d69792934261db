//! ResourceQuotas: a table for what is written, and pods that end in a simulated cluster.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::plan::Planned;
use crate::simulation::{Trouble, World};

fn planned(quota: Value, counted: Vec<(Meter, Counted)>) -> Option<Value> {
    let mut whole = json!({"metadata": {"name": "q", "namespace": "ns", "uid": "u", "resourceVersion": "1"}});
    barque_api::patch::merge::merge(&mut whole, quota);
    planned_while(whole, counted, Amounts::new())
}

/// With what was charged just now.
fn planned_while(whole: Value, counted: Vec<(Meter, Counted)>, charged: Amounts) -> Option<Value> {
    let view = View { quota: Arc::new(serde_json::from_value(whole).unwrap()), counted, charged };
    let controller = ResourceQuotas::new(Arc::default(), Clock::monotonic());
    let plan = controller.plan(&view, "2026-01-01T00:00:10Z".parse().unwrap());
    plan.actions().next().map(|Planned { action, .. }| match action {
        Action::Update { patch, subresource: Some("status"), .. } => patch["status"].clone(),
        other => panic!("{other:?}"),
    })
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[test]
fn what_is_used_stands_beside_what_is_bounded() {
    let pods = || vec![(Meter::Pods, Counted::Each(vec![pod("1500m"), pod("500m")]))];
    let hard = json!({"pods": "5", "requests.cpu": "4"});
    let spec = json!({"hard": hard});
    let expected = json!({"hard": hard, "used": {"pods": "2", "requests.cpu": "2"}});
    assert_eq!(planned(json!({"spec": spec}), pods()), Some(expected.clone()));
    assert_eq!(planned(json!({"spec": spec, "status": expected}), pods()), None);
    let same = json!({"hard": {"pods": "5", "requests.cpu": "4000m"}, "used": {"pods": "2", "requests.cpu": "2000m"}});
    assert_eq!(planned(json!({"spec": spec, "status": same}), pods()), None);
    let other = json!({"hard": {"pods": "3", "secrets": "1"}, "used": {"pods": "2", "secrets": "1"}});
    let expected = json!({
        "hard": {"pods": "5", "requests.cpu": "4", "secrets": null},
        "used": {"requests.cpu": "2", "secrets": null},
    });
    assert_eq!(planned(json!({"spec": spec, "status": other}), pods()), Some(expected));
    let none = json!({"used": {"pods": "0", "requests.cpu": "0"}, "hard": hard});
    assert_eq!(planned(json!({"spec": spec}), vec![(Meter::Pods, Counted::Each(vec![]))]), Some(none));
}

#[test]
fn what_cannot_be_counted_stays_as_it_was() {
    let hard = json!({"count/ships.barque.test": "5", "count/boats.barque.test": "2"});
    let status = json!({"hard": hard, "used": {"count/boats.barque.test": "1"}});
    let ships = Meter::Others(vec!["count/ships.barque.test".to_owned()]);
    let expected = json!({"used": {"count/ships.barque.test": "3"}});
    let counted = |meter: &Meter| vec![(meter.clone(), Counted::Number(3))];
    assert_eq!(planned(json!({"spec": {"hard": hard}, "status": status}), counted(&ships)), Some(expected));
    assert_eq!(planned(json!({"spec": {"hard": hard}, "status": status}), vec![]), None);
    // What has only a number is in no scope.
    let scoped = json!({"spec": {"hard": hard, "scopes": ["Terminating"]}, "status": status});
    let expected = json!({"used": {"count/ships.barque.test": "0"}});
    assert_eq!(planned(scoped, counted(&ships)), Some(expected));
}

#[test]
fn what_was_charged_for_what_is_not_here_yet_is_not_given_back() {
    let made = |second: u32| {
        let mut pod = pod("1");
        pod["metadata"] = json!({"creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")});
        pod
    };
    let check = |used: u32, pods: &[u32], charged: u32, expected: Option<&str>| {
        let hard = json!({"pods": "9"});
        let quota = json!({
            "metadata": {"name": "q", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
            "spec": {"hard": hard}, "status": {"hard": hard, "used": {"pods": used.to_string()}},
        });
        let pods = pods.iter().map(|second| made(*second)).collect();
        let charged = amounts(&[("pods".to_owned(), Text(charged.to_string()))].into());
        let told = planned_while(quota, vec![(Meter::Pods, Counted::Each(pods))], charged);
        assert_eq!(told.as_ref().and_then(|status| status["used"]["pods"].as_str()), expected, "{told:?}");
    };
    // It is ten seconds past.
    check(2, &[0], 0, Some("1"));
    check(2, &[0], 1, None);
    check(3, &[0], 1, Some("2"));
    check(2, &[9], 1, Some("1"));
    check(3, &[0, 9], 2, None);
    check(1, &[0, 9], 5, Some("2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_ends_is_given_back(seed in any::<u64>(), count in 1usize..12, steps in 0usize..200) {
        let mut world = World::new(seed);
        for number in 0..count {
            let mut object = pod("250m");
            object["metadata"] = json!({"namespace": "ns", "name": format!("p{number}")});
            world.create::<Pod>(object);
        }
        let quota = json!({
            "metadata": {"namespace": "ns", "name": "q"}, "spec": {"hard": {"pods": "20", "requests.cpu": "5"}},
        });
        world.create::<ResourceQuota>(quota);
        // What comes later is charged by the API server.
        world.run_with(|time| ResourceQuotas::new(Arc::default(), time.clock()));
        world.api.trouble(Trouble::Percent(20));
        for step in 0..steps {
            if step == 90 {
                world.restart();
            }
            world.step();
        }
        world.settle();
        let running = world.api.all::<Pod>().iter().filter(|pod| !crate::pods::is_terminal(pod)).count();
        let used = world.api.get::<ResourceQuota>("ns", "q").unwrap().status.unwrap().used.unwrap();
        prop_assert_eq!(&used["pods"].0, &running.to_string());
        let cpu = amounts(&used)["requests.cpu"].clone();
        prop_assert_eq!(cpu.milli_value(), i64::try_from(running).unwrap() * 250);
    }
}
