//! A DNS server on loopback, asked with real packets, with name servers of the test behind it.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use barque_dns::{Dns, Metrics, Names, Settings, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn names() -> Names {
    let zone = Zone { domain: "cluster.local.".parse().unwrap(), ttl: 5, servers: Vec::new() };
    let mut names = Names::new(zone);
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    names.replace_namespaces(&[namespace]);
    let service = |name: &str, spec: serde_json::Value| -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "default", "name": name}, "spec": spec}))
            .unwrap()
    };
    names.replace_services(&[
        service("web", json!({"clusterIP": "10.96.0.7"})),
        service("many", json!({"clusterIP": "None"})),
        service("far", json!({"type": "ExternalName", "externalName": "a.example"})),
        service("near", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"})),
        service(
            "circle",
            json!({"type": "ExternalName", "externalName": "circle.default.svc.cluster.local"}),
        ),
    ]);
    let endpoints: Vec<_> =
        (0..250).map(|number| json!({"addresses": [format!("10.1.2.{number}")]})).collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "many-1", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4", "endpoints": endpoints,
    }))
    .unwrap();
    names.replace_slices(&[slice]);
    names
}

/// A server, and whoever it asks.
struct Running {
    address: SocketAddr,
    registry: Registry,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    async fn start(upstreams: Vec<SocketAddr>, concurrent: usize) -> Self {
        let mut settings = Settings::new(vec![SocketAddr::from((LOOPBACK, 0))], upstreams);
        settings.concurrent = concurrent;
        // The machine may be busy.
        settings.patience = Duration::from_secs(60);
        let registry = Registry::new();
        let names = Arc::new(RwLock::new(names()));
        let dns = Dns::bind(&settings, names, Metrics::new(&registry)).unwrap();
        let address = dns.addresses()[0];
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(dns.run(stop.clone()));
        Self { address, registry, stop, tasks }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        by_datagram(self.address, &request(name, kind, None)).await
    }

    fn metrics(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap();
        }
    }
}

fn request(name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut request = Message::new(4711, MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        request.set_edns(edns);
    }
    request
}

async fn by_datagram(server: SocketAddr, request: &Message) -> Message {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&request.to_vec().unwrap()).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let received = tokio::time::timeout(Duration::from_secs(60), socket.recv(&mut buffer)).await;
    let length = received.unwrap().unwrap();
    let limit = request.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()));
    assert!(length <= limit, "{length} bytes are more than the client takes");
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn framed(stream: &mut TcpStream, request: &Message) -> Message {
    let bytes = request.to_vec().unwrap();
    stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    let addresses = message.answers.iter().filter(|record| record.record_type() == RecordType::A);
    addresses.map(|record| record.data.to_string()).collect()
}

/// A name server of the test: `a.example` has an address, `large.example` has many, `none.example` is not there,
/// `broken.example` fails.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// Notified of each question.
    arrived: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    /// Replies wait until the gate is notified, if there is one.
    async fn start(gate: Option<Arc<Notify>>) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
            // Another process may have the port for connections.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (asked, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let arrived = Arc::new(Notify::new());
        let (count, arrives) = (Arc::clone(&asked), Arc::clone(&arrived));
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_535];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                arrives.notify_one();
                if let Some(gate) = &gate {
                    gate.notified().await;
                }
                let mut reply = zone(&Message::from_vec(&buffer[..length]).unwrap());
                // A forged reply first: it is to another question.
                let mut forged = reply.clone();
                forged.metadata.id = forged.metadata.id.wrapping_add(1);
                forged.answers.clear();
                udp.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
                if reply.answers.len() > 10 {
                    reply = reply.truncate();
                }
                udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let count = Arc::clone(&connections);
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut buffer).await.unwrap();
                let bytes = zone(&Message::from_vec(&buffer).unwrap()).to_vec().unwrap();
                stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        });
        Self { address, asked, connections, arrived, _tasks: tasks }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn zone(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, OpCode::Query);
    reply.queries.clone_from(&request.queries);
    let name = request.queries[0].name().clone();
    let record = |number| Record::from_rdata(name.clone(), 300, RData::A(A::new(192, 0, 2, number)));
    match name.to_lowercase().to_ascii().as_str() {
        "large.example." => reply.answers = (0..100).map(record).collect(),
        "none.example." => {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 60);
            reply.authorities.push(Record::from_rdata(name, 60, RData::SOA(soa)));
        }
        "broken.example." => reply.metadata.response_code = ResponseCode::ServFail,
        _ => reply.answers.push(record(1)),
    }
    reply
}

