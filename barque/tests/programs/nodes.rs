//! Nodes, their pods and the services over them, with a real server and a real controller manager: a node that is not heard of any
//! more is lost and found again, and slices follow.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::{Cluster, Program, start};
use barque_client::servers::{Servers, Source, connect};
use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a node renews its lease: often enough for the grace period below on a machine that is busy.
const RENEWAL: Duration = Duration::from_millis(300);

fn manager(cluster: &Cluster) -> Program {
    let kubeconfig = cluster.kubeconfig(0);
    let words = [
        "controller-manager".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
        "--node-monitor-grace-period=6s".to_owned(),
        "--node-eviction-rate=10".to_owned(),
        "--allocate-node-cidrs".to_owned(),
        "--cluster-cidr=10.244.0.0/16".to_owned(),
    ];
    start(&words, "controllers run").0
}

async fn ready(cluster: &Cluster) -> Client {
    let source = Source::Kubeconfig(cluster.kubeconfig(0));
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    cluster.wait_until_ready(&client, &client).await;
    client
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// A node that renews its lease until the task is ended.
struct Heart(JoinHandle<()>);

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn beat(client: &Client, name: &'static str) -> Heart {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    Heart(tokio::spawn(async move {
        let mut beats = interval(RENEWAL);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let now = Timestamp::now().to_string();
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
            });
            leases.patch(name, &PatchParams::apply("node"), &Patch::Apply(lease)).await.unwrap();
        }
    }))
}

