//! The task of a proxy in a namespace: what it does at its start, with changes, and when somebody else changes its tables.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use barque_proxy::nft::Monitor;
use barque_proxy::{Kernel, Metrics, PolicyStreams, Proxy, ProxyError, Settings, Streams};
use futures::{SinkExt as _, StreamExt as _, channel::mpsc};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{Event, Result as Told};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Lab, PATIENCE, endpoint, facts, root, service, settings, slice};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A watch that a test tells.
struct Watch<K>(mpsc::Sender<Told<Event<K>>>);

impl<K: DeserializeOwned + Send + 'static> Watch<K> {
    fn new() -> (Self, barque_proxy::Events<K>) {
        let (sender, receiver) = mpsc::channel(100);
        (Self(sender), receiver.boxed())
    }

    fn tell(&mut self, event: Event<K>) {
        futures::executor::block_on(self.0.send(Ok(event))).unwrap();
    }

    fn list(&mut self, objects: &[Value]) {
        self.tell(Event::Init);
        for object in objects {
            self.tell(Event::InitApply(serde_json::from_value(object.clone()).unwrap()));
        }
        self.tell(Event::InitDone);
    }

    fn apply(&mut self, object: &Value) {
        self.tell(Event::Apply(serde_json::from_value(object.clone()).unwrap()));
    }
}

struct Running {
    services: Watch<Service>,
    slices: Watch<EndpointSlice>,
    pods: Watch<Pod>,
    policies: Watch<NetworkPolicy>,
    namespaces: Watch<Namespace>,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ProxyError>>,
}

impl Running {
    fn start(lab: &Lab, settings: Settings) -> Self {
        let (services, service_events) = Watch::new();
        let (slices, slice_events) = Watch::new();
        let (pods, pod_events) = Watch::new();
        let (policies, policy_events) = Watch::new();
        let (namespaces, namespace_events) = Watch::new();
        let streams = Streams {
            services: service_events,
            slices: slice_events,
            pods: pod_events,
            policies: Some(PolicyStreams { policies: policy_events, namespaces: namespace_events }),
        };
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let task = lab.node.spawn({
            let (metrics, stop) = (metrics.clone(), stop.clone());
            async move {
                let (_keep, node) = watch::channel(facts());
                Proxy::open(settings, metrics)?.run(node, streams, stop).await
            }
        });
        Self { services, slices, pods, policies, namespaces, metrics, stop, task }
    }

    fn list(&mut self, services: &[Value], slices: &[Value]) {
        self.services.list(services);
        self.slices.list(slices);
        self.pods.list(&[]);
        self.policies.list(&[]);
        self.namespaces.list(&[]);
    }

    fn count(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.metrics.text()).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not in {text}"))
    }

    fn stop(self, lab: &Lab) {
        self.stop.cancel();
        let task = self.task;
        lab.node.run(async move { task.await.unwrap().unwrap() });
    }
}

/// Hears of the changes that a proxy makes.
struct Ear {
    monitor: Option<Monitor>,
    /// Keeps its port, which the monitor leaves out, from becoming the proxy's.
    _kernel: Kernel,
}

impl Ear {
    fn new(lab: &Lab) -> Self {
        let (kernel, monitor) = lab.node.run(async {
            let kernel = Kernel::open("barque").unwrap();
            let monitor = Monitor::open(&kernel).unwrap();
            (kernel, monitor)
        });
        Self { monitor: Some(monitor), _kernel: kernel }
    }

    /// Waits until something holds, asking again with each change of the table.
    #[track_caller]
    fn until(&mut self, lab: &Lab, mut holds: impl FnMut() -> bool) {
        while !holds() {
            let mut monitor = self.monitor.take().unwrap();
            let (monitor, heard) = lab.node.run(async move {
                let heard = tokio::time::timeout(PATIENCE, monitor.next()).await.is_ok();
                (monitor, heard)
            });
            self.monitor = Some(monitor);
            assert!(heard, "it never came to hold");
        }
    }
}

fn web() -> Value {
    service("web", json!({"clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": [{"port": 80}]}))
}

fn of_pod(address: &str, node: &str) -> Value {
    slice("web", json!([{"name": "", "port": 8080, "protocol": "TCP"}]), json!([endpoint(address, node)]))
}

