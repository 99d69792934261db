//! A deployment that grows and shrinks with what its pods use, by metrics that the test feeds, while leaders die.

use std::sync::{Arc, Mutex};

use futures::TryStreamExt as _;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use tokio::task::JoinSet;

use super::history::{History, is_ready};
use super::world::World;
use crate::metrics_server::{self, Usage};

/// What all pods use together, in thousandths of a core; each uses its share.
type Load = Arc<Mutex<u32>>;

/// Tells the metrics server what the pods use, whenever one comes or goes.
async fn share(pods: Api<Pod>, load: Load, usage: Usage) {
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels("app=web");
    let mut changes = Box::pin(watcher(pods, config).default_backoff().reflect(writer));
    loop {
        // One that broke is begun anew.
        let _ = changes.try_next().await;
        tell(&reader.state(), &load, &usage);
    }
}

fn tell(pods: &[Arc<Pod>], load: &Load, usage: &Usage) {
    let each = *load.lock().unwrap() / u32::try_from(pods.len().max(1)).unwrap();
    *usage.lock().unwrap() = pods.iter().map(|pod| (pod.name_any(), format!("{each}m"))).collect();
}

const OBJECTS: &str = "\
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}},\
  template: {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 1,\
    containers: [{name: c, image: i, resources: {requests: {cpu: 100m}}}]}}}}\n---\n\
{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web}, spec: {\
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 8,\
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}},\
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}\n";

pub(crate) async fn a_deployment_grows_and_shrinks_with_its_load(world: &mut World, _: &History) {
    let namespace = "busy";
    world.namespace(namespace).await;
    let usage = Usage::default();
    let load: Load = Arc::new(Mutex::new(100));
    let (port, serve) = metrics_server::listen(usage.clone()).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve);
    tasks.spawn(share(Api::namespaced(world.client.clone(), namespace), load.clone(), usage.clone()));
    world.apply(
        namespace,
        &format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: metrics}}, spec: {{type: ExternalName, externalName: localhost}}}}\n---\n\
             {{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {{name: v1beta1.metrics.k8s.io}}, spec: {{\
               group: metrics.k8s.io, version: v1beta1, groupPriorityMinimum: 100, versionPriority: 100,\
               insecureSkipTLSVerify: true, service: {{namespace: {namespace}, name: metrics, port: {port}}}}}}}\n"
        ),
    );
    world.kubectl("kubectl wait --for=condition=Available apiservice v1beta1.metrics.k8s.io --timeout=60s");
    world.apply(namespace, OBJECTS);
    let are = |count: usize| move |pods: &[Pod]| pods.len() == count && pods.iter().all(is_ready);
    let two = world.all(namespace, "app=web", "two run, as was said", are(2)).await;
    let active = |autoscaler: &HorizontalPodAutoscaler| {
        let mut conditions = autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|it| it.type_ == "ScalingActive" && it.status == "True")
    };
    world.until(namespace, "web", "the metrics are found", active).await;

    // Half of 100m each is wanted: 300m are the work of six.
    *load.lock().unwrap() = 300;
    tell(&two.into_iter().map(Arc::new).collect::<Vec<_>>(), &load, &usage);
    world.kill_leaders().await;
    let six = world.all(namespace, "app=web", "six run", are(6)).await;
    *load.lock().unwrap() = 50;
    tell(&six.into_iter().map(Arc::new).collect::<Vec<_>>(), &load, &usage);
    world.kill_leaders().await;
    world.all(namespace, "app=web", "one is enough", are(1)).await;
    let told = world.kubectl("kubectl -n busy get events");
    assert!(told.contains("SuccessfulRescale"), "{told}");
    world.kubectl("kubectl delete apiservice v1beta1.metrics.k8s.io");
    tasks.shutdown().await;
}