/// The node says that it is ready.
async fn say_ready(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let now = Timestamp::now().to_string();
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    let status = json!({"status": {"conditions": [condition]}});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

async fn join(client: &Client, name: &'static str) -> Heart {
    let nodes: Api<Node> = Api::all(client.clone());
    let zone = format!("zone-{name}");
    let labels = json!({"topology.kubernetes.io/zone": zone, "kubernetes.io/os": "linux"});
    let node = object(json!({"metadata": {"name": name, "labels": labels}}));
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let heart = beat(client, name);
    say_ready(client, name).await;
    heart
}

/// A pod that its node runs.
async fn run(client: &Client, name: &str, node: &str, ip: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let toleration = json!({
        "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2,
    });
    let pod = object(json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "nodeName": node, "containers": [{"name": "c", "image": "i"}], "tolerations": [toleration],
            "automountServiceAccountToken": false,
        },
    }));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let now = Timestamp::now().to_string();
    let status = json!({"status": {
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
}

async fn becomes<K>(api: &Api<K>, name: &str, what: &str, is: impl Fn(&K) -> bool)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + DeserializeOwned + 'static,
{
    let condition = |object: Option<&K>| object.is_some_and(&is);
    match timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(waited) => drop(waited.unwrap()),
        Err(_) => panic!("{name}: {what} does not happen: {:?}", api.get_opt(name).await),
    }
}

fn condition(node: &Node) -> (String, String, String) {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    ready.map_or_else(Default::default, |it| {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (it.status.clone(), text(&it.reason), text(&it.message))
    })
}

fn taints(node: &Node) -> BTreeSet<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

/// Waits until the slices of the service tell of these pods, and whether they are ready.
async fn slices_tell(client: &Client, expected: &[(&str, bool)]) {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let expected: BTreeSet<_> = expected.iter().map(|(name, ready)| ((*name).to_owned(), *ready)).collect();
    let config = watcher::Config::default().labels("kubernetes.io/service-name=web");
    let (reader, writer) = kube::runtime::reflector::store();
    let mut changes = Box::pin(watcher(slices, config).reflect(writer));
    let told = || -> BTreeSet<(String, bool)> {
        let all = reader.state();
        let endpoints = all.iter().flat_map(|slice| slice.endpoints.clone().unwrap_or_default());
        endpoints
            .map(|it| (it.target_ref.unwrap().name.unwrap(), it.conditions.unwrap().ready.unwrap()))
            .collect()
    };
    let follow = async {
        while told() != expected {
            changes.try_next().await.unwrap().unwrap();
        }
    };
    if timeout(PATIENCE, follow).await.is_err() {
        panic!("slices tell {:?}, not {expected:?}", told());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_lost_and_found_and_slices_follow_its_pods() {
    let cluster = Cluster::start(1);
    let client = ready(&cluster).await;
    // Pods are admitted with an account.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    accounts.patch("default", &PatchParams::apply("test"), &Patch::Apply(account)).await.unwrap();
    let _manager = manager(&cluster);
    let (nodes, pods): (Api<Node>, Api<Pod>) =
        (Api::all(client.clone()), Api::namespaced(client.clone(), "default"));
    let heart = join(&client, "a").await;
    let _other = join(&client, "b").await;
    for name in ["a", "b"] {
        let range = |node: &Node| {
            let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
            ranges.len() == 1 && ranges[0].starts_with("10.244.")
        };
        becomes(&nodes, name, "a range of addresses", range).await;
    }
    assert_ne!(
        nodes.get("a").await.unwrap().spec.unwrap().pod_cidr,
        nodes.get("b").await.unwrap().spec.unwrap().pod_cidr
    );

    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    let web = object(json!({"metadata": {"name": "web"}, "spec": spec}));
    services.create(&PostParams::default(), &web).await.unwrap();
    slices_tell(&client, &[]).await;
    run(&client, "on-a", "a", "10.1.0.1").await;
    run(&client, "on-b", "b", "10.1.0.2").await;
    slices_tell(&client, &[("on-a", true), ("on-b", true)]).await;
    let endpoints: Api<Endpoints> = Api::namespaced(client.clone(), "default");
    let both = |it: &Endpoints| {
        let subsets = it.subsets.iter().flatten();
        subsets.map(|subset| subset.addresses.iter().flatten().count()).sum::<usize>() == 2
    };
    becomes(&endpoints, "web", "the older kind tells both", both).await;

    // Nothing is heard of a node any more.
    drop(heart);
    let unknown = |node: &Node| condition(node).0 == "Unknown";
    becomes(&nodes, "a", "it is unknown", unknown).await;
    let (_, reason, message) = condition(&nodes.get("a").await.unwrap());
    assert_eq!(reason, "NodeStatusUnknown");
    assert_eq!(message, "Kubelet stopped posting node status.");
    let lost: BTreeSet<_> =
        ["NoExecute", "NoSchedule"].map(|effect| format!("node.kubernetes.io/unreachable:{effect}")).into();
    becomes(&nodes, "a", "it is tainted", |node| taints(node) == lost).await;
    slices_tell(&client, &[("on-a", false), ("on-b", true)]).await;
    becomes(&pods, "on-a", "it has to leave", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let left = pods.get("on-a").await.unwrap();
    let conditions = left.status.unwrap().conditions.unwrap();
    let why = conditions.iter().find(|condition| condition.type_ == "DisruptionTarget").unwrap();
    assert_eq!(why.reason.as_deref(), Some("DeletionByTaintManager"));
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "False");
    assert!(pods.get("on-b").await.unwrap().metadata.deletion_timestamp.is_none());
    assert_eq!(condition(&nodes.get("b").await.unwrap()).0, "True");

    // It comes back, and finds that its pod was deleted.
    let _heart = beat(&client, "a");
    say_ready(&client, "a").await;
    becomes(&nodes, "a", "its taints go", |node| taints(node).is_empty() && condition(node).0 == "True")
        .await;
    pods.delete("on-a", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
        .await
        .unwrap();
    slices_tell(&client, &[("on-b", true)]).await;
    run(&client, "again-on-a", "a", "10.1.0.3").await;
    slices_tell(&client, &[("on-b", true), ("again-on-a", true)]).await;
    let node = nodes.get("a").await.unwrap();
    assert_eq!(node.labels().get("beta.kubernetes.io/os").map(String::as_str), Some("linux"));
    assert_eq!(node.annotations().get("node.alpha.kubernetes.io/ttl").map(String::as_str), Some("0"));
}