const CLUSTER_IP: &str = "10.43.0.10:80";

fn lab() -> (Lab, Ear) {
    let lab = Lab::new();
    lab.serve();
    let ear = Ear::new(&lab);
    (lab, ear)
}

fn has(lab: &Lab, text: &str) -> bool {
    lab.node.nft("list ruleset").contains(text)
}

#[test]
fn a_proxy_follows_its_watches_and_its_rules_outlive_it() {
    if !root() {
        return;
    }
    let (lab, mut ear) = lab();
    let mut first = Running::start(&lab, settings());
    first.list(&[web()], &[of_pod("10.42.0.2", "a")]);
    ear.until(&lab, || has(&lab, ": 10.42.0.2 . 8080"));
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    first.slices.apply(&of_pod("10.42.1.2", "b"));
    ear.until(&lab, || has(&lab, ": 10.42.1.2 . 8080"));
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p3");
    assert!(first.count("kubeproxy_sync_proxy_rules_endpoint_changes_total") >= 2.0);
    first.stop(&lab);
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p3");

    // The next one touches nothing before it knows all, and then takes over in one transaction.
    let mut second = Running::start(&lab, settings());
    second.services.list(&[]);
    second.slices.list(&[]);
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p3");
    let clients = lab.p2.spawn({
        async move {
            let mut answers = 0;
            for _ in 0..300 {
                let stream = tokio::net::TcpStream::connect(CLUSTER_IP).await;
                answers += u32::from(stream.is_ok());
            }
            answers
        }
    });
    second.list(&[web()], &[of_pod("10.42.0.2", "a")]);
    ear.until(&lab, || has(&lab, ": 10.42.0.2 . 8080"));
    assert_eq!(lab.p2.run(async { clients.await.unwrap() }), 300);
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    second.stop(&lab);
}

#[test]
fn tables_that_somebody_else_changed_come_back() {
    if !root() {
        return;
    }
    let (lab, mut ear) = lab();
    let mut proxy = Running::start(&lab, settings());
    proxy.list(&[web()], &[of_pod("10.42.0.2", "a")]);
    ear.until(&lab, || has(&lab, ": 10.42.0.2 . 8080"));
    // Tables of others are none of its business.
    lab.node.nft("add table ip other");
    lab.node.nft("delete table ip barque");
    ear.until(&lab, || has(&lab, ": 10.42.0.2 . 8080"));
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    lab.node.nft("insert rule ip barque services drop");
    ear.until(&lab, || !lab.node.nft("list chain ip barque services").contains("drop"));
    assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), "p1");
    assert_eq!(proxy.count("kubeproxy_sync_proxy_rules_nftables_sync_failures_total"), 0.0);
    assert!(proxy.count("barque_proxy_repairs_total") >= 2.0);
    proxy.stop(&lab);
}

#[test]
fn clients_keep_their_endpoint_over_a_restart() {
    if !root() {
        return;
    }
    let (lab, mut ear) = lab();
    let mut object = web();
    object["spec"]["sessionAffinity"] = json!("ClientIP");
    let ports = json!([{"name": "", "port": 8080, "protocol": "TCP"}]);
    let all = slice(
        "web",
        ports,
        json!([endpoint("10.42.0.2", "a"), endpoint("10.42.0.3", "a"), endpoint("10.42.1.2", "b")]),
    );
    let mut first = Running::start(&lab, settings());
    first.list(std::slice::from_ref(&object), std::slice::from_ref(&all));
    ear.until(&lab, || has(&lab, "dnat to 10.42.0.2:8080"));
    let server = lab.p2.tcp(CLUSTER_IP).server().to_owned();
    assert!(has(&lab, "10.42.0.3 expires"));
    // Packets that fill sets are not somebody else's changes.
    assert_eq!(first.count("barque_proxy_repairs_total"), 0.0);
    first.stop(&lab);
    let mut second = Running::start(&lab, settings());
    let extra = service("extra", json!({"clusterIPs": ["10.43.0.99"], "ports": [{"port": 80}]}));
    second.list(&[object, extra], &[all]);
    ear.until(&lab, || has(&lab, "10.43.0.99"));
    assert!(has(&lab, "10.42.0.3 expires 2h59m"));
    for _ in 0..10 {
        assert_eq!(lab.p2.tcp(CLUSTER_IP).server(), server);
    }
    second.stop(&lab);
}

