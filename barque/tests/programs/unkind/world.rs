//! A cluster whose programs speak to it through proxies, one for each, and what must hold for all of them.

use std::collections::{BTreeMap, HashMap};

use barque_client::servers::{Servers, Source, connect};
use futures::{Stream, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::core::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Resource};
use tokio::task::JoinHandle;

use super::faults::{self, Fault, Faults};
use super::proxy::{Proxy, tokens};
use crate::cluster::{Cluster, Program, start};

/// Who stands behind a proxy; their tokens have the same names.
const CLIENTS: [&str; 4] = ["manager", "scheduler", "near", "far"];
/// Renewals that are waited for after the faults have ended, and those in which requests are counted.
const WARNED: u64 = 5;
const QUIET: u64 = 8;
/// So many times these: who was refused again and again pauses for up to 30 s (kube's watcher), and who waits for a machine that
/// says nothing finds that out after another 30 s. The lease is renewed about once a second.
const WINDOWS: u64 = 8;

/// What each client has asked, and how often.
type Asked = BTreeMap<&'static str, BTreeMap<String, u64>>;

/// A cluster whose programs reach the API server through proxies.
pub(crate) struct Test {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) proxies: BTreeMap<&'static str, Proxy>,
}

impl Test {
    /// With the faults of a seed, or with none.
    pub(crate) async fn start(seed: Option<u64>) -> Self {
        println!("seed {seed:?}");
        let cluster = Cluster::with(1, |directory| {
            vec![format!("--token-auth-file={}", tokens(directory, &CLIENTS).display())]
        });
        let source = Source::Kubeconfig(cluster.kubeconfig(0));
        let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
        cluster.wait_until_ready(&client, &client).await;
        let mut proxies = BTreeMap::new();
        for name in CLIENTS {
            proxies.insert(name, Proxy::start(&cluster, Faults::new(name, seed)).await);
        }
        Self { cluster, client, proxies }
    }

    fn program(&self, client: &str, flags: &[&str], ready: &str) -> Program {
        let kubeconfig = self.proxies[client].kubeconfig(&self.cluster, client);
        let mut words: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        words.push(format!("--kubeconfig={}", kubeconfig.display()));
        start(&words, ready).0
    }

    pub(crate) fn manager(&self) -> Program {
        let flags = [
            "controller-manager",
            "--secure-port=0",
            "--leader-elect-retry-period=1s",
            "--node-monitor-grace-period=12s",
            "--node-eviction-rate=10",
        ];
        self.program("manager", &flags, "serving health and metrics")
    }

    pub(crate) fn scheduler(&self) -> Program {
        let flags = ["scheduler", "--secure-port=0", "--leader-elect-retry-period=1s"];
        self.program("scheduler", &flags, "serving health and metrics")
    }

