//! The world of the scenarios: two API servers over one store, two controller managers, two schedulers, hollow nodes, and kubectl
//! that speaks to the servers in turns. Whoever leads can be killed at any time; another one takes the place.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use barque_client::servers::{Servers, Source, connect};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cluster::kubectls::kubectls;
use crate::cluster::{Cluster, ELECTION, Program, said, start};

/// How long anything may take that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A process of which one leads: its identity in the lease, and itself.
type Elected = (String, Program);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// Speaks to both servers.
    pub(crate) client: Client,
    managers: Vec<Elected>,
    schedulers: Vec<Elected>,
    agents: BTreeMap<String, Program>,
    kubectl: PathBuf,
    /// Which server the next kubectl speaks to.
    turn: Cell<usize>,
}

/// What a controller manager is told.
const MANAGER: [&str; 5] = [
    "--node-monitor-grace-period=8s",
    "--node-eviction-rate=10",
    "--allocate-node-cidrs",
    "--cluster-cidr=10.244.0.0/16",
    "--horizontal-pod-autoscaler-sync-period=1s",
];

impl World {
    /// A cluster in which nothing runs, with three nodes `n-0` to `n-2`.
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::with(2, |_| vec!["--default-unreachable-toleration-seconds=2".to_owned()]);
        let connect_to = |server| {
            let source = Source::Kubeconfig(cluster.kubeconfig(server));
            connect(Servers {
                source,
                urls: cluster.servers.iter().map(|it| format!("https://{it}").parse().unwrap()).collect(),
            })
        };
        let (client, second) = (connect_to(0).await.unwrap(), connect_to(1).await.unwrap());
        cluster.wait_until_ready(&client, &second).await;
        let kubectl = kubectls().pop().unwrap().program;
        let mut world = Self {
            cluster,
            client,
            managers: Vec::new(),
            schedulers: Vec::new(),
            agents: BTreeMap::new(),
            kubectl,
            turn: Cell::new(0),
        };
        for _ in 0..2 {
            world.managers.push(world.manager());
            world.schedulers.push(world.scheduler());
        }
        world.join("n", &["--hollow-nodes=3"]);
        world
    }

    /// The flags of whoever speaks to the servers; the one that is preferred comes first.
    fn servers(&self) -> Vec<String> {
        let turn = self.turn.replace(self.turn.get() + 1) % 2;
        let urls = [turn, 1 - turn].map(|server| format!("https://{}", self.cluster.servers[server]));
        vec![
            format!("--kubeconfig={}", self.cluster.kubeconfig(turn).display()),
            format!("--master={}", urls.join(",")),
        ]
    }

    fn elected(&self, subcommand: &str, flags: &[&str]) -> Elected {
        let mut words = vec![subcommand.to_owned(), "--secure-port=0".to_owned()];
        words.extend(self.servers());
        words.extend(ELECTION.iter().chain(flags).map(|flag| (*flag).to_owned()));
        let (program, line) = start(&words, "serving health and metrics");
        (said(&line, "identity").to_owned(), program)
    }

    fn manager(&self) -> Elected {
        self.elected("controller-manager", &MANAGER)
    }

    fn scheduler(&self) -> Elected {
        self.elected("scheduler", &[])
    }

    /// Starts an agent for hollow nodes with this name.
    pub(crate) fn join(&mut self, name: &str, flags: &[&str]) {
        // A lease of 4 s is renewed every second.
        let mut words: Vec<String> = [
            "agent",
            "--runtime=hollow",
            "--healthz-port=0",
            "--node-ip=192.168.7.1",
            "--node-lease-duration-seconds=4",
        ]
        .map(String::from)
        .into();
        words.push(format!("--hostname-override={name}"));
        words.extend(self.servers());
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let (program, _) = start(&words, "keeping nodes");
        self.agents.insert(name.to_owned(), program);
    }

    /// Ends an agent at once, as a machine that loses power.
    pub(crate) fn lose(&mut self, name: &str) {
        drop(self.agents.remove(name).unwrap());
    }

    /// Kills the controller manager and the scheduler that lead, and starts others, which have to wait for the leases.
    pub(crate) async fn kill_leaders(&mut self) {
        for (lease, at) in [("kube-controller-manager", 0), ("kube-scheduler", 1)] {
            let led = |lease: &Lease| holder(lease).is_some_and(|holder| !holder.is_empty());
            let found = self.until("kube-system", lease, "somebody leads", led).await;
            let leader = holder(&found).unwrap();
            let all = if at == 0 { &mut self.managers } else { &mut self.schedulers };
            // One that took over between the look and the kill is as good: it is killed the next time.
            all.retain(|(identity, _)| *identity != leader);
        }
        while self.managers.len() < 2 {
            self.managers.push(self.manager());
        }
        while self.schedulers.len() < 2 {
            self.schedulers.push(self.scheduler());
        }
    }

    fn command(&self, script: &str) -> Command {
        let server = self.turn.replace(self.turn.get() + 1) % 2;
        let home = self.cluster.directory.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("bash");
        command
            .args([
                "-c",
                &format!("exec 2>&1; set -e; kubectl() {{ {} \"$@\"; }}; {script}", self.kubectl.display()),
            ])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home)
            .env("KUBECONFIG", self.cluster.kubeconfig(server))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    /// Runs a script with kubectl that must succeed; what it said.
    pub(crate) fn kubectl(&self, script: &str) -> String {
        Started { child: self.command(script).spawn().unwrap(), script: script.to_owned() }.wait()
    }

    /// Starts such a script, which goes on while other things happen.
    pub(crate) fn start_kubectl(&self, script: &str) -> Started {
        Started { child: self.command(script).spawn().unwrap(), script: script.to_owned() }
    }

    /// Applies objects, as YAML.
    pub(crate) fn apply(&self, namespace: &str, objects: &str) {
        let script = format!("kubectl apply -n {namespace} -f -");
        let mut child = self.command(&script).spawn().unwrap();
        // What begins with a brace is taken for JSON.
        child.stdin.take().unwrap().write_all(format!("---\n{objects}").as_bytes()).unwrap();
        Started { child, script }.wait();
    }

    /// Makes a namespace, and waits until pods can be made in it.
    pub(crate) async fn namespace(&self, name: &str) {
        self.kubectl(&format!("kubectl create namespace {name}"));
        let account = |_: &k8s_openapi::api::core::v1::ServiceAccount| true;
        self.until(name, "default", "it has an account", account).await;
    }

    /// Waits until an object is so.
    pub(crate) async fn until<K>(&self, namespace: &str, name: &str, what: &str, is: impl Fn(&K) -> bool) -> K
    where
        K: Kept + Resource<Scope = NamespaceResourceScope>,
    {
        self.becomes(Api::namespaced(self.client.clone(), namespace), name, what, is).await
    }

    /// The same for any kind.
    pub(crate) async fn becomes<K: Kept>(
        &self,
        api: Api<K>,
        name: &str,
        what: &str,
        is: impl Fn(&K) -> bool,
    ) -> K {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = Box::pin(watcher(api.clone(), config).default_backoff().applied_objects());
        let search = async {
            loop {
                // A watch that broke is begun anew.
                if let Some(Ok(found)) = changes.next().await
                    && is(&found)
                {
                    return found;
                }
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => {
                let found = api.get_opt(name).await.unwrap();
                panic!("{name}: it does not come to be that {what}: {}", told(found.as_slice()))
            }
        }
    }

    /// Waits until the objects of a namespace that have these labels are so.
    pub(crate) async fn all<K>(
        &self,
        namespace: &str,
        labels: &str,
        what: &str,
        are: impl Fn(&[K]) -> bool,
    ) -> Vec<K>
    where
        K: Kept + Resource<Scope = NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let config = watcher::Config::default().labels(labels);
        let (reader, writer) = reflector::store();
        let mut changes = Box::pin(watcher(api.clone(), config).default_backoff().reflect(writer));
        let look = || reader.state().iter().map(|object| K::clone(object)).collect::<Vec<K>>();
        let search = async {
            loop {
                let event = changes.try_next().await;
                let found = look();
                // Between the beginning and the end of a list there is nothing to see.
                let whole = !matches!(event, Ok(Some(watcher::Event::Init | watcher::Event::InitApply(_))));
                if whole && are(&found) {
                    return found;
                }
            }
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("{labels:?}: it does not come to be that {what}: {}", told(&look())),
        }
    }

    /// The pods of a namespace with these labels.
    pub(crate) async fn pods(&self, namespace: &str, labels: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        api.list(&ListParams::default().labels(labels)).await.unwrap().items
    }
}

/// A line of each object.
fn told<K: Kept>(objects: &[K]) -> String {
    let line = |object: &K| format!("\n{}", serde_json::to_string(object).unwrap());
    objects.iter().map(line).collect()
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone()
}

/// What can be waited for.
pub(crate) trait Kept:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static>
    Kept for K
{
}

/// A script that runs.
pub(crate) struct Started {
    child: Child,
    script: String,
}

impl Started {
    /// Waits for its end, which must be a good one; what it said.
    pub(crate) fn wait(mut self) -> String {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}\n{told}", self.script);
        told
    }
}
