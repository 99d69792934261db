//! Network namespaces as hosts and pods, with small servers and clients in them. Must never touch the namespace of the test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses its part, and tests may panic"
)]

use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use barque_proxy::{Conntrack, Kernel, NodeFacts, Owners, Settings, State, pods, policy, services};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An answer that must come has this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// An answer that must not come is waited for this long.
pub(crate) const SILENCE: Duration = Duration::from_millis(600);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Whether tests can make namespaces; says so if not.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs a program to its end, and gives what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace with a thread in it that runs futures.
pub(crate) struct Ns {
    pub(crate) name: String,
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Ns {
    pub(crate) fn new() -> Self {
        let name = format!("bq{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        let stop = CancellationToken::new();
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn({
            let (name, stop) = (name.clone(), stop.clone());
            move || {
                let file = File::open(format!("/run/netns/{name}")).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                sender.send(runtime.handle().clone()).unwrap();
                runtime.block_on(stop.cancelled());
            }
        });
        let ns = Self { name, handle: receiver.recv().unwrap(), stop, thread: Some(thread) };
        ns.ip("link set lo up");
        ns
    }

    /// `ip` with these words.
    pub(crate) fn ip(&self, words: &str) -> String {
        let mut arguments = vec!["-n", &self.name];
        arguments.extend(words.split_whitespace());
        run("ip", &arguments)
    }

    /// `nft` with these words.
    pub(crate) fn nft(&self, words: &str) -> String {
        let mut arguments = vec!["netns", "exec", &self.name, "nft"];
        arguments.extend(words.split_whitespace());
        run("ip", &arguments)
    }

    /// A file below `/proc/sys` of the namespace.
    pub(crate) fn sysctl(&self, name: &'static str, value: &'static str) {
        self.run(async move { std::fs::write(format!("/proc/sys/{name}"), value).unwrap() });
    }

    /// Runs a future in the namespace to its end.
    pub(crate) fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.handle.spawn(async move {
            let _ = sender.send(future.await);
        });
        receiver.recv().expect("the future ended")
    }

    /// Runs a future in the namespace beside the test.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(future)
    }

    /// Answers every TCP connection with a name and the client's address.
    pub(crate) fn serve_tcp(&self, name: &'static str, address: SocketAddr) {
        let listener = self.run(async move { TcpListener::bind(address).await.unwrap() });
        self.spawn(async move {
            loop {
                let (mut stream, client) = listener.accept().await.unwrap();
                let _ = stream.write_all(format!("{name} {}", client.ip()).as_bytes()).await;
            }
        });
    }

    /// Answers every datagram likewise.
    pub(crate) fn serve_udp(&self, name: &'static str, address: SocketAddr) {
        let socket = self.run(async move { UdpSocket::bind(address).await.unwrap() });
        self.spawn(async move {
            let mut buffer = [0; 64];
            loop {
                let (_, client) = socket.recv_from(&mut buffer).await.unwrap();
                let _ = socket.send_to(format!("{name} {}", client.ip()).as_bytes(), client).await;
            }
        });
    }

    /// What a server says to a TCP connection.
    pub(crate) fn tcp(&self, to: &str) -> Answer {
        self.tcp_within(to, None, PATIENCE)
    }

    /// The same, from this address.
    pub(crate) fn tcp_from(&self, from: &str, to: &str) -> Answer {
        self.tcp_within(to, Some(from.parse().unwrap()), PATIENCE)
    }

    /// Whether nothing at all comes back.
    pub(crate) fn is_silent(&self, to: &str) -> bool {
        self.tcp_within(to, None, SILENCE) == Answer::Silence
    }

    /// Whether nothing at all comes back to this address.
    pub(crate) fn is_silent_from(&self, from: &str, to: &str) -> bool {
        self.tcp_within(to, Some(from.parse().unwrap()), SILENCE) == Answer::Silence
    }

    fn tcp_within(&self, to: &str, from: Option<IpAddr>, patience: Duration) -> Answer {
        let to: SocketAddr = to.parse().unwrap();
        let ask = async move {
            let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            if let Some(from) = from {
                socket.bind((from, 0).into())?;
            }
            let mut stream = socket.connect(to).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        self.run(async move { Answer::of(timeout(patience, ask).await) })
    }

    /// What a server says to a datagram, on a fresh socket.
    pub(crate) fn udp(&self, to: &str) -> Answer {
        let to: SocketAddr = to.parse().unwrap();
        self.run(async move {
            let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            let socket = UdpSocket::bind(any).await.unwrap();
            socket.connect(to).await.unwrap();
            ask(&socket).await
        })
    }
}

impl Drop for Ns {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let deleted = Command::new("ip").args(["netns", "del", &self.name]).output();
        let error = deleted.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        if !error.is_empty() {
            eprintln!("the namespace {} stays: {error}", self.name);
        }
    }
}

