//! Nodes and pods as network namespaces, on a fabric that is a bridge in a namespace of its own. Everything is gone when
//! the lab is dropped.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use barque_api::ip::{Cidr, parse_cidr};
use barque_network::{Backend, Network, NetworkError, Peer, PodAddresses, Settings};
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::link::{LinkAttribute, State};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

static LABS: AtomicU32 = AtomicU32::new(0);

/// How long a packet may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `ip`.
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace with a name.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new(name: String) -> Self {
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.name))
    }

    /// Does something in a thread in the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&path);
                    work()
                })
                .join()
                .unwrap()
        })
    }

    /// Comes back when the kernel has noticed that both ends of a link are up; what is sent before is lost.
    fn wait_until_running(&self, link: &str) {
        let running = async {
            let (connection, handle, mut changes) =
                rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).unwrap();
            let wait = async {
                let up = LinkAttribute::OperState(State::Up);
                loop {
                    let mut links = Box::pin(handle.link().get().match_name(link.to_owned()).execute());
                    if links.try_next().await.unwrap().unwrap().attributes.contains(&up) {
                        break;
                    }
                    changes.next().await.unwrap();
                }
            };
            tokio::select! {
                () = connection => panic!("the socket closed"),
                outcome = tokio::time::timeout(DEADLINE, wait) => outcome.unwrap(),
            }
        };
        self.run(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(running);
        });
    }

    /// Sends a datagram of so many bytes to another namespace, and it answers with as many.
    pub(crate) fn asks(&self, other: &Namespace, address: IpAddr, size: usize) -> io::Result<()> {
        let any: IpAddr = if address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let bind = move |address: IpAddr| {
            let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
            socket.set_read_timeout(Some(DEADLINE))?;
            io::Result::Ok(socket)
        };
        let server = other.run(|| bind(address))?;
        let client = self.run(|| bind(any))?;
        client.connect(server.local_addr()?)?;
        client.send(&vec![7; size])?;
        let mut buffer = vec![0; 65_535];
        let (length, from) = server.recv_from(&mut buffer)?;
        server.send_to(&buffer[..length], from)?;
        assert_eq!(client.recv(&mut buffer)?, size);
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have been deleted by the test.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

fn enter(path: &Path) {
    let file = File::open(path).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

pub(crate) struct Lab {
    pub(crate) name: String,
    fabric: Namespace,
    namespaces: AtomicU32,
}

impl Lab {
    /// An empty one; none, and a visible line, without root.
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let name = format!("bq{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let fabric = Namespace::new(format!("{name}-fabric"));
        fabric.ip("link add fabric type bridge");
        fabric.ip("link set fabric up");
        Some(Self { name, fabric, namespaces: AtomicU32::new(0) })
    }

    /// A network namespace for a pod.
    pub(crate) fn pod(&self) -> Namespace {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        Namespace::new(format!("{}-pod{number}", self.name))
    }

    /// A node that knows no other node, with one pod network of each family.
    pub(crate) fn node(&self, number: u8) -> Node {
        self.node_with(
            number,
            Backend::Vxlan,
            &[&format!("10.1.{number}.0/24"), &format!("fd00:{number}::/64")],
        )
    }

    pub(crate) fn node_with(&self, number: u8, backend: Backend, networks: &[&str]) -> Node {
        let namespace = Namespace::new(format!("{}-node{number}", self.name));
        let (fabric, node) = (&self.fabric.name, &namespace.name);
        ip(&format!("-n {fabric} link add port{number} type veth peer name up0 netns {node}"));
        self.fabric.ip(&format!("link set port{number} master fabric up"));
        namespace.ip(&format!("addr add 192.168.77.{number}/24 dev up0"));
        namespace.ip(&format!("addr add fd77::{number}/64 dev up0 nodad"));
        namespace.ip("link set up0 up");
        self.fabric.wait_until_running(&format!("port{number}"));
        let path = namespace.path();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || enter(&path))
            .build()
            .unwrap();
        let mut node = Node {
            number,
            namespace,
            directory: tempfile::tempdir().unwrap(),
            runtime,
            backend,
            networks: networks.iter().map(|text| parse_cidr(text).unwrap()).collect(),
            network: None,
        };
        node.start();
        node
    }
}

pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) namespace: Namespace,
    pub(crate) networks: Vec<Cidr>,
    backend: Backend,
    directory: tempfile::TempDir,
    runtime: Runtime,
    network: Option<Arc<Network>>,
}

impl Node {
    /// Starts the network, or starts it again.
    pub(crate) fn start(&mut self) {
        self.network = None;
        let settings = Settings {
            state_dir: self.directory.path().to_owned(),
            addresses: self.addresses(),
            mtu: None,
            backend: self.backend,
        };
        let opening = self.runtime.spawn(async move { Network::open(settings) });
        self.network = Some(Arc::new(self.runtime.block_on(opening).unwrap().unwrap()));
        let networks = self.networks.clone();
        if !networks.is_empty() {
            self.run(async move |network| network.set_node(&networks).await).unwrap();
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let number = self.number;
        vec![IpAddr::from([192, 168, 77, number]), format!("fd77::{number}").parse().unwrap()]
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.addresses()[0]
    }

    /// Uses the network in the node's namespace.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(Arc<Network>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let network = Arc::clone(self.network.as_ref().unwrap());
        let task = self.runtime.spawn(work(network));
        self.runtime.block_on(task).unwrap()
    }

    pub(crate) fn as_peer(&self) -> Peer {
        Peer {
            name: format!("node-{}", self.number),
            addresses: self.addresses(),
            pod_networks: self.networks.clone(),
        }
    }

    pub(crate) fn knows(&self, others: &[&Node]) -> Result<(), NetworkError> {
        let peers = others.iter().map(|node| node.as_peer()).collect();
        self.run(async move |network| network.set_peers(peers).await)
    }

    pub(crate) fn attach(&self, pod_id: &str, namespace: &Namespace) -> Result<PodAddresses, NetworkError> {
        let (pod_id, path) = (pod_id.to_owned(), namespace.path());
        self.run(async move |network| network.attach(&pod_id, &path, "default/web").await)
    }

    pub(crate) fn detach(&self, pod_id: &str) -> Result<(), NetworkError> {
        let pod_id = pod_id.to_owned();
        self.run(async move |network| network.detach(&pod_id).await)
    }

    /// The routes that the network made, one a line.
    pub(crate) fn routes(&self) -> String {
        self.namespace.ip("route show proto 98") + &self.namespace.ip("-6 route show proto 98")
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.run(async |network| network.problem())
    }
}