/// Where nobody listens.
async fn nobody() -> SocketAddr {
    UdpSocket::bind((LOOPBACK, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_clusters_names_are_answered_by_datagram_and_by_connection() {
    let server = Running::start(Vec::new(), 10).await;
    let reply = server.ask("web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["10.96.0.7"]);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available && reply.metadata.id == 4711);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for (name, code) in [("web", ResponseCode::NoError), ("other", ResponseCode::NXDomain)] {
        let request = request(&format!("{name}.default.svc.cluster.local."), RecordType::A, None);
        let reply = framed(&mut stream, &request).await;
        assert_eq!(reply.metadata.response_code, code);
        assert_eq!(reply.authorities.len(), usize::from(code == ResponseCode::NXDomain), "the zone's record");
    }
    let reply = server.ask("example.com.", RecordType::A).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "nobody can be asked");
    let metrics = server.metrics();
    for line in [
        r#"coredns_dns_requests_total{family="1",proto="tcp",server="dns://:53",type="A",view="",zone="cluster.local."} 2"#,
        r#"coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",server="dns://:53",view="",zone="cluster.local."} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_reply_that_does_not_fit_is_cut_and_whole_by_connection() {
    let server = Running::start(Vec::new(), 10).await;
    let name = "many.default.svc.cluster.local.";
    let reply = server.ask(name, RecordType::A).await;
    assert!(reply.metadata.truncation && reply.answers.len() > 20, "{}", reply.answers.len());
    let larger = by_datagram(server.address, &request(name, RecordType::A, Some(1200))).await;
    assert!(
        larger.metadata.truncation && larger.answers.len() > reply.answers.len() && larger.edns.is_some()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let whole = framed(&mut stream, &request(name, RecordType::A, None)).await;
    assert!(!whole.metadata.truncation && whole.answers.len() == 250);
    let firsts = async || addresses(&server.ask(name, RecordType::A).await)[0].clone();
    let mut different = std::collections::HashSet::new();
    for _ in 0..20 {
        different.insert(firsts().await);
    }
    assert!(different.len() > 1, "the order changes");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn other_names_are_asked_once_and_remembered() {
    let upstream = Upstream::start(None).await;
    let server = Running::start(vec![upstream.address], 10).await;
    let reply = server.ask("a.example.", RecordType::A).await;
    assert_eq!(addresses(&reply), ["192.0.2.1"]);
    assert!(!reply.metadata.authoritative);
    let again = server.ask("A.Example.", RecordType::A).await;
    assert_eq!(addresses(&again), ["192.0.2.1"]);
    assert!(again.answers[0].ttl <= 30, "no longer than it is remembered");
    assert_eq!(again.queries[0].name().to_ascii(), "A.Example.");
    for _ in 0..2 {
        let none = server.ask("none.example.", RecordType::A).await;
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(upstream.asked(), 2);
    for _ in 0..2 {
        let broken = server.ask("broken.example.", RecordType::A).await;
        assert_eq!(broken.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(upstream.asked(), 4, "errors are not remembered");
    let metrics = server.metrics();
    assert!(
        metrics.contains(r#"coredns_cache_hits_total{server="dns://:53",type="denial",view="",zones="."} 1"#),
        "{metrics}"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_a_datagram_is_fetched_by_connection() {
    let upstream = Upstream::start(None).await;
    let server = Running::start(vec![upstream.address], 10).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let reply = framed(&mut stream, &request("large.example.", RecordType::A, None)).await;
    assert_eq!(reply.answers.len(), 100);
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn another_name_is_followed_in_the_cluster_and_outside() {
    let upstream = Upstream::start(None).await;
    let server = Running::start(vec![upstream.address], 10).await;
    let far = server.ask("far.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(far.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&far), ["192.0.2.1"]);
    let near = server.ask("near.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(addresses(&near), ["10.96.0.7"]);
    let circle = server.ask("circle.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(circle.metadata.response_code, ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test]
async fn a_dead_name_server_costs_one_try_and_then_the_living_one_is_asked_first() {
    let upstream = Upstream::start(None).await;
    let dead = nobody().await;
    let server = Running::start(vec![dead, upstream.address], 10).await;
    for name in ["a.example.", "b.example.", "c.example."] {
        assert_eq!(addresses(&server.ask(name, RecordType::A).await), ["192.0.2.1"]);
    }
    let metrics = server.metrics();
    assert!(metrics.contains(&format!("coredns_forward_requests_total{{to=\"{dead}\"}} 1")), "{metrics}");
    server.stop().await;
    let server = Running::start(vec![dead], 10).await;
    assert_eq!(server.ask("a.example.", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test]
async fn a_silent_name_server_does_not_hold_up_the_clusters_names_and_too_many_questions_are_refused() {
    let gate = Arc::new(Notify::new());
    let upstream = Upstream::start(Some(Arc::clone(&gate))).await;
    let server = Running::start(vec![upstream.address], 1).await;
    let waiting = server.ask("a.example.", RecordType::A);
    let others = async {
        // The slot is taken when the name server has the question.
        upstream.arrived.notified().await;
        let refused = server.ask("b.example.", RecordType::A).await;
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
        assert_eq!(
            addresses(&server.ask("web.default.svc.cluster.local.", RecordType::A).await),
            ["10.96.0.7"]
        );
        gate.notify_one();
    };
    let (answered, ()) = tokio::join!(waiting, others);
    assert_eq!(addresses(&answered), ["192.0.2.1"]);
    assert!(server.metrics().contains("coredns_forward_max_concurrent_rejects_total"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_the_same_at_a_time_waits_for_the_same_answer() {
    let gate = Arc::new(Notify::new());
    let upstream = Upstream::start(Some(Arc::clone(&gate))).await;
    let server = Running::start(vec![upstream.address], 1000).await;
    let mut clients = JoinSet::new();
    for _ in 0..100 {
        let address = server.address;
        clients.spawn(async move { by_datagram(address, &request("a.example.", RecordType::A, None)).await });
    }
    // A permit is kept until the name server has the question.
    gate.notify_one();
    while let Some(reply) = clients.join_next().await {
        assert_eq!(addresses(&reply.unwrap()), ["192.0.2.1"]);
    }
    assert_eq!(upstream.asked(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_get_their_own_answers() {
    let upstream = Upstream::start(None).await;
    let server = Running::start(vec![upstream.address], 1000).await;
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let address = server.address;
        clients.spawn(async move {
            let name = format!("n{number}.example.");
            let reply = by_datagram(address, &request(&name, RecordType::A, None)).await;
            assert_eq!(reply.answers[0].name.to_ascii(), name);
            let reply =
                by_datagram(address, &request("web.default.svc.cluster.local.", RecordType::A, None)).await;
            assert_eq!(addresses(&reply), ["10.96.0.7"]);
        });
    }
    while let Some(outcome) = clients.join_next().await {
        outcome.unwrap();
    }
    server.stop().await;
}
