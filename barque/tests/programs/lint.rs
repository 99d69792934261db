//! The linter as a program over a whole cluster: when that is right and at rest, nothing is wrong; what is broken by hand, while
//! nobody is there to mend it, is found.

use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, Program, start};
use barque_client::servers::{Servers, Source, connect};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

fn program(words: &[&str], kubeconfig: &Path, ready: &str) -> Program {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    words.push(format!("--kubeconfig={}", kubeconfig.display()));
    start(&words, ready).0
}

/// Exit code, standard output and standard error.
fn lint(words: &[&str]) -> (Option<i32>, String, String) {
    let ended =
        Command::new(env!("CARGO_BIN_EXE_barque")).arg("lint").args(words).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

struct Test {
    client: Client,
}

impl Test {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn set_status<K>(&self, name: &str, status: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<K>().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until an object is as it should be.
    async fn until<K>(&self, name: &str, holds: impl Condition<K>)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + Send
            + DeserializeOwned
            + 'static,
    {
        let api = self.api::<K>();
        match timeout(PATIENCE, await_condition(api.clone(), name, holds)).await {
            Ok(waited) => drop(waited.unwrap()),
            Err(_) => panic!("{name} stays as it is: {:?}", api.get_opt(name).await),
        }
    }
}

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn pod(name: &str, node: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}})
}

fn count(quota: &ResourceQuota, of: &str) -> Option<String> {
    Some(quota.status.as_ref()?.used.as_ref()?.get(of)?.0.clone())
}

