//! Deployments and StatefulSets that roll, go back and change their size while leaders die.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::history::{History, is_live, is_ready};
use super::world::World;

const REPLICAS: usize = 6;
const SURGE: usize = 2;
const UNAVAILABLE: usize = 1;

fn deployment() -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{\
           replicas: {REPLICAS}, selector: {{matchLabels: {{app: web}}}},\
           strategy: {{rollingUpdate: {{maxSurge: {SURGE}, maxUnavailable: {UNAVAILABLE}}}}},\
           template: {{metadata: {{labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 1,\
             containers: [{{name: c, image: 'v1', ports: [{{containerPort: 80}}]}}]}}}}}}}}"
    )
}

fn images(pods: &[Pod]) -> BTreeSet<&str> {
    pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers[0].image.as_deref()).collect()
}

/// Waits until so many pods are ready, all of them of one image.
async fn runs(world: &World, namespace: &str, image: &str, replicas: usize) {
    let what = format!("{replicas} pods of {image} are all there is");
    let fits = |pods: &[Pod]| {
        pods.len() == replicas && pods.iter().all(is_ready) && images(pods) == BTreeSet::from([image])
    };
    world.all(namespace, "app=web", &what, fits).await;
}

pub(crate) async fn a_deployment_rolls_goes_back_and_scales(world: &mut World, history: &History) {
    let namespace = "rolling";
    world.namespace(namespace).await;
    world.apply(namespace, &deployment());
    world.kubectl("kubectl -n rolling expose deployment web --port=80");
    world.kubectl("kubectl -n rolling rollout status deployment web --timeout=120s");
    runs(world, namespace, "v1", REPLICAS).await;

    world.kubectl("kubectl -n rolling set image deployment web c=v2");
    world.kill_leaders().await;
    world.kubectl("kubectl -n rolling rollout status deployment web --timeout=120s");
    runs(world, namespace, "v2", REPLICAS).await;

    // One that can never be ready keeps what worked.
    world.kubectl(
        "kubectl -n rolling patch deployment web -p '{\"spec\":{\"progressDeadlineSeconds\":3,\"template\":{\"metadata\":\
         {\"annotations\":{\"hollow.barque/pull-fails\":\"there is no such image\"}}}}}'",
    );
    let late = |deployment: &Deployment| {
        let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"))
    };
    world.until(namespace, "web", "its progress takes too long", late).await;
    let undo = world.start_kubectl("kubectl -n rolling rollout undo deployment web");
    world.kill_leaders().await;
    undo.wait();
    world.kubectl("kubectl -n rolling rollout status deployment web --timeout=120s");
    runs(world, namespace, "v2", REPLICAS).await;
    let rows = world.kubectl("kubectl -n rolling rollout history deployment web");
    let revisions: Vec<&str> = rows.lines().filter_map(|row| row.split_whitespace().next()).collect();
    // The second became the fourth when it came back.
    assert_eq!(revisions[revisions.len() - 3..], ["1", "3", "4"], "{rows}");

    // What holds for the rollouts up to here, at every moment.
    let seen_whole = std::cell::Cell::new(false);
    history
        .judge(namespace, |pods: &[Arc<Pod>]| {
            let live = pods.iter().filter(|pod| is_live(pod)).count();
            let ready = pods.iter().filter(|pod| is_live(pod) && is_ready(pod)).count();
            seen_whole.set(seen_whole.get() || ready == REPLICAS);
            if live > REPLICAS + SURGE {
                return Err(format!("{live} pods, which is more than {REPLICAS} and {SURGE}"));
            }
            if seen_whole.get() && ready < REPLICAS - UNAVAILABLE {
                return Err(format!(
                    "{ready} ready pods, which is less than {REPLICAS} without {UNAVAILABLE}"
                ));
            }
            Ok(())
        })
        .await;

    for (replicas, killed) in [(12, true), (2, false)] {
        let scale =
            world.start_kubectl(&format!("kubectl -n rolling scale deployment web --replicas={replicas}"));
        if killed {
            world.kill_leaders().await;
        }
        scale.wait();
        runs(world, namespace, "v2", replicas).await;
    }
    world.kubectl("kubectl -n rolling rollout status deployment web --timeout=120s");
}

