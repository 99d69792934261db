//! Nodes that are drained, die and come back, and pods that make room for others, while leaders die.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::Api;

use super::history::{History, is_live, is_ready, node};
use super::world::World;

/// So many pods with a label, and whatever else their template says.
fn deployment(name: &str, replicas: usize, more: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{\
           replicas: {replicas}, selector: {{matchLabels: {{app: {name}}}}},\
           template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1, {more}}}}}}}}}\n---\n"
    )
}

const CONTAINER: &str = "containers: [{name: c, image: i, ports: [{containerPort: 80}]}]";

fn nodes(pods: &[Pod]) -> BTreeSet<&str> {
    pods.iter().filter_map(node).collect()
}

pub(crate) async fn a_drained_node_is_left_within_budgets(world: &mut World, history: &History) {
    let namespace = "drained";
    world.namespace(namespace).await;
    world.apply(namespace, &deployment("web", 6, CONTAINER));
    world.kubectl("kubectl -n drained expose deployment web --port=80");
    world.kubectl("kubectl -n drained create poddisruptionbudget web --selector=app=web --min-available=5");
    world.kubectl("kubectl -n drained rollout status deployment web --timeout=120s");
    let ready = |pods: &[Pod]| pods.len() == 6 && pods.iter().all(is_ready);
    let before = world.all(namespace, "app=web", "all are ready", ready).await;
    assert_eq!(nodes(&before).len(), 3, "they are spread: {:?}", nodes(&before));
    let one = |budget: &PodDisruptionBudget| {
        budget.status.as_ref().is_some_and(|status| status.disruptions_allowed == Some(1))
    };
    world.until(namespace, "web", "one may go", one).await;

    // The budget lets one go after the other, while nobody is there to count for some time.
    let drain = world.start_kubectl("kubectl drain n-1 --ignore-daemonsets --timeout=120s");
    world.kill_leaders().await;
    drain.wait();
    let elsewhere = |pods: &[Pod]| ready(pods) && !nodes(pods).contains("n-1");
    world.all(namespace, "app=web", "all are ready elsewhere", elsewhere).await;
    let whole = std::cell::Cell::new(false);
    history
        .judge(namespace, |pods: &[Arc<Pod>]| {
            let ready = pods.iter().filter(|pod| is_live(pod) && is_ready(pod)).count();
            whole.set(whole.get() || ready == 6);
            if whole.get() && ready < 5 {
                Err(format!("the budget is overdrawn: {ready} are ready"))
            } else {
                Ok(())
            }
        })
        .await;
    world.kubectl("kubectl uncordon n-1");
    world.kubectl("kubectl -n drained scale deployment web --replicas=12");
    let again = |pods: &[Pod]| pods.len() == 12 && pods.iter().all(is_ready) && nodes(pods).contains("n-1");
    world.all(namespace, "app=web", "the node is used again", again).await;
}

fn taints(node: &Node) -> Vec<&str> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|taint| taint.key.as_str()).collect()
}

fn ready_condition(node: &Node) -> Option<&str> {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.find(|it| it.type_ == "Ready").map(|it| it.status.as_str())
}

