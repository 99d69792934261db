//! Pods on nodes, in network namespaces: what reaches what, and what is left when nodes and pods go.

use std::collections::HashSet;
use std::sync::Arc;

use barque_network::Backend;

use crate::lab::Lab;

#[test]
fn pods_reach_pods_and_nodes_on_their_node_and_on_others_with_both_families() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.node(1), lab.node(2));
    one.knows(&[&two]).unwrap();
    two.knows(&[&one]).unwrap();
    let (a, b, c) = (lab.pod(), lab.pod(), lab.pod());
    let at_a = one.attach("a", &a).unwrap();
    let at_b = one.attach("b", &b).unwrap();
    let at_c = two.attach("c", &c).unwrap();
    assert_eq!(at_a.interface, "eth0");
    assert_eq!(at_a.mtu, Some(1450));
    assert_eq!(at_a.addresses[0].to_string(), "10.1.1.2");
    assert_eq!(at_c.addresses[1].to_string(), "fd00:2::2");
    for family in [0, 1] {
        a.asks(&a, at_a.addresses[family], 100).expect("itself");
        a.asks(&b, at_b.addresses[family], 100).expect("a pod of the same node");
        a.asks(&c, at_c.addresses[family], 100).expect("a pod of another node");
        c.asks(&b, at_b.addresses[family], 100).expect("and back");
        one.namespace.asks(&a, at_a.addresses[family], 100).expect("the node its pod");
        one.namespace.asks(&c, at_c.addresses[family], 100).expect("the node a pod of another");
    }
    a.asks(&one.namespace, one.address(), 100).expect("its node");
    a.asks(&two.namespace, two.address(), 100).expect("another node");
    assert_eq!(one.problem(), None);
}

#[test]
fn nothing_is_too_large_for_the_overlay_that_fits_into_a_pods_interface() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.node(1), lab.node(2));
    one.knows(&[&two]).unwrap();
    two.knows(&[&one]).unwrap();
    let (a, c) = (lab.pod(), lab.pod());
    let mtu = one.attach("a", &a).unwrap().mtu.unwrap() as usize;
    let to = two.attach("c", &c).unwrap().addresses[0];
    // The headers of IP and UDP.
    a.asks(&c, to, mtu - 28).unwrap();
    for node in [&one, &two] {
        let counters = node.namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
        let mut lines = counters.lines().filter(|line| line.starts_with("Ip: "));
        let names = lines.next().unwrap().split_whitespace();
        let created =
            names.zip(lines.next().unwrap().split_whitespace()).find(|(name, _)| *name == "FragCreates");
        assert_eq!(created.unwrap().1, "0", "no packet was split");
    }
}

#[test]
fn a_strict_check_of_the_way_back_does_not_part_pods_from_other_nodes() {
    let Some(lab) = Lab::new() else { return };
    let (mut one, mut two) = (lab.node(1), lab.node(2));
    for node in [&mut one, &mut two] {
        node.namespace.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap());
        node.start();
    }
    one.knows(&[&two]).unwrap();
    two.knows(&[&one]).unwrap();
    let a = lab.pod();
    one.attach("a", &a).unwrap();
    a.asks(&two.namespace, two.address(), 100).unwrap();
}

#[test]
fn nodes_come_and_go_with_all_that_was_for_them() {
    let Some(lab) = Lab::new() else { return };
    let (one, two, three) = (lab.node(1), lab.node(2), lab.node(3));
    let alone = (one.routes(), one.namespace.ip("neigh show nud permanent"), entries(&one));
    one.knows(&[&two, &three]).unwrap();
    assert_eq!(entries(&one).len(), 2);
    assert_eq!(one.routes().lines().count(), 2 + 4, "{}", one.routes());
    assert_eq!(one.namespace.ip("neigh show nud permanent").lines().count(), 4);
    one.knows(&[&three]).unwrap();
    assert!(!one.routes().contains("10.1.2.0/24") && one.routes().contains("10.1.3.0/24 via 10.1.3.1"));
    one.knows(&[]).unwrap();
    assert_eq!((one.routes(), one.namespace.ip("neigh show nud permanent"), entries(&one)), alone);
}

