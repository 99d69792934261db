//! The scheduler as a program over real API servers: pods get nodes within their resources, wait with the words of Kubernetes,
//! have others evicted, and none is placed twice when a leader dies. The test plays the nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, ELECTION, Program, said, start};
use barque_client::servers::{Servers, Source, connect};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A scheduler: the program, its identity, and where it serves metrics.
struct Scheduler {
    program: Program,
    identity: String,
    address: String,
}

fn scheduler(kubeconfig: &Path, flags: &[&str]) -> Scheduler {
    let mut words = vec![
        "scheduler".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--secure-port=0".to_owned(),
    ];
    words.extend(ELECTION.map(str::to_owned));
    words.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let (program, line) = start(&words, "serving health and metrics");
    let (identity, address) = (said(&line, "identity").to_owned(), said(&line, "address").to_owned());
    Scheduler { program, identity, address }
}

/// A cluster with an account for pods.
struct Test {
    cluster: Cluster,
    client: Client,
}

impl Test {
    async fn start() -> Self {
        let cluster = Cluster::start(1);
        let source = Source::Kubeconfig(cluster.kubeconfig(0));
        let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
        cluster.wait_until_ready(&client, &client).await;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("{error}"),
        }
        Self { cluster, client }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// A node that is ready, with so many cores.
    async fn node(&self, name: &str, cpu: &str) {
        let nodes = Api::<Node>::all(self.client.clone());
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let amounts = json!({"cpu": cpu, "memory": "16Gi", "pods": "110"});
        let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        // Nodes come with taints until they are ready.
        let open = json!({"spec": {"taints": null}});
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(open)).await.unwrap();
    }

    async fn pod(&self, name: &str, cpu: &str, more: Value) -> Pod {
        self.pods().create(&PostParams::default(), &manifest(name, cpu, &more)).await.unwrap()
    }

    /// Waits until a pod is as it should be.
    async fn until(&self, name: &str, fits: impl Fn(&Pod) -> bool) -> Pod {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut changes = Box::pin(watcher(self.pods(), config).applied_objects());
        let mut last = None;
        let search = async {
            while let Some(Ok(found)) = changes.next().await {
                if fits(&found) {
                    return found;
                }
                last = Some(found);
            }
            panic!("the watch ended")
        };
        match timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("it does not come to be: {last:#?}"),
        }
    }

    async fn node_of(&self, name: &str) -> String {
        let pod = self.until(name, |pod| node(pod).is_some()).await;
        node(&pod).unwrap().to_owned()
    }

    /// Waits for an event about a pod.
    async fn event(&self, reason: &str, pod: &str) -> Event {
        let events = Api::<Event>::namespaced(self.client.clone(), "default");
        let mut changes = Box::pin(watcher(events, watcher::Config::default()).applied_objects());
        let search = async {
            while let Some(Ok(event)) = changes.next().await {
                let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
                if event.reason.as_deref() == Some(reason) && about == Some(pod) {
                    return event;
                }
            }
            panic!("the watch ended")
        };
        timeout(PATIENCE, search).await.unwrap()
    }

    fn explain(&self, words: &[&str]) -> String {
        let asked = Command::new(env!("CARGO_BIN_EXE_barque"))
            .args(["scheduler", "explain", "--kubeconfig"])
            .arg(self.cluster.kubeconfig(0))
            .args(words)
            .env_clear()
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    }
}

fn manifest(name: &str, cpu: &str, more: &Value) -> Pod {
    let resources = json!({"requests": {"cpu": cpu}});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]},
    });
    for (key, value) in more.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Status, reason and message of a condition.
fn condition(pod: &Pod, kind: &str) -> Option<(String, String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some((found.status.clone(), text(&found.reason), text(&found.message)))
}

