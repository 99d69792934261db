//! An operator as people write them with kube's runtime: a definition of its own, objects that belong to it, a status, a finalizer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{Controller, watcher};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::up::world::{PATIENCE, World};

const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
    metadata: {name: ferries.example.com}\n\
    spec: {group: example.com, scope: Namespaced, names: {kind: Ferry, plural: ferries, singular: ferry}, versions: [{\n\
      name: v1, served: true, storage: true,\n\
      subresources: {status: {}, scale: {specReplicasPath: .spec.boats, statusReplicasPath: .status.ready}},\n\
      additionalPrinterColumns: [{name: Ready, type: integer, jsonPath: .status.ready}],\n\
      schema: {openAPIV3Schema: {type: object, properties: {\n\
        spec: {type: object, properties: {boats: {type: integer, minimum: 0, maximum: 5, default: 1}}},\n\
        status: {type: object, properties: {ready: {type: integer}, conditions: {type: array, items: {type: object,\n\
          properties: {type: {type: string}, status: {type: string}}}}}}}}}}]}\n";
const FERRY: &str = "apiVersion: example.com/v1\nkind: Ferry\nmetadata: {name: river, namespace: default}\nspec: {boats: 2}\n";
const FINALIZER: &str = "example.com/moored";

fn kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", "v1", "Ferry"), "ferries")
}

/// What a ferry has: pods, and an address for them.
async fn keep(client: &Client, ferry: &DynamicObject) -> Result<Action, kube::Error> {
    let (namespace, name) = (ferry.namespace().unwrap_or_default(), ferry.name_any());
    let owner = ferry.controller_owner_ref(&kind()).unwrap();
    let boats = ferry.data["spec"]["boats"].as_u64().unwrap_or_default();
    let metadata = json!({"name": name, "ownerReferences": [owner]});
    let labels = json!({"ferry": name});
    let mine = PatchParams::apply("ferries").force();
    let container = json!({"name": "boat", "image": "busybox:test", "command": ["sleep", "100000"]});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
        "spec": {"replicas": boats, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}},
    });
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let deployment = deployments.patch(&name, &mine, &Patch::Apply(deployment)).await?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 80}]},
    });
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    services.patch(&name, &mine, &Patch::Apply(service)).await?;
    let ready = deployment.status.and_then(|status| status.available_replicas).unwrap_or_default();
    let all = if u64::try_from(ready) == Ok(boats) { "True" } else { "False" };
    let status = json!({"status": {"ready": ready, "conditions": [{"type": "Ready", "status": all}]}});
    let ferries: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &kind());
    ferries.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(Action::await_change())
}

/// Writes down that it is gone.
async fn moor(client: &Client, ferry: &DynamicObject) -> Result<Action, kube::Error> {
    let log = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "moored"}, "data": {ferry.name_any(): "moored"},
    });
    let logs: Api<ConfigMap> = Api::namespaced(client.clone(), &ferry.namespace().unwrap_or_default());
    logs.patch("moored", &PatchParams::apply("ferries").force(), &Patch::Apply(log)).await?;
    Ok(Action::await_change())
}

async fn run(client: Client, stop: CancellationToken) {
    let ferries: Api<DynamicObject> = Api::all_with(client.clone(), &kind());
    let controller = Controller::new_with(ferries, watcher::Config::default(), kind())
        .owns(Api::<Deployment>::all(client.clone()), watcher::Config::default())
        .graceful_shutdown_on(stop.cancelled_owned());
    let reconcile = |ferry: Arc<DynamicObject>, client: Arc<Client>| async move {
        let namespace = ferry.namespace().unwrap_or_default();
        let ferries: Api<DynamicObject> = Api::namespaced_with((*client).clone(), &namespace, &kind());
        finalizer(&ferries, FINALIZER, ferry, |event| async {
            match event {
                Event::Apply(ferry) => keep(&client, &ferry).await,
                Event::Cleanup(ferry) => moor(&client, &ferry).await,
            }
        })
        .await
    };
    let again = |_: Arc<DynamicObject>, _: &kube::runtime::finalizer::Error<kube::Error>, _: Arc<Client>| {
        Action::requeue(Duration::from_millis(500))
    };
    controller.run(reconcile, again, Arc::new(client)).for_each(|_| async {}).await;
}

/// The operator, which runs beside the test.
pub(super) struct Operator {
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Operator {
    /// Its definition, and itself.
    pub(super) fn start(world: &World) -> Self {
        world.kubectl(&["apply", "-f", &world.manifest("definition.yaml", DEFINITION)]).unwrap();
        world.kubectl(&["wait", "--for=condition=Established", "crd/ferries.example.com"]).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let kubeconfig = Kubeconfig::read_from(world.cluster().join("kubeconfig")).unwrap();
        let running = runtime.spawn({
            let stop = stop.clone();
            async move {
                let options = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
                run(Client::try_from(config).unwrap(), stop).await;
            }
        });
        Self { runtime, stop, running }
    }

    /// What is asked for comes about, and is told; a scale is a scale; what is wrong is refused.
    pub(super) fn keeps_ferries(&self, world: &World) {
        world.kubectl(&["apply", "-f", &world.manifest("ferry.yaml", FERRY)]).unwrap();
        let waited = world.kubectl(&["wait", "--for=condition=Ready", "--timeout=180s", "ferry/river"]);
        assert!(waited.is_ok(), "{waited:?}{}", world.look());
        assert_eq!(shown(world), "2");
        world.kubectl(&["scale", "ferry/river", "--replicas=3"]).unwrap();
        wait_until_shown(world, "3");
        // One that is taken away comes back.
        world.kubectl(&["delete", "service", "river"]).unwrap();
        world.kubectl(&["scale", "ferry/river", "--replicas=1"]).unwrap();
        wait_until_shown(world, "1");
        world.kubectl(&["get", "service", "river"]).unwrap();
        let refused =
            world.kubectl(&["patch", "ferry", "river", "--type=merge", "-p", "{\"spec\":{\"boats\":6}}"]);
        assert!(refused.unwrap_err().contains("spec.boats"), "the schema says how many at most");
    }

    /// With fewer masters than before: what changes is followed, and what goes takes with it what belongs to it.
    pub(super) fn goes_on(&self, world: &World) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(told) = world.kubectl(&["scale", "ferry/river", "--replicas=2"]) {
            assert!(Instant::now() < deadline, "{told}");
        }
        wait_until_shown(world, "2");
        world.kubectl(&["delete", "ferry", "river"]).unwrap();
        let log = world.kubectl(&["get", "configmap", "moored", "-o", "jsonpath={.data.river}"]).unwrap();
        assert_eq!(log, "moored", "the finalizer ran");
        // Not before the ferry: its references do not block.
        for child in ["deployment/river", "service/river"] {
            let gone = world.kubectl(&["wait", "--for=delete", "--timeout=180s", child]);
            assert!(
                gone.as_ref().map_or_else(|told| told.contains("not found"), |_| true),
                "{gone:?}{}",
                world.look()
            );
        }
    }

    /// Stops it.
    pub(super) fn ends(self) {
        self.stop.cancel();
        self.runtime.block_on(self.running).unwrap();
    }
}

fn shown(world: &World) -> String {
    let table = world.kubectl(&["get", "ferries", "--no-headers"]).unwrap();
    table.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn wait_until_shown(world: &World, boats: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = shown(world);
        if found == boats {
            return;
        }
        assert!(Instant::now() < deadline, "{found} of {boats}");
    }
}
