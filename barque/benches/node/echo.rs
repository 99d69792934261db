//! A server that says again what it is told, in a pod, and a client in another pod that asks it: by the service's address, by the
//! pod's own, and one on its own loopback for comparison. Must never be the slow part: threads, and nothing between them and
//! the sockets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::images::BUSYBOX;
use super::world::World;

const PORT: u16 = 7;
/// Bytes of a request and of its answer.
const SIZE: usize = 64;
/// Connections at once.
const CLIENTS: usize = 16;
/// How long each load goes on.
const LOAD: Duration = Duration::from_secs(3);

/// What one target gave.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Echo {
    /// Of one connection that asks again and again, in microseconds.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of all connections, a second.
    pub(crate) requests: f64,
    /// When each request has a connection of its own, a second; translation of addresses is paid by the first packet.
    pub(crate) connections: f64,
}

/// Serves until it is killed.
pub(crate) fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let mut bytes = [0; SIZE];
            while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
        });
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn once(stream: &mut TcpStream) {
    let mut bytes = [7; SIZE];
    stream.write_all(&bytes).unwrap();
    stream.read_exact(&mut bytes).unwrap();
}

/// Rounds a second of so many threads that do the same.
fn rate(work: impl Fn(&AtomicBool) -> usize + Sync) -> f64 {
    let enough = AtomicBool::new(false);
    let began = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| work(&enough))).collect();
        std::thread::sleep(LOAD);
        enough.store(true, Ordering::Relaxed);
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    done as f64 / began.elapsed().as_secs_f64()
}

/// Asks one target in every way, and prints what it gave.
pub(crate) fn ask(address: &str) {
    let mut stream = connect(address);
    let mut times = Vec::new();
    let began = Instant::now();
    while began.elapsed() < LOAD {
        let asked = Instant::now();
        once(&mut stream);
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    let requests = rate(|enough| {
        let (mut stream, mut count) = (connect(address), 0);
        while !enough.load(Ordering::Relaxed) {
            once(&mut stream);
            count += 1;
        }
        count
    });
    let connections = rate(|enough| {
        let mut count = 0;
        while !enough.load(Ordering::Relaxed) {
            once(&mut connect(address));
            count += 1;
        }
        count
    });
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    let echo = Echo { p50_us: at(50), p99_us: at(99), requests, connections };
    println!("{}", serde_json::to_string(&echo).unwrap());
}

/// The targets, with what each gave.
pub(crate) fn measure(world: &World) -> Vec<(&'static str, Echo)> {
    let program = std::env::current_exe().unwrap().display().to_string();
    for name in ["serves", "asks"] {
        // The program of this machine with the libraries of this machine, in a pod's network.
        world.apply(&format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{echo: {name}}}}}, spec: {{\
               terminationGracePeriodSeconds: 0, volumes: [{{name: machine, hostPath: {{path: /}}}}], \
               containers: [{{name: c, image: '{BUSYBOX}', command: [chroot, /machine, {program}, echo, '{PORT}'], \
                 volumeMounts: [{{name: machine, mountPath: /machine, readOnly: true}}]}}]}}}}\n"
        ));
    }
    world.kubectl("kubectl wait --for=condition=Ready pod/serves pod/asks --timeout=60s");
    world.kubectl(&format!("kubectl expose pod serves --port={PORT}"));
    let pod = world.kubectl("kubectl get pod serves -o jsonpath='{.status.podIP}'");
    let service = world.kubectl("kubectl get service serves -o jsonpath='{.spec.clusterIP}'");
    // The service's rules come a moment after the service.
    world.until(&format!("kubectl exec asks -- bash -c ': < /dev/tcp/{service}/{PORT}'"), |_| true);
    let targets =
        [("loopback of the pod", "127.0.0.1".to_owned()), ("address of a pod", pod), ("ClusterIP", service)];
    let measured = targets.map(|(name, host)| {
        let script = format!("kubectl exec asks -- chroot /machine {program} ask {host}:{PORT}");
        (name, serde_json::from_str(world.kubectl(&script).trim()).unwrap())
    });
    world.kubectl("kubectl delete pod serves asks; kubectl delete service serves");
    measured.into()
}
