//! What the API server does on this machine: one server over one member of the store, clients with TLS beside them. Rates,
//! percentiles, CPU of the server and its memory are printed, never judged.
//!
//! `cargo bench -p barque --bench api -- [objects] [watchers]`; `make bench` runs it. With `--kubeconfig FILE --pid PID` another
//! server that runs already is measured in the same way, such as kube-apiserver.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/programs/certificates/mod.rs"]
mod certificates;
#[path = "../tests/programs/cluster/mod.rs"]
mod cluster;
#[path = "machine/mod.rs"]
mod machine;
#[path = "requests/mod.rs"]
mod requests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cluster::Cluster;
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Requests at once, as a busy controller has them.
const AT_ONCE: usize = 16;

/// What the command line asks for.
struct Asked {
    objects: usize,
    watchers: usize,
    /// The kubeconfig and the process of a server that is not started here.
    other: Option<(PathBuf, u32)>,
}

impl Asked {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let (mut numbers, mut kubeconfig, mut pid) = (Vec::new(), None, None);
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match &*word {
                "--kubeconfig" => kubeconfig = words.next().map(PathBuf::from),
                "--pid" => pid = words.next().and_then(|word| word.parse().ok()),
                number => numbers.push(number.parse().unwrap_or_else(|_| panic!("{number:?} is no number"))),
            }
        }
        Self {
            objects: numbers.first().copied().unwrap_or(10_000),
            watchers: numbers.get(1).copied().unwrap_or(1000),
            other: kubeconfig.map(|file| (file, pid.expect("--pid says whose memory is measured"))),
        }
    }
}

struct Server {
    client: Client,
    pid: u32,
}

impl Server {
    async fn of(kubeconfig: &Path, pid: u32) -> Self {
        Self { client: requests::client(kubeconfig).await, pid }
    }

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

    fn cpu_seconds(&self) -> f64 {
        machine::cpu_seconds(self.pid)
    }

    fn resident_mib(&self) -> f64 {
        machine::resident_mib(self.pid)
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
    let asked = Asked::parse(std::env::args().skip(1));
    let (objects, watchers) = (asked.objects, asked.watchers);
    let (server, _cluster) = match &asked.other {
        Some((kubeconfig, pid)) => (Server::of(kubeconfig, *pid).await, None),
        None => {
            let cluster = Cluster::start(1);
            let server = Server::of(&cluster.kubeconfig(0), cluster.pid(0)).await;
            cluster.wait_until_ready(&server.client, &server.client).await;
            (server, Some(cluster))
        }
    };
    // Pods run as this one. Where controllers run, it is there.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts/default?fieldManager=bench&force=true";
    server.send(Method::PATCH, path, "application/apply-patch+yaml", account.to_string().into_bytes()).await;
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
    server
        .measure(&format!("{all}, in pages of 500"), 10, 1, |_| async {
            let _ = pages(&server).await;
        })
        .await;
    let mut first_bytes = Vec::new();
    for _ in 0..10 {
        first_bytes.push(pages(&server).await);
    }
    first_bytes.sort();
    println!("{all}, until the last page begins: p50 {:.2} ms", first_bytes[5].as_secs_f64() * 1e3);
    server.measure(&format!("{all}, 50 at once"), 50, 50, |_| list("")).await;
    println!("after 50 lists at once: {:.0} MiB", server.resident_mib());

    watch(&server, watchers).await;
}

/// All pages of a list, whose objects are not looked at. Answers how long it took until the last one began.
async fn pages(server: &Server) -> Duration {
    const TOKEN: &str = "\"continue\":\"";
    let began = Instant::now();
    let mut path = format!("{PODS}?limit=500");
    loop {
        let request = Request::get(&path).body(kube::client::Body::empty()).unwrap();
        let response = server.client.send(request).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        let answered = began.elapsed();
        let page = response.into_body().collect_bytes().await.unwrap();
        // It stands in the list's metadata, which is in front or behind.
        let page = std::str::from_utf8(&page).unwrap();
        let token = page.rsplit_once(TOKEN).and_then(|(_, rest)| rest.split_once('"'));
        match token {
            Some((token, _)) if !token.is_empty() => path = format!("{PODS}?limit=500&continue={token}"),
            _ => return answered,
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