/// The forwarding entries of the overlay.
fn entries(node: &crate::lab::Node) -> Vec<String> {
    let text = node.namespace.run(|| {
        let output = std::process::Command::new("bridge").args(["fdb", "show", "dev", "barque.1"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    text.lines().filter(|line| line.contains("dst")).map(str::to_owned).collect()
}

#[test]
fn on_one_link_nodes_can_do_without_the_overlay() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (
        lab.node_with(1, Backend::HostGateway, &["10.1.1.0/24", "fd00:1::/64"]),
        lab.node_with(2, Backend::HostGateway, &["10.1.2.0/24", "fd00:2::/64"]),
    );
    one.knows(&[&two]).unwrap();
    two.knows(&[&one]).unwrap();
    let (a, c) = (lab.pod(), lab.pod());
    assert_eq!(one.attach("a", &a).unwrap().mtu, Some(1500));
    let to = two.attach("c", &c).unwrap().addresses;
    a.asks(&c, to[0], 1472).unwrap();
    a.asks(&c, to[1], 100).unwrap();
}

#[test]
fn a_restart_finds_the_pods_and_gives_their_addresses_to_nobody() {
    let Some(lab) = Lab::new() else { return };
    let mut node = lab.node(1);
    let (a, b, c) = (lab.pod(), lab.pod(), lab.pod());
    let at_a = node.attach("a", &a).unwrap();
    node.attach("b", &b).unwrap();
    drop(b);
    node.start();
    let adopted = node.run(async |network| network.adopt().await).unwrap();
    let found: HashSet<_> = adopted.iter().map(|pod| (pod.pod_id.as_str(), pod.addresses.clone())).collect();
    assert_eq!(found.len(), 2);
    assert!(found.contains(&("a", at_a.addresses.clone())));
    assert!(adopted.iter().any(|pod| pod.pod_id == "a" && pod.connected));
    assert_eq!(node.attach("c", &c).unwrap().addresses[0].to_string(), "10.1.1.4");
    a.asks(&c, node.attach("c", &c).unwrap().addresses[0], 100).unwrap();
    let living = HashSet::from(["a".to_owned(), "c".to_owned()]);
    let removed = node.run(async move |network| network.collect(&living).await).unwrap();
    assert_eq!(removed, ["b"]);
    c.asks(&a, at_a.addresses[0], 100).unwrap();
    assert_eq!(node.problem(), None);
}

#[test]
fn a_pod_that_is_attached_again_keeps_its_addresses_also_in_another_namespace() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.node(1);
    let (a, other) = (lab.pod(), lab.pod());
    let first = node.attach("a", &a).unwrap();
    a.ip("route del default");
    assert_eq!(node.attach("a", &a).unwrap(), first);
    node.namespace.asks(&a, first.addresses[0], 100).unwrap();
    assert_eq!(node.attach("a", &other).unwrap(), first);
    node.namespace.asks(&other, first.addresses[0], 100).unwrap();
    let error = node.attach("b", &other).unwrap_err();
    assert!(error.to_string().contains("has an interface eth0 already"), "{error}");
}

#[test]
fn many_pods_at_once_have_an_address_each() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.node(1);
    let pods: Vec<_> = (0..50).map(|_| lab.pod()).collect();
    let paths: Vec<_> = pods.iter().map(crate::lab::Namespace::path).collect();
    let attached = node.run(async move |network| {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, path) in paths.into_iter().enumerate() {
            let network = Arc::clone(&network);
            tasks.spawn(async move {
                (number, network.attach(&format!("pod-{number}"), &path, "default/many").await.unwrap())
            });
        }
        tasks.join_all().await
    });
    let distinct: HashSet<_> = attached.iter().map(|(_, pod)| pod.addresses[0]).collect();
    assert_eq!(distinct.len(), 50);
    for (number, pod) in &attached {
        node.namespace.asks(&pods[*number], pod.addresses[0], 10).unwrap();
    }
    let nobody = HashSet::new();
    let removed = node.run(async move |network| network.collect(&nobody).await).unwrap();
    assert_eq!(removed.len(), 50);
    assert_eq!(node.routes().lines().count(), 2, "{}", node.routes());
}

