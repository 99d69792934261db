//! The controllers of budgets, certificates, volumes and autoscalers as a program over a real API server. The test plays the nodes.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cluster::{Cluster, Program, start};
use barque_client::servers::{Servers, Source, connect};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{
    Node, PersistentVolume, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster with its controllers, and nodes that are played.
struct Setup {
    cluster: Cluster,
    client: Client,
    _manager: Program,
    tasks: JoinSet<()>,
}

async fn setup() -> Setup {
    let cluster = Cluster::start(1);
    let source = Source::Kubeconfig(cluster.kubeconfig(0));
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    cluster.wait_until_ready(&client, &client).await;
    let words = [
        "controller-manager".to_owned(),
        format!("--kubeconfig={}", cluster.kubeconfig(0).display()),
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--cluster-signing-cert-file={}", cluster.certificates.ca.display()),
        format!("--cluster-signing-key-file={}", cluster.certificates.authority_key().display()),
        "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
    ];
    let (manager, _) = start(&words, "serving health and metrics");
    // Pods need one; who makes it otherwise is not what is tested here.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    let account = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    match accounts.create(&PostParams::default(), &account).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(play_nodes(Api::namespaced(client.clone(), "default")));
    Setup { cluster, client, _manager: manager, tasks }
}

/// Runs pods: what was bound to no node runs and is ready at once, what was deleted ends.
async fn play_nodes(pods: Api<Pod>) {
    let mut changes = Box::pin(watcher(pods.clone(), watcher::Config::default()).applied_objects());
    while let Ok(Some(pod)) = changes.try_next().await {
        let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let name = pod.name_any();
        let done = if pod.metadata.deletion_timestamp.is_some() {
            pods.delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop)
        } else if running {
            Ok(())
        } else {
            let status = json!({"status": {
                "phase": "Running", "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}],
            }});
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

trait Kept:
    kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
}

impl<K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static> Kept
    for K
{
}

async fn create<K: Kept>(api: &Api<K>, object: Value) -> K {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Waits until an object is as it should be.
async fn until<K: Kept>(api: &Api<K>, name: &str, fits: impl Fn(&K) -> bool) -> K {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(watcher(api.clone(), config).applied_objects());
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

fn replica_set(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}},
            ]}},
        },
    })
}

async fn available(sets: &Api<ReplicaSet>, name: &str, count: i32) {
    until(sets, name, |set| set.status.as_ref().and_then(|status| status.available_replicas) == Some(count))
        .await;
}

