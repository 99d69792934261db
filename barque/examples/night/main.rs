//! The night when masters die: a cluster comes up on this machine, `kubectl` brings it something to run, and while clients write, read
//! and ask its service, each master is killed, paused, cut off and replaced in turn, and a node is lost. What every client saw is
//! printed, and whether anything acknowledged was lost, or a pod replaced without a cause. Then another cluster begins with a snapshot from the evening before. `make up` runs it.
//!
//! In a terminal, or with HOLD=1, the cluster stays; otherwise it is taken away.

#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

mod clients;
mod cluster;
mod gaps;
#[path = "../../tests/programs/containers/images.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod images;
#[path = "../../tests/programs/cluster/kubectls.rs"]
mod kubectls;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use clients::Clients;
use cluster::Cluster;
use gaps::{Gaps, Reader};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

/// Three masters and three nodes on this machine, and the night when masters die.
#[derive(clap::Parser)]
#[command(name = "night")]
struct Words {
    /// The cluster's directory, as for `barque up`.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What everything of the cluster on this machine begins with, as for `barque up`.
    #[arg(long, default_value = "barque")]
    name: String,
}

/// How long anything may take before the night has failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// Who gets no answer for so long tries again.
const IMPATIENT: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words = Words::parse();
    let cluster = Cluster::new(words.dir, words.name)?;
    let stays = std::io::stdout().is_terminal() || std::env::var_os("HOLD").is_some();
    let story = story(&cluster).await;
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

/// A line of what is printed at the end.
struct Row {
    what: String,
    writes: Duration,
    reads: Duration,
    service: Option<Duration>,
    /// How long after it kubectl had an answer.
    kubectl: Duration,
}

impl Row {
    /// What clients have seen since gaps were counted anew.
    fn of(what: String, clients: &Clients, kubectl: Duration) -> Self {
        Self {
            what,
            kubectl,
            writes: clients.writes.longest(),
            reads: clients.reads.longest(),
            service: clients.service.as_ref().map(Reader::longest),
        }
    }
}

async fn story(cluster: &Cluster) -> anyhow::Result<()> {
    let (manifest, snapshot) = (cluster.file("web.yaml"), cluster.file("evening.snapshot"));
    std::fs::write(&manifest, include_str!("web.yaml"))?;
    let clients = evening(cluster, &manifest.display().to_string()).await?;
    let acknowledged_before = clients.acknowledged().await;
    cluster.save(&snapshot)?;
    println!("kvctl saved a snapshot");

    let client = cluster.client().await?;
    let books = pods(&client, "book").await?;
    let mut rows = masters_die(cluster, &client, &clients).await?;
    rows.push(a_node_dies(cluster, &client, &clients).await?);
    same(&books, &pods(&client, "book").await?)?;

    let totals = (clients.writes.now(), clients.reads.now(), clients.service.as_ref().map(Reader::now));
    let acknowledged = clients.end().await;
    table(&rows);
    counted("writes", &totals.0);
    counted("reads", &totals.1);
    if let Some(service) = &totals.2 {
        counted("requests to the service", service);
    }
    nothing_is_lost(&acknowledged, &client).await?;
    println!("pods that were replaced or restarted without a cause: 0");

    println!("\nthis cluster is taken away, and another one begins with the snapshot of the evening");
    cluster.run("down", &[])?;
    let words = ["--restore", &snapshot.display().to_string(), "-f", &manifest.display().to_string()];
    let began = cluster.come_up(&words)?;
    println!("restored, and the same runs: {:.1} s", began.elapsed().as_secs_f64());
    nothing_is_lost(&acknowledged_before, &cluster.client().await?).await
}

