//! Controllers, scheduler and node agents behind an API server that is unkind: it refuses, is slow, breaks off, loses answers, and
//! forgets what watches have seen. What users asked for comes to be all the same, exactly, and then it is quiet.

mod answers;
mod contradictions;
mod faults;
mod proxy;
mod watches;
pub(crate) mod workload;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use workload::{condition, create, job, keeps, observed, serves, texts, until, until_all, until_gone};
use world::Test;

/// The node of the agent that dies, and those of the one that lives on.
const NODES: [&str; 4] = ["far-0", "near-0", "near-1", "near-2"];

async fn everything_comes_to_be(seed: u64) {
    let test = Test::start(Some(seed)).await;
    let bindings = test.watch_bindings();
    let (_manager, _scheduler) = (test.manager(), test.scheduler());
    let _near = test.agent("near", 3, "10.244.0.0/16");
    let far = test.agent("far", 1, "10.245.0.0/16");
    let accounts = test.api::<ServiceAccount>();
    until(&accounts, "default", "there is an account for pods", |_| true).await;

    // Everything at once.
    let deployments = test.api::<Deployment>();
    create(&deployments, keeps("web", &json!({"replicas": 3}))).await;
    create(&test.api::<StatefulSet>(), keeps("db", &json!({"replicas": 3, "serviceName": "db"}))).await;
    create(&test.api::<DaemonSet>(), keeps("every", &json!({}))).await;
    let counted = json!({"completions": 6, "parallelism": 3, "completionMode": "Indexed", "backoffLimit": 0});
    create(&test.api::<Job>(), job("counted", &counted)).await;
    create(&test.api::<Job>(), job("some", &json!({"completions": 4, "parallelism": 2}))).await;
    let service = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    create(&test.api::<Service>(), json!({"metadata": {"name": "web"}, "spec": service})).await;
    let namespaces = Api::<Namespace>::all(test.client.clone());
    create(&namespaces, json!({"metadata": {"name": "passing"}})).await;
    let passing = Api::<ServiceAccount>::namespaced(test.client.clone(), "passing");
    until(&passing, "default", "the namespace has an account", |_| true).await;
    create(
        &Api::<Deployment>::namespaced(test.client.clone(), "passing"),
        keeps("brief", &json!({"replicas": 2})),
    )
    .await;
    create(
        &Api::<ConfigMap>::namespaced(test.client.clone(), "passing"),
        json!({"metadata": {"name": "kept"}}),
    )
    .await;
    until(&deployments, "web", "three pods are available", |web| is_complete(web, 3)).await;

    // It rolls and grows, and a namespace goes.
    let image = json!([{"name": "c", "image": "i2"}]);
    let change = json!({"spec": {"replicas": 5, "template": {"spec": {"containers": image}}}});
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(change)).await.unwrap();
    namespaces.delete("passing", &DeleteParams::default()).await.unwrap();
    until(&deployments, "web", "five new pods are available", |web| is_complete(web, 5)).await;
    until_gone(&namespaces, "passing", "the namespace is gone").await;
    assert_all_is_exact(&test).await;
    let of_job = pods_of_job(&test).await;
    assert_eq!((of_job.len(), texts(&of_job, INDEX).len()), (6, 6), "{of_job:#?}");

    // A node is lost and comes back.
    drop(far);
    let nodes = Api::<Node>::all(test.client.clone());
    until(&nodes, "far-0", "the node is lost", |node| {
        let taints = node["spec"]["taints"].as_array().map(Vec::as_slice).unwrap_or_default();
        condition(node, "Ready")["status"] == "Unknown"
            && taints.iter().any(|taint| {
                taint["key"] == "node.kubernetes.io/unreachable" && taint["effect"] == "NoExecute"
            })
    })
    .await;
    let pods = test.api::<Pod>();
    until_all(&pods, "app=web", "other nodes have its pods", |pods| {
        let serving: Vec<_> = pods.values().filter(|pod| serves(pod)).collect();
        serving.len() == 5 && serving.iter().all(|pod| pod["spec"]["nodeName"] != "far-0")
    })
    .await;
    let _far = test.agent("far", 1, "10.245.0.0/16");
    until(&nodes, "far-0", "the node is back", |node| {
        condition(node, "Ready")["status"] == "True" && node["spec"].get("taints").is_none()
    })
    .await;
    assert_all_is_exact(&test).await;
    test.faults_happened();
    test.is_quiet(8).await;
    assert_all_is_exact(&test).await;
    // Those that had ended on the lost node went with it; no other has come or gone.
    let left = pods_of_job(&test).await;
    let stay = |name: &String| of_job[name]["spec"]["nodeName"] == "far-0" || left.contains_key(name);
    assert!(of_job.keys().all(stay) && left.keys().all(|name| of_job.contains_key(name)), "{left:#?}");
    assert!(!bindings.is_finished(), "{:?}", bindings.await);
    bindings.abort();
}