pub(crate) async fn pods_of_a_dead_node_run_elsewhere_until_it_comes_back(
    world: &mut World,
    history: &History,
) {
    let namespace = "lost";
    world.namespace(namespace).await;
    world.join("dies", &[]);
    let nodes_api: Api<Node> = Api::all(world.client.clone());
    let usable = |node: &Node| ready_condition(node) == Some("True") && taints(node).is_empty();
    world.becomes(nodes_api.clone(), "dies", "it is usable", usable).await;
    // They prefer the node that will die, and leave it as soon as the API server lets them by default.
    let preferred = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: \
                     {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [dies]}]}}]}}";
    world.apply(namespace, &deployment("web", 3, &format!("{preferred}, {CONTAINER}")));
    world.kubectl("kubectl -n lost expose deployment web --port=80");
    world.apply(
        namespace,
        &format!(
            "{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: db}}, spec: {{replicas: 1, serviceName: db,\
               selector: {{matchLabels: {{app: db}}}}, template: {{metadata: {{labels: {{app: db}}}}, spec: {{\
                 terminationGracePeriodSeconds: 1, {preferred}, {CONTAINER}}}}}}}}}\n"
        ),
    );
    let on_it = |count: usize| {
        move |pods: &[Pod]| {
            pods.len() == count && pods.iter().all(is_ready) && nodes(pods) == BTreeSet::from(["dies"])
        }
    };
    world.all(namespace, "app=web", "all run on the node", on_it(3)).await;
    let only = world.all(namespace, "app=db", "the only one runs there too", on_it(1)).await;

    world.lose("dies");
    world.kill_leaders().await;
    let unknown = |node: &Node| ready_condition(node) == Some("Unknown");
    world.becomes(nodes_api.clone(), "dies", "nothing is known of it", unknown).await;
    let replaced = |pods: &[Pod]| {
        let live: Vec<&Pod> = pods.iter().filter(|pod| is_live(pod)).collect();
        live.len() == 3 && live.iter().all(|pod| is_ready(pod) && node(pod) != Some("dies"))
    };
    let all = world.all(namespace, "app=web", "three run elsewhere", replaced).await;
    assert_eq!(all.len(), 6, "those of the dead node are not known to have ended");
    // Nobody may say that the stateful one has ended, so that there is no second.
    let held = |pods: &[Pod]| pods.len() == 1 && pods[0].metadata.deletion_timestamp.is_some();
    let waits = world.all(namespace, "app=db", "it has to leave", held).await;
    assert_eq!(waits[0].uid(), only[0].uid());

    world.join("dies", &[]);
    world.kill_leaders().await;
    world.becomes(nodes_api, "dies", "it is usable again", usable).await;
    let left = |pods: &[Pod]| pods.len() == 3 && pods.iter().all(|pod| is_ready(pod) && is_live(pod));
    world.all(namespace, "app=web", "those of the dead node have ended", left).await;
    let anew = |pods: &[Pod]| pods.len() == 1 && is_ready(&pods[0]) && pods[0].uid() != only[0].uid();
    world.all(namespace, "app=db", "it is made anew", anew).await;
    history
        .judge(namespace, |pods: &[Arc<Pod>]| {
            let of_db =
                pods.iter().filter(|pod| pod.labels().get("app").is_some_and(|app| app == "db")).count();
            if of_db > 1 { Err(format!("{of_db} pods of a set of one")) } else { Ok(()) }
        })
        .await;
    world.kubectl("kubectl -n lost delete deployment/web statefulset/db");
    retire(world, namespace, "dies").await;
}

pub(crate) async fn important_pods_are_made_room_for(world: &mut World, _: &History) {
    let namespace = "crowded";
    world.namespace(namespace).await;
    world.join("small", &["--hollow-capacity=cpu=4,memory=8Gi"]);
    let here = "nodeSelector: {kubernetes.io/hostname: small}";
    let sized =
        |cpu: &str| format!("containers: [{{name: c, image: i, resources: {{requests: {{cpu: '{cpu}'}}}}}}]");
    world.kubectl("kubectl create priorityclass crowded-high --value=1000");
    world.apply(namespace, &deployment("low", 4, &format!("{here}, {}", sized("1"))));
    let all = |pods: &[Pod]| pods.len() == 4 && pods.iter().all(is_ready);
    world.all(namespace, "app=low", "the node is full", all).await;

    let high = deployment("high", 1, &format!("priorityClassName: crowded-high, {here}, {}", sized("2")));
    world.apply(namespace, &high);
    world.kill_leaders().await;
    let runs = |pods: &[Pod]| pods.len() == 1 && is_ready(&pods[0]);
    world.all(namespace, "app=high", "the important one runs", runs).await;
    let two_wait = |pods: &[Pod]| {
        let waiting = pods.iter().filter(|pod| node(pod).is_none()).count();
        pods.len() == 4 && waiting == 2 && pods.iter().filter(|pod| is_ready(pod)).count() == 2
    };
    world.all(namespace, "app=low", "two of the others wait", two_wait).await;
    let told = world.kubectl("kubectl -n crowded get events");
    assert!(told.contains("Preempted"), "{told}");
    assert!(told.contains("Insufficient cpu"), "{told}");

    let gone = world.start_kubectl("kubectl -n crowded delete deployment high");
    world.kill_leaders().await;
    gone.wait();
    world.all(namespace, "app=low", "the others run again", all).await;
    world.kubectl("kubectl -n crowded delete deployment low; kubectl delete priorityclass crowded-high");
    retire(world, namespace, "small").await;
}

/// Takes a node away whose pods were in a namespace and have to go.
async fn retire(world: &mut World, namespace: &str, name: &str) {
    world.all(namespace, "app", "all have gone", |pods: &[Pod]| pods.is_empty()).await;
    world.lose(name);
    world.kubectl(&format!("kubectl delete node {name}"));
}