#[test]
fn flows_of_datagrams_leave_an_endpoint_that_is_gone() {
    if !root() {
        return;
    }
    let (lab, mut ear) = lab();
    let mut object = web();
    object["spec"]["ports"] = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    let of = |address: &str, node: &str| {
        slice(
            "web",
            json!([{"name": "dns", "port": 5353, "protocol": "UDP"}]),
            json!([endpoint(address, node)]),
        )
    };
    let mut proxy = Running::start(&lab, settings());
    proxy.list(&[object], &[of("10.42.0.2", "a")]);
    ear.until(&lab, || has(&lab, ": 10.42.0.2 . 5353"));
    let socket = std::sync::Arc::new(lab.p2.run(async {
        let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
        socket.connect("10.43.0.10:53").await.unwrap();
        socket
    }));
    let asked = || {
        let socket = socket.clone();
        lab.p2.run(async move { support::ask(&socket).await })
    };
    assert_eq!(asked().server(), "p1");
    proxy.slices.apply(&of("10.42.1.2", "b"));
    ear.until(&lab, || has(&lab, ": 10.42.1.2 . 5353"));
    // Flows are cleaned behind the rules; a further change is told only after that.
    proxy.services.apply(&service("extra", json!({"clusterIPs": ["10.43.0.99"], "ports": [{"port": 80}]})));
    ear.until(&lab, || has(&lab, "10.43.0.99"));
    assert_eq!(asked().server(), "p3");
    assert_eq!(proxy.count("kubeproxy_conntrack_reconciler_deleted_entries_total"), 1.0);
    proxy.stop(&lab);
}

#[test]
fn load_balancers_hear_whether_a_node_has_endpoints() {
    if !root() {
        return;
    }
    let (lab, mut ear) = lab();
    let mut object = service(
        "web",
        json!({
            "type": "LoadBalancer", "clusterIP": "10.43.0.10", "clusterIPs": ["10.43.0.10"], "ports": [{"port": 80}],
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
        }),
    );
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.8"}]}});
    let mut proxy = Running::start(&lab, settings());
    proxy.list(&[object], &[of_pod("10.42.0.2", "a")]);
    ear.until(&lab, || has(&lab, "dnat to 10.42.0.2:8080"));
    let asked = || {
        lab.outside.run(async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut stream = tokio::net::TcpStream::connect("192.0.2.1:32000").await.ok()?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            Some(text)
        })
    };
    // The port opens behind the rules; a further change is told only after that.
    proxy.slices.apply(&of_pod("10.42.0.3", "a"));
    ear.until(&lab, || has(&lab, "dnat to 10.42.0.3:8080"));
    let text = asked().unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"localEndpoints\":1"), "{text}");
    proxy.slices.apply(&of_pod("10.42.1.2", "b"));
    ear.until(&lab, || has(&lab, "dnat to 10.42.1.2:8080"));
    proxy.slices.apply(&of_pod("10.42.1.3", "b"));
    ear.until(&lab, || has(&lab, "dnat to 10.42.1.3:8080"));
    assert!(asked().unwrap().starts_with("HTTP/1.1 503"));
    proxy.stop(&lab);
    // Refused, or reset while a child of another test, just forked and not yet another program, still has the socket.
    assert_eq!(asked(), None, "nobody answers any more");
}

#[test]
fn what_a_kernel_refuses_is_said_with_the_step() {
    if !root() {
        return;
    }
    use barque_proxy::nft::{Family, Step, Transaction};
    let ns = support::Ns::new();
    let refused = ns.run(async {
        let steps = vec![(Family::V4, Step::AddTable), (Family::V4, Step::FlushChain("none".into()))];
        Kernel::open("barque").unwrap().commit(&Transaction { steps }).unwrap_err()
    });
    let expected =
        "the kernel refused to empty the chain `none` of `ip barque`: nothing of the transaction was done";
    assert_eq!(refused.to_string(), expected);
    assert_eq!(ns.nft("list tables"), "");
}
