//! The night when masters die: a cluster comes up on this machine, and while clients write, read and ask its service, each master is
//! killed, paused, cut off and replaced in turn, and a node is lost. What every client saw is printed, and whether anything
//! acknowledged was lost. Then another cluster begins with a snapshot from the evening before. `make up` runs it.
//!
//! In a terminal, or with HOLD=1, the cluster stays; otherwise it is taken away.

#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

mod gaps;
#[path = "../../tests/programs/containers/images.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod images;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use gaps::{Gaps, Meter, Reader, begin};
use http::Uri;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config, ResourceExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long anything may take before the night has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// Who gets no answer for so long tries again.
const IMPATIENT: Duration = Duration::from_secs(2);
/// After a fault, so many writes and reads go on until the next thing happens.
const GOES_ON: u64 = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let cluster = Cluster { program: program()?, directory: directory(is_root)? };
    let stays = std::io::stdout().is_terminal() || std::env::var_os("HOLD").is_some();
    let story = story(&cluster, is_root).await;
    if stays && story.is_ok() {
        println!("\nThe cluster stays. Try:");
        println!("  export KUBECONFIG={}", cluster.directory.join("kubeconfig").display());
        println!("  kubectl get nodes,pods -o wide");
        println!("  {} down --dir {}", cluster.program.display(), cluster.directory.display());
    } else {
        cluster.run("down", &[])?;
    }
    story
}

/// The program, which was built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let program = own.ancestors().nth(2).context("a directory above")?.join("barque");
    ensure!(program.is_file(), "{} is not there; `cargo build --package barque` makes it", program.display());
    Ok(program)
}

fn directory(is_root: bool) -> anyhow::Result<PathBuf> {
    if is_root {
        return Ok(PathBuf::from("/var/lib/barque/up"));
    }
    Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".local/share/barque/up"))
}

/// A cluster of `barque up`.
struct Cluster {
    program: PathBuf,
    directory: PathBuf,
}

impl Cluster {
    fn run(&self, command: &str, words: &[&str]) -> anyhow::Result<()> {
        let mut barque = Command::new(&self.program);
        let barque = barque.arg(command).args(words).arg("--dir").arg(&self.directory).stdin(Stdio::null());
        let status = barque.status()?;
        ensure!(status.success(), "barque {command} {}: {status}", words.join(" "));
        Ok(())
    }

    /// The same beside what goes on.
    async fn fault(&self, fault: &str, member: &str) -> anyhow::Result<()> {
        let mut barque = tokio::process::Command::new(&self.program);
        let barque =
            barque.args(["fault", fault, member, "--dir"]).arg(&self.directory).stdout(Stdio::null());
        let status = barque.status().await?;
        ensure!(status.success(), "barque fault {fault} {member}: {status}");
        Ok(())
    }

    /// Nodes have the page's image before they are there: this works without a registry.
    fn load_image(&self, node: &str, archive: &Path) -> anyhow::Result<()> {
        let place = self.directory.join(node).join("root/images");
        let loaded = Command::new(&self.program)
            .args(["image", "load", "--root"])
            .arg(place)
            .arg("-i")
            .arg(archive)
            .stdout(Stdio::null())
            .status()?;
        ensure!(loaded.success(), "barque image load: {loaded}");
        Ok(())
    }

    async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.directory.join("kubeconfig"))?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.read_timeout = Some(IMPATIENT);
        Ok(Client::try_from(config)?)
    }

    /// Which master leads the store, as another one sees it, and the URL of its API server.
    fn leader(&self) -> anyhow::Result<(String, Uri)> {
        for master in ["m1", "m2", "m3"] {
            let output = Command::new(&self.program)
                .args(["status", "-o=json", "--data-dir"])
                .arg(self.directory.join(master))
                .output()?;
            let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { continue };
            let masters = status["masters"].as_object().into_iter().flatten();
            if let Some((name, master)) = masters.clone().find(|(_, it)| it["store"]["role"] == "leader") {
                let url = master["url"].as_str().context("the master has no URL")?;
                return Ok((name.clone(), url.parse()?));
            }
        }
        bail!("no master leads the store")
    }

    /// Saves the store as an administrator does it, at the master that leads.
    fn save(&self, snapshot: &Path) -> anyhow::Result<()> {
        let (master, url) = self.leader()?;
        let host = url.host().context("the master's URL has no host")?;
        let pki = self.directory.join(master).join("pki/store");
        let kvctl = self.program.with_file_name("kvctl");
        let saved = Command::new(&kvctl)
            .arg(format!("--endpoints=https://{host}:2379"))
            .arg(format!("--cacert={}", pki.join("ca.crt").display()))
            .arg(format!("--cert={}", pki.join("client.crt").display()))
            .arg(format!("--key={}", pki.join("client.key").display()))
            .args(["snapshot", "save"])
            .arg(snapshot)
            .status()
            .with_context(|| kvctl.display().to_string())?;
        ensure!(saved.success(), "kvctl snapshot save: {saved}");
        Ok(())
    }
}

