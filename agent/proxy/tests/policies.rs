//! Real connections between pods that policies speak of.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use serde_json::{Value, json};
use support::{Lab, Told, endpoint, root, service, settings, slice};

fn pod(name: &str, node: &str, address: &str, labels: Value) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"name": name, "namespace": if name == "p3" { "office" } else { "shop" }, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    })
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// `p1` is `app=web` and `p2` `app=client` of `shop` on this node; `p3` is `app=client` of `office` on another.
fn lab() -> (Lab, Told) {
    let lab = Lab::new();
    lab.serve();
    let mut told = Told::new(&lab.node, settings());
    told.apply(&[
        json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "shop"}}}),
        json!({"kind": "Namespace", "metadata": {"name": "office", "labels": {"team": "office"}}}),
        pod("p1", "a", "10.42.0.2", json!({"app": "web"})),
        pod("p2", "a", "10.42.0.3", json!({"app": "client"})),
        pod("p3", "b", "10.42.1.2", json!({"app": "client"})),
    ]);
    (lab, told)
}

const P1: &str = "10.42.0.2:8080";
const P1_OTHER: &str = "10.42.0.2:9090";
const P2: &str = "10.42.0.3:8080";
const P3: &str = "10.42.1.2:8080";

fn of_web(rest: Value) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    spec
}

#[test]
fn a_selected_pod_is_closed_but_for_its_node_itself_and_what_is_allowed() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    assert_eq!(lab.p2.tcp(P1).server(), "p1");
    let deny = policy("deny", of_web(json!({"policyTypes": ["Ingress"]})));
    told.apply(std::slice::from_ref(&deny));
    assert!(lab.p2.is_silent(P1));
    assert!(lab.p3.is_silent(P1));
    assert_eq!(lab.node.tcp(P1).server(), "p1");
    assert_eq!(lab.p1.tcp(P1).server(), "p1");
    // Only what comes in is closed.
    assert_eq!(lab.p1.tcp(P2).server(), "p2");
    assert_eq!(lab.p2.tcp(P3).server(), "p3");
    // What several policies allow is allowed.
    let from_clients = json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]});
    told.apply(&[policy("allow", of_web(from_clients))]);
    assert_eq!(lab.p2.tcp(P1).server(), "p1");
    assert!(lab.p3.is_silent(P1));
    told.delete(&[deny, policy("allow", json!({"podSelector": {}}))]);
    assert_eq!(lab.p3.tcp(P1).server(), "p1");
}

#[test]
fn namespaces_are_selected_by_their_labels() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let from = json!({"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "office"}}, "podSelector": {"matchLabels": {"app": "client"}}}]}]});
    told.apply(&[policy("office", of_web(from))]);
    assert!(lab.p2.is_silent(P1));
    assert_eq!(lab.p3.tcp(P1).server(), "p1");
    told.apply(&[pod("p3", "b", "10.42.1.2", json!({"app": "other"}))]);
    assert!(lab.p3.is_silent(P1));
    told.apply(&[
        pod("p3", "b", "10.42.1.2", json!({"app": "client"})),
        json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "office"}}}),
    ]);
    assert_eq!(lab.p2.tcp(P1).server(), "p1");
    assert_eq!(lab.p3.tcp(P1).server(), "p1");
}

#[test]
fn blocks_of_addresses_have_holes() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    lab.outside.ip("route add 10.42.0.0/24 via 192.0.2.1");
    let block =
        json!({"ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/32"]}}]}]});
    told.apply(&[policy("block", of_web(block))]);
    assert_eq!(lab.outside.tcp_from("192.0.2.9", P1).server(), "p1");
    assert!(lab.outside.is_silent_from("192.0.2.8", P1));
    assert!(lab.p2.is_silent(P1));
    let everybody =
        json!({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]}}]}]});
    told.apply(&[policy("block", of_web(everybody))]);
    assert!(lab.outside.is_silent(P1));
    assert_eq!(lab.p2.tcp(P1).server(), "p1");
}

#[test]
fn ports_have_numbers_ranges_and_names() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let tables = [
        (json!([{"port": 8080}]), true, false),
        (json!([{"port": 9000, "endPort": 9100}]), false, true),
        (json!([{"port": 8000, "endPort": 9100}]), true, true),
        (json!([{"port": "web"}]), true, false),
        (json!([{"port": "unknown"}]), false, false),
        (json!([{"protocol": "UDP"}]), false, false),
        (json!([{"protocol": "TCP"}]), true, true),
        (json!([{"port": "web"}, {"port": 9090}]), true, true),
    ];
    for (ports, first, second) in tables {
        told.apply(&[policy("ports", of_web(json!({"ingress": [{"ports": ports}]})))]);
        for (address, open) in [(P1, first), (P1_OTHER, second)] {
            if open {
                assert_eq!(lab.p2.tcp(address).server(), "p1", "{ports} {address}");
            } else {
                assert!(lab.p2.is_silent(address), "{ports} {address}");
            }
        }
    }
}

#[test]
fn what_goes_out_is_closed_likewise() {
    if !root() {
        return;
    }
    let (lab, mut told) = lab();
    let to_office = json!({
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "office"}}}], "ports": [{"port": "web"}]}],
    });
    told.apply(&[policy("out", of_web(to_office))]);
    assert_eq!(lab.p1.tcp(P3).server(), "p3");
    assert!(lab.p1.is_silent("10.42.1.2:9090"));
    assert!(lab.p1.is_silent(P2));
    assert!(lab.p1.is_silent("192.0.2.9:80"));
    assert_eq!(lab.p2.tcp(P1).server(), "p1");
    // Judged behind the service's translation: by the endpoint and its port.
    let object = service(
        "far",
        json!({"clusterIPs": ["10.43.0.30"], "clusterIP": "10.43.0.30", "ports": [{"port": 80}]}),
    );
    let ports = json!([{"name": "", "port": 8080, "protocol": "TCP"}]);
    told.apply(&[object, slice("far", ports, json!([endpoint("10.42.1.2", "b")]))]);
    assert_eq!(lab.p1.tcp("10.43.0.30:80").server(), "p3");
}

#[test]
fn connections_that_exist_go_on() {
    if !root() {
        return;
    }
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (lab, mut told) = lab();
    let listener = lab.p1.run(async { tokio::net::TcpListener::bind("10.42.0.2:7000").await.unwrap() });
    let accepted = lab.p1.spawn(async move { listener.accept().await.unwrap().0 });
    let mut client = lab.p2.run(async { tokio::net::TcpStream::connect("10.42.0.2:7000").await.unwrap() });
    let mut server = lab.p1.run(async { accepted.await.unwrap() });
    told.apply(&[policy("deny", of_web(json!({"policyTypes": ["Ingress", "Egress"]})))]);
    assert!(lab.p2.is_silent("10.42.0.2:7000"));
    lab.p2.run(async move {
        client.write_all(b"still here").await.unwrap();
        client.shutdown().await.unwrap();
    });
    let heard = lab.p1.run(async move {
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        text
    });
    assert_eq!(heard, "still here");
}
