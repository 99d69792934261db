//! Runs one workload on a cluster of its own: everything that is there before, then the pods that are measured, from the first
//! request that creates one to the last one's node.

use std::time::Instant;

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use super::cluster::{Cluster, start};
use super::requests::{self, Events, create, create_all, create_each};
use super::shapes::{asking, extend, node};
use super::workloads::{Pods, Then, Workload};

const NODES: &str = "/api/v1/nodes";
const NAMESPACES: usize = 100;
/// With so many measured pods that have a node, something comes and goes.
const CHURN_EVERY: usize = 100;

/// How fast it was.
pub(crate) struct Rates {
    /// Pods a second that were created.
    pub(crate) created: f64,
    /// Pods a second that were created and bound.
    pub(crate) bound: f64,
}

/// A pod with a name of its own, which tells of which part it is.
fn named(mut pod: Value, part: &str, number: usize) -> (String, Value) {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap().to_owned();
    pod["metadata"]["name"] = format!("{part}-{number}").into();
    extend(&mut pod["metadata"]["labels"], &json!({"part": part}));
    // Nodes that no kubelet has told of have a taint.
    pod["spec"]["tolerations"] = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]);
    (format!("/api/v1/namespaces/{namespace}/pods"), pod)
}

/// Events of pods of a part that have a node.
async fn bound(client: &Client, part: &str) -> Events {
    let query = format!("&labelSelector=part%3D{part}&fieldSelector=spec.nodeName!%3D");
    Events::watch(client, "/api/v1/pods", &query).await
}

async fn put(client: &Client, pods: &Pods, part: &str) {
    create_each(client, pods.count, |number| named((pods.make)(number), part, number)).await;
}

/// Waits until so many pods have a node; something may come and go meanwhile.
async fn wait(client: &Client, events: &mut Events, count: usize, churns: bool) {
    let mut seen = 0;
    while seen < count {
        seen += usize::from(events.next().await.contains("\"type\":\"ADDED\""));
        if churns && seen.is_multiple_of(CHURN_EVERY) {
            churn(client, seen / CHURN_EVERY).await;
        }
    }
}

/// A node without room and a pod that fits nowhere come, and those before them go.
async fn churn(client: &Client, number: usize) {
    let name = |number: usize| format!("churn-{number}");
    let mut coming = node(0, &json!({}), &json!({"pods": "0"}));
    coming["metadata"] = json!({"name": name(number)});
    let large = asking("9", "500Mi", "ns-1", json!({}), &json!({"terminationGracePeriodSeconds": 0}));
    let (path, pod) = named(large, "churn", number);
    create(client, NODES, &coming).await;
    create(client, &path, &pod).await;
    if number > 1 {
        delete(client, &format!("{NODES}/{}", name(number - 1))).await;
        delete(client, &format!("{path}/{}", name(number - 1))).await;
    }
}

async fn delete(client: &Client, path: &str) {
    client.request_text(Request::delete(path).body(Vec::new()).unwrap()).await.unwrap();
}

pub(crate) async fn run(workload: &Workload) -> Rates {
    let cluster = Cluster::start(1);
    let kubeconfig = cluster.kubeconfig(0);
    let client = &requests::client(&kubeconfig).await;
    cluster.wait_until_ready(client, client).await;
    create_all(
        client,
        "/api/v1/namespaces",
        NAMESPACES,
        |number| json!({"metadata": {"name": format!("ns-{number}"), "labels": {"team": "devops"}}}),
    )
    .await;
    create_each(client, NAMESPACES, |number| {
        let path = format!("/api/v1/namespaces/ns-{number}/serviceaccounts");
        (path, json!({"metadata": {"name": "default"}}))
    })
    .await;
    create_all(client, NODES, workload.nodes, &workload.node).await;
    for (path, count, make) in &workload.objects {
        create_all(client, path, *count, make).await;
    }
    let words = [
        "scheduler".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--secure-port=0".to_owned(),
    ];
    let (_scheduler, _) = start(&words, "knows the cluster");
    for (at, (pods, then)) in workload.before.iter().enumerate() {
        let part = format!("before-{at}");
        let mut events = bound(client, &part).await;
        let count = if *then == Then::Waiting { 0 } else { pods.count };
        tokio::join!(put(client, pods, &part), wait(client, &mut events, count, false));
        if *then == Then::Going {
            delete(client, &format!("/api/v1/namespaces/ns-1/pods?labelSelector=part%3D{part}")).await;
        }
    }

    let mut events = bound(client, "measured").await;
    let began = Instant::now();
    let create = async {
        put(client, &workload.measured, "measured").await;
        began.elapsed().as_secs_f64()
    };
    let pods = workload.measured.count;
    let (created, ()) = tokio::join!(create, wait(client, &mut events, pods, workload.churns));
    Rates { created: pods as f64 / created, bound: pods as f64 / began.elapsed().as_secs_f64() }
}
