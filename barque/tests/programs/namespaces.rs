//! The controller manager over a real API server: what namespaces have from their start, how they end, what goes with its owner,
//! and what is counted.

use std::time::Duration;

use crate::cluster::{Cluster, Program, start};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions;
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(180);
/// A finalizer of somebody else's.
const HELD: &str = "barque.test/held";

/// A cluster with one API server, and its controller manager.
async fn cluster(flags: &[&str]) -> (Cluster, Program, Client) {
    let cluster = Cluster::start(1);
    let mut words = vec![
        "controller-manager".to_owned(),
        format!("--kubeconfig={}", cluster.kubeconfig(0).display()),
        "--secure-port=0".to_owned(),
        "--leader-elect=false".to_owned(),
    ];
    words.extend(
        flags.iter().map(|flag| flag.replace("DIR", &cluster.directory.path().display().to_string())),
    );
    let (manager, _) = start(&words, "controllers run");
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(0)).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    cluster.wait_until_ready(&client, &client).await;
    (cluster, manager, client)
}

/// Waits until an object is so.
async fn until<K>(api: &Api<K>, name: &str, is_so: impl Condition<K>) -> Option<K>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let waited = tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, is_so)).await;
    let Ok(found) = waited else { panic!("{name} did not become so: {:?}", api.get_opt(name).await) };
    found.unwrap()
}

async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    until(api, name, |object: Option<&K>| object.is_none()).await;
}

async fn make<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Takes all finalizers off.
async fn release<K: Clone + std::fmt::Debug + DeserializeOwned>(api: &Api<K>, name: &str) {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn namespace(client: &Client, name: &str) {
    make(&Api::<Namespace>::all(client.clone()), json!({"metadata": {"name": name}})).await;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), name);
    until(&accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await;
}