fn stateful_set() -> &'static str {
    "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{port: 1}]}}\n\
     ---\n\
     {apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db}, spec: {\
       replicas: 4, serviceName: db, selector: {matchLabels: {app: db}},\
       template: {metadata: {labels: {app: db}}, spec: {terminationGracePeriodSeconds: 1,\
         containers: [{name: c, image: v1}]}}}}"
}

pub(crate) async fn a_stateful_set_rolls_in_order(world: &mut World, history: &History) {
    let namespace = "ordered";
    world.namespace(namespace).await;
    world.apply(namespace, stateful_set());
    world.kill_leaders().await;
    world.kubectl("kubectl -n ordered rollout status statefulset db --timeout=120s");
    // It comes up in order: who is there has all before it, and they were ready.
    let ordinals = |pods: &[Arc<Pod>]| {
        let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
        let expected: Vec<String> = (0..pods.len()).map(|ordinal| format!("db-{ordinal}")).collect();
        let before = &pods[..pods.len().saturating_sub(1)];
        if names != expected || !before.iter().all(|pod| is_ready(pod)) {
            return Err(format!(
                "{names:?} are there, ready: {:?}",
                pods.iter().map(|it| is_ready(it)).collect::<Vec<_>>()
            ));
        }
        Ok(())
    };
    history.judge(namespace, ordinals).await;

    world.kubectl("kubectl -n ordered patch statefulset db -p '{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{\"partition\":2}}}}'");
    world.kubectl("kubectl -n ordered set image statefulset db c=v2");
    world.kill_leaders().await;
    let images = |wanted: [&'static str; 4]| {
        move |pods: &[Pod]| {
            let mut found: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).collect();
            found.sort_by_key(|pod| pod.name_any());
            let images: Vec<_> = found
                .iter()
                .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap())
                .collect();
            images == wanted
        }
    };
    world.all(namespace, "app=db", "two of four have rolled", images(["v1", "v1", "v2", "v2"])).await;
    let first: Vec<_> = world.pods(namespace, "app=db").await.iter().take(2).map(ResourceExt::uid).collect();
    world.kubectl("kubectl -n ordered patch statefulset db -p '{\"spec\":{\"updateStrategy\":{\"rollingUpdate\":{\"partition\":0}}}}'");
    world.all(namespace, "app=db", "all have rolled", images(["v2"; 4])).await;
    let told = |set: &StatefulSet| {
        set.status.as_ref().is_some_and(|status| {
            status.updated_replicas == Some(4) && status.current_revision == status.update_revision
        })
    };
    world.until(namespace, "db", "it says that it has rolled", told).await;
    let now: Vec<_> = world.pods(namespace, "app=db").await.iter().take(2).map(ResourceExt::uid).collect();
    assert!(first.iter().all(|uid| !now.contains(uid)), "the first two were made anew");
    // Never was more than one of them away.
    let seen_whole = std::cell::Cell::new(false);
    history
        .judge(namespace, |pods: &[Arc<Pod>]| {
            let ready = pods.iter().filter(|pod| is_live(pod) && is_ready(pod)).count();
            seen_whole.set(seen_whole.get() || ready == 4);
            if seen_whole.get() && ready < 3 { Err(format!("{ready} of 4 are ready")) } else { Ok(()) }
        })
        .await;

    world.kubectl("kubectl -n ordered scale statefulset db --replicas=1");
    world
        .all(namespace, "app=db", "one is left", |pods: &[Pod]| {
            pods.len() == 1 && pods[0].name_any() == "db-0"
        })
        .await;
}
