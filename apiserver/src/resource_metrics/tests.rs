//! What nodes and pods use, asked of a whole server with an agent behind it.

use serde_json::{Value, json};

use crate::streaming::tests::Cluster;

const ROOT: &str = "/apis/metrics.k8s.io/v1beta1";

async fn read(cluster: &Cluster, path: &str, headers: &str) -> (u16, Value) {
    let (code, answer) = cluster.ask("GET", &format!("{ROOT}{path}"), headers, "").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (code, serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {answer}")))
}

#[tokio::test]
async fn what_nodes_and_pods_use_is_asked_of_their_agents() {
    let cluster = Cluster::start().await;
    let (code, list) = read(&cluster, "/nodes", "").await;
    assert_eq!((code, &list["kind"]), (200, &json!("NodeMetricsList")), "{list}");
    let node = &list["items"][0];
    assert_eq!(node["usage"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!((&node["metadata"]["name"], &node["window"]), (&json!("n"), &json!("1s")));

    // Of the pods, the agent knows one; another is on a node that is not there.
    let (code, list) = read(&cluster, "/pods", "").await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 1), "{list}");
    let (code, pod) = read(&cluster, "/namespaces/default/pods/two", "").await;
    assert_eq!(code, 200);
    assert_eq!(pod["containers"], json!([{"name": "a", "usage": {"cpu": "500m", "memory": "1500"}}]));
    assert_eq!(pod["metadata"]["namespace"], "default");

    let (_, table) =
        read(&cluster, "/nodes", "accept: application/json;as=Table;v=v1;g=meta.k8s.io\r\n").await;
    assert_eq!(table["rows"][0]["cells"], json!(["n", "2", "1Gi", "1s"]));
    let (_, none) = read(&cluster, "/pods?labelSelector=app%3Dweb", "").await;
    assert_eq!(none["items"], json!([]));
    assert_eq!(cluster.times_asked("/metrics/resource"), 2, "what is fresh is not asked for again");
}

#[tokio::test]
async fn what_is_not_measured_is_not_found() {
    let cluster = Cluster::start().await;
    let (code, status) = read(&cluster, "/namespaces/default/pods/waits", "").await;
    let words = "podmetrics.metrics.k8s.io \"default/waits\" not found";
    assert_eq!((code, &status["message"]), (404, &json!(words)));
    let (code, status) = read(&cluster, "/nodes/lost", "").await;
    assert_eq!((code, &status["message"]), (404, &json!("nodemetrics.metrics.k8s.io \"lost\" not found")));
    let (code, _) = read(&cluster, "/nodes?labelSelector=a%20b%20c", "").await;
    assert_eq!(code, 400);
    let (code, _) = read(&cluster, "/namespaces/default/nodes", "").await;
    assert_eq!(code, 404);
}
