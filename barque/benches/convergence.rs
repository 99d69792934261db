//! How long a cluster takes from Deployments to pods that run, and what its programs cost meanwhile, at rest, and while
//! everything goes again: one member of the store that syncs every write, one API server, controllers, a scheduler, and one
//! agent with hollow nodes. Figures are printed, never judged.
//!
//! `cargo bench -p barque --bench convergence -- [nodes] [deployments] [pods of each] [-o json]`; `make bench` runs it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/programs/certificates/mod.rs"]
mod certificates;
#[path = "../tests/programs/cluster/mod.rs"]
mod cluster;
#[path = "machine/mod.rs"]
mod machine;
#[path = "convergence/plane.rs"]
mod plane;
#[path = "convergence/report.rs"]
mod report;
#[path = "requests/mod.rs"]
mod requests;
#[path = "convergence/timeline.rs"]
mod timeline;

use std::io::IsTerminal as _;
use std::time::Duration;

use http::Request;
use indicatif::{ProgressBar, ProgressStyle};
use machine::{cpu_seconds, load};
use plane::Plane;
use report::Report;
use requests::{Events, create_all};
use serde_json::{Value, json};
use timeline::Timeline;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// How long everything is left alone.
const REST: Duration = Duration::from_secs(30);

/// What the command line asks for.
struct Asked {
    nodes: usize,
    deployments: usize,
    replicas: usize,
    json: bool,
}

impl Asked {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let (mut numbers, mut json) = (Vec::new(), false);
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            match &*word {
                "-o" => json = words.next().as_deref() == Some("json") || panic!("-o takes json"),
                number => numbers.push(number.parse().unwrap_or_else(|_| panic!("{number:?} is no number"))),
            }
        }
        let number = |at: usize, usual| numbers.get(at).copied().unwrap_or(usual);
        Self { nodes: number(0, 500), deployments: number(1, 1000), replicas: number(2, 10), json }
    }
}

fn deployment(number: usize, replicas: usize) -> Value {
    let name = format!("web-{number}");
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "web", "image": "registry.example/web:1",
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                }]},
            },
        },
    })
}

fn progress(what: &'static str, length: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos} of {len}");
    let bar = ProgressBar::new(length as u64).with_prefix(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Takes events in until so many pods have come so far.
async fn follow(
    events: &mut Events,
    timeline: &mut Timeline,
    bar: ProgressBar,
    count: usize,
    come: impl Fn(&Timeline) -> usize,
) {
    while come(timeline) < count {
        timeline.take(&events.next().await);
        bar.set_position(come(timeline) as u64);
    }
    bar.finish_and_clear();
}

fn difference<const N: usize>(after: [f64; N], before: [f64; N]) -> [f64; N] {
    std::array::from_fn(|at| after[at] - before[at])
}

#[tokio::main(worker_threads = 1)]
async fn main() {
    let asked = Asked::parse(std::env::args().skip(1));
    let Asked { nodes, deployments, replicas, json } = asked;
    let pods = deployments * replicas;
    let plane = Plane::start(nodes).await;
    let client = plane.client.clone();
    let mut events = Events::watch(&client, PODS, "").await;

    let (load_before, own) = (load(), cpu_seconds(std::process::id()));
    let cpu = plane.cpu_seconds();
    let mut timeline = Timeline::begin();
    let created = async {
        let began = std::time::Instant::now();
        create_all(&client, DEPLOYMENTS, deployments, |number| deployment(number, replicas)).await;
        began.elapsed().as_secs_f64()
    };
    let bar = progress("ready", pods);
    let (deployments_created, ()) =
        tokio::join!(created, follow(&mut events, &mut timeline, bar, pods, Timeline::ready));
    let cpu = difference(plane.cpu_seconds(), cpu);
    let (resident, own_cpu) = (plane.resident_mib(), cpu_seconds(std::process::id()) - own);

    let is_quiet = plane.is_quiet().await;
    let idle = plane.shares(REST).await;

    let (before, began) = (plane.cpu_seconds(), timeline.elapsed());
    let request = Request::delete(DEPLOYMENTS).body(Vec::new()).unwrap();
    let bar = progress("gone", pods);
    // Events are taken in meanwhile: who does not read is told after a while that it missed some.
    let (deleted, ()) = tokio::join!(
        client.request_text(request),
        follow(&mut events, &mut timeline, bar, pods, Timeline::gone)
    );
    deleted.unwrap();
    let deletion = (timeline.elapsed() - began).as_secs_f64();
    let report = Report {
        nodes,
        deployments,
        pods,
        deployments_created,
        timeline: &timeline,
        cpu,
        resident,
        own_cpu,
        is_quiet,
        idle,
        deletion,
        deletion_cpu: difference(plane.cpu_seconds(), before),
        load: [load_before, load()],
    };
    if json {
        println!("{:#}", report.json());
    } else {
        report.print();
    }
}