/// The cluster comes up, and kubectl brings what it is to run; clients begin.
async fn evening(cluster: &Cluster, manifest: &str) -> anyhow::Result<Clients> {
    let began = cluster.come_up(&[])?;
    let ready = began.elapsed();
    print!("{}", cluster.kubectl(&["apply", "-f", manifest]).await?);
    for deployment in ["web", "book"] {
        rolled(cluster, deployment).await?;
    }
    let client = cluster.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let address = nodes.get("n1").await?.status.and_then(|status| status.addresses).unwrap_or_default();
    let address = address.first().context("n1 has no address")?.address.clone();
    let service = cluster.is_root.then(|| format!("{address}:30080"));
    let clients = Clients::start(&client, service);
    clients.served().await?;
    println!(
        "\nThree masters and three nodes, ready after {:.1} s; a deployment of three behind a service, and one with a claim, after {:.1} s\n",
        ready.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    clients.go_on().await?;
    Ok(clients)
}

/// Each master in turn, who leads the store first, by each fault.
async fn masters_die(cluster: &Cluster, client: &Client, clients: &Clients) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut webs = None;
    let faults = [
        ("kill", Some("restart")),
        ("pause", Some("resume")),
        ("partition", Some("heal")),
        ("replace", None),
    ];
    for (fault, cure) in faults {
        if fault == "partition" && !cluster.is_root {
            continue;
        }
        let (leader, _) = cluster.leader()?;
        let others = ["m1", "m2", "m3"].into_iter().filter(|name| *name != leader).map(str::to_owned);
        for (master, role) in
            std::iter::once((leader.clone(), "leads the store")).chain(others.map(|it| (it, "follows")))
        {
            println!("{fault} {master}, which {role}");
            // A rollout begins, and goes through while the first of them is gone.
            if webs.is_none() {
                let patch = ["patch", "deployment", "web", "--type=merge", "-p", OTHER_TEMPLATE];
                cluster.kubectl(&patch).await?;
            }
            clients.forget();
            cluster.fault(fault, &master).await?;
            let asked = cluster.kubectl_until_well(&["get", "nodes"]);
            let (kubectl, gone_on) = tokio::join!(asked, clients.go_on());
            gone_on?;
            rows.push(Row::of(format!("{fault} {master} ({role})"), clients, kubectl?));
            if webs.is_none() {
                rolled(cluster, "web").await?;
                webs = Some(pods(client, "web").await?);
            }
            if let Some(cure) = cure {
                cluster.fault(cure, &master).await?;
                clients.go_on().await?;
            }
        }
    }
    // Nobody who runs is replaced because masters are gone.
    same(&webs.context("no master was killed")?, &pods(client, "web").await?)?;
    Ok(rows)
}

async fn a_node_dies(cluster: &Cluster, client: &Client, clients: &Clients) -> anyhow::Result<Row> {
    println!("kill n3, and its pods have to run elsewhere");
    clients.forget();
    let lost = Instant::now();
    cluster.fault("kill", "n3").await?;
    let kubectl = cluster.kubectl_until_well(&["get", "nodes"]).await?;
    let took = (elsewhere(client, "n3").await? - lost).as_secs_f64();
    let row = Row::of(format!("node n3 lost; its pods elsewhere after {took:.1} s"), clients, kubectl);
    cluster.fault("restart", "n3").await?;
    Ok(row)
}

/// What was acknowledged is there.
async fn nothing_is_lost(acknowledged: &BTreeSet<String>, client: &Client) -> anyhow::Result<()> {
    let there = objects(client).await?;
    let missing: Vec<&String> = acknowledged.difference(&there).collect();
    println!("acknowledged objects: {}, lost: {}", acknowledged.len(), missing.len());
    ensure!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    Ok(())
}

/// The names of what clients wrote.
async fn objects(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    Ok(maps.list(&ListParams::default()).await?.iter().map(|map| map.name_any()).collect())
}

fn counted(what: &str, gaps: &Gaps) {
    println!("{what}: {} answered, {} not", gaps.successes, gaps.failures);
}

fn table(rows: &[Row]) {
    println!(
        "\n{:58}{:>9}{:>9}{:>9}{:>18}",
        "LONGEST GAP OF", "WRITES", "READS", "SERVICE", "KUBECTL ANSWERED"
    );
    let seconds = |gap: Duration| format!("{:.2} s", gap.as_secs_f64());
    for Row { what, writes, reads, service, kubectl } in rows {
        let service = service.map_or_else(|| "-".to_owned(), seconds);
        let [writes, reads, kubectl] = [*writes, *reads, *kubectl].map(seconds);
        println!("{what:58}{writes:>9}{reads:>9}{service:>9}{kubectl:>18}");
    }
    println!();
}

/// The pods of an application, and how often containers of theirs were restarted.
type Pods = BTreeMap<String, i32>;

/// By their identities.
async fn pods(client: &Client, app: &str) -> anyhow::Result<Pods> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let listed = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
    let restarts = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).sum()
    };
    let lives = listed.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(lives.map(|pod| (pod.uid().unwrap_or_default(), restarts(pod))).collect())
}

/// They are the ones that were there before, and run as they did.
fn same(before: &Pods, now: &Pods) -> anyhow::Result<()> {
    let is_whole = now.values().all(|restarts| *restarts == 0);
    ensure!(before == now && is_whole, "pods were replaced or restarted: {before:?}, then {now:?}");
    Ok(())
}

/// Another template for the deployment of the page.
const OTHER_TEMPLATE: &str = r#"{"spec": {"template": {"metadata": {"annotations": {"night": "one"}}}}}"#;

/// Waits until a deployment has its template everywhere.
async fn rolled(cluster: &Cluster, deployment: &str) -> anyhow::Result<()> {
    let timeout = format!("--timeout={}s", PATIENCE.as_secs());
    cluster.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), &timeout]).await?;
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
