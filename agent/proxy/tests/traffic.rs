//! Real connections through the rules, between namespaces that are a node, its pods, and the world around.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Answer, Lab, Told, ask, endpoint, root, service, settings, slice};
use tokio::net::UdpSocket;

const CLUSTER_IP: &str = "10.43.0.10:80";

fn tcp() -> Value {
    json!([{"name": "", "port": 8080, "protocol": "TCP"}])
}

fn web(spec: Value) -> Value {
    let mut all = json!({"type": "ClusterIP", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": [{"port": 80}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    service("web", all)
}

fn both() -> Value {
    slice("web", tcp(), json!([endpoint("10.42.0.2", "a"), endpoint("10.42.1.2", "b")]))
}

fn only_p1() -> Value {
    slice("web", tcp(), json!([endpoint("10.42.0.2", "a")]))
}

fn only_p3() -> Value {
    slice("web", tcp(), json!([endpoint("10.42.1.2", "b")]))
}

fn lab() -> (Lab, Told) {
    let lab = Lab::new();
    lab.serve();
    let told = Told::new(&lab.node, settings());
    (lab, told)
}

#[test]
fn a_cluster_address_leads_to_all_endpoints_from_pods_and_nodes() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    told.apply(&[web(json!({})), both()]);
    for client in [&lab.p2, &lab.node] {
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            seen.insert(client.tcp(CLUSTER_IP).server().to_owned());
            if seen.len() == 2 {
                break;
            }
        }
        assert_eq!(seen, ["p1".to_owned(), "p3".to_owned()].into());
    }
    // Between pods the address stays.
    assert_eq!(lab.p2.tcp(CLUSTER_IP).client(), "::ffff:10.42.0.3");
    told.apply(&[only_p3()]);
    for _ in 0..10 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p3");
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    told.apply(&[web(json!({})), only_p1()]);
    let answer = lab.p1.tcp(CLUSTER_IP);
    assert_eq!(answer.server(), "p1");
    assert_ne!(answer.client(), "::ffff:10.42.0.2");
}

#[test]
fn over_ipv6_all_is_the_same() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let spec = json!({"type": "NodePort", "clusterIPs": ["fd00:43::10"], "clusterIP": "fd00:43::10", "ports": [{"port": 80, "nodePort": 30080}]});
    let mut six = slice("web", tcp(), json!([endpoint("fd00:42::2", "a")]));
    six["addressType"] = json!("IPv6");
    told.apply(&[service("web", spec), six]);
    for client in [&lab.p1, &lab.p2, &lab.node] {
        assert_eq!(client.tcp("[fd00:43::10]:80").server(), "p1");
    }
    assert_eq!(lab.outside.tcp("[2001:db8::1]:30080").server(), "p1");
    assert_eq!(lab.p2.tcp("[fd00:43::10]:81"), Answer::Refused);
    assert_eq!(lab.p2.tcp("[2001:db8::9]:80").client(), "2001:db8::1");
}

#[test]
fn node_ports_are_at_the_nodes_address_and_masqueraded() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    told.apply(&[web(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})), only_p3()]);
    let answer = lab.outside.tcp("192.0.2.1:30080");
    assert_eq!(answer.server(), "p3");
    assert_ne!(answer.client(), "::ffff:192.0.2.9");
    for client in [&lab.node, &lab.p2] {
        assert_eq!(client.tcp("192.0.2.1:30080").server(), "p3");
    }
    assert_eq!(lab.outside.tcp("192.0.2.1:30081"), Answer::Refused);
    assert_eq!(lab.node.tcp("127.0.0.1:30080"), Answer::Refused);
}

#[test]
fn external_and_load_balancer_addresses_lead_in() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let mut object = web(json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7"]}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
    told.apply(&[object, only_p1()]);
    for address in ["198.51.100.7:80", "198.51.100.8:80"] {
        for client in [&lab.outside, &lab.p2, &lab.node] {
            assert_eq!(client.tcp(address).server(), "p1", "{address}");
        }
    }
}

#[test]
fn source_ranges_keep_others_out() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let ranges = json!(["192.0.2.9/32", "10.42.0.2/32"]);
    let mut object = web(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
    told.apply(&[object, only_p1()]);
    let address = "198.51.100.8:80";
    assert_eq!(lab.outside.tcp_from("192.0.2.9", address).server(), "p1");
    assert!(lab.outside.is_silent_from("192.0.2.8", address));
    assert!(lab.p2.is_silent(address));
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
}