    pub(crate) fn agent(&self, client: &str, nodes: usize, network: &str) -> Program {
        let flags = [
            "agent".to_owned(),
            "--runtime=hollow".to_owned(),
            "--healthz-port=0".to_owned(),
            "--node-ip=192.168.7.1".to_owned(),
            // Renewed once a second.
            "--node-lease-duration-seconds=4".to_owned(),
            format!("--hostname-override={client}"),
            format!("--hollow-nodes={nodes}"),
            format!("--pod-cidr={network}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.program(client, &flags, "keeping nodes")
    }

    pub(crate) fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Watches, past all faults, that no pod is bound twice.
    pub(crate) fn watch_bindings(&self) -> JoinHandle<()> {
        let pods = Api::<Pod>::all(self.client.clone());
        tokio::spawn(async move {
            let mut changes = Box::pin(watcher(pods, watcher::Config::default()).applied_objects());
            let mut nodes: HashMap<String, String> = HashMap::new();
            while let Some(pod) = changes.try_next().await.unwrap() {
                let Some(node) = pod.spec.and_then(|spec| spec.node_name) else { continue };
                let before = nodes.insert(pod.metadata.uid.unwrap(), node.clone());
                assert!(before.as_ref().is_none_or(|before| *before == node), "{before:?}, then {node}");
            }
        })
    }

    /// Each fault has happened, and each client has met some.
    pub(crate) fn faults_happened(&self) {
        let mut total: BTreeMap<Fault, u64> = BTreeMap::new();
        for (client, proxy) in &self.proxies {
            let counts = proxy.faults.counts();
            println!("{client}: {counts:?}");
            assert!(counts.len() >= 3, "{client} has had it too good: {counts:?}");
            for (fault, count) in counts {
                *total.entry(fault).or_default() += count;
            }
        }
        for fault in faults::ALL {
            assert!(
                total.get(fault).is_some_and(|count| *count > 0),
                "{fault:?} has not happened: {total:?}"
            );
        }
    }

    /// The faults end. Then everybody comes to rest, once what was broken is asked for anew after the pause of those that ask: from
    /// one renewal of the manager's lease to the last of some more, nobody asks for more than renewals and so many other things.
    /// Says what was asked in all.
    pub(crate) async fn is_quiet(&self, others_most: u64) -> Asked {
        let mut renewals = self.renewals();
        for proxy in self.proxies.values() {
            proxy.faults.end();
        }
        let mut windows_left = WINDOWS;
        loop {
            let (before, after) = self.during(&mut renewals).await;
            let asked = between(&before, &after);
            let too_much = asked.iter().find(|(client, asked)| {
                let (leases, others) = (about_leases(asked, true), about_leases(asked, false));
                println!("{client}: {leases} requests about leases and {others} others: {asked:?}");
                leases > 12 * QUIET || others > others_most
            });
            match too_much {
                None => return after,
                Some((client, asked)) => {
                    windows_left -= 1;
                    assert!(windows_left > 0, "{client} does not come to rest: {asked:#?}");
                }
            }
        }
    }

    /// Every watch ends as soon as it has begun, for everybody. They ask again, but not all the time.
    pub(crate) async fn is_patient_without_watches(&self, most: u64) {
        let mut renewals = self.renewals();
        for proxy in self.proxies.values() {
            proxy.faults.end_watches();
            proxy.cut();
        }
        for _ in 0..WARNED {
            renewals.try_next().await.unwrap().unwrap();
        }
        let (before, after) = self.during(&mut renewals).await;
        for (client, asked) in between(&before, &after) {
            let worst = asked.iter().max_by_key(|(_, count)| **count);
            println!("{client}: {worst:?}");
            assert!(
                worst.is_none_or(|(_, count)| *count <= most * QUIET),
                "{client} asks without a pause: {asked:#?}"
            );
        }
    }

    /// What was asked before some renewals, and after them.
    async fn during(
        &self,
        renewals: &mut (impl Stream<Item = watcher::Result<Lease>> + Unpin),
    ) -> (Asked, Asked) {
        let before = self.asked();
        for _ in 0..QUIET {
            renewals.try_next().await.unwrap().unwrap();
        }
        (before, self.asked())
    }

    /// The manager's lease, each time that it is renewed.
    fn renewals(&self) -> impl Stream<Item = watcher::Result<Lease>> + Unpin {
        let leases = Api::<Lease>::namespaced(self.client.clone(), "kube-system");
        let config = watcher::Config::default().fields("metadata.name=kube-controller-manager");
        Box::pin(watcher(leases, config).applied_objects())
    }

    fn asked(&self) -> Asked {
        self.proxies.iter().map(|(client, proxy)| (*client, proxy.faults.all_asked())).collect()
    }
}

fn between(before: &Asked, after: &Asked) -> Asked {
    let new = |client: &str, asked: &BTreeMap<String, u64>| {
        let since = |what: &String| before[client].get(what).copied().unwrap_or_default();
        let new = asked.iter().map(|(what, count)| (what.clone(), count - since(what)));
        new.filter(|(_, count)| *count > 0).collect()
    };
    after.iter().map(|(client, asked)| (*client, new(client, asked))).collect()
}

fn about_leases(asked: &BTreeMap<String, u64>, about: bool) -> u64 {
    let some = asked.iter().filter(|(what, _)| what.contains("/leases/") == about);
    some.map(|(_, count)| count).sum()
}
