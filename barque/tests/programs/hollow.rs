//! Hollow nodes of one agent under a real API server: pods that are bound to them run, crash, wait and end, and outlive
//! their agent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{Cluster, Program};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Config, Resource};
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn agent(kubeconfig: &Path, more: &[&str]) -> Program {
    let mut words: Vec<String> =
        ["agent", "--runtime=hollow", "--healthz-port=0", "--node-ip=192.168.7.1"].map(String::from).into();
    words.push(format!("--kubeconfig={}", kubeconfig.display()));
    words.extend(more.iter().map(|word| (*word).to_owned()));
    crate::cluster::start(&words, "keeping nodes").0
}

pub(crate) async fn until<K>(api: &Api<K>, name: &str, holds: impl Condition<K>) -> Option<K>
where
    K: Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + Resource + 'static,
{
    let waited = timeout(PATIENCE, await_condition(api.clone(), name, holds)).await;
    match waited {
        Ok(object) => object.unwrap(),
        Err(_) => panic!("{name} stays as it is: {:?}", api.get_opt(name).await),
    }
}

/// Makes a pod and binds it.
async fn run(client: &Client, node: &str, name: &str, annotations: Value, container: Value) {
    let mut whole = json!({"name": "c", "image": "registry.example/c:1"});
    whole.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": annotations}, "spec": {"containers": [whole]},
    }));
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let request = http::Request::post(format!("/api/v1/namespaces/default/pods/{name}/binding"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&binding).unwrap());
    client.request_text(request.unwrap()).await.unwrap();
}

pub(crate) fn node_is_ready(node: Option<&Node>) -> bool {
    let status = node.and_then(|node| node.status.as_ref());
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn is_ready(pod: Option<&Pod>) -> bool {
    condition(pod, "Ready").as_deref() == Some("True")
}

pub(crate) fn condition(pod: Option<&Pod>, kind: &str) -> Option<String> {
    let conditions = pod?.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
}

/// The first container's status, as JSON.
pub(crate) fn container(pod: Option<&Pod>) -> Value {
    let status = json!(pod.and_then(|pod| pod.status.as_ref()));
    status.pointer("/containerStatuses/0").cloned().unwrap_or_default()
}

fn address(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap()
}

pub(crate) async fn events(client: &Client, pod: &str) -> BTreeSet<String> {
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let about = ListParams::default().fields(&format!("regarding.name={pod}"));
    let found = events.list(&about).await.unwrap();
    found.into_iter().filter_map(|event| event.reason).collect()
}

pub(crate) async fn default_account(client: &Client) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
}