fn is_complete(deployment: &Value, replicas: u64) -> bool {
    let counts = ["replicas", "updatedReplicas", "availableReplicas"];
    observed(deployment) && counts.iter().all(|count| deployment["status"][*count] == replicas)
}

/// What was asked for is there, and nothing else.
async fn assert_all_is_exact(test: &Test) {
    let pods = test.api::<Pod>();
    let web = until_all(&pods, "app=web", "there are five new pods and no others", |pods| {
        pods.len() == 5
            && pods.values().all(serves)
            && texts(pods, "/spec/containers/0/image") == ["i2".to_owned()].into()
    })
    .await;
    until_all(&test.api::<ReplicaSet>(), "", "the new ReplicaSet has them all", |sets| {
        let mut counts: Vec<_> =
            sets.values().map(|set| set["status"]["replicas"].as_u64().unwrap()).collect();
        counts.sort_unstable();
        counts == [0, 5]
    })
    .await;
    let addresses = texts(&web, "/status/podIP");
    assert_eq!(addresses.len(), 5, "{addresses:?}");
    until_all(&test.api::<EndpointSlice>(), "kubernetes.io/service-name=web", "slices name them", |slices| {
        let endpoints =
            slices.values().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let endpoints: Vec<_> = endpoints.collect();
        let named: BTreeSet<_> =
            endpoints.iter().map(|one| one["addresses"][0].as_str().unwrap().to_owned()).collect();
        endpoints.len() == 5
            && named == addresses
            && endpoints.iter().all(|one| one["conditions"]["ready"] == true)
    })
    .await;
    until(&test.api::<Endpoints>(), "web", "endpoints name them", |endpoints| {
        endpoints["subsets"][0]["addresses"].as_array().is_some_and(|list| list.len() == 5)
    })
    .await;
    until_all(&pods, "app=db", "the set has its three pods", |pods| {
        pods.keys().eq(["db-0", "db-1", "db-2"]) && pods.values().all(serves)
    })
    .await;
    until(&test.api::<StatefulSet>(), "db", "the set says so", |set| {
        observed(set) && set["status"]["readyReplicas"] == 3 && set["status"]["replicas"] == 3
    })
    .await;
    until_all(&pods, "app=every", "every node has one pod", |pods| {
        pods.len() == NODES.len()
            && pods.values().all(serves)
            && texts(pods, "/spec/nodeName").iter().eq(NODES)
    })
    .await;
    until(&test.api::<DaemonSet>(), "every", "the daemon set says so", |set| {
        set["status"]["numberReady"] == NODES.len() && set["status"]["numberMisscheduled"] == 0
    })
    .await;
    let jobs = test.api::<Job>();
    let told =
        until(&jobs, "counted", "the job is complete", |job| condition(job, "Complete")["status"] == "True")
            .await;
    let status = &told["status"];
    assert_eq!((&status["succeeded"], &status["completedIndexes"]), (&json!(6), &json!("0-5")), "{told:#}");
    assert!(status.get("failed").is_none() && status.get("active").is_none(), "{told:#}");
    until(&jobs, "some", "the other job is complete", |job| condition(job, "Complete")["status"] == "True")
        .await;
    assert_eq!(until(&jobs, "some", "", |_| true).await["status"]["succeeded"], 4);
}

/// Where a pod says for which part of its job it is.
const INDEX: &str = "/metadata/annotations/batch.kubernetes.io~1job-completion-index";

/// The pods of the job that counts, when all have ended.
async fn pods_of_job(test: &Test) -> BTreeMap<String, Value> {
    until_all(&test.api::<Pod>(), "app=counted", "its pods have ended", |pods| {
        pods.values().all(|pod| pod["status"]["phase"] == "Succeeded")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_to_be_with_one_seed() {
    // Another one, to look for what the usual ones do not find.
    let seed = std::env::var("UNKIND_SEED").ok().map_or(1, |text| text.parse().unwrap());
    everything_comes_to_be(seed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_to_be_with_another_seed() {
    everything_comes_to_be(2).await;
}
