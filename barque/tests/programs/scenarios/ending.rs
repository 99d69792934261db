//! What ends with what it belongs to, what cannot end, and what is not allowed to begin, while leaders die.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::ResourceExt;
use kube::api::Api;

use super::history::{History, is_ready};
use super::world::World;

fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{\
           replicas: {replicas}, selector: {{matchLabels: {{app: {name}}}}},\
           template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1,\
             containers: [{{name: c, image: i, resources: {{requests: {{cpu: 100m}}}}}}]}}}}}}}}\n---\n"
    )
}

fn are_ready(count: usize) -> impl Fn(&[Pod]) -> bool {
    move |pods| pods.len() == count && pods.iter().all(is_ready)
}

pub(crate) async fn a_namespace_says_what_holds_it(world: &mut World, _: &History) {
    let namespace = "stuck";
    world.namespace(namespace).await;
    world.apply(namespace, &deployment("web", 3));
    world.kubectl("kubectl -n stuck create configmap held && kubectl -n stuck patch configmap held -p '{\"metadata\":{\"finalizers\":[\"barque.test/held\"]}}'");
    world.all(namespace, "app=web", "all are ready", are_ready(3)).await;
    world.kubectl("kubectl delete namespace stuck --wait=false");
    world.kill_leaders().await;
    let says = |namespace: &Namespace| {
        let mut conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|it| {
            it.type_ == "NamespaceFinalizersRemaining"
                && it
                    .message
                    .as_deref()
                    .is_some_and(|text| text.contains("barque.test/held in 1 resource instances"))
        })
    };
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    world.becomes(namespaces, namespace, "it says what holds it", says).await;
    world.all(namespace, "", "its pods have gone", |pods: &[Pod]| pods.is_empty()).await;
    let refused = world.kubectl("kubectl -n stuck create configmap late || true");
    assert!(refused.contains("because it is being terminated"), "{refused}");
    world.kubectl("kubectl -n stuck patch configmap held -p '{\"metadata\":{\"finalizers\":null}}'");
    world.kubectl("kubectl wait --for=delete namespace/stuck --timeout=120s");
}

pub(crate) async fn a_quota_holds_pods_back_until_it_is_raised(world: &mut World, history: &History) {
    let namespace = "bounded";
    world.namespace(namespace).await;
    world.kubectl("kubectl -n bounded create quota bound --hard=pods=3,requests.cpu=2");
    let counted = |quota: &k8s_openapi::api::core::v1::ResourceQuota| {
        quota.status.as_ref().is_some_and(|status| status.used.as_ref().is_some_and(|used| used.len() == 2))
    };
    world.until(namespace, "bound", "it is counted", counted).await;
    world.apply(namespace, &deployment("web", 6));
    world.kill_leaders().await;
    let failure = |deployment: &Deployment| {
        let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|it| {
            it.type_.as_deref() == Some("ReplicaFailure")
                && it.message.as_deref().is_some_and(|text| text.contains("exceeded quota: bound"))
        })
    };
    world.until(namespace, "web", "it says what it fails of", failure).await;
    world.all(namespace, "app=web", "three are allowed", are_ready(3)).await;
    world.kubectl("kubectl -n bounded patch quota bound -p '{\"spec\":{\"hard\":{\"pods\":\"5\"}}}'");
    world.all(namespace, "app=web", "five are allowed", are_ready(5)).await;
    history
        .judge(namespace, |pods| if pods.len() > 5 { Err(format!("{} pods", pods.len())) } else { Ok(()) })
        .await;
    world.kubectl("kubectl -n bounded delete quota bound");
    // Nothing tells a ReplicaSet that a quota has gone; its next try is at most some minutes away, a change is sooner.
    world.kubectl("kubectl -n bounded scale deployment web --replicas=7");
    world.all(namespace, "app=web", "all are allowed", are_ready(7)).await;
}

pub(crate) async fn dependents_go_after_before_or_without_their_owner(world: &mut World, _: &History) {
    let namespace = "owners";
    world.namespace(namespace).await;
    let all = ["background", "foreground", "orphan"];
    world.apply(namespace, &all.map(|name| deployment(name, 3)).concat());
    for name in all {
        world.all(namespace, &format!("app={name}"), "all are ready", are_ready(3)).await;
    }
    let orphans: Vec<_> = world.pods(namespace, "app=orphan").await.iter().map(ResourceExt::uid).collect();
    // The option's words are newer than some kubectls.
    let delete = |name: &str, policy: &str| {
        format!(
            "kubectl delete --raw '/apis/apps/v1/namespaces/owners/deployments/{name}?propagationPolicy={policy}'"
        )
    };
    world.kubectl(&all.map(|name| delete(name, &(name[..1].to_uppercase() + &name[1..]))).join(" && "));
    world.kill_leaders().await;
    world.kubectl("kubectl -n owners wait --for=delete deployment/background deployment/foreground deployment/orphan --timeout=120s");
    for name in ["background", "foreground"] {
        world
            .all(namespace, &format!("app={name}"), "its sets have gone", |sets: &[ReplicaSet]| {
                sets.is_empty()
            })
            .await;
        world
            .all(namespace, &format!("app={name}"), "its pods have gone", |pods: &[Pod]| pods.is_empty())
            .await;
    }
    let free = |sets: &[ReplicaSet]| sets.len() == 1 && sets[0].owner_references().is_empty();
    world.all(namespace, "app=orphan", "the set has no owner", free).await;
    let kept: Vec<_> = world.pods(namespace, "app=orphan").await.iter().map(ResourceExt::uid).collect();
    assert_eq!(kept, orphans, "they run on");

    // A deployment that comes again takes them up.
    world.apply(namespace, &deployment("orphan", 3));
    let owned = |sets: &[ReplicaSet]| sets.len() == 1 && sets[0].owner_references().len() == 1;
    world.all(namespace, "app=orphan", "the set has an owner again", owned).await;
    world.kubectl("kubectl -n owners rollout status deployment orphan --timeout=120s");
    let same: Vec<_> = world.pods(namespace, "app=orphan").await.iter().map(ResourceExt::uid).collect();
    assert_eq!(same, orphans);
    let map: Api<ConfigMap> = Api::namespaced(world.client.clone(), namespace);
    assert!(map.get_opt("kube-root-ca.crt").await.unwrap().is_some());
}
