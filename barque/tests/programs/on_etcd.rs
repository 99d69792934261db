//! API servers, controllers and scheduler over a real etcd instead of Barque's store; then the same objects over Barque's store, with
//! what etcd's own tool saved.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::json;

use crate::cluster::{Cluster, Program, start, start_by, start_store};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts Debian's etcd; its URL.
fn start_etcd(data: &Path) -> (Program, String) {
    let words = [
        format!("--data-dir={}", data.display()),
        "--listen-client-urls=http://127.0.0.1:0".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:0".to_owned(),
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
    ];
    let (etcd, line) = start_by(Command::new("etcd"), &[], &words, "strongly discouraged");
    let from = line.find("127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    let address: String =
        line[from..].chars().take_while(|each| each.is_ascii_digit() || ".:".contains(*each)).collect();
    (etcd, format!("http://{address}"))
}

async fn client(cluster: &Cluster, server: usize) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(server)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Controllers, scheduler and two hollow nodes.
fn workers(cluster: &Cluster) -> Vec<Program> {
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig(0).display());
    let with = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).chain([kubeconfig.clone()]).collect()
    };
    let agent = [
        "agent",
        "--runtime=hollow",
        "--healthz-port=0",
        "--node-ip=192.168.7.1",
        "--pod-cidr=10.244.0.0/16",
    ];
    vec![
        start(&with(&["controller-manager", "--secure-port=0"]), "serving health and metrics").0,
        start(&with(&["scheduler", "--secure-port=0"]), "serving health and metrics").0,
        start(
            &with(&[&agent[..], &["--hostname-override=hollow", "--hollow-nodes=2"]].concat()),
            "keeping nodes",
        )
        .0,
    ]
}

async fn has_pods(client: &Client, count: i32) {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let available = |web: Option<&Deployment>| {
        web.and_then(|web| web.status.as_ref()?.available_replicas)
            .is_some_and(|available| available == count)
    };
    let waiting =
        tokio::time::timeout(PATIENCE, await_condition(deployments.clone(), "web", available)).await;
    assert!(waiting.is_ok(), "{:?}", deployments.get("web").await);
}

fn run(program: &Path, words: &[&str]) -> String {
    let output = Command::new(program).args(words).env_clear().env("ETCDCTL_API", "3").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} {words:?}: {told}", program.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_on_etcd_and_moves_to_barque() {
    let directory = tempfile::tempdir().unwrap();
    let (etcd, url) = start_etcd(&directory.path().join("etcd"));
    let cluster = Cluster::over(directory, etcd, url, "127.0.0.1", 2, |_| Vec::new());
    let (first, second) = (client(&cluster, 0).await, client(&cluster, 1).await);
    cluster.wait_until_ready(&first, &second).await;
    let working = workers(&cluster);
    let web = json!({"metadata": {"name": "web"}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    }});
    let web = serde_json::from_value(web).unwrap();
    Api::<Deployment>::default_namespaced(first.clone()).create(&PostParams::default(), &web).await.unwrap();
    // Through the other server, whose cache follows etcd's watch.
    has_pods(&second, 3).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(second.clone());
    let metadata = ObjectMeta { name: Some("kept".to_owned()), ..ObjectMeta::default() };
    let kept =
        maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    let keys = run(
        Path::new("etcdctl"),
        &["--endpoints", &cluster.store, "get", "/registry/deployments/", "--prefix", "--keys-only"],
    );
    assert_eq!(keys.trim(), "/registry/deployments/default/web");

    // What etcd's tool saves, Barque's store begins with.
    drop(working);
    let path = |name: &str| cluster.directory.path().join(name).display().to_string();
    let (saved, imported, restored) = (path("etcd.db"), path("barque.db"), path("restored"));
    run(Path::new("etcdctl"), &["--endpoints", &cluster.store, "snapshot", "save", &saved]);
    let directory = cluster.into_directory();
    let kvctl = Path::new(env!("CARGO_BIN_EXE_barque")).with_file_name("kvctl");
    run(&kvctl, &["snapshot", "import", &saved, &imported]);
    run(&kvctl, &["snapshot", "restore", &imported, "--data-dir", &restored]);
    let (store, url) = start_store(Path::new(&restored));
    let cluster = Cluster::over(directory, store, url, "127.0.0.1", 1, |_| Vec::new());
    let client = client(&cluster, 0).await;
    cluster.wait_until_ready(&client, &client).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    assert_eq!(maps.get("kept").await.unwrap().metadata.uid, kept.metadata.uid);
    let _working = workers(&cluster);
    let other = json!({"spec": {"replicas": 4}});
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    deployments
        .patch("web", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(other))
        .await
        .unwrap();
    has_pods(&client, 4).await;
}