/// Asks on a connected socket.
pub(crate) async fn ask(socket: &UdpSocket) -> Answer {
    let ask = async {
        socket.send(b"?").await?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    Answer::of(timeout(PATIENCE, ask).await)
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Text(String),
    Refused,
    Silence,
    Other(String),
}

impl Answer {
    fn of(answer: Result<std::io::Result<String>, tokio::time::error::Elapsed>) -> Self {
        match answer {
            Err(_) => Self::Silence,
            Ok(Ok(text)) => Self::Text(text),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Self::Refused,
            Ok(Err(error)) => Self::Other(error.to_string()),
        }
    }

    /// The server's name.
    #[track_caller]
    pub(crate) fn server(&self) -> &str {
        match self {
            Self::Text(text) => text.split(' ').next().unwrap(),
            other => panic!("no answer but {other:?}"),
        }
    }

    /// The address that the server saw.
    #[track_caller]
    pub(crate) fn client(&self) -> &str {
        match self {
            Self::Text(text) => text.split(' ').nth(1).unwrap(),
            other => panic!("no answer but {other:?}"),
        }
    }
}

/// A node with two pods, a pod of another node, and the outside world.
///
/// | who | addresses |
/// |---|---|
/// | node `a` | 192.0.2.1, 2001:db8::1 |
/// | pods `p1` and `p2` on it | 10.42.0.2, 10.42.0.3; fd00:42::2, fd00:42::3 |
/// | pod `p3` of node `b` | 10.42.1.2, fd00:42:0:1::2 |
/// | outside | 192.0.2.9 and 192.0.2.8, 2001:db8::9 |
pub(crate) struct Lab {
    pub(crate) node: Ns,
    pub(crate) p1: Ns,
    pub(crate) p2: Ns,
    pub(crate) p3: Ns,
    pub(crate) outside: Ns,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self { node: Ns::new(), p1: Ns::new(), p2: Ns::new(), p3: Ns::new(), outside: Ns::new() };
        let node = &lab.node;
        node.sysctl("net/ipv4/ip_forward", "1");
        node.sysctl("net/ipv6/conf/all/forwarding", "1");
        node.ip(&format!("link add out type veth peer name eth0 netns {}", lab.outside.name));
        node.ip("addr add 192.0.2.1/24 dev out");
        node.ip("addr add 2001:db8::1/64 dev out nodad");
        node.ip("link set out up");
        lab.outside.ip("addr add 192.0.2.9/24 dev eth0");
        lab.outside.ip("addr add 192.0.2.8/24 dev eth0");
        lab.outside.ip("addr add 2001:db8::9/64 dev eth0 nodad");
        lab.outside.ip("link set eth0 up");
        // Addresses of load balancers and of services lead to the node; a default route so that services are routed somewhere.
        lab.outside.ip("route add 198.51.100.0/24 via 192.0.2.1");
        lab.outside.ip("route add 10.43.0.0/16 via 192.0.2.1");
        node.ip("route add default via 192.0.2.9");
        node.ip("route add default via 2001:db8::9");
        let pods = [
            (&lab.p1, "p1", "10.42.0.2", "fd00:42::2"),
            (&lab.p2, "p2", "10.42.0.3", "fd00:42::3"),
            (&lab.p3, "p3", "10.42.1.2", "fd00:42:0:1::2"),
        ];
        for (pod, link, v4, v6) in pods {
            node.ip(&format!("link add {link} type veth peer name eth0 netns {}", pod.name));
            node.ip(&format!("addr add 169.254.1.1/32 dev {link}"));
            node.ip(&format!("addr add fe80::1/64 dev {link} nodad"));
            node.ip(&format!("link set {link} up"));
            node.ip(&format!("route add {v4}/32 dev {link}"));
            node.ip(&format!("route add {v6}/128 dev {link}"));
            pod.ip(&format!("addr add {v4}/32 dev eth0"));
            pod.ip(&format!("addr add {v6}/128 dev eth0 nodad"));
            pod.ip("link set eth0 up");
            pod.ip("route add 169.254.1.1/32 dev eth0");
            pod.ip("route add default via 169.254.1.1");
            pod.ip("route add default via fe80::1 dev eth0");
        }
        lab
    }

    /// Each pod answers at its ports 8080 and 9090 over TCP, and 5353 over UDP; the outside at 80.
    pub(crate) fn serve(&self) {
        for (pod, name) in [(&self.p1, "p1"), (&self.p2, "p2"), (&self.p3, "p3")] {
            pod.serve_tcp(name, "[::]:8080".parse().unwrap());
            pod.serve_tcp(name, "[::]:9090".parse().unwrap());
            let address = match name {
                "p1" => "10.42.0.2:5353",
                "p2" => "10.42.0.3:5353",
                _ => "10.42.1.2:5353",
            };
            pod.serve_udp(name, address.parse().unwrap());
        }
        self.outside.serve_tcp("outside", "[::]:80".parse().unwrap());
    }
}

