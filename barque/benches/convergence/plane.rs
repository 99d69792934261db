//! The programs of a whole cluster, and what each of them costs.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use serde::Deserialize;

use crate::cluster::{Cluster, Program, start};
use crate::machine::{cpu_seconds, resident_mib};
use crate::requests::{self, Events};

/// In the order in which they are told.
pub(crate) const PROGRAMS: [&str; 5] = ["store", "apiserver", "controller-manager", "scheduler", "agent"];
/// Those that have nothing to do when nothing changes.
const QUIET: [usize; 2] = [2, 3];
/// A core's share below which these are quiet, how long that must be so, and how long it is waited for.
const QUIET_SHARE: f64 = 0.05;
const QUIET_FOR: Duration = Duration::from_secs(5);
const QUIET_WITHIN: u32 = 24;

/// One of each, with hollow nodes.
pub(crate) struct Plane {
    cluster: Cluster,
    others: [Program; 3],
    pub(crate) client: Client,
}

/// A node as a watch tells it.
#[derive(Deserialize)]
struct Told {
    object: Node,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize, Default)]
struct Spec {
    #[serde(default)]
    taints: Vec<serde::de::IgnoredAny>,
}

impl Plane {
    /// Starts all, and waits until pods may go to every node.
    pub(crate) async fn start(nodes: usize) -> Self {
        let cluster = Cluster::start(1);
        let kubeconfig = cluster.kubeconfig(0);
        let client = requests::client(&kubeconfig).await;
        cluster.wait_until_ready(&client, &client).await;
        let mut taken = Events::watch(&client, "/api/v1/nodes", "").await;
        let others = [
            program(&kubeconfig, &["controller-manager", "--secure-port=0"], "controllers run"),
            program(&kubeconfig, &["scheduler", "--secure-port=0"], "knows the cluster"),
            program(
                &kubeconfig,
                &[
                    "agent",
                    "--runtime=hollow",
                    "--hostname-override=hollow",
                    &format!("--hollow-nodes={nodes}"),
                    "--pod-cidr=10.0.0.0/8",
                    "--node-ip=127.0.0.1",
                    "--healthz-port=0",
                ],
                "keeping nodes",
            ),
        ];
        let mut free = std::collections::HashSet::new();
        while free.len() < nodes {
            let Told { object } = serde_json::from_str(&taken.next().await).unwrap();
            if object.spec.taints.is_empty() {
                free.insert(object.metadata.name);
            } else {
                free.remove(&object.metadata.name);
            }
        }
        Self { cluster, others, client }
    }

    fn pids(&self) -> [u32; PROGRAMS.len()] {
        let [manager, scheduler, agent] = &self.others;
        [self.cluster.store_pid(), self.cluster.pid(0), manager.pid(), scheduler.pid(), agent.pid()]
    }

    /// Seconds of CPU that each program has used.
    pub(crate) fn cpu_seconds(&self) -> [f64; PROGRAMS.len()] {
        self.pids().map(cpu_seconds)
    }

    /// Resident memory of each program, in MiB.
    pub(crate) fn resident_mib(&self) -> [f64; PROGRAMS.len()] {
        self.pids().map(resident_mib)
    }

    /// How much of a core each program uses while this time passes.
    pub(crate) async fn shares(&self, time: Duration) -> [f64; PROGRAMS.len()] {
        let before = self.cpu_seconds();
        tokio::time::sleep(time).await;
        let after = self.cpu_seconds();
        std::array::from_fn(|program| (after[program] - before[program]) / time.as_secs_f64())
    }

    /// Waits until controllers and scheduler have nothing to do any more. Says whether they have come so far.
    pub(crate) async fn is_quiet(&self) -> bool {
        for _ in 0..QUIET_WITHIN {
            let shares = self.shares(QUIET_FOR).await;
            if QUIET.iter().map(|program| shares[*program]).sum::<f64>() < QUIET_SHARE {
                return true;
            }
        }
        false
    }
}

fn program(kubeconfig: &Path, words: &[&str], ready: &str) -> Program {
    let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    all.push(format!("--kubeconfig={}", kubeconfig.display()));
    start(&all, ready).0
}