/// A cluster with a bit of everything, until it is at rest.
async fn inhabit(test: &Test) {
    test.create::<ResourceQuota>(json!({
        "metadata": {"name": "quota"},
        "spec": {"hard": {"pods": "20", "count/deployments.apps": "5", "configmaps": "9", "services": "5"}},
    }))
    .await;
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    test.create::<Service>(json!({
        "metadata": {"name": "web"}, "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]},
    }))
    .await;
    test.create::<Deployment>(json!({
        "metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": selector("web"), "template": template("web")},
    }))
    .await;
    test.create::<StatefulSet>(json!({
        "metadata": {"name": "db"},
        "spec": {"replicas": 2, "serviceName": "db", "selector": selector("db"), "template": template("db")},
    }))
    .await;
    let mut once = template("job");
    once["spec"]["restartPolicy"] = "Never".into();
    test.create::<Job>(json!({
        "metadata": {"name": "job"}, "spec": {"completions": 2, "completionMode": "Indexed", "template": once},
    }))
    .await;

    test.until::<Deployment>("web", |it: Option<&Deployment>| {
        it.and_then(|it| it.status.as_ref()).is_some_and(|status| status.available_replicas == Some(3))
    })
    .await;
    test.until::<StatefulSet>("db", |it: Option<&StatefulSet>| {
        it.and_then(|it| it.status.as_ref()).is_some_and(|status| status.available_replicas == Some(2))
    })
    .await;
    test.until::<Job>("job", |it: Option<&Job>| {
        it.and_then(|it| it.status.as_ref()).is_some_and(|status| status.completion_time.is_some())
    })
    .await;
    test.until::<ResourceQuota>("quota", |it: Option<&ResourceQuota>| {
        it.is_some_and(|it| count(it, "pods").as_deref() == Some("5"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_right_has_no_findings_and_what_is_broken_is_found() {
    let cluster = Cluster::start(1);
    let kubeconfig = cluster.kubeconfig(0);
    let source = Source::Kubeconfig(kubeconfig.clone());
    let client = connect(Servers { source, urls: Vec::new() }).await.unwrap();
    cluster.wait_until_ready(&client, &client).await;
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let lint_it = |words: &[&str]| lint(&[&[&*flag], words].concat());
    let test = Test { client };

    let manager =
        program(&["controller-manager", "--secure-port=0"], &kubeconfig, "serving health and metrics");
    let scheduler = program(&["scheduler", "--secure-port=0"], &kubeconfig, "serving health and metrics");
    let nodes = ["--hostname-override=hollow", "--hollow-nodes=2", "--pod-cidr=10.244.0.0/16"];
    let agent = [&["agent", "--runtime=hollow", "--healthz-port=0"][..], &nodes].concat();
    let agent = program(&agent, &kubeconfig, "keeping nodes");
    inhabit(&test).await;

    // Nobody waits when nothing is wrong; a slow machine may take its time to come to rest.
    let (code, told, error) = lint_it(&["--settle=30s"]);
    assert_eq!((code, &*error), (Some(0), ""), "{told}");
    assert!(told.ends_with(" objects, nothing is wrong\n"), "{told}");

    // From now on nobody mends anything.
    drop((manager, scheduler, agent));
    let sets = test.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap();
    let set = sets.items[0].name_any();
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "never"}]);
    test.create::<ConfigMap>(json!({"metadata": {"name": "orphan", "ownerReferences": owner}})).await;
    test.create::<Pod>(pod("lost", "nowhere")).await;
    for name in ["one", "two"] {
        test.create::<Pod>(pod(name, "hollow-0")).await;
        let status = json!({"phase": "Running", "podIP": "10.244.0.200", "podIPs": [{"ip": "10.244.0.200"}]});
        test.set_status::<Pod>(name, status).await;
    }
    test.create::<EndpointSlice>(json!({
        "metadata": {"name": "dead"}, "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["10.244.0.201"], "targetRef": {"kind": "Pod", "name": "ghost", "uid": "ghost"}}],
    }))
    .await;
    test.set_status::<ReplicaSet>(&set, json!({"replicas": 7})).await;
    test.set_status::<ResourceQuota>("quota", json!({"used": {"pods": "1"}})).await;

    let (code, told, error) = lint_it(&["--settle=0s", "-o=json"]);
    assert_eq!((code, &*error), (Some(1), ""), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let found = |rule: &str, kind: &str, name: &str, words: &str| json!({"rule": rule, "object": {"kind": kind, "namespace": "default", "name": name}, "words": words});
    assert_eq!(
        told["findings"],
        json!([
            found("pod-address-shared", "Pod", "two", "has the address 10.244.0.200, as default/one has"),
            found(
                "owner-gone",
                "ConfigMap",
                "orphan",
                "has the owner ConfigMap gone with the uid never, which is gone"
            ),
            found("pod-node-missing", "Pod", "lost", "is bound to node \"nowhere\", which is not there"),
            found("endpoint-dead", "EndpointSlice", "dead", "tells of pod ghost, which is gone"),
            found(
                "replicas-miscounted",
                "ReplicaSet",
                &set,
                "has 7 in status.replicas, and 3 of its pods are there"
            ),
            found(
                "quota-miscounted",
                "ResourceQuota",
                "quota",
                "has 1 of pods in status.used, and 8 are used"
            ),
        ])
    );
    assert_eq!(told["notes"], json!([]));

    let (code, told, error) = lint_it(&["--master=https://127.0.0.1:1"]);
    assert_eq!((code, &*told), (Some(2), ""), "{error}");
    assert!(error.starts_with("error: "), "{error}");

    let others =
        "--skip=pod-address-shared,pod-node-missing,endpoint-dead,replicas-miscounted,quota-miscounted";
    let (code, told, _) = lint_it(&["--settle=0s", others]);
    let line = "owner-gone  ConfigMap default/orphan  has the owner ConfigMap gone with the uid never, which is gone";
    assert!(code == Some(1) && told.lines().any(|told| told == line), "{told}");
    let (code, told, _) = lint_it(&["--settle=0s", others, "--skip=owner-gone"]);
    assert!(code == Some(0) && told.ends_with("nothing is wrong\n"), "{told}");
}

#[test]
fn a_cluster_that_cannot_be_read_is_neither_right_nor_wrong() {
    let missing = "--kubeconfig=no-such-file";
    for (words, part) in
        [(&[missing][..], "no-such-file: "), (&["--master=nowhere"], "nowhere"), (&["--skip=x"], "'x'")]
    {
        let (code, told, error) = lint(words);
        assert_eq!((code, &*told), (Some(2), ""), "{error}");
        assert!(error.starts_with("error: ") && error.contains(part), "{error}");
    }
}