/// Whether a namespace says this.
fn says(type_: &'static str, text: &'static str) -> impl Condition<Namespace> {
    move |namespace: Option<&Namespace>| {
        let conditions = namespace.and_then(|namespace| namespace.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| {
            all.iter().any(|one| one.type_ == type_ && one.message.as_deref() == Some(text))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_cannot_end_says_why_and_ends_when_it_can() {
    let (cluster, _manager, client) = cluster(&["--root-ca-file=DIR/ca.crt"]).await;
    namespace(&client, "stuck").await;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "stuck");
    let root = until(&maps, "kube-root-ca.crt", |map: Option<&ConfigMap>| map.is_some()).await.unwrap();
    let authority = std::fs::read_to_string(&cluster.certificates.ca).unwrap();
    assert_eq!(root.data.unwrap()["ca.crt"], authority);

    make(&maps, json!({"metadata": {"name": "held", "finalizers": [HELD]}})).await;
    let pods = Api::<Pod>::namespaced(client.clone(), "stuck");
    let pod = json!({
        "metadata": {"name": "first", "finalizers": [HELD]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    make(&pods, pod).await;

    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.delete("stuck", &DeleteParams::default()).await.unwrap();
    let remaining = "Some resources are remaining: pods. has 1 resource instances";
    until(&namespaces, "stuck", says("NamespaceContentRemaining", remaining)).await;
    let finalizers =
        "Some content in the namespace has finalizers remaining: barque.test/held in 1 resource instances";
    until(&namespaces, "stuck", says("NamespaceFinalizersRemaining", finalizers)).await;
    // Nothing else has gone before the pod.
    let map = maps.get("held").await.unwrap();
    assert_eq!(map.metadata.deletion_timestamp, None);
    maps.get("kube-root-ca.crt").await.unwrap();

    release(&pods, "first").await;
    let remaining = "Some resources are remaining: configmaps. has 1 resource instances";
    until(&namespaces, "stuck", says("NamespaceContentRemaining", remaining)).await;
    let left = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.iter().map(|map| map.name_any()).collect::<Vec<_>>(), ["held"]);

    release(&maps, "held").await;
    gone(&namespaces, "stuck").await;
}

fn set(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"set": name}},
            "template": {
                "metadata": {"labels": {"set": name}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    })
}

/// A set with its pods.
async fn set_with_pods(client: &Client, name: &str) -> (Api<ReplicaSet>, Api<Pod>, Vec<Pod>) {
    let sets = Api::<ReplicaSet>::namespaced(client.clone(), "default");
    let pods = Api::<Pod>::namespaced(client.clone(), "default");
    make(&sets, set(name)).await;
    let whole = |set: Option<&ReplicaSet>| {
        set.and_then(|set| set.status.as_ref()).is_some_and(|status| status.replicas == 2)
    };
    until(&sets, name, whole).await;
    let of_set = ListParams::default().labels(&format!("set={name}"));
    let made = pods.list(&of_set).await.unwrap().items;
    assert_eq!(made.len(), 2);
    (sets, pods, made)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_after_before_or_without_their_owner() {
    let (_cluster, _manager, client) = cluster(&[]).await;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "default");
    until(&accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await;

    let (sets, pods, made) = set_with_pods(&client, "background").await;
    sets.delete("background", &DeleteParams::background()).await.unwrap();
    gone(&sets, "background").await;
    for pod in &made {
        gone(&pods, &pod.name_any()).await;
    }

    let (sets, pods, made) = set_with_pods(&client, "foreground").await;
    let (held, other) = (made[0].name_any(), made[1].name_any());
    let patch = Patch::Merge(json!({"metadata": {"finalizers": [HELD]}}));
    pods.patch(&held, &PatchParams::default(), &patch).await.unwrap();
    sets.delete("foreground", &DeleteParams::foreground()).await.unwrap();
    gone(&pods, &other).await;
    let going = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    until(&pods, &held, going).await;
    assert_eq!(sets.get("foreground").await.unwrap().finalizers(), ["foregroundDeletion"]);
    release(&pods, &held).await;
    gone(&sets, "foreground").await;
    assert!(pods.get_opt(&held).await.unwrap().is_none());

    let (sets, pods, made) = set_with_pods(&client, "orphan").await;
    sets.delete("orphan", &DeleteParams::orphan()).await.unwrap();
    gone(&sets, "orphan").await;
    for pod in &made {
        let left = pods.get(&pod.name_any()).await.unwrap();
        assert!(left.metadata.deletion_timestamp.is_none() && left.owner_references().is_empty());
    }
    custom(&client).await;
}

/// A kind that comes while the controller manager runs.
async fn custom(client: &Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = json!({
        "metadata": {"name": "ships.barque.test"},
        "spec": {
            "group": "barque.test", "scope": "Namespaced", "names": {"plural": "ships", "kind": "Ship"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    make(&definitions, definition).await;
    until(&definitions, "ships.barque.test", conditions::is_crd_established()).await;
    let resource = ApiResource {
        group: "barque.test".into(),
        version: "v1".into(),
        api_version: "barque.test/v1".into(),
        kind: "Ship".into(),
        plural: "ships".into(),
    };
    let ships = Api::<DynamicObject>::namespaced_with(client.clone(), "default", &resource);
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "default");
    let ship = |name: &str, owners: Value| {
        json!({
            "apiVersion": "barque.test/v1", "kind": "Ship",
            "metadata": {"name": name, "ownerReferences": owners},
        })
    };
    for (how, params) in [
        ("background", DeleteParams::background()),
        ("foreground", DeleteParams::foreground()),
        ("orphan", DeleteParams::orphan()),
    ] {
        let named = |part: &str| format!("{how}-{part}");
        let owner = make(&ships, ship(&named("owner"), json!([]))).await;
        let reference = json!([{
            "apiVersion": "barque.test/v1", "kind": "Ship", "name": owner.name_any(), "uid": owner.uid().unwrap(),
            "blockOwnerDeletion": true,
        }]);
        make(&ships, ship(&named("boat"), reference.clone())).await;
        // One that depends on what depends on it, and is not custom.
        let boat = ships.get(&named("boat")).await.unwrap().uid().unwrap();
        let mut of_boat = reference.clone();
        of_boat[0]["name"] = named("boat").into();
        of_boat[0]["uid"] = boat.into();
        make(&maps, json!({"metadata": {"name": named("map"), "ownerReferences": of_boat}})).await;
        ships.delete(&owner.name_any(), &params).await.unwrap();
        gone(&ships, &owner.name_any()).await;
        if how == "orphan" {
            let boat = ships.get(&named("boat")).await.unwrap();
            assert!(boat.owner_references().is_empty() && boat.metadata.deletion_timestamp.is_none());
            assert_eq!(maps.get(&named("map")).await.unwrap().owner_references().len(), 1);
        } else {
            gone(&ships, &named("boat")).await;
            gone(&maps, &named("map")).await;
        }
    }
}

/// Waits until a quota tells this.
async fn used(quotas: &Api<ResourceQuota>, expected: Value) {
    let wanted = expected.clone();
    let told = move |quota: Option<&ResourceQuota>| {
        let used = quota.and_then(|quota| quota.status.as_ref()?.used.as_ref());
        used.is_some_and(|used| serde_json::to_value(used).unwrap() == wanted)
    };
    let waited = tokio::time::timeout(PATIENCE, await_condition(quotas.clone(), "q", told)).await;
    if waited.is_err() {
        panic!("not {expected}: {:?}", quotas.get("q").await.unwrap().status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_counted_and_secrets_get_tokens() {
    let flags = ["--service-account-private-key-file=DIR/service-accounts.key"];
    let (cluster, _manager, client) = cluster(&flags).await;
    namespace(&client, "bounded").await;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "bounded");
    until(&maps, "kube-root-ca.crt", |map: Option<&ConfigMap>| map.is_some()).await;
    let pods = Api::<Pod>::namespaced(client.clone(), "bounded");
    let pod = |name: &str| {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "500m"}}});
        json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
    };
    make(&pods, pod("before")).await;

    // What was there before is counted by the controller, what comes by the API server, and what goes by the controller.
    let quotas = Api::<ResourceQuota>::namespaced(client.clone(), "bounded");
    let hard = json!({"pods": "5", "requests.cpu": "2", "configmaps": "9", "count/replicasets.apps": "3"});
    make(&quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
    let usage = |pods: &str, cpu: &str, maps: &str, sets: &str| json!({"pods": pods, "requests.cpu": cpu, "configmaps": maps, "count/replicasets.apps": sets});
    used(&quotas, usage("1", "500m", "1", "0")).await;
    make(&pods, pod("after")).await;
    make(&maps, json!({"metadata": {"name": "m"}})).await;
    used(&quotas, usage("2", "1", "2", "0")).await;
    pods.delete("before", &DeleteParams::default()).await.unwrap();
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    used(&quotas, usage("1", "500m", "1", "0")).await;
    let finished = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("after", &PatchParams::default(), &finished).await.unwrap();
    used(&quotas, usage("0", "0", "1", "0")).await;

    let secrets = Api::<Secret>::namespaced(client.clone(), "bounded");
    let annotations = json!({"kubernetes.io/service-account.name": "default"});
    let secret = json!({
        "metadata": {"name": "token", "annotations": annotations}, "type": "kubernetes.io/service-account-token",
    });
    make(&secrets, secret).await;
    let filled = |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.contains_key("token"))
    };
    let secret = until(&secrets, "token", filled).await.unwrap();
    let text = |name: &str| String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap();
    assert_eq!(text("namespace"), "bounded");
    assert!(text("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let mut kubeconfig = Kubeconfig::read_from(cluster.kubeconfig(0)).unwrap();
    let user = json!({"name": "u", "user": {"token": text("token")}});
    kubeconfig.auth_infos = vec![serde_json::from_value(user).unwrap()];
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let robot = Api::<SelfSubjectReview>::all(Client::try_from(config).unwrap());
    let review = robot.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let name = review.status.unwrap().user_info.unwrap().username;
    assert_eq!(name.as_deref(), Some("system:serviceaccount:bounded:default"));
    // Without its account it goes.
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "bounded");
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    gone(&secrets, "token").await;
    until(&accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await;
}
