//! What the API server does on this machine: one server over one member of the store, clients with TLS beside them. Rates,
//! percentiles, CPU of the server and its memory are printed, never judged.
//!
//! `cargo bench -p barque --bench api -- [objects] [watchers]`; `make bench` runs it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/certificates/mod.rs"]
mod certificates;
#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::Cluster;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Requests at once, as a busy controller has them.
const AT_ONCE: usize = 16;

struct Server {
    client: Client,
    pid: u32,
}

impl Server {
    async fn send(&self, method: Method, path: &str, content: &str, body: Vec<u8>) -> Vec<u8> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content)
            .body(kube::client::Body::from(body))
            .unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status();
        let bytes = response.into_body().collect_bytes().await.unwrap();
        assert!(code.is_success(), "{path}: {code} {}", String::from_utf8_lossy(&bytes));
        bytes.to_vec()
    }

    async fn create(&self, path: &str, object: &Value) -> Value {
        let answer = self.send(Method::POST, path, "application/json", object.to_string().into_bytes()).await;
        serde_json::from_slice(&answer).unwrap()
    }

    /// Seconds of CPU that the server has used.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }

    /// Resident memory, in MiB.
    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Does something many times, several at once, and prints how it went.
    async fn measure<F>(&self, name: &str, count: usize, at_once: usize, each: impl Fn(usize) -> F)
    where
        F: Future<Output = ()>,
    {
        let (cpu, began) = (self.cpu_seconds(), Instant::now());
        let mut times: Vec<Duration> = stream::iter(0..count)
            .map(|number| {
                let each = each(number);
                async move {
                    let began = Instant::now();
                    each.await;
                    began.elapsed()
                }
            })
            .buffer_unordered(at_once)
            .collect()
            .await;
        let (took, cpu) = (began.elapsed(), self.cpu_seconds() - cpu);
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!(
            "{name:44} {:>8.0}/s   p50 {:>8.2} ms   p99 {:>8.2} ms   {:>8.0} us of CPU each   {:>6.0} MiB",
            count as f64 / took.as_secs_f64(),
            at(0.5),
            at(0.99),
            cpu / count as f64 * 1e6,
            self.resident_mib()
        );
    }
}

/// About 4 KB, as pods of real clusters are.
fn pod(number: usize) -> Value {
    let note = "x".repeat(2600);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("web-{number:06}"),
            "labels": {"app": "web", "shard": format!("s{}", number % 100)},
            "annotations": {"note": note},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{"name": "web", "image": "registry.example.com/web:1.2.3",
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                "ports": [{"containerPort": 8080}]}],
        },
    })
}

