//! Controllers, scheduler and node agents whose wall clocks are hours off and jump while they run: who leads goes on leading, no
//! node is given up, no pod is ended early, and no jobs are started over and over.

// Its library speaks for the clock of any program that asks the C library.
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a part of another crate; rates are for members of the store"
)]
#[path = "../../../jepsen-like-tests/src/clocks.rs"]
mod preloaded;

use std::collections::BTreeSet;
use std::pin::Pin;

use crate::cluster::{Cluster, Program, said, start_with};
use crate::unkind::workload::{PATIENCE, condition, create, job, keeps, observed, texts, until, until_all};
use barque_client::servers::{Servers, Source, connect};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use preloaded::Clocks;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const HOUR_MS: i64 = 3_600_000;
/// How far the clocks are off, one after the other.
const OFFSETS_MS: [i64; 6] = [2 * HOUR_MS, -2 * HOUR_MS, 2 * HOUR_MS, 0, -2 * HOUR_MS, 0];
/// Whose clocks jump.
const JUMPING: [&str; 3] = ["manager", "scheduler", "agent"];

struct Test {
    cluster: Cluster,
    client: Client,
    clocks: Clocks,
}

impl Test {
    fn start(&self, clock: &str, flags: &[&str], ready: &str) -> (Program, String) {
        let [_, preload, file] = self.clocks.before_program(clock).unwrap();
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        let mut words: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        words.push(format!("--kubeconfig={}", self.cluster.kubeconfig(0).display()));
        start_with(&[pair(&preload), pair(&file)], &words, ready)
    }

    /// One that takes part in an election; says its identity.
    fn candidate(&self, clock: &str, flags: &[&str]) -> (Program, String) {
        let mut all = flags.to_vec();
        all.extend([
            "--secure-port=0",
            "--leader-elect-lease-duration=6s",
            "--leader-elect-renew-deadline=5s",
            "--leader-elect-retry-period=1s",
        ]);
        let (program, line) = self.start(clock, &all, "serving health and metrics");
        (program, said(&line, "identity").to_owned())
    }

    fn lease(&self, namespace: &str, name: &'static str) -> Renewals {
        let leases = Api::<Lease>::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Renewals { name, leases: watcher(leases, config).applied_objects().boxed() }
    }

    /// Watches that nodes are ready all the time.
    fn watch_nodes(&self) -> JoinHandle<()> {
        let nodes = Api::<Node>::all(self.client.clone());
        tokio::spawn(async move {
            let mut changes = Box::pin(watcher(nodes, watcher::Config::default()).applied_objects());
            while let Some(node) = changes.try_next().await.unwrap() {
                let node = serde_json::to_value(&node).unwrap();
                let given_up =
                    node["spec"].get("taints").is_some() || condition(&node, "Ready")["status"] != "True";
                assert!(!given_up, "{node:#}");
            }
        })
    }
}

/// A lease, each time that it is renewed.
struct Renewals {
    name: &'static str,
    leases: Pin<Box<dyn Stream<Item = watcher::Result<Lease>>>>,
}

impl Renewals {
    /// Waits for the next; says who holds it.
    async fn next(&mut self) -> String {
        let next = timeout(PATIENCE, self.leases.try_next());
        let lease = next.await.unwrap_or_else(|_| panic!("{} is not renewed", self.name)).unwrap().unwrap();
        lease.spec.unwrap().holder_identity.unwrap_or_default()
    }
}

