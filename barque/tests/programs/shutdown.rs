//! The machine of a node shuts down, as systemd-logind tells over D-Bus: its pods end first, in the kubelet's order and words, and
//! run again when nothing comes of it.

pub(crate) mod logind;

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Program, start_with};
use crate::hollow::{client, container, default_account, is_ready, node_is_ready, until};
use logind::Logind;

fn agent(cluster: &Cluster, name: &str, bus: &str, directory: &Path, ready: &str) -> Program {
    let words = [
        "agent".to_owned(),
        "--runtime=hollow".to_owned(),
        "--healthz-port=0".to_owned(),
        "--node-ip=192.168.7.1".to_owned(),
        "--pod-cidr=10.244.0.0/24".to_owned(),
        format!("--hostname-override={name}"),
        format!("--kubeconfig={}", cluster.kubeconfig(0).display()),
        "--shutdown-grace-period=7s".to_owned(),
        "--shutdown-grace-period-critical-pods=4s".to_owned(),
        format!("--logind-conf-dir={}", directory.display()),
    ];
    start_with(&[("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), bus.to_owned())], &words, ready).0
}

async fn run(client: &Client, name: &str, stop_takes: &str, more: Value) {
    let mut spec = json!({
        "nodeName": "sinks", "terminationGracePeriodSeconds": 600,
        "containers": [{"name": "c", "image": "i"}],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let annotations = json!({"hollow.barque/stop-takes": stop_takes});
    let pod = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

fn is_failed(pod: Option<&Pod>) -> bool {
    json!(pod)["status"]["phase"] == "Failed"
}

/// `reason: message` of a pod's end.
fn why(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap();
    format!("{}: {}", status.reason.unwrap_or_default(), status.message.unwrap_or_default())
}

fn says(node: Option<&Node>, status: &str, message: &str) -> bool {
    let node = json!(node);
    let all = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().any(|it| it["type"] == "Ready" && it["status"] == status && it["message"] == message)
}

/// When its container ended, and how.
fn end(pod: &Pod) -> (Timestamp, i64) {
    let ended = &container(Some(pod))["state"]["terminated"];
    (ended["finishedAt"].as_str().unwrap().parse().unwrap(), ended["exitCode"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_shuts_down_ends_its_pods_first_and_takes_them_again_when_it_does_not() {
    let cluster = Cluster::start(1);
    let client = client(&cluster.kubeconfig(0)).await;
    cluster.wait_until_ready(&client, &client).await;
    default_account(&client).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");

    // logind would wait for less than pods shall have, and is told otherwise.
    let scratch = tempfile::tempdir().unwrap();
    let mut logind = Logind::start(scratch.path(), Duration::from_secs(5)).await;
    let waits = "a shutdown of this machine waits for its pods";
    let (bus, directory) = (logind.address.clone(), logind.directory.clone());
    let first = agent(&cluster, "sinks", &bus, &directory, waits);
    let written = std::fs::read_to_string(directory.join("99-barque.conf")).unwrap();
    assert!(written.ends_with("[Login]\nInhibitDelayMaxSec=7\n"), "{written}");
    let held = logind.held().await;
    assert_eq!((held.words[0].as_str(), held.words[3].as_str()), ("shutdown", "delay"));
    until(&nodes, "sinks", node_is_ready).await;
    let critical = json!({"priorityClassName": "system-node-critical"});
    run(&client, "quick", "0s", json!({})).await;
    run(&client, "stubborn", "1h", json!({})).await;
    run(&client, "critical", "0s", critical).await;
    for name in ["quick", "stubborn", "critical"] {
        until(&pods, name, is_ready).await;
    }
    assert!(held.is_held());

    // Who matters least ends first, within what is not kept for the others; nobody else begins.
    logind.prepare(true).await;
    until(&nodes, "sinks", |node: Option<&Node>| says(node, "False", "node is shutting down")).await;
    run(&client, "late", "0s", json!({})).await;
    let late = until(&pods, "late", is_failed).await.unwrap();
    assert_eq!(why(&late), "NodeShutdown: Pod was rejected as the node is shutting down.");
    held.released().await;
    let mut ends = Vec::new();
    for name in ["quick", "stubborn", "critical"] {
        let there = pods.get(name).await.unwrap();
        // Who is killed when its time is over may be told of a little later.
        let told = is_failed(Some(&there)) || name == "stubborn";
        assert!(told, "{name} had ended before the machine went down: {there:?}");
        let pod = until(&pods, name, is_failed).await.unwrap();
        assert_eq!(why(&pod), "Terminated: Pod was terminated in response to imminent node shutdown.");
        let conditions = json!(pod.status)["conditions"].as_array().cloned().unwrap();
        let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
        assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
        ends.push(end(&pod));
    }
    let [quick, stubborn, critical] = ends[..] else { panic!() };
    assert_eq!((quick.1, stubborn.1, critical.1), (143, 137, 143));
    let between = |one: Timestamp, other: Timestamp| other.duration_since(one).as_secs();
    assert!(between(quick.0, stubborn.0) >= 2, "it had three seconds: {ends:?}");
    assert!(between(quick.0, critical.0) >= 2, "it waited for the others: {ends:?}");

    // Another agent finds the machine going down, and takes nothing either.
    drop(first);
    let _second = agent(&cluster, "sinks", &bus, &directory, "the machine shuts down");
    run(&client, "later", "0s", json!({})).await;
    let later = until(&pods, "later", is_failed).await.unwrap();
    assert!(why(&later).starts_with("NodeShutdown: "), "{later:?}");

    // Nothing comes of it: pods run again, and the next shutdown waits for them as well.
    logind.prepare(false).await;
    let held = logind.held().await;
    until(&nodes, "sinks", node_is_ready).await;
    run(&client, "after", "0s", json!({})).await;
    until(&pods, "after", is_ready).await;
    assert!(held.is_held());
    logind.prepare(true).await;
    held.released().await;
    assert!(why(&pods.get("after").await.unwrap()).starts_with("Terminated: "));
    let about = ListParams::default().fields("involvedObject.name=sinks,reason=NodeShutdown");
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client.clone(), "default");
    until_event(&events, &about, "Shutdown manager detected shutdown cancellation").await;

    // Without a bus it says so, and is a node.
    let nowhere = format!("unix:path={}", scratch.path().join("nowhere").display());
    let _third = agent(
        &cluster,
        "alone",
        &nowhere,
        &directory,
        "a shutdown of this machine will not wait for its pods",
    );
    until(&nodes, "alone", node_is_ready).await;
}

/// Waits until an event with this text is told.
async fn until_event(events: &Api<k8s_openapi::api::core::v1::Event>, about: &ListParams, text: &str) {
    use futures::TryStreamExt as _;
    use kube::runtime::{WatchStreamExt as _, watcher};
    let config = watcher::Config::default().fields(about.field_selector.as_deref().unwrap());
    let mut seen = Box::pin(watcher(events.clone(), config).applied_objects());
    let found = async {
        while let Some(event) = seen.try_next().await.unwrap() {
            if event.message.as_deref() == Some(text) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect(text);
}
