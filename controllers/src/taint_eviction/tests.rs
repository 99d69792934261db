//! How long pods stay, and how they leave.

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::{Value, json};

use super::*;
use crate::simulation::{Trouble, World};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn how_long_a_pod_stays() {
    let check = |tolerations: Value, taints: Value, expected: Stay| {
        let tolerations: Vec<_> = serde_json::from_value(tolerations).unwrap();
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        let taints: Vec<_> = taints.iter().collect();
        assert_eq!(tolerate::stay(&tolerations, &taints), expected, "{tolerations:?} {taints:?}");
    };
    let a = || json!([{"key": "a", "value": "v", "effect": "NoExecute"}]);
    check(json!([]), json!([]), Stay::Forever);
    check(json!([]), a(), Stay::For(S(0)));
    check(json!([{"operator": "Exists"}]), a(), Stay::Forever);
    check(json!([{"key": "a", "operator": "Exists"}]), a(), Stay::Forever);
    check(json!([{"key": "a", "value": "v"}]), a(), Stay::Forever);
    check(json!([{"key": "a", "value": "w"}]), a(), Stay::For(S(0)));
    check(json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]), a(), Stay::For(S(0)));
    check(json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 7}]), a(), Stay::For(S(7)));
    check(json!([{"key": "a", "operator": "Exists", "tolerationSeconds": -7}]), a(), Stay::For(S(0)));
    let first = json!([{"operator": "Exists", "tolerationSeconds": 9}, {"operator": "Exists"}]);
    check(first, a(), Stay::For(S(9)));
    let two = json!([{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}]);
    let both = json!([
        {"key": "a", "operator": "Exists", "tolerationSeconds": 9}, {"key": "b", "operator": "Exists", "tolerationSeconds": 4},
    ]);
    check(both, two.clone(), Stay::For(S(4)));
    check(json!([{"key": "a", "operator": "Exists"}]), two, Stay::For(S(0)));
    let five = json!([{"key": "n", "value": "5", "effect": "NoExecute"}]);
    check(json!([{"key": "n", "operator": "Gt", "value": "4"}]), five.clone(), Stay::Forever);
    check(json!([{"key": "n", "operator": "Lt", "value": "4"}]), five, Stay::For(S(0)));
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.run_with(|time| TaintEviction::new(time.clock()));
    world.create::<Node>(json!({"metadata": {"name": "n"}}));
    world
}

fn pod(world: &mut World, name: &str, tolerations: Value) {
    world.create::<Pod>(json!({
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations},
    }));
}

fn taint(world: &mut World, tainted: bool) {
    let taints = json!([{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"}]);
    let taints = tainted.then(|| serde_json::from_value(taints).unwrap());
    world.edit::<Node>("", "n", |node| node.spec.get_or_insert_default().taints = taints);
}

fn leaves(world: &World, name: &str) -> bool {
    world.api.get::<Pod>("ns", name).unwrap().is_deleting()
}

#[test]
fn pods_leave_when_their_time_is_over() {
    let mut world = world(1);
    let seconds = |seconds: u32| json!([{"key": "a", "operator": "Exists", "tolerationSeconds": seconds}]);
    pod(&mut world, "never", json!([{"key": "a", "operator": "Exists"}]));
    pod(&mut world, "at-once", json!([]));
    pod(&mut world, "soon", seconds(30));
    pod(&mut world, "late", seconds(300));
    world.let_pass(S(1000));
    taint(&mut world, true);
    world.let_pass(S(0));
    let all = |world: &World| ["never", "at-once", "soon", "late"].map(|name| leaves(world, name));
    assert_eq!(all(&world), [false, true, false, false]);
    world.let_pass(S(29));
    assert_eq!(all(&world), [false, true, false, false]);
    world.let_pass(S(1));
    assert_eq!(all(&world), [false, true, true, false]);
    taint(&mut world, false);
    world.let_pass(S(400));
    assert_eq!(all(&world), [false, true, true, false]);
    let gone: Pod = world.api.get("ns", "soon").unwrap();
    let condition = &gone.status.unwrap().conditions.unwrap()[0];
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("DisruptionTarget", "True"));
    assert_eq!(condition.reason.as_deref(), Some("DeletionByTaintManager"));
    assert_eq!(condition.message.as_deref(), Some("Taint manager: deleting due to NoExecute taint"));
    let told: Vec<_> =
        world.told.lock().iter().map(|told| format!("{} {}", told.reason, told.text)).collect();
    assert_eq!(
        told,
        [
            "TaintManagerEviction Marking for deletion Pod ns/at-once",
            "TaintManagerEviction Marking for deletion Pod ns/soon",
            "TaintManagerEviction Cancelling deletion of Pod ns/late",
        ]
    );
}

#[test]
fn a_pod_that_comes_to_a_tainted_node_leaves_too() {
    let mut world = world(2);
    taint(&mut world, true);
    world.let_pass(S(10));
    pod(&mut world, "p", json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]));
    world.let_pass(S(4));
    assert!(!leaves(&world, "p"));
    world.let_pass(S(1));
    assert!(leaves(&world, "p"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn nobody_leaves_before_the_time_is_over(seed in any::<u64>(), percent in 0u32..40) {
        let mut world = world(seed);
        for seconds in [0_u32, 5, 50] {
            let tolerations = json!([{"key": "a", "operator": "Exists", "tolerationSeconds": seconds}]);
            pod(&mut world, &format!("p{seconds}"), tolerations);
        }
        world.api.trouble(Trouble::Percent(percent));
        let mut since = None;
        for _ in 0..40 {
            if world.rng.random_range(0..3) == 0 {
                since = if since.is_none() { Some(world.time.elapsed()) } else { None };
                taint(&mut world, since.is_some());
                world.let_pass(S(0));
            } else {
                let seconds = world.rng.random_range(0..9);
                let before: Vec<_> = [0, 5, 50].map(|it| leaves(&world, &format!("p{it}"))).to_vec();
                world.let_pass(S(seconds));
                let passed = since.map(|since| world.time.elapsed() - since);
                for (before, seconds) in before.into_iter().zip([0, 5, 50]) {
                    let after = leaves(&world, &format!("p{seconds}"));
                    prop_assert!(!after || before || passed >= Some(S(seconds)), "{} s too early", seconds);
                }
            }
        }
        taint(&mut world, true);
        world.api.trouble(Trouble::None);
        world.let_pass(S(2000));
        for seconds in [0, 5, 50] {
            let name = format!("p{seconds}");
            prop_assert!(leaves(&world, &name), "{} stays", name);
        }
    }
}
