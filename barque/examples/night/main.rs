//! The night when masters die: a cluster comes up on this machine, and while clients write, read and ask its service, each master is
//! killed, paused, cut off and replaced in turn, and a node is lost. What every client saw is printed, and whether anything
//! acknowledged was lost. Then another cluster begins with a snapshot from the evening before. `make up` runs it.
//!
//! In a terminal, or with HOLD=1, the cluster stays; otherwise it is taken away.

#![allow(clippy::unwrap_used, missing_docs, reason = "an example")]

mod clients;
mod cluster;
mod gaps;
#[path = "../../tests/programs/containers/images.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod images;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser as _;
use clients::Clients;
use cluster::{Cluster, directory, program};
use gaps::{Gaps, Reader};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
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
    let is_root = rustix::process::geteuid().is_root();
    let directory = words.dir.map_or_else(|| directory(is_root), Ok)?;
    let cluster = Cluster { program: program()?, directory, name: words.name };
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

/// A line of what is printed at the end.
struct Row {
    what: String,
    writes: Duration,
    reads: Duration,
    service: Option<Duration>,
}

impl Row {
    /// What clients have seen since gaps were counted anew.
    fn of(what: String, clients: &Clients) -> Self {
        Self {
            what,
            writes: clients.writes.longest(),
            reads: clients.reads.longest(),
            service: clients.service.as_ref().map(Reader::longest),
        }
    }
}

async fn story(cluster: &Cluster, is_root: bool) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let manifest = place.path().join("web.yaml");
    std::fs::write(&manifest, include_str!("web.yaml"))?;
    let ready = cluster.come_up(is_root, place.path(), &["-f", &manifest.display().to_string()])?;
    println!(
        "\nThree masters, three nodes, a deployment of three behind a service, and one with a claim: {:.1} s\n",
        ready.as_secs_f64()
    );

    let client = cluster.client().await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let address = nodes.get("n1").await?.status.and_then(|status| status.addresses).unwrap_or_default();
    let address = address.first().context("n1 has no address")?.address.clone();
    let service = is_root.then(|| format!("{address}:30080"));
    let before = pods(&client).await?;
    let clients = Clients::start(&client, service);
    clients.go_on().await?;

    let acknowledged_before = clients.acknowledged().await;
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
            rows.push(Row::of(format!("{fault} {master} ({role})"), &clients));
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
    let took = (elsewhere - lost).as_secs_f64();
    rows.push(Row::of(format!("node n3 lost; its pods elsewhere after {took:.1} s"), &clients));
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
    let ready = cluster.come_up(is_root, place.path(), &words)?;
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

/// The names of what clients wrote.
async fn objects(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    Ok(maps.list(&ListParams::default()).await?.iter().map(|map| map.name_any()).collect())
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