/// What clients do all night.
struct Clients {
    writes: Reader,
    reads: Reader,
    service: Option<Reader>,
    /// Names of objects whose writes were acknowledged.
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Clients {
    fn start(client: &Client, service: Option<String>) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let acknowledged = Arc::default();
        let (meter, writes) = begin();
        let writing = write(client.clone(), meter, Arc::clone(&acknowledged));
        tasks.spawn(stop.clone().run_until_cancelled_owned(writing));
        let (meter, reads) = begin();
        tasks.spawn(stop.clone().run_until_cancelled_owned(read(client.clone(), meter)));
        let service = service.map(|address| {
            let (meter, service) = begin();
            tasks.spawn(stop.clone().run_until_cancelled_owned(ask(address, meter)));
            service
        });
        Self { writes, reads, service, acknowledged, tasks, stop }
    }

    /// Goes on until everybody had enough successes since something happened.
    async fn go_on(&self) -> anyhow::Result<()> {
        let (writes, reads) = (self.writes.more(GOES_ON), self.reads.more(GOES_ON));
        let both = async { tokio::join!(writes, reads) };
        tokio::time::timeout(PATIENCE, both).await.context("clients do not get through any more")?;
        Ok(())
    }

    async fn end(self) -> BTreeSet<String> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.acknowledged.lock().await.clone()
    }
}

/// Writes object after object. One that failed is not tried again: nobody knows whether it was taken.
async fn write(client: Client, meter: Meter, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    for number in 0_u64.. {
        let name = format!("night-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        match tokio::time::timeout(IMPATIENT, maps.create(&PostParams::default(), &map)).await {
            Ok(Ok(_)) => {
                acknowledged.lock().await.insert(name);
                meter.success();
            }
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
        tokio::task::yield_now().await;
    }
}

async fn read(client: Client, meter: Meter) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
    loop {
        match tokio::time::timeout(IMPATIENT, namespaces.get("default")).await {
            Ok(Ok(_)) => meter.success(),
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
        tokio::task::yield_now().await;
    }
}

/// Asks for the page.
async fn ask(address: String, meter: Meter) {
    loop {
        match tokio::time::timeout(IMPATIENT, page(&address)).await {
            Ok(Ok(_)) => meter.success(),
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
        tokio::task::yield_now().await;
    }
}

async fn page(address: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

/// A line of what is printed at the end.
struct Row {
    what: String,
    writes: Duration,
    reads: Duration,
    service: Option<Duration>,
}

async fn story(cluster: &Cluster, is_root: bool) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let manifest = place.path().join("web.yaml");
    std::fs::write(&manifest, include_str!("web.yaml"))?;
    let ready = come_up(cluster, is_root, place.path(), &["-f", &manifest.display().to_string()])?;
    println!(
        "\nThree masters, three nodes, a deployment of three behind a service, and one with a claim: {:.1} s\n",
        ready.as_secs_f64()
    );

    let client = cluster.client().await?;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    let address = nodes.get("n1").await?.status.and_then(|status| status.addresses).unwrap_or_default();
    let address = address.first().context("n1 has no address")?.address.clone();
    let service = is_root.then(|| format!("{address}:30080"));
    let before = pods(&client).await?;
    let clients = Clients::start(&client, service);
    clients.go_on().await?;

    let acknowledged_before = clients.acknowledged.lock().await.clone();
    let snapshot = place.path().join("evening.snapshot");
    cluster.save(&snapshot)?;
    println!("kvctl saved a snapshot");

    let mut rows = Vec::new();
    let faults = [
        ("kill", Some("restart")),
        ("pause", Some("resume")),
        ("partition", Some("heal")),
        ("replace", None),
    ];
    for (fault, cure) in faults {
        if fault == "partition" && !is_root {
            continue;
        }
        let (leader, _) = cluster.leader()?;
        let others = ["m1", "m2", "m3"].into_iter().filter(|name| *name != leader).map(str::to_owned);
        for (master, role) in
            std::iter::once((leader.clone(), "leads the store")).chain(others.map(|it| (it, "follows")))
        {
            println!("{fault} {master}, which {role}");
            if fault == "kill" && role == "leads the store" {
                // A rollout begins, and goes through.
                roll(&client).await?;
            }
            clients.forget();
            cluster.fault(fault, &master).await?;
            clients.go_on().await?;
            rows.push(clients.row(format!("{fault} {master} ({role})")));
            if let Some(cure) = cure {
                cluster.fault(cure, &master).await?;
                clients.go_on().await?;
            }
        }
    }
    rolled(&client).await?;

    println!("kill n3, and its pods have to run elsewhere");
    clients.forget();
    let lost = Instant::now();
    cluster.fault("kill", "n3").await?;
    let elsewhere = elsewhere(&client, "n3").await?;
    rows.push(
        clients
            .row(format!("node n3 lost; its pods elsewhere after {:.1} s", (elsewhere - lost).as_secs_f64())),
    );
    cluster.fault("restart", "n3").await?;

    let totals = (clients.writes.now(), clients.reads.now(), clients.service.as_ref().map(Reader::now));
    let acknowledged = clients.end().await;
    let there = objects(&client).await?;
    let missing: Vec<&String> = acknowledged.difference(&there).collect();
    table(&rows);
    counted("writes", &totals.0);
    counted("reads", &totals.1);
    if let Some(service) = &totals.2 {
        counted("requests to the service", service);
    }
    println!("acknowledged objects: {}, lost: {}", acknowledged.len(), missing.len());
    ensure!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let restarted: Vec<_> = pods(&client).await?.into_iter().filter(|(_, restarts)| *restarts > 0).collect();
    println!("pods that ran before: {}, restarted containers: {}", before.len(), restarted.len());
    ensure!(restarted.is_empty(), "restarted: {restarted:?}");

    println!("\nthis cluster is taken away, and another one begins with the snapshot of the evening");
    cluster.run("down", &[])?;
    let words = ["--restore", &snapshot.display().to_string(), "-f", &manifest.display().to_string()];
    let ready = come_up(cluster, is_root, place.path(), &words)?;
    let there = objects(&cluster.client().await?).await?;
    let missing: Vec<&String> = acknowledged_before.difference(&there).collect();
    println!(
        "restored, and the same runs: {:.1} s; objects that were acknowledged before the snapshot: {}, lost: {}",
        ready.as_secs_f64(),
        acknowledged_before.len(),
        missing.len()
    );
    ensure!(missing.is_empty(), "saved and lost: {missing:?}");
    Ok(())
}

/// Brings three masters and three nodes up; how long that took, without images.
fn come_up(cluster: &Cluster, is_root: bool, place: &Path, words: &[&str]) -> anyhow::Result<Duration> {
    if is_root {
        let archive = images::write(place);
        for node in ["n1", "n2", "n3"] {
            cluster.load_image(node, &archive)?;
        }
    }
    let began = Instant::now();
    cluster.run("up", &[&["--masters=3", "--nodes=3"], words].concat())?;
    Ok(began.elapsed())
}

/// The names of what clients wrote.
async fn objects(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    Ok(maps.list(&ListParams::default()).await?.iter().map(|map| map.name_any()).collect())
}

impl Clients {
    fn forget(&self) {
        for reader in [Some(&self.writes), Some(&self.reads), self.service.as_ref()].into_iter().flatten() {
            reader.forget();
        }
    }

    fn row(&self, what: String) -> Row {
        Row {
            what,
            writes: self.writes.longest(),
            reads: self.reads.longest(),
            service: self.service.as_ref().map(Reader::longest),
        }
    }
}

fn counted(what: &str, gaps: &Gaps) {
    println!("{what}: {} answered, {} not", gaps.successes, gaps.failures);
}

fn table(rows: &[Row]) {
    println!("\n{:58}{:>9}{:>9}{:>9}", "LONGEST GAP OF", "WRITES", "READS", "SERVICE");
    let seconds = |gap: Duration| format!("{:.2} s", gap.as_secs_f64());
    for row in rows {
        let service = row.service.map_or_else(|| "-".to_owned(), seconds);
        println!("{:58}{:>9}{:>9}{service:>9}", row.what, seconds(row.writes), seconds(row.reads));
    }
    println!();
}

/// The web pods with how often their containers were restarted.
async fn pods(client: &Client) -> anyhow::Result<Vec<(String, i32)>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let listed = pods.list(&ListParams::default().labels("app=web")).await?;
    let restarts = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).sum()
    };
    Ok(listed.iter().map(|pod| (pod.name_any(), restarts(pod))).collect())
}

