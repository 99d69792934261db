//! The tables as `nft` prints them, for services of every shape.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use serde_json::{Value, json};
use support::{Ns, Told, endpoint, root, service, settings, slice};

/// The chains and maps of a namespace that have something to do with a service; counters of what the kernel numbers itself
/// are not among them.
fn listed(ns: &Ns, of: &str) -> String {
    let all = ns.nft("list table ip barque");
    let mut text = String::new();
    let mut block = String::new();
    for line in all.lines().skip(1) {
        block.push_str(line.trim_start_matches('\t'));
        block.push('\n');
        if line == "\t}" {
            if block.lines().next().is_some_and(|head| head.contains(of)) {
                text.push_str(&block);
            }
            block.clear();
        } else if line.is_empty() {
            block.clear();
        }
    }
    text
}

/// The elements of a map, one a line.
fn elements(ns: &Ns, map: &str) -> Vec<String> {
    let all = ns.nft(&format!("list map ip barque {map}"));
    let Some((_, rest)) = all.split_once("elements = {") else { return Vec::new() };
    let mut elements: Vec<String> =
        rest.split('}').next().unwrap().split(",\n").map(|one| one.trim().to_owned()).collect();
    elements.sort();
    elements
}

fn tcp() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn web(spec: Value) -> Value {
    let mut all = json!({
        "type": "ClusterIP", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": [{"name": "http", "port": 80}],
    });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    service("web", all)
}

fn both() -> Value {
    slice("web", tcp(), json!([endpoint("10.42.0.2", "a"), endpoint("10.42.1.2", "b")]))
}

const OWN_CHAINS: &str = r#"chain endpoint-shop/web/tcp/http__10.42.0.2/8080 {
	ip saddr 10.42.0.2 jump mark-for-masquerade comment "to itself"
	meta l4proto tcp dnat to 10.42.0.2:8080
}
chain endpoint-shop/web/tcp/http__10.42.1.2/8080 {
	ip saddr 10.42.1.2 jump mark-for-masquerade comment "to itself"
	meta l4proto tcp dnat to 10.42.1.2:8080
}
chain external-shop/web/tcp/http {
	ip saddr 10.42.0.0/16 goto service-shop/web/tcp/http comment "pods may go anywhere"
	fib saddr type local jump mark-for-masquerade
	fib saddr type local goto service-shop/web/tcp/http comment "this node may go anywhere"
	goto local-shop/web/tcp/http
}
chain local-shop/web/tcp/http {
	numgen random mod 1 vmap { 0 : goto endpoint-shop/web/tcp/http__10.42.0.2/8080 }
}
chain service-shop/web/tcp/http {
	ip daddr 10.43.0.10 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
	numgen random mod 2 vmap { 0 : goto endpoint-shop/web/tcp/http__10.42.0.2/8080, 1 : goto endpoint-shop/web/tcp/http__10.42.1.2/8080 }
}
"#;

fn drawn(by: &str, count: usize, map: &str) -> String {
    format!("dnat ip to {by} . numgen random mod {count} map @{map}")
}

fn unindented(text: &str) -> String {
    text.replace('\t', "")
}