#[test]
fn who_is_outside_keeps_its_address_with_a_local_policy() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let object = web(json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}],
    }));
    told.apply(&[object, both()]);
    for _ in 0..10 {
        let answer = lab.outside.tcp("192.0.2.1:30080");
        assert_eq!((answer.server(), answer.client()), ("p1", "::ffff:192.0.2.9"));
    }
    // Without an endpoint here outsiders hear nothing, and insiders go elsewhere.
    told.apply(&[only_p3()]);
    assert!(lab.outside.is_silent("192.0.2.1:30080"));
    assert_eq!(lab.p2.tcp("192.0.2.1:30080").server(), "p3");
    assert_eq!(lab.node.tcp("192.0.2.1:30080").server(), "p3");
}

#[test]
fn a_local_policy_inside_uses_only_endpoints_here() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let object = web(json!({"internalTrafficPolicy": "Local"}));
    told.apply(&[object, both()]);
    for _ in 0..10 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    }
    told.apply(&[only_p3()]);
    assert!(lab.p2.is_silent(CLUSTER_IP));
}

#[test]
fn clients_stay_with_their_endpoint() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let object = web(json!({
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    }));
    let third = slice(
        "web",
        tcp(),
        json!([endpoint("10.42.0.2", "a"), endpoint("10.42.0.3", "a"), endpoint("10.42.1.2", "b")]),
    );
    told.apply(&[object, third]);
    let first = lab.p2.tcp(CLUSTER_IP).server().to_owned();
    for _ in 0..20 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), first);
    }
    // Another endpoint goes, and nothing changes for the client.
    let stays = if first == "p1" {
        both()
    } else {
        slice("web", tcp(), json!([endpoint("10.42.0.3", "a"), endpoint("10.42.1.2", "b")]))
    };
    told.apply(&[stays]);
    for _ in 0..10 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), first);
    }
}

#[test]
fn services_without_endpoints_and_unknown_ports_are_refused_at_once() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let ports = json!([{"name": "web", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    told.apply(&[web(json!({"type": "NodePort", "ports": ports}))]);
    for client in [&lab.p1, &lab.node] {
        assert_eq!(client.tcp(CLUSTER_IP), Answer::Refused);
        assert_eq!(client.tcp("10.43.0.10:81"), Answer::Refused);
        // The kernel tells a sender on the node itself by an error of the call, before any answer.
        let own = Answer::Other("Operation not permitted (os error 1)".to_owned());
        assert!([Answer::Refused, own].contains(&client.udp("10.43.0.10:53")));
        assert_eq!(client.tcp("192.0.2.1:30080"), Answer::Refused);
    }
    assert_eq!(lab.outside.tcp("192.0.2.1:30080"), Answer::Refused);
    // An address that no service has.
    assert!(lab.p1.is_silent("10.43.0.99:80"));
}

#[test]
fn ending_endpoints_serve_while_none_is_ready() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let ending = json!({"addresses": ["10.42.0.2"], "nodeName": "a", "conditions": {"ready": false, "serving": true, "terminating": true}});
    told.apply(&[web(json!({})), slice("web", tcp(), json!([ending]))]);
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    told.apply(&[slice("web", tcp(), json!([ending, endpoint("10.42.1.2", "b")]))]);
    for _ in 0..10 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p3");
    }
}

#[test]
fn pods_go_out_with_the_nodes_address_but_not_to_each_other() {
    if !root() {
        return;
    }
    let (lab, _told) = lab();
    assert_eq!(lab.p1.tcp("192.0.2.9:80").client(), "::ffff:192.0.2.1");
    assert_eq!(lab.p1.tcp("10.42.1.2:8080").client(), "::ffff:10.42.0.2");
    assert_eq!(lab.p1.tcp("10.42.0.3:8080").client(), "::ffff:10.42.0.2");
}