/// Another template for the deployment.
async fn roll(client: &Client) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let other = serde_json::json!({"spec": {"template": {"metadata": {"annotations": {"night": "one"}}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Merge(other)).await?;
    Ok(())
}

/// Waits until the deployment has its template everywhere.
async fn rolled(client: &Client) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let is = |deployment: Option<&Deployment>| {
        deployment.is_some_and(|it| {
            let status = it.status.clone().unwrap_or_default();
            status.observed_generation == it.metadata.generation
                && (status.updated_replicas, status.available_replicas, status.replicas)
                    == (Some(3), Some(3), Some(3))
        })
    };
    tokio::time::timeout(PATIENCE, await_condition(deployments, "web", is))
        .await
        .context("the rollout does not end")??;
    Ok(())
}

/// Waits until no ready pod of the deployment is on the node, and there are as many as before.
async fn elsewhere(client: &Client, node: &str) -> anyhow::Result<Instant> {
    use futures::StreamExt as _;
    use kube::runtime::{WatchStreamExt as _, watcher};
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let config = watcher::Config::default().labels("app=web");
    let (store, writer) = kube::runtime::reflector::store();
    let mut changes = Box::pin(watcher(pods, config).default_backoff().reflect(writer));
    let waiting = async {
        while changes.next().await.is_some() {
            let ready = |pod: &Pod| {
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                pod.metadata.deletion_timestamp.is_none()
                    && conditions.clone().any(|it| it.type_ == "Ready" && it.status == "True")
            };
            let there = store.state().into_iter().filter(|pod| {
                pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) != Some(node) && ready(pod)
            });
            if there.count() == 3 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("the lost node's pods do not run elsewhere")?;
    Ok(Instant::now())
}