fn map(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("map-{number}")}, "data": {"n": "0"}})
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let objects = numbers.first().copied().unwrap_or(10_000);
    let watchers = numbers.get(1).copied().unwrap_or(1000);
    let cluster = Cluster::start(1);
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(0)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let server = Server { client: Client::try_from(config).unwrap(), pid: cluster.pid(0) };
    cluster.wait_until_ready(&server.client, &server.client).await;
    let account = json!({"metadata": {"name": "default"}});
    server.create("/api/v1/namespaces/default/serviceaccounts", &account).await;
    println!("idle: {:.0} MiB", server.resident_mib());

    server
        .measure("create a config map, one at a time", 500, 1, |number| {
            let server = &server;
            async move {
                server.create(MAPS, &map(number)).await;
            }
        })
        .await;
    server
        .measure("create a config map", 4000, AT_ONCE, |number| {
            let server = &server;
            async move {
                server.create(MAPS, &map(1000 + number)).await;
            }
        })
        .await;
    server
        .measure("get a config map", 10_000, AT_ONCE, |number| {
            let server = &server;
            async move {
                let path = format!("{MAPS}/map-{}", 1000 + number % 4000);
                server.send(Method::GET, &path, "application/json", Vec::new()).await;
            }
        })
        .await;
    server
        .measure("read and guarded update of a config map", 2000, AT_ONCE, |number| {
            let server = &server;
            async move {
                let path = format!("{MAPS}/map-{}", 1000 + number);
                let read = server.send(Method::GET, &path, "application/json", Vec::new()).await;
                let mut object: Value = serde_json::from_slice(&read).unwrap();
                object["data"]["n"] = "1".into();
                server.send(Method::PUT, &path, "application/json", object.to_string().into_bytes()).await;
            }
        })
        .await;
    server
        .measure("merge patch of a config map", 2000, AT_ONCE, |number| {
            let server = &server;
            async move {
                let path = format!("{MAPS}/map-{}", 1000 + number);
                let patch = json!({"data": {"n": number.to_string()}}).to_string().into_bytes();
                server.send(Method::PATCH, &path, "application/merge-patch+json", patch).await;
            }
        })
        .await;
    server
        .measure("create a pod of 4 KB", objects, AT_ONCE, |number| {
            let server = &server;
            async move {
                server.create(PODS, &pod(number)).await;
            }
        })
        .await;

    let all = format!("list of {objects} pods");
    let list = |query: &'static str| {
        let server = &server;
        async move {
            server.send(Method::GET, &format!("{PODS}{query}"), "application/json", Vec::new()).await;
        }
    };
    server.measure(&all, 10, 1, |_| list("")).await;
    server.measure(&format!("{all}, of the cache"), 10, 1, |_| list("?resourceVersion=0")).await;
    server
        .measure(&format!("{all}, a hundredth by a label"), 50, 1, |_| list("?labelSelector=shard%3Ds7"))
        .await;
    server.measure(&format!("{all}, in pages of 500"), 5, 1, |_| pages(&server)).await;
    server.measure(&format!("{all}, 50 at once"), 50, 50, |_| list("")).await;
    println!("after 50 lists at once: {:.0} MiB", server.resident_mib());

    watch(&server, watchers).await;
}

/// All pages of a list.
async fn pages(server: &Server) {
    let mut path = format!("{PODS}?limit=500");
    loop {
        let page = server.send(Method::GET, &path, "application/json", Vec::new()).await;
        let head: Value = serde_json::from_slice(&page).unwrap();
        match head["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => path = format!("{PODS}?limit=500&continue={token}"),
            _ => return,
        }
    }
}

/// Many watchers of one collection, and how long an event takes to all of them.
async fn watch(server: &Server, watchers: usize) {
    const EVENTS: usize = 50;
    let heard = Arc::new(AtomicUsize::new(0));
    let newest = server.send(Method::GET, &format!("{MAPS}?limit=1"), "application/json", Vec::new()).await;
    let newest: Value = serde_json::from_slice(&newest).unwrap();
    let version = newest["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let (told, mut times) = tokio::sync::mpsc::channel::<Instant>(watchers * EVENTS);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let path = format!("{MAPS}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Dbusy");
        let request = Request::get(path).body(Vec::new()).unwrap();
        let mut events = server.client.request_stream(request).await.unwrap().lines();
        let (heard, told) = (Arc::clone(&heard), told.clone());
        tasks.spawn(async move {
            while let Ok(Some(_)) = events.try_next().await {
                heard.fetch_add(1, Ordering::Relaxed);
                if told.send(Instant::now()).await.is_err() {
                    return;
                }
            }
        });
    }
    println!("{watchers} watchers: {:.0} MiB", server.resident_mib());
    let mut busy = map(0);
    busy["metadata"]["name"] = "busy".into();
    let cpu = server.cpu_seconds();
    let mut late = Vec::new();
    for number in 0..EVENTS {
        let began = Instant::now();
        if number == 0 {
            server.create(MAPS, &busy).await;
        } else {
            let patch = json!({"data": {"n": number.to_string()}}).to_string().into_bytes();
            server.send(Method::PATCH, &format!("{MAPS}/busy"), "application/merge-patch+json", patch).await;
        }
        for _ in 0..watchers {
            late.push(times.recv().await.unwrap().duration_since(began));
        }
    }
    late.sort();
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "an event from the write to {watchers} watchers: p50 {:.2} ms, p99 {:.2} ms, {:.0} us of CPU for an event and watcher",
        at(0.5),
        at(0.99),
        (server.cpu_seconds() - cpu) / late.len() as f64 * 1e6
    );
    tasks.shutdown().await;
}