#[test]
fn host_ports_lead_to_their_pod() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let pod = json!({
        "kind": "Pod",
        "metadata": {"name": "p1", "namespace": "shop"},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [
            {"containerPort": 8080, "hostPort": 8000},
            {"containerPort": 9090, "hostPort": 8001, "hostIP": "192.0.2.1"},
            {"containerPort": 9090, "hostPort": 8002, "hostIP": "192.0.2.77"},
        ]}]},
        "status": {"podIP": "10.42.0.2", "podIPs": [{"ip": "10.42.0.2"}]},
    });
    told.apply(std::slice::from_ref(&pod));
    for client in [&lab.outside, &lab.p1, &lab.p2, &lab.node] {
        assert_eq!(client.tcp("192.0.2.1:8000").server(), "p1");
        assert_eq!(client.tcp("192.0.2.1:8001").server(), "p1");
        assert_eq!(client.tcp("192.0.2.1:8002"), Answer::Refused);
    }
    assert_eq!(lab.outside.tcp("192.0.2.1:8000").client(), "::ffff:192.0.2.9");
    told.delete(&[pod]);
    assert_eq!(lab.outside.tcp("192.0.2.1:8000"), Answer::Refused);
}

#[test]
fn udp_goes_to_the_new_endpoint_on_the_same_socket() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let ports = json!([{"name": "dns", "port": 5353, "protocol": "UDP"}]);
    let object = web(json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}));
    told.apply(&[object, slice("web", ports.clone(), json!([endpoint("10.42.0.2", "a")]))]);
    let socket = lab.p2.run(async {
        let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.connect("10.43.0.10:53").await.unwrap();
        socket
    });
    let socket = std::sync::Arc::new(socket);
    let asked = |socket: &std::sync::Arc<UdpSocket>| {
        let socket = socket.clone();
        lab.p2.run(async move { ask(&socket).await })
    };
    assert_eq!(asked(&socket).server(), "p1");
    told.apply(&[slice("web", ports, json!([endpoint("10.42.1.2", "b")]))]);
    // The kernel goes on with the old endpoint until its flow is deleted.
    assert_eq!(asked(&socket).server(), "p1");
    assert_eq!(told.clean_flows(&lab.node), 1);
    assert_eq!(asked(&socket).server(), "p3");
    assert_eq!(told.clean_flows(&lab.node), 0);
}

#[test]
fn services_that_the_machine_answers_itself_are_not_tracked() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    lab.serve();
    let local = vec![
        ("10.43.0.10".parse().unwrap(), 53, barque_proxy::services::Protocol::Udp),
        ("10.43.0.10".parse().unwrap(), 53, barque_proxy::services::Protocol::Tcp),
    ];
    let mut told = Told::new(&lab.node, barque_proxy::Settings { local_addresses: local, ..settings() });
    lab.node.ip("addr add 10.43.0.10/32 dev lo");
    lab.node.serve_udp("node", "10.43.0.10:53".parse().unwrap());
    lab.node.serve_tcp("node", "10.43.0.10:53".parse().unwrap());
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "metrics", "port": 9153},
    ]);
    let of_slice =
        json!([{"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "metrics", "port": 8080}]);
    told.apply(&[web(json!({"ports": ports})), slice("web", of_slice, json!([endpoint("10.42.0.2", "a")]))]);
    for client in [&lab.p1, &lab.node] {
        assert_eq!(client.udp("10.43.0.10:53").server(), "node");
        assert_eq!(client.tcp("10.43.0.10:53").server(), "node");
        assert_eq!(client.tcp("10.43.0.10:9153").server(), "p1");
    }
    let flows =
        lab.node.run(async { std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap() });
    assert!(!flows.contains("dport=53 "), "{flows}");
    assert!(flows.contains("dport=9153 "), "{flows}");
}

#[test]
fn tables_of_others_are_left_alone() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    lab.node.nft("add table inet other");
    lab.node.nft("add chain inet other c { type filter hook input priority 0 ; }");
    lab.node.nft("add rule inet other c tcp dport 1 drop");
    let before = lab.node.nft("list table inet other");
    told.apply(&[web(json!({})), both()]);
    let node = &lab.node;
    node.run(async { barque_proxy::cleanup("barque") }).unwrap();
    assert_eq!(node.nft("list table inet other"), before);
    assert_eq!(node.nft("list tables").trim(), "table inet other");
    // There is nothing to remove any more, which is no error.
    node.run(async { barque_proxy::cleanup("barque") }).unwrap();
}

#[test]
fn this_kernel_has_all_features() {
    if !root() {
        return;
    }
    let ns = support::Ns::new();
    let features = ns.run(async { barque_proxy::check() });
    assert_eq!(features.len(), 20);
    for feature in features {
        assert!(feature.ok, "{feature:?}");
    }
    assert_eq!(ns.nft("list tables"), "");
}
