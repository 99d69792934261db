//! Ranges of nodes: tables, and whole lives of clusters.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::Rng as _;
use serde_json::json;

use super::*;
use crate::simulation::{SimulatedApi, Trouble, World};

fn range(text: &str) -> Range {
    text.parse().unwrap()
}

#[test]
fn ranges_are_read_and_compared() {
    assert_eq!(range("10.1.2.3/16").to_string(), "10.1.0.0/16");
    assert_eq!(range("fd00:0:0:7::1/64").to_string(), "fd00:0:0:7::/64");
    assert_eq!(range("::/0").to_string(), "::/0");
    for wrong in ["10.0.0.0", "10.0.0.0/33", "a/8", "fd00::/129"] {
        assert!(wrong.parse::<Range>().is_err(), "{wrong}");
    }
    let overlap = |one, other, expected| {
        assert_eq!(range(one).overlaps(range(other)), expected, "{one} {other}");
        assert_eq!(range(other).overlaps(range(one)), expected, "{other} {one}");
    };
    overlap("10.0.0.0/8", "10.200.0.0/24", true);
    overlap("10.0.0.0/24", "10.0.1.0/24", false);
    overlap("0.0.0.0/0", "fd00::/8", false);
    overlap("0.0.0.0/0", "10.0.0.0/8", true);
}

#[test]
fn the_next_free_part_is_found() {
    let pool = Pool::new(range("10.0.0.0/22"), 24);
    let free = |taken: &[&str], from| {
        let taken: Vec<_> = taken.iter().map(|text| range(text)).collect();
        pool.free(&taken, from).map(|number| pool.range(number).to_string())
    };
    assert_eq!(free(&[], 0).as_deref(), Some("10.0.0.0/24"));
    assert_eq!(free(&[], 6).as_deref(), Some("10.0.2.0/24"));
    assert_eq!(free(&["10.0.3.0/24"], 3).as_deref(), Some("10.0.0.0/24"), "round again");
    assert_eq!(
        free(&["10.0.0.128/25", "10.0.1.0/24"], 0).as_deref(),
        Some("10.0.2.0/24"),
        "a part of a part"
    );
    assert_eq!(free(&["10.0.0.0/23"], 0).as_deref(), Some("10.0.2.0/24"), "more than one");
    assert_eq!(free(&["10.0.0.0/8"], 0), None);
    assert_eq!(free(&["192.168.0.0/16", "fd00::/8"], 0).as_deref(), Some("10.0.0.0/24"), "of somewhere else");
    let six = Pool::new(range("fd00::/56"), 64);
    assert_eq!(six.range(six.free(&[range("fd00::/64")], 0).unwrap()).to_string(), "fd00:0:0:1::/64");
}

fn ipam() -> NodeIpam {
    NodeIpam::new(&NodeIpamOptions {
        clusters: vec![(range("10.0.0.0/21"), 24), (range("fd00::/60"), 64)],
        services: vec![range("10.0.7.0/24")],
    })
}

/// No two nodes have the same address; the service's are nobody's.
fn disjoint(api: &SimulatedApi) {
    let mut taken = vec![("the service".to_owned(), range("10.0.7.0/24"))];
    for node in api.all::<Node>() {
        for text in ranges_of(&node) {
            let mine = range(text);
            if let Some((other, theirs)) = taken.iter().find(|(_, theirs)| theirs.overlaps(mine)) {
                panic!("{} has {mine}, {other} has {theirs}", node.key());
            }
            taken.push((node.key().name, mine));
        }
    }
}

#[test]
fn a_pool_that_is_used_up_is_told_and_filled_again() {
    let mut world = World::new(1);
    world.run(ipam);
    world.always(disjoint);
    for number in 0..8 {
        world.create::<Node>(json!({"metadata": {"name": format!("n{number}")}}));
    }
    world.settle();
    let without = |world: &World| -> Vec<String> {
        let nodes = world.api.all::<Node>();
        nodes.iter().filter(|node| ranges_of(node).next().is_none()).map(|node| node.key().name).collect()
    };
    let lacking = without(&world);
    assert_eq!(lacking.len(), 1, "one of eight ranges is the service's");
    let told = world.told.lock().iter().map(|told| told.text.clone()).collect::<Vec<_>>();
    assert!(told.contains(&format!("Node {} status is now: CIDRNotAvailable", lacking[0])), "{told:?}");
    let other = if lacking[0] == "n0" { "n1" } else { "n0" };
    world.api.delete::<Node>(&Key::new("", other), crate::plan::Propagation::Background, Some(0));
    world.settle();
    assert_eq!(without(&world), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_range_is_given_twice(seed in any::<u64>(), percent in 0u32..40) {
        let mut world = World::new(seed);
        world.run(ipam);
        world.always(disjoint);
        world.api.trouble(Trouble::Percent(percent));
        let mut made: BTreeMap<String, Option<String>> = BTreeMap::new();
        for number in 0..120 {
            match world.rng.random_range(0..12) {
                0 | 1 if made.len() < 7 => {
                    let name = format!("n{number}");
                    // Somebody may have said it by hand, where nobody is yet.
                    let by_hand = (world.rng.random_range(0..6) == 0).then(|| {
                        let taken: Vec<_> = world.api.all::<Node>().iter().flat_map(|node| {
                            ranges_of(node).map(range).collect::<Vec<_>>()
                        }).collect();
                        (0..).map(|part| range(&format!("172.16.{part}.0/24"))).find(|it| !taken.contains(it))
                    }).flatten().map(|it| it.to_string());
                    let all = by_hand.clone().map(|it| vec![it]);
                    world.create::<Node>(json!({
                        "metadata": {"name": name}, "spec": {"podCIDR": by_hand, "podCIDRs": all},
                    }));
                    made.insert(name, by_hand);
                }
                2 if !made.is_empty() => {
                    let name = made.keys().nth(world.rng.random_range(0..made.len())).unwrap().clone();
                    made.remove(&name);
                    world.api.delete::<Node>(&Key::new("", &name), crate::plan::Propagation::Background, Some(0));
                }
                3 => world.restart(),
                _ => world.step(),
            }
        }
        world.settle();
        for (name, by_hand) in made {
            let node: Node = world.api.get("", &name).unwrap();
            let shown: Vec<_> = ranges_of(&node).map(str::to_owned).collect();
            match by_hand {
                Some(text) => prop_assert_eq!(shown, vec![text], "what was given is not changed"),
                None => prop_assert_eq!(shown.len(), 2, "{} has {:?}", name, shown),
            }
        }
    }
}

#[test]
fn what_was_given_by_hand_is_nobody_elses() {
    let mut world = World::new(2);
    world.run(ipam);
    world.always(disjoint);
    world.create::<Node>(json!({
        "metadata": {"name": "z"}, "spec": {"podCIDR": "10.0.0.0/22", "podCIDRs": ["10.0.0.0/22", "fd00::/62"]},
    }));
    world.settle();
    for number in 0..3 {
        world.create::<Node>(json!({"metadata": {"name": format!("n{number}")}}));
    }
    world.settle();
    let node: Node = world.api.get("", "n0").unwrap();
    assert_eq!(ranges_of(&node).collect::<Vec<_>>(), ["10.0.4.0/24", "fd00:0:0:4::/64"]);
    assert_eq!(node.spec.unwrap().pod_cidr.as_deref(), Some("10.0.4.0/24"));
}