fn waits_with(pod: &Pod, message: &str) -> bool {
    let expected = ("False".to_owned(), "Unschedulable".to_owned(), message.to_owned());
    condition(pod, "PodScheduled") == Some(expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_placed_within_resources_or_wait_until_something_helps() {
    let test = Test::start().await;
    let scheduler = scheduler(&test.cluster.kubeconfig(0), &[]);

    // Nothing to run on.
    test.pod("first", "1", json!({})).await;
    test.until("first", |pod| waits_with(pod, "no nodes available to schedule pods")).await;
    test.node("a", "2").await;
    assert_eq!(test.node_of("first").await, "a");
    let event = test.event("Scheduled", "first").await;
    assert_eq!(event.note.as_deref(), Some("Successfully assigned default/first to a"));
    assert_eq!(event.reporting_controller.as_deref(), Some("default-scheduler"));

    // Too large, until a node comes.
    test.pod("large", "3", json!({})).await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 Preemption is not helpful for scheduling.";
    test.until("large", |pod| waits_with(pod, message)).await;
    let event = test.event("FailedScheduling", "large").await;
    assert_eq!(event.note.as_deref(), Some(message));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    // What is smaller goes on.
    test.pod("second", "1", json!({})).await;
    assert_eq!(test.node_of("second").await, "a");
    test.node("b", "4").await;
    assert_eq!(test.node_of("large").await, "b");

    // Gates.
    test.pod("gated", "1", json!({"schedulingGates": [{"name": "example.com/wait"}]})).await;
    let gated = test.until("gated", |pod| condition(pod, "PodScheduled").is_some()).await;
    let (status, reason, _) = condition(&gated, "PodScheduled").unwrap();
    assert_eq!((&*status, &*reason), ("False", "SchedulingGated"));
    let told = test.explain(&["gated"]);
    assert!(told.contains("default/gated waits: waiting for scheduling gates: [example.com/wait]"), "{told}");
    // One that came later is placed, the gated one is not: there is no room for both.
    test.pod("ungated", "1", json!({})).await;
    assert_eq!(test.node_of("ungated").await, "b");
    assert_eq!(node(&test.pods().get("gated").await.unwrap()), None);
    test.pods().delete("ungated", &DeleteParams::default().grace_period(0)).await.unwrap();
    let lifted = json!({"spec": {"schedulingGates": null}});
    test.pods().patch("gated", &PatchParams::default(), &Patch::Merge(lifted)).await.unwrap();
    assert_eq!(test.node_of("gated").await, "b");

    // What it counts.
    let mut config = kube::Config::new(format!("https://{}", scheduler.address).parse().unwrap());
    // Its certificate signs itself.
    config.accept_invalid_certs = true;
    let metrics = Client::try_from(config).unwrap();
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = metrics.request_text(request).await.unwrap();
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    let attempts = "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=";
    // The answer to the last binding may come after the watch has told of it.
    assert!(line(&format!("{attempts}\"scheduled\"}}")) >= 4.0);
    assert!(line(&format!("{attempts}\"unschedulable\"}}")) >= 2.0);
    assert_eq!(line("scheduler_cache_size{type=\"nodes\"}"), 2.0);
    assert_eq!(line("leader_election_master_status{name=\"kube-scheduler\"}"), 1.0);
    let host = test.cluster.servers[0];
    assert!(
        line(&format!("rest_client_requests_total{{code=\"200\",host=\"{host}\",method=\"GET\"}}")) >= 1.0
    );
    assert!(line("process_resident_memory_bytes") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_made_where_no_budget_is_violated() {
    let test = Test::start().await;
    for name in ["a", "b"] {
        test.node(name, "2").await;
    }
    let class = json!({"metadata": {"name": "high"}, "value": 1000});
    let classes = Api::<PriorityClass>::all(test.client.clone());
    classes.create(&PostParams::default(), &serde_json::from_value(class).unwrap()).await.unwrap();
    let budgets = Api::<PodDisruptionBudget>::namespaced(test.client.clone(), "default");
    let selector = json!({"matchLabels": {"app": "kept"}});
    let budget = json!({"metadata": {"name": "kept"}, "spec": {"minAvailable": 1, "selector": selector}});
    budgets.create(&PostParams::default(), &serde_json::from_value(budget).unwrap()).await.unwrap();
    let status = json!({"status": {
        "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1,
    }});
    budgets.patch_status("kept", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    test.pod("kept", "2", json!({"nodeName": "a"})).await;
    test.pod("victim", "2", json!({"nodeName": "b"})).await;

    let _scheduler = scheduler(&test.cluster.kubeconfig(0), &[]);
    let high = test.pod("high", "1", json!({"priorityClassName": "high"})).await;
    let going = test.until("victim", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let expected = (
        "True".to_owned(),
        "PreemptionByScheduler".to_owned(),
        "default-scheduler: preempting to accommodate a higher priority pod".to_owned(),
    );
    assert_eq!(condition(&going, "DisruptionTarget"), Some(expected));
    let nominated = test
        .until("high", |pod| {
            pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()) == Some("b")
        })
        .await;
    assert!(waits_with(&nominated, "0/2 nodes are available: 2 Insufficient cpu."), "{nominated:#?}");
    let event = test.event("Preempted", "victim").await;
    let text = format!("Preempted by pod {} on node b", high.uid().unwrap());
    assert_eq!(event.note, Some(text));
    // The kubelet lets it go.
    test.pods().delete("victim", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(test.node_of("high").await, "b");
    let kept = test.pods().get("kept").await.unwrap();
    assert!(kept.metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_are_explained_before_they_are_made() {
    let test = Test::start().await;
    test.node("a", "4").await;
    test.node("b", "1").await;
    let nodes = Api::<Node>::all(test.client.clone());
    let cordoned = json!({"spec": {"unschedulable": true}});
    test.node("c", "4").await;
    nodes.patch("c", &PatchParams::default(), &Patch::Merge(cordoned)).await.unwrap();

    // Nobody schedules; the pod is not there either.
    let path = test.cluster.directory.path().join("pod.yaml");
    std::fs::write(&path, serde_json::to_string(&manifest("guess", "2", &json!({}))).unwrap()).unwrap();
    let told = test.explain(&["--what-if", path.to_str().unwrap()]);
    assert!(told.starts_with("default/guess goes to a\n"), "{told}");
    let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["b", "NodeResourcesFit", "Insufficient", "cpu"]), "{told}");
    let cordoned = ["c", "NodeUnschedulable", "node(s)", "were", "unschedulable"];
    assert!(rows.contains(&cordoned.to_vec()), "{told}");
    assert!(test.pods().get_opt("guess").await.unwrap().is_none(), "nothing was created");

    test.pod("large", "9", json!({})).await;
    let told: Value = serde_json::from_str(&test.explain(&["large", "-o", "json"])).unwrap();
    let message = "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: \
                   0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    assert_eq!(told["message"], message);
    let refused: BTreeMap<&str, &str> = told["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["node"].as_str().unwrap(), node["refusedBy"].as_str().unwrap()))
        .collect();
    let expected = [("a", "NodeResourcesFit"), ("b", "NodeResourcesFit"), ("c", "NodeUnschedulable")];
    assert_eq!(refused, BTreeMap::from(expected));

    // And so it is decided.
    let _scheduler = scheduler(&test.cluster.kubeconfig(0), &[]);
    test.until("large", |pod| waits_with(pod, message)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_of_a_configuration_decide_for_the_pods_that_name_them() {
    let test = Test::start().await;
    test.node("a", "4").await;
    test.node("b", "4").await;
    let path = test.cluster.directory.path().join("scheduler.yaml");
    // Full nodes first, where the default takes the emptiest.
    let fit = "{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}}";
    let balanced =
        "{score: {disabled: [{name: NodeResourcesBalancedAllocation}, {name: PodTopologySpread}]}}";
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
         - {{schedulerName: default-scheduler}}\n\
         - {{schedulerName: packing, plugins: {balanced}, pluginConfig: [{fit}]}}\n",
    );
    std::fs::write(&path, text).unwrap();
    let _scheduler = scheduler(&test.cluster.kubeconfig(0), &[&format!("--config={}", path.display())]);
    test.pod("first", "1", json!({"nodeName": "a"})).await;
    test.pod("spread", "1", json!({})).await;
    assert_eq!(test.node_of("spread").await, "b");
    test.pod("more", "500m", json!({"nodeName": "b"})).await;
    for number in 0..3 {
        let name = format!("packed-{number}");
        test.pod(&name, "500m", json!({"schedulerName": "packing"})).await;
        assert_eq!(test.node_of(&name).await, "b");
    }
    let event = test.event("Scheduled", "packed-0").await;
    assert_eq!(event.reporting_controller.as_deref(), Some("packing"));
    // Nobody serves that name.
    test.pod("foreign", "1", json!({"schedulerName": "foreign"})).await;
    test.pod("last", "100m", json!({})).await;
    test.node_of("last").await;
    assert_eq!(node(&test.pods().get("foreign").await.unwrap()), None);
}

/// Every node is filled exactly, so that one pod too many somewhere is one that finds no place.
const NODES: usize = 10;
const PODS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pod_is_bound_once_when_the_leader_dies() {
    let test = Test::start().await;
    for number in 0..NODES {
        test.node(&format!("n{number}"), "10").await;
    }
    let kubeconfig = test.cluster.kubeconfig(0);
    let mut schedulers: Vec<Scheduler> = (0..2).map(|_| scheduler(&kubeconfig, &[])).collect();
    let mut changes = Box::pin(watcher(test.pods(), watcher::Config::default()).applied_objects());
    let create = |range: std::ops::Range<usize>| {
        let pods = test.pods();
        futures::stream::iter(range)
            .map(move |number| {
                let pods = pods.clone();
                let pod = manifest(&format!("p{number}"), "500m", &json!({}));
                async move { pods.create(&PostParams::default(), &pod).await }
            })
            .buffer_unordered(16)
            .try_for_each(|_| async { Ok(()) })
    };
    let mut bound: HashMap<String, BTreeSet<String>> = HashMap::new();
    let mut leader = None;
    let run = async {
        create(0..PODS / 2).await.unwrap();
        while bound.len() < PODS {
            let Some(Ok(pod)) = changes.next().await else { panic!("the watch ended") };
            if let Some(node) = node(&pod) {
                bound.entry(pod.name_any()).or_default().insert(node.to_owned());
            }
            if bound.len() >= PODS / 4 && leader.is_none() {
                let leases = Api::<Lease>::namespaced(test.client.clone(), "kube-system");
                let lease = leases.get("kube-scheduler").await.unwrap();
                let holder = lease.spec.unwrap().holder_identity.unwrap();
                let at = schedulers.iter().position(|one| one.identity == holder).unwrap();
                // As `kill -9` would.
                drop(schedulers.remove(at).program);
                leader = Some(holder);
                create(PODS / 2..PODS).await.unwrap();
            }
        }
    };
    timeout(PATIENCE, run).await.unwrap();
    let twice: Vec<_> = bound.iter().filter(|(_, nodes)| nodes.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let listed = test.pods().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(listed.len(), PODS);
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in &listed {
        *on_node.entry(node(pod).unwrap()).or_default() += 1;
    }
    assert_eq!(on_node.len(), NODES);
    assert!(on_node.values().all(|pods| *pods == PODS / NODES), "{on_node:?}");
    let leases = Api::<Lease>::namespaced(test.client.clone(), "kube-system");
    let lease = leases.get("kube-scheduler").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_ref(), Some(&schedulers[0].identity));
    assert_ne!(lease.holder_identity, leader);
}
