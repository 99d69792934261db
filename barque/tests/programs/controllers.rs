//! The controller manager as a program over real API servers: a Deployment gets its pods, rolls, and goes on when the leader
//! dies. The test plays the nodes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Cluster, ELECTION, Program, said, start};
use barque_client::servers::{Servers, Source, connect};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts a controller manager; its port for metrics is chosen by the system.
fn manager(kubeconfig: &Path) -> (Program, String) {
    let mut words = vec![
        "controller-manager".to_owned(),
        format!("--kubeconfig={}", kubeconfig.display()),
        "--secure-port=0".to_owned(),
    ];
    words.extend(ELECTION.map(str::to_owned));
    let (program, line) = start(&words, "serving health and metrics");
    let identity = said(&line, "identity").to_owned();
    (program, identity)
}

async fn client(cluster: &Cluster) -> Client {
    let source = Source::Kubeconfig(cluster.kubeconfig(0));
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    cluster.wait_until_ready(&client, &client).await;
    client
}

/// Runs pods: what was bound to no node runs and is ready at once, what was deleted ends.
async fn play_nodes(pods: Api<Pod>, stop: CancellationToken) {
    let mut changes = Box::pin(watcher(pods.clone(), watcher::Config::default()).applied_objects());
    while let Some(Ok(Some(pod))) = stop.run_until_cancelled(changes.try_next()).await {
        let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let name = pod.name_any();
        let done = if pod.metadata.deletion_timestamp.is_some() {
            pods.delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop)
        } else if running {
            Ok(())
        } else {
            let status = json!({"status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]}});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
        };
        match done {
            Ok(()) => {}
            // It was quicker.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

fn deployment(image: &str, replicas: i32) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    })
}

/// Whether all that was asked for is there, and told.
fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.replicas;
    let Some(status) = &deployment.status else { return false };
    status.observed_generation == deployment.metadata.generation
        && [status.replicas, status.updated_replicas, status.available_replicas]
            .iter()
            .all(|it| *it == wanted)
}

/// Waits until a Deployment is as it should be.
async fn until(deployments: &Api<Deployment>, name: &str, fits: impl Fn(&Deployment) -> bool) -> Deployment {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(watcher(deployments.clone(), config).applied_objects());
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

fn images(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_gets_its_pods_and_rolls() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    // Pods need one; who makes it otherwise is not what is tested here.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    match accounts.create(&PostParams::default(), &account).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
    let kubeconfig = cluster.kubeconfig(0);
    let (first, identity) = manager(&kubeconfig);
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    let nodes = tokio::spawn(play_nodes(pods.clone(), stop.clone()));

    // It gets a ReplicaSet and pods.
    let deployments = Api::<Deployment>::namespaced(client.clone(), "default");
    let made = serde_json::from_value(deployment("i1", 3)).unwrap();
    deployments.create(&PostParams::default(), &made).await.unwrap();
    let found = until(&deployments, "web", is_complete).await;
    assert_eq!(found.annotations()["deployment.kubernetes.io/revision"], "1");
    let listed = pods.list(&ListParams::default()).await.unwrap().items;
    assert_eq!((listed.len(), images(&listed)), (3, ["i1".to_owned()].into()));
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), "default");
    let [set] = &sets.list(&ListParams::default()).await.unwrap().items[..] else { panic!("one ReplicaSet") };
    assert_eq!(set.owner_references()[0].uid, found.uid().unwrap());
    assert!(listed.iter().all(|pod| pod.owner_references()[0].uid == set.uid().unwrap()));

    // Another template rolls.
    let apply = PatchParams::apply("test").force();
    deployments.patch("web", &apply, &Patch::Apply(deployment("i2", 3))).await.unwrap();
    let rolled = |deployment: &Deployment| {
        let revision = deployment.annotations().get("deployment.kubernetes.io/revision");
        revision.map(String::as_str) == Some("2") && is_complete(deployment)
    };
    let found = until(&deployments, "web", rolled).await;
    let reason = |deployment: &Deployment, kind: &str| {
        let conditions = deployment.status.as_ref().and_then(|status| status.conditions.clone());
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions.find(|one| one.type_.as_deref() == Some(kind)).and_then(|one| one.reason)
    };
    assert_eq!(reason(&found, "Available").as_deref(), Some("MinimumReplicasAvailable"));
    until(&deployments, "web", |found| {
        reason(found, "Progressing").as_deref() == Some("NewReplicaSetAvailable")
    })
    .await;
    let events = Api::<Event>::namespaced(client.clone(), "default");
    let told = events.list(&ListParams::default()).await.unwrap().items;
    let reasons: BTreeSet<_> = told.iter().filter_map(|event| event.reason.clone()).collect();
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete"] {
        assert!(reasons.contains(reason), "{reason}: {reasons:?}");
    }

    // The leader dies; another one goes on.
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-system");
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    let lease = leases.get("kube-controller-manager").await.unwrap();
    assert_eq!(holder(&lease), Some(identity));
    let (second, other) = manager(&kubeconfig);
    drop(first);
    deployments.patch("web", &apply, &Patch::Apply(deployment("i3", 5))).await.unwrap();
    until(&deployments, "web", |found| found.spec.replicas == Some(5) && is_complete(found)).await;
    let lease = leases.get("kube-controller-manager").await.unwrap();
    assert_eq!(holder(&lease), Some(other));

    // Asked to stop, it gives the lease back.
    assert_eq!(second.stop(), Some(0));
    let lease = leases.get("kube-controller-manager").await.unwrap();
    assert_eq!(holder(&lease).unwrap_or_default(), "");
    stop.cancel();
    nodes.await.unwrap();
}