#[test]
fn services_read_as_people_expect() {
    if !root() {
        return;
    }
    let ns = Ns::new();
    let mut told = Told::new(&ns, settings());
    let inside = |count| {
        format!(
            "chain cluster-ip-of-{count} {{\nip saddr != 10.42.0.0/16 jump mark-for-masquerade\n{}\n}}\n",
            drawn("ip daddr . meta l4proto . th dport", count, "service-endpoints")
        )
    };
    let outside = format!(
        "chain external-ip-of-2 {{\njump mark-for-masquerade\n{}\n}}\n",
        drawn("ip daddr . meta l4proto . th dport", 2, "service-endpoints")
    );
    let by_node_port = format!(
        "chain node-port-of-2 {{\njump mark-for-masquerade\n{}\n}}\n",
        drawn("meta l4proto . th dport", 2, "nodeport-endpoints")
    );
    let address =
        |address: &str, verdict: &str| format!("{address} . tcp . 80 comment \"shop/web:http\" : {verdict}");
    let to_cluster = address("10.43.0.10", "goto cluster-ip-of-2");
    let node_port = |chain: &str| vec![format!("tcp . 30080 comment \"shop/web:http\" : goto {chain}")];
    let none: Vec<String> = Vec::new();
    let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    let behind = |address: &str| {
        vec![
            format!("{address} . tcp . 80 . 0x00000000 : 10.42.0.2 . 8080"),
            format!("{address} . tcp . 80 . 0x00000001 : 10.42.1.2 . 8080"),
        ]
    };
    // The service, its slice, the chains it uses, then the elements of the maps of addresses, node ports, addresses without
    // endpoints, and endpoints.
    let table = [
        (
            "a cluster address",
            web(json!({})),
            both(),
            inside(2),
            [vec![to_cluster.clone()], none.clone(), none.clone(), behind("10.43.0.10")],
        ),
        (
            "node ports and addresses from outside",
            web(json!({"type": "NodePort", "externalIPs": ["198.51.100.7"], "ports": ports})),
            both(),
            format!("{}{outside}{by_node_port}", inside(2)),
            [
                vec![to_cluster, address("198.51.100.7", "goto external-ip-of-2")],
                node_port("node-port-of-2"),
                none.clone(),
                [behind("10.43.0.10"), behind("198.51.100.7")].concat(),
            ],
        ),
        (
            "only endpoints here, for clients from outside",
            web(json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports})),
            both(),
            unindented(OWN_CHAINS),
            [
                vec![address("10.43.0.10", "goto service-shop/web/tcp/http")],
                node_port("external-shop/web/tcp/http"),
                none.clone(),
                none.clone(),
            ],
        ),
        (
            "only endpoints here, for clients inside",
            web(json!({"internalTrafficPolicy": "Local"})),
            both(),
            inside(1),
            [
                vec![address("10.43.0.10", "goto cluster-ip-of-1")],
                none.clone(),
                none.clone(),
                vec![behind("10.43.0.10")[0].clone()],
            ],
        ),
        (
            "nobody",
            web(json!({"type": "NodePort", "ports": ports})),
            slice("web", tcp(), json!([])),
            String::new(),
            [none.clone(), none.clone(), vec![address("10.43.0.10", "goto reject-chain")], none.clone()],
        ),
        (
            "nobody here",
            web(json!({"internalTrafficPolicy": "Local"})),
            slice("web", tcp(), json!([endpoint("10.42.1.2", "b")])),
            String::new(),
            [none.clone(), none.clone(), vec![address("10.43.0.10", "drop")], none.clone()],
        ),
        (
            "headless",
            web(json!({"clusterIP": "None", "clusterIPs": ["None"]})),
            both(),
            String::new(),
            [none.clone(), none.clone(), none.clone(), none],
        ),
    ];
    for (what, service, slice, chains, wanted) in table {
        told.apply(&[service.clone(), slice.clone()]);
        let sorted = |text: &str| {
            let mut blocks: Vec<_> = text.split_inclusive("\n}\n").map(str::to_owned).collect();
            blocks.sort();
            blocks.concat()
        };
        let chains_of = || {
            let all = ["shop/web", "-of-"].map(|of| listed(&ns, of));
            sorted(&unindented(&all.concat()))
        };
        assert_eq!(chains_of(), sorted(&chains), "{what}");
        let maps = ["service-ips", "service-nodeports", "no-endpoint-services", "service-endpoints"];
        assert_eq!(maps.map(|map| elements(&ns, map)), wanted, "{what}");
        told.delete(&[service, slice]);
        told.sweep();
        assert_eq!(chains_of(), "", "{what}");
    }
}

#[test]
fn affinity_and_source_ranges_read_as_people_expect() {
    if !root() {
        return;
    }
    let ns = Ns::new();
    let mut told = Told::new(&ns, settings());
    let mut object = web(json!({
        "type": "LoadBalancer", "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["192.0.2.0/25", "203.0.113.9/32"],
    }));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
    told.apply(&[object, slice("web", tcp(), json!([endpoint("10.42.0.2", "a")]))]);
    let text = unindented(&listed(&ns, "shop/web"));
    let expected = [
        "set affinity-10800-shop/web/tcp/http__10.42.0.2/8080 {\ntype ipv4_addr\nsize 65535\nflags dynamic,timeout\ntimeout 3h\n}\n",
        "chain endpoint-shop/web/tcp/http__10.42.0.2/8080 {\nip saddr 10.42.0.2 jump mark-for-masquerade comment \"to itself\"\nupdate @affinity-10800-shop/web/tcp/http__10.42.0.2/8080 { ip saddr }\nmeta l4proto tcp dnat to 10.42.0.2:8080\n}\n",
        "chain firewall-shop/web/tcp/http {\nip saddr != 192.0.2.0/25 ip saddr != 203.0.113.9 drop\n}\n",
        "ip saddr @affinity-10800-shop/web/tcp/http__10.42.0.2/8080 goto endpoint-shop/web/tcp/http__10.42.0.2/8080\n",
    ];
    for part in expected {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[test]
fn the_base_reads_as_people_expect() {
    if !root() {
        return;
    }
    let ns = Ns::new();
    let _told = Told::new(&ns, settings());
    let text = ns.nft("list table ip barque");
    let chains = &text[text.find("\tchain ").unwrap()..];
    assert_eq!(chains, include_str!("base_ip.nft"), "{text}");
}