#[test]
fn a_pod_that_is_gone_is_detached_as_often_as_anybody_likes() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.node(1);
    let a = lab.pod();
    node.attach("a", &a).unwrap();
    drop(a);
    node.detach("a").unwrap();
    node.detach("a").unwrap();
    node.detach("never").unwrap();
    let error =
        node.run(async |network| network.attach("x", "/run/netns/none".as_ref(), "x").await).unwrap_err();
    assert!(
        error.story().ends_with("/run/netns/none: No such file or directory (os error 2)"),
        "{}",
        error.story()
    );
    node.detach("x").unwrap();
}

#[test]
fn a_network_without_free_addresses_is_named_until_one_is_back() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.node_with(1, Backend::Vxlan, &["10.1.1.0/30"]);
    let (a, b) = (lab.pod(), lab.pod());
    node.attach("a", &a).unwrap();
    let error = node.attach("b", &b).unwrap_err();
    assert!(error.to_string().contains("the pod network 10.1.1.0/30 are in use"), "{error}");
    node.detach("a").unwrap();
    assert_eq!(node.attach("b", &b).unwrap().addresses[0].to_string(), "10.1.1.2");
}

#[test]
fn without_a_pod_network_nothing_is_changed_and_the_reason_is_told() {
    let Some(lab) = Lab::new() else { return };
    let node = lab.node_with(1, Backend::Vxlan, &[]);
    let error = node.attach("a", &lab.pod()).unwrap_err();
    assert!(error.to_string().contains("the node has no pod network yet"), "{error}");
    let error = node.run(async |network| network.repair().await);
    error.unwrap();
    assert!(node.problem().unwrap().contains("the node has no pod network yet"));
    assert_eq!(node.routes(), "");
}

#[test]
fn what_others_made_stays_and_is_told_where_it_is_in_the_way() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.node(1), lab.node(2));
    let foreign = one.namespace.ip("route show");
    one.namespace.ip("route add 10.1.2.0/24 via 192.168.77.9");
    one.namespace.ip("link add bqother type veth peer name other");
    let error = one.knows(&[&two]).unwrap_err();
    assert!(error.to_string().contains("a route to 10.1.2.0/24 exists that is not Barque's"), "{error}");
    assert!(one.problem().unwrap().contains("10.1.2.0/24"));
    assert!(one.namespace.ip("route show").contains("10.1.2.0/24 via 192.168.77.9"));
    one.namespace.ip("route del 10.1.2.0/24 via 192.168.77.9");
    one.knows(&[&two]).unwrap();
    assert_eq!(one.problem(), None);
    let a = lab.pod();
    one.attach("a", &a).unwrap();
    one.run(async |network| network.cleanup().await).unwrap();
    assert_eq!(one.routes(), "");
    let links = one.namespace.ip("-o link show");
    assert!(links.contains("bqother") && !links.contains("barque.1"), "{links}");
    assert_eq!(links.matches(": bq").count(), 1, "{links}");
    let ours = |line: &&str| line.contains("10.1.1");
    assert!(!foreign.lines().all(|line| ours(&line)), "{foreign}");
    assert!(one.namespace.ip("route show").contains("192.168.77.0/24 dev up0"));
}

#[test]
fn what_somebody_broke_is_put_right_by_the_next_pass() {
    let Some(lab) = Lab::new() else { return };
    let (one, two) = (lab.node(1), lab.node(2));
    one.knows(&[&two]).unwrap();
    two.knows(&[&one]).unwrap();
    let (a, c) = (lab.pod(), lab.pod());
    one.attach("a", &a).unwrap();
    let to = two.attach("c", &c).unwrap().addresses[0];
    one.namespace.ip("route del 10.1.1.2");
    one.namespace.ip("link set barque.1 mtu 1400 down");
    two.namespace.ip("link del barque.1");
    for node in [&one, &two] {
        node.run(async |network| network.repair().await).unwrap();
    }
    a.asks(&c, to, 1422).unwrap();
}