/// The settings of the node in the lab.
pub(crate) fn settings() -> Settings {
    Settings {
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd00:42::/56".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap(), "fd00:43::/112".parse().unwrap()],
        min_sync_period: Duration::ZERO,
        ..Settings::default()
    }
}

/// What the node in the lab knows of itself.
pub(crate) fn facts() -> NodeFacts {
    NodeFacts {
        name: "a".into(),
        zone: Some("east".into()),
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pod_cidrs: vec!["10.42.0.0/24".parse().unwrap(), "fd00:42::/64".parse().unwrap()],
    }
}

/// A state that is told to a kernel step by step.
pub(crate) struct Told {
    pub(crate) state: State,
    kernel: Kernel,
}

impl Told {
    /// In a namespace, with an empty table.
    pub(crate) fn new(ns: &Ns, settings: Settings) -> Self {
        let table = settings.table.clone();
        let kernel = ns.run(async move { Kernel::open(&table) }).unwrap();
        let mut told = Self { state: State::new(settings, facts()), kernel };
        told.kernel.commit(&told.state.whole()).unwrap();
        told
    }

    /// Takes objects over and tells the kernel.
    pub(crate) fn apply(&mut self, objects: &[Value]) {
        for object in objects {
            self.set(object, true);
        }
        self.tell();
    }

    /// Takes them away again and tells the kernel.
    pub(crate) fn delete(&mut self, objects: &[Value]) {
        for object in objects {
            self.set(object, false);
        }
        self.tell();
    }

    pub(crate) fn tell(&mut self) {
        let changes = self.state.changes();
        self.kernel.commit(&changes).unwrap();
    }

    /// Deletes stale flows in a namespace, and says how many there were.
    pub(crate) fn clean_flows(&self, ns: &Ns) -> usize {
        let (dispatches, node) = self.state.dispatches();
        ns.run(
            async move { Conntrack::open().unwrap().clean(&Owners::of(dispatches.iter(), &node)).unwrap() },
        )
    }

    pub(crate) fn sweep(&mut self) {
        let sweep = self.state.sweep();
        self.kernel.commit(&sweep).unwrap();
    }

    pub(crate) fn set(&mut self, object: &Value, there: bool) {
        set(&mut self.state, object, there);
    }
}

/// Takes an object over into a state, or away.
pub(crate) fn set(state: &mut State, object: &Value, there: bool) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let namespace = object["metadata"]["namespace"].as_str();
    let key: Arc<str> = format!("{}/{name}", namespace.unwrap_or_default()).into();
    let object = object.clone();
    match object["kind"].as_str().unwrap() {
        "Service" => {
            let read = services::service(&serde_json::from_value(object).unwrap());
            state.set_service(&key, read.filter(|_| there));
        }
        "EndpointSlice" => {
            let read = services::endpoints(&serde_json::from_value(object).unwrap());
            state.set_slice(&key, read.filter(|_| there));
        }
        "Pod" => state.set_pod(&key, pods::pod(&serde_json::from_value(object).unwrap()).filter(|_| there)),
        "Namespace" => {
            let labels: pods::Labels =
                serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
            state.set_namespace(&name.into(), there.then_some(labels));
        }
        "NetworkPolicy" => {
            let read = policy::policy(&serde_json::from_value(object).unwrap()).unwrap();
            state.set_policy(&key, there.then_some(read));
        }
        other => panic!("{other}"),
    }
}

/// A service of namespace `shop`, with these further fields of its spec.
pub(crate) fn service(name: &str, spec: Value) -> Value {
    serde_json::json!({"kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// The slice of a service, with endpoints and ports as the API has them.
pub(crate) fn slice(service: &str, ports: Value, endpoints: Value) -> Value {
    serde_json::json!({
        "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// A ready endpoint on a node.
pub(crate) fn endpoint(address: &str, node: &str) -> Value {
    serde_json::json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true, "serving": true, "terminating": false}})
}
