//! Two servers over one store: neither loses what the other wrote, and both keep their promises about what is stored, written
//! down and counted.

use std::process::Command;
use std::time::Duration;

use crate::cluster::Cluster;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::{Value, json};

/// How long a client waits that goes away.
const GIVES_UP: Duration = Duration::from_secs(1);
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

async fn client(cluster: &Cluster, server: usize) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(server)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

pub(crate) async fn clients(cluster: &Cluster) -> [Client; 2] {
    let both = [client(cluster, 0).await, client(cluster, 1).await];
    cluster.wait_until_ready(&both[0], &both[1]).await;
    both
}

fn map(name: &str, key: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {key: value}})).unwrap()
}

/// Raises a counter by a guarded update, again and again until it is its turn.
async fn raise(maps: &Api<ConfigMap>, times: u32) {
    for _ in 0..times {
        loop {
            let mut counter = maps.get("counter").await.unwrap();
            let data = counter.data.as_mut().unwrap();
            let count: u32 = data["n"].parse().unwrap();
            data.insert("n".to_owned(), (count + 1).to_string());
            match maps.replace("counter", &PostParams::default(), &counter).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_guarded_update_is_lost() {
    let cluster = Cluster::start(2);
    let [first, second] = clients(&cluster).await;
    let maps = Api::<ConfigMap>::namespaced(first.clone(), "default");
    maps.create(&PostParams::default(), &map("counter", "n", "0")).await.unwrap();
    let others = Api::<ConfigMap>::namespaced(second.clone(), "default");
    tokio::join!(raise(&maps, 25), raise(&others, 25), raise(&maps, 25), raise(&others, 25));
    assert_eq!(others.get("counter").await.unwrap().data.unwrap()["n"], "100");

    // Patches need no guard: each is made to what the store has.
    let patch = |api: Api<ConfigMap>, name: &'static str| async move {
        for number in 0..25 {
            let body = json!({"data": {format!("{name}{number}"): "x"}});
            api.patch("counter", &PatchParams::default(), &Patch::Merge(&body)).await.unwrap();
        }
    };
    tokio::join!(patch(maps.clone(), "a"), patch(others.clone(), "b"));
    assert_eq!(maps.get("counter").await.unwrap().data.unwrap().len(), 51);

    // A list on one server sees what was just written on the other.
    for number in 0..20 {
        let name = format!("seen-{number}");
        maps.create(&PostParams::default(), &map(&name, "a", "b")).await.unwrap();
        let seen = others.list(&ListParams::default()).await.unwrap();
        assert!(seen.items.iter().any(|one| one.metadata.name.as_deref() == Some(&name)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_on_two_servers_never_share_an_address() {
    let cluster = Cluster::start(2);
    let [first, second] = clients(&cluster).await;
    let make = |client: Client, name: &'static str| async move {
        let services = Api::<Service>::namespaced(client, "default");
        let mut found = Vec::new();
        for number in 0..20 {
            let service: Service = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-{number}")},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            }))
            .unwrap();
            let made = services.create(&PostParams::default(), &service).await.unwrap().spec.unwrap();
            found.push((made.cluster_ip.unwrap(), made.ports.unwrap()[0].node_port.unwrap()));
        }
        found
    };
    let (mut all, more) = tokio::join!(make(first.clone(), "one"), make(second, "two"));
    all.extend(more);
    let distinct = |mut values: Vec<String>| {
        values.sort();
        values.dedup();
        values.len()
    };
    assert_eq!(distinct(all.iter().map(|(address, _)| address.clone()).collect()), 40);
    assert_eq!(distinct(all.iter().map(|(_, port)| port.to_string()).collect()), 40);
    let services = Api::<Service>::namespaced(first, "default");
    services.delete("one-0", &DeleteParams::default()).await.unwrap();
    let again: Service = serde_json::from_value(json!({
        "metadata": {"name": "again"}, "spec": {"clusterIP": all[0].0, "ports": [{"port": 80}]},
    }))
    .unwrap();
    services.create(&PostParams::default(), &again).await.unwrap();
    let taken: Service = serde_json::from_value(json!({
        "metadata": {"name": "taken"}, "spec": {"clusterIP": all[0].0, "ports": [{"port": 80}]},
    }))
    .unwrap();
    let refused = services.create(&PostParams::default(), &taken).await.unwrap_err().to_string();
    assert!(refused.contains("provided IP is already allocated"), "{refused}");
}

/// What stands in the store under a key, as etcdctl reads it.
fn stored(cluster: &Cluster, key: &str) -> Vec<u8> {
    let output = Command::new("etcdctl")
        .args(["--endpoints", &cluster.store, "get", "--print-value-only", key])
        .env("ETCDCTL_API", "3")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_encrypted_and_requests_written_down() {
    let cluster = Cluster::with(2, |directory| {
        let encryption = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [
                {"aesgcm": {"keys": [{"name": "k1", "secret": "MDEyMzQ1Njc4OWFiY2RlZg=="}]}}, {"identity": {}},
            ]}],
        });
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [
                {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets"]}]},
                {"level": "RequestResponse", "resources": [{"group": "", "resources": ["serviceaccounts"]}]},
                {"level": "None"},
            ],
        });
        std::fs::write(directory.join("encryption.yaml"), encryption.to_string()).unwrap();
        std::fs::write(directory.join("audit.yaml"), policy.to_string()).unwrap();
        let file = |name: &str| directory.join(name).display().to_string();
        vec![
            format!("--encryption-provider-config={}", file("encryption.yaml")),
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
        ]
    });
    let [first, second] = clients(&cluster).await;
    let secrets = Api::<Secret>::namespaced(first.clone(), "default");
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}))
            .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let read = Api::<Secret>::namespaced(second.clone(), "default").get("s").await.unwrap();
    assert_eq!(read.data.unwrap()["password"].0, b"hunter2");
    let kept = stored(&cluster, "/registry/secrets/default/s");
    assert!(kept.starts_with(b"k8s:enc:aesgcm:v1:k1:"), "{}", String::from_utf8_lossy(&kept[..40]));
    let plain = stored(&cluster, "/registry/namespaces/default");
    let plain: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(plain["metadata"]["name"], "default");

    let accounts = Api::<ServiceAccount>::namespaced(second.clone(), "default");
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some("robot".into()), ..ObjectMeta::default() },
        ..ServiceAccount::default()
    };
    accounts.create(&PostParams::default(), &account).await.unwrap();
    Api::<Namespace>::all(first.clone()).list(&ListParams::default()).await.unwrap();
    let log = std::fs::read_to_string(cluster.directory.path().join("audit.log")).unwrap();
    assert!(!log.contains("hunter2") && !log.contains("\"resource\":\"namespaces\""), "{log}");
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |verb: &str, resource: &str| {
        events.iter().find(|event| event["verb"] == verb && event["objectRef"]["resource"] == resource)
    };
    assert_eq!(of("create", "secrets").unwrap()["user"]["username"], "admin");
    let created = of("create", "serviceaccounts").unwrap();
    assert_eq!(created["responseObject"]["metadata"]["name"], "robot", "{created}");

    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = first.request_text(request).await.unwrap();
    for name in [
        "apiserver_request_total{",
        "apiserver_request_duration_seconds_bucket{",
        "apiserver_current_inflight_requests{",
        "etcd_request_duration_seconds_bucket{",
        "apiserver_flowcontrol_dispatched_requests_total{",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_stop_leaves_in_order() {
    let mut cluster = Cluster::start(2);
    let [first, second] = clients(&cluster).await;
    let leases = Api::<k8s_openapi::api::coordination::v1::Lease>::namespaced(second, "kube-system");
    let living = ListParams::default().labels("apiserver.kubernetes.io/identity=kube-apiserver");
    assert_eq!(leases.list(&living).await.unwrap().items.len(), 2);
    // A watch does not hold it up: it ends.
    let maps = Api::<ConfigMap>::namespaced(first, "default");
    let watch = maps.watch(&kube::api::WatchParams::default().timeout(280), "0").await.unwrap();
    assert_eq!(cluster.stop(0), Some(0));
    drop(watch);
    assert_eq!(leases.list(&living).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_in_the_midst_of_a_change_leaves_nothing_that_belongs_to_nobody() {
    let cluster = Cluster::start(2);
    let [first, second] = clients(&cluster).await;
    let services = Api::<Service>::namespaced(first.clone(), "default");
    let addresses = Api::<IPAddress>::all(second.clone());
    let service = |name: &str| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}}))
        .unwrap()
    };
    // The server knows all that it needs to know by then.
    services.create(&PostParams::default(), &service("before")).await.unwrap();
    services.delete("before", &DeleteParams::default()).await.unwrap();

    // The store answers no more; somebody asks for an address and a port, and gives up.
    let store = rustix::process::Pid::from_raw(i32::try_from(cluster.store_pid()).unwrap()).unwrap();
    rustix::process::kill_process(store, rustix::process::Signal::STOP).unwrap();
    let given_up =
        tokio::time::timeout(GIVES_UP, services.create(&PostParams::default(), &service("left"))).await;
    rustix::process::kill_process(store, rustix::process::Signal::CONT).unwrap();
    assert!(given_up.is_err(), "{given_up:?}");

    // It comes to be all the same, and what it has is its own.
    let others = Api::<Service>::namespaced(second.clone(), "default");
    let is_there = await_condition(others.clone(), "left", |service: Option<&Service>| service.is_some());
    tokio::time::timeout(PATIENCE, is_there).await.expect("the change goes on without its client").unwrap();
    others.delete("left", &DeleteParams::default()).await.unwrap();
    let kept: Vec<_> = addresses.list(&ListParams::default()).await.unwrap().into_iter().collect();
    let of_left = kept.iter().filter(|address| address.spec.parent_ref.name == "left");
    assert_eq!(of_left.count(), 0, "{kept:?}");
    others.create(&PostParams::default(), &service("next")).await.expect("its port is free again");
}