const HOLLOW: [&str; 3] = ["--hostname-override=hollow", "--hollow-nodes=3", "--pod-cidr=10.244.0.0/16"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hollow_nodes_run_pods_and_pods_outlive_their_agent() {
    let cluster = Cluster::start(1);
    let kubeconfig = cluster.kubeconfig(0);
    let client = client(&kubeconfig).await;
    cluster.wait_until_ready(&client, &client).await;
    default_account(&client).await;
    let first = agent(&kubeconfig, &HOLLOW);
    nodes_register(&client).await;

    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    for number in 0..3 {
        let name = format!("runs-{number}");
        run(&client, &format!("hollow-{number}"), &name, json!({}), json!({})).await;
        let pod = until(&pods, &name, is_ready).await.unwrap();
        assert_eq!(address(&pod), format!("10.244.{number}.2"));
        let status = pod.status.as_ref().unwrap();
        assert_eq!(
            (status.phase.as_deref(), status.host_ip.as_deref()),
            (Some("Running"), Some("192.168.7.1"))
        );
        assert_eq!(status.observed_generation, pod.metadata.generation);
        assert_eq!(condition(Some(&pod), "PodScheduled").as_deref(), Some("True"));
    }

    // A pod that crashes waits, and says for how long.
    let crashes = json!({"hollow.barque/run-for": "100ms", "hollow.barque/exit-code": "3"});
    run(&client, "hollow-0", "crashes", crashes, json!({})).await;
    let waits = |pod: Option<&Pod>| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    let pod = until(&pods, "crashes", waits).await.unwrap();
    let told = container(Some(&pod));
    assert_eq!((&told["restartCount"], &told["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(3)));
    let message = told["state"]["waiting"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("back-off 10s restarting failed container=c pod=crashes_default("),
        "{message}"
    );

    // One that the node cannot hold is refused.
    run(&client, "hollow-0", "huge", json!({}), json!({"resources": {"requests": {"cpu": "33"}}})).await;
    let failed = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| pod.status.as_ref().unwrap().phase.as_deref() == Some("Failed"))
    };
    let pod = until(&pods, "huge", failed).await.unwrap();
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("OutOfcpu"));

    // A deleted one ends in its own time, and its events tell the story.
    run(&client, "hollow-1", "leaves", json!({"hollow.barque/stop-takes": "300ms"}), json!({})).await;
    let uid = until(&pods, "leaves", is_ready).await.unwrap().metadata.uid.unwrap();
    pods.delete("leaves", &DeleteParams::default()).await.unwrap();
    until(&pods, "leaves", kube::runtime::conditions::is_deleted(&uid)).await;

    let mine = json!({"status": {"conditions": [{"type": "example.com/mine", "status": "True"}]}});
    pods.patch_status("runs-0", &PatchParams::default(), &Patch::Strategic(mine)).await.unwrap();
    let before = pods.get("runs-0").await.unwrap();

    // The agent dies; another one finds everything as it was.
    drop(first);
    let second = agent(&kubeconfig, &HOLLOW);
    run(&client, "hollow-0", "later", json!({}), json!({})).await;
    let later = until(&pods, "later", is_ready).await.unwrap();
    let after = pods.get("runs-0").await.unwrap();
    assert_eq!(after.status, before.status, "nothing of it has changed");
    assert_ne!(address(&later), address(&after));
    let again = |pod: Option<&Pod>| container(pod)["restartCount"].as_i64().is_some_and(|count| count >= 2);
    until(&pods, "crashes", again).await;
    let crashes = pods.get("crashes").await.unwrap();
    let addresses: BTreeSet<_> = [&later, &after, &crashes].map(address).into();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for (pod, reasons) in [
        ("leaves", ["Created", "Killing", "Pulled", "Started"]),
        ("crashes", ["BackOff", "Created", "Pulled", "Started"]),
    ] {
        let told = events(&client, pod).await;
        assert_eq!(told, reasons.map(String::from).into(), "{pod}");
    }

    // What was started before can be ended by the agent that came after.
    let uid = after.metadata.uid.unwrap();
    pods.delete("runs-0", &DeleteParams::default()).await.unwrap();
    until(&pods, "runs-0", kube::runtime::conditions::is_deleted(&uid)).await;

    // A node that was deleted comes back.
    let nodes: Api<Node> = Api::all(client.clone());
    let uid = nodes.get("hollow-2").await.unwrap().metadata.uid;
    nodes.delete("hollow-2", &DeleteParams::default()).await.unwrap();
    until(&nodes, "hollow-2", |node: Option<&Node>| {
        node.is_some_and(|node| node.metadata.uid != uid) && node_is_ready(node)
    })
    .await;
    drop(second);
}

async fn nodes_register(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    for number in 0..3 {
        let name = format!("hollow-{number}");
        let node = until(&nodes, &name, node_is_ready).await.unwrap();
        let labels = node.metadata.labels.unwrap();
        assert_eq!(
            (labels["kubernetes.io/hostname"].as_str(), labels["node.kubernetes.io/instance-type"].as_str()),
            (&*name, "hollow")
        );
        assert_eq!(node.spec.unwrap().pod_cidr, Some(format!("10.244.{number}.0/24")));
        let status = node.status.unwrap();
        assert_eq!(status.allocatable.unwrap()["cpu"].0, "32");
        assert_eq!(status.conditions.unwrap().len(), 4);
        let lease = until(&leases, &name, |lease: Option<&Lease>| lease.is_some()).await.unwrap();
        assert_eq!(lease.metadata.owner_references.unwrap()[0].uid, node.metadata.uid.unwrap());
        assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(40));
    }
}

/// A kubeconfig of somebody else than the administrator.
fn kubeconfig_of(cluster: &Cluster, name: &str, groups: &[&str]) -> PathBuf {
    let (certificate, key) = cluster.certificates.client(name, groups);
    let (admin, admin_key) = &cluster.certificates.admin;
    let text = std::fs::read_to_string(cluster.kubeconfig(0)).unwrap();
    let text = text
        .replace(&admin_key.display().to_string(), &key.display().to_string())
        .replace(&admin.display().to_string(), &certificate.display().to_string());
    let path = cluster.directory.path().join("kubeconfig-of-node");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_needs_no_other_rights_than_a_node_has() {
    let cluster = Cluster::start(1);
    let client = client(&cluster.kubeconfig(0)).await;
    cluster.wait_until_ready(&client, &client).await;
    default_account(&client).await;
    let kubeconfig = kubeconfig_of(&cluster, "system:node:alone", &["system:nodes"]);
    let file = cluster.directory.path().join("agent.yaml");
    std::fs::write(&file, "node-labels: example.com/pool=a\nhostname-override: typed-counts-more\n").unwrap();
    let config = format!("--config={}", file.display());
    let _agent = agent(&kubeconfig, &["--hostname-override=alone", &config]);

    // Without a network it is there, and not ready; the cluster gives it one.
    let nodes: Api<Node> = Api::all(client.clone());
    let not_ready = |node: Option<&Node>| {
        json!(node)["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|it| it["reason"] == "KubeletNotReady"))
    };
    let node = until(&nodes, "alone", not_ready).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()["example.com/pool"], "a");
    run(&client, "alone", "waits", json!({}), json!({})).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    until(&pods, "waits", |pod: Option<&Pod>| !container(pod).is_null()).await;
    let cidr = Patch::Merge(json!({"spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"]}}));
    nodes.patch("alone", &PatchParams::default(), &cidr).await.unwrap();
    until(&nodes, "alone", node_is_ready).await;
    let pod = until(&pods, "waits", is_ready).await.unwrap();
    assert_eq!(address(&pod), "10.9.0.2");
    let uid = pod.metadata.uid.unwrap();
    pods.delete("waits", &DeleteParams::default()).await.unwrap();
    until(&pods, "waits", kube::runtime::conditions::is_deleted(&uid)).await;
}