fn namespaced<K>(client: &Client) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), "default")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_refuses_an_eviction_until_there_are_more_pods() {
    let setup = setup().await;
    let sets = namespaced::<ReplicaSet>(&setup.client);
    let budgets = namespaced::<PodDisruptionBudget>(&setup.client);
    let pods = namespaced::<Pod>(&setup.client);
    create(&sets, replica_set("web", 2)).await;
    available(&sets, "web", 2).await;
    let spec = json!({"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}});
    create(&budgets, json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let told = |allowed: i32| {
        move |budget: &PodDisruptionBudget| {
            let status = budget.status.clone().unwrap_or_default();
            status.observed_generation == budget.metadata.generation
                && (status.current_healthy, status.disruptions_allowed) == (Some(2 + allowed), Some(allowed))
        }
    };
    until(&budgets, "web", told(0)).await;
    let victim = pods.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let refused = pods.evict(&victim, &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!(status.code, 429, "{status:?}");
    assert_eq!(status.details.unwrap().causes[0].reason, "DisruptionBudget");

    let more = Patch::Merge(json!({"spec": {"replicas": 3}}));
    sets.patch("web", &PatchParams::default(), &more).await.unwrap();
    let budget = until(&budgets, "web", told(1)).await;
    assert_eq!(budget.status.unwrap().conditions.unwrap()[0].reason, "SufficientPods");
    pods.evict(&victim, &EvictParams::default()).await.unwrap();
    // Another one comes in its place, and one may go again.
    until(&budgets, "web", |budget| {
        told(1)(budget) && budget.status.as_ref().is_some_and(|status| status.disrupted_pods.is_none())
    })
    .await;
    let left = pods.list(&ListParams::default()).await.unwrap().items;
    let stays = |pod: &Pod| pod.name_any() == victim && pod.metadata.deletion_timestamp.is_none();
    assert!(!left.iter().any(stays), "nobody deletes {victim}");
}

/// Debian's, which `make test` puts below `target`, or what the machine has.
fn kubectl() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let debian = root.join("target/debian-kubectl/usr/bin/kubectl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::iter::once(debian).chain(std::env::split_paths(&path).map(|it| it.join("kubectl")));
    all.find(|program| program.is_file()).expect("there is no kubectl; `make kubectl` brings Debian's")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_kubectl_approves_is_signed() {
    let setup = setup().await;
    let requests = Api::<CertificateSigningRequest>::all(setup.client.clone());
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "alice");
    params.distinguished_name.push(DnType::OrganizationName, "developers");
    let request = ByteString(params.serialize_request(&key).unwrap().pem().unwrap().into_bytes());
    let spec = json!({
        "request": request, "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth", "digital signature"], "expirationSeconds": 3600,
    });
    create(&requests, json!({"metadata": {"name": "alice"}, "spec": spec})).await;
    let kubeconfig = setup.cluster.kubeconfig(0);
    let output = Command::new(kubectl())
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .args(["certificate", "approve", "alice"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let signed = until(&requests, "alice", |request| {
        request.status.as_ref().is_some_and(|status| status.certificate.is_some())
    })
    .await;
    // Who has it is known to the server as who asked for it.
    let directory = setup.cluster.directory.path();
    let (certificate, key_file) = (directory.join("alice.crt"), directory.join("alice.key"));
    std::fs::write(&certificate, signed.status.unwrap().certificate.unwrap().0).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let (admin, admin_key) = &setup.cluster.certificates.admin;
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let text = text
        .replace(&admin.display().to_string(), &certificate.display().to_string())
        .replace(&admin_key.display().to_string(), &key_file.display().to_string());
    let own = directory.join("kubeconfig-alice");
    std::fs::write(&own, text).unwrap();
    let alice = connect(Servers { source: Source::Kubeconfig(own), urls: Vec::new() }).await.unwrap();
    let who = Api::<SelfSubjectReview>::all(alice);
    let who = who.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let user = who.status.unwrap().user_info.unwrap();
    assert_eq!(user.username.as_deref(), Some("alice"));
    assert!(user.groups.unwrap().contains(&"developers".to_owned()));
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_get_volumes_and_give_them_back() {
    let setup = setup().await;
    let claims = namespaced::<PersistentVolumeClaim>(&setup.client);
    let volumes = Api::<PersistentVolume>::all(setup.client.clone());
    let claim = |name: &str, class: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        }})
    };
    create(&claims, claim("plain", "")).await;
    for (name, size) in [("small", "500Mi"), ("large", "9Gi"), ("fits", "2Gi")] {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "hostPath": {"path": "/data"},
            "persistentVolumeReclaimPolicy": "Retain",
        });
        create(&volumes, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    let bound = until(&claims, "plain", |claim| phase(claim) == Some("Bound")).await;
    // Whichever was there first of those that fit.
    let name = bound.spec.unwrap().volume_name.unwrap();
    assert!(["large", "fits"].contains(&name.as_str()), "{name}");
    let is = |wanted: &'static str| {
        move |volume: &PersistentVolume| {
            volume.status.as_ref().and_then(|it| it.phase.as_deref()) == Some(wanted)
        }
    };
    until(&volumes, &name, is("Bound")).await;
    claims.delete("plain", &DeleteParams::default()).await.unwrap();
    until(&volumes, &name, is("Released")).await;

    // One is made on the node that was selected, and goes with its claim.
    let nodes = Api::<Node>::all(setup.client.clone());
    create(&nodes, json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}})).await;
    let classes = Api::<StorageClass>::all(setup.client.clone());
    create(
        &classes,
        json!({
            "metadata": {"name": "local"}, "provisioner": "barque.dev/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
        }),
    )
    .await;
    create(&claims, claim("made", "local")).await;
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    claims.patch("made", &PatchParams::default(), &Patch::Merge(selected)).await.unwrap();
    let bound = until(&claims, "made", |claim| phase(claim) == Some("Bound")).await;
    let name = bound.spec.unwrap().volume_name.unwrap();
    let volume = until(&volumes, &name, is("Bound")).await;
    let spec = volume.spec.unwrap();
    assert!(spec.host_path.unwrap().path.ends_with("_default_made"));
    assert!(spec.node_affinity.is_some());
    claims.delete("made", &DeleteParams::default()).await.unwrap();
    let uid = volume.metadata.uid.unwrap();
    let gone = kube::runtime::wait::conditions::is_deleted(&uid);
    let wait = kube::runtime::wait::await_condition(volumes, &name, gone);
    timeout(PATIENCE, wait).await.expect("it goes in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_follows_what_a_server_measures() {
    let mut setup = setup().await;
    let usage = Arc::new(Mutex::new(Vec::new()));
    let (port, serve) = crate::metrics_server::listen(usage.clone()).await;
    setup.tasks.spawn(serve);
    let services = namespaced::<Service>(&setup.client);
    let spec = json!({"type": "ExternalName", "externalName": "localhost"});
    create(&services, json!({"metadata": {"name": "metrics"}, "spec": spec})).await;
    let registered = Api::<APIService>::all(setup.client.clone());
    create(&registered, json!({
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "metrics", "port": port},
        },
    }))
    .await;
    let sets = namespaced::<ReplicaSet>(&setup.client);
    create(&sets, replica_set("busy", 2)).await;
    available(&sets, "busy", 2).await;
    let pods = namespaced::<Pod>(&setup.client).list(&ListParams::default()).await.unwrap().items;
    *usage.lock().unwrap() = pods.iter().map(|pod| (pod.name_any(), "100m".to_owned())).collect();
    let autoscalers = namespaced::<HorizontalPodAutoscaler>(&setup.client);
    create(
        &autoscalers,
        json!({"metadata": {"name": "busy"}, "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "busy"},
            "minReplicas": 1, "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
            }}],
        }}),
    )
    .await;
    // They use twice what they shall.
    until(&sets, "busy", |set| set.spec.replicas == Some(4)).await;
    let told = until(&autoscalers, "busy", |autoscaler| {
        autoscaler.status.as_ref().is_some_and(|status| status.desired_replicas == 4)
    })
    .await;
    let conditions = told.status.unwrap().conditions.unwrap();
    let active = conditions.iter().find(|condition| condition.type_ == "ScalingActive").unwrap();
    assert_eq!(active.reason.as_deref(), Some("ValidMetricFound"), "{conditions:#?}");
}