async fn grows(deployments: &Api<Deployment>, replicas: usize) {
    let change = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch("web", &PatchParams::default(), &change).await.unwrap();
    until(deployments, "web", "it has its pods", |web| {
        observed(web) && web["status"]["availableReplicas"] == replicas
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_jump_and_nothing_else_does() {
    let cluster = Cluster::start(1);
    let source = Source::Kubeconfig(cluster.kubeconfig(0));
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    cluster.wait_until_ready(&client, &client).await;
    let test = Test { cluster, client: client.clone(), clocks: Clocks::build().unwrap() };
    test.clocks.set_wall("scheduler", 2 * HOUR_MS).unwrap();

    let managers = ["controller-manager", "--node-monitor-grace-period=12s", "--node-eviction-rate=10"];
    let (_manager, leader) = test.candidate("manager", &managers);
    let mut elected = test.lease("kube-system", "kube-controller-manager");
    while elected.next().await != leader {}
    let (_scheduler, decider) = test.candidate("scheduler", &["scheduler"]);
    let mut decides = test.lease("kube-system", "kube-scheduler");
    while decides.next().await != decider {}
    // Their rivals know what time it is.
    let _rivals = (test.candidate("right", &managers), test.candidate("right", &["scheduler"]));
    let agent = [
        "agent",
        "--runtime=hollow",
        "--healthz-port=0",
        "--node-ip=192.168.7.1",
        "--node-lease-duration-seconds=4",
        "--hostname-override=n",
        "--pod-cidr=10.244.0.0/24",
    ];
    let (_agent, _) = test.start("agent", &agent, "keeping nodes");
    let mut lives = test.lease("kube-node-lease", "n");
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    until(&accounts, "default", "there is an account for pods", |_| true).await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    create(&deployments, keeps("web", &json!({"replicas": 1}))).await;
    grows(&deployments, 1).await;
    let nodes = Api::<Node>::all(client.clone());
    until(&nodes, "n", "nothing keeps pods away", |node| node["spec"].get("taints").is_none()).await;
    let ready = test.watch_nodes();
    let limited = json!({
        "metadata": {"name": "limited", "labels": {"app": "limited"}},
        "spec": {"activeDeadlineSeconds": 3600, "containers": [{"name": "c", "image": "i"}]},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    create(&pods, limited).await;
    until(&pods, "limited", "it runs", |pod| pod["status"]["phase"] == "Running").await;
    let hourly =
        json!({"schedule": "30 * * * *", "jobTemplate": {"spec": job("hourly", &json!({}))["spec"]}});
    let schedules: Api<CronJob> = Api::namespaced(client.clone(), "default");
    let jobs: Api<Job> = Api::namespaced(client.clone(), "default");
    create(&schedules, json!({"metadata": {"name": "hourly"}, "spec": hourly})).await;
    let before = uids(&pods).await;

    for (step, offset_ms) in OFFSETS_MS.into_iter().enumerate() {
        for name in JUMPING {
            test.clocks.set_wall(name, offset_ms).unwrap();
        }
        // The first may have been on its way.
        for _ in 0..3 {
            assert_eq!((elected.next().await, decides.next().await), (leader.clone(), decider.clone()));
            lives.next().await;
        }
        grows(&deployments, step + 2).await;
        // The schedule is looked at again; the first time hours have been missed.
        let look = Patch::Merge(json!({"metadata": {"annotations": {"example.com/step": step.to_string()}}}));
        schedules.patch("hourly", &PatchParams::default(), &look).await.unwrap();
        until_all(&jobs, "", "a job was started", |jobs| !jobs.is_empty()).await;
        assert!(
            !ready.is_finished(),
            "a node was given up after clocks went to {offset_ms}: {:?}",
            ready.await
        );
    }

    // No pod was ended early or twice.
    assert!(before.is_subset(&uids(&pods).await));
    until(&pods, "limited", "it still runs", |pod| pod["status"]["phase"] == "Running").await;
    until_all(&pods, "app=web", "there are no others", |pods| {
        pods.len() == OFFSETS_MS.len() + 1 && texts(pods, "/status/phase") == ["Running".to_owned()].into()
    })
    .await;
    // What was missed while the clock was ahead is made up for once; an hour may have come meanwhile.
    let started = jobs.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = started.iter().map(|job| job.name_any()).collect();
    assert!(!names.is_empty() && names.len() <= 2, "{names:?}");
    ready.abort();
}

/// Of the pods that no job has made.
async fn uids(pods: &Api<Pod>) -> BTreeSet<String> {
    let listed = pods.list(&ListParams::default().labels("app in (web,limited)")).await.unwrap();
    listed.into_iter().map(|pod| pod.metadata.uid.unwrap()).collect()
}
