//! Specs that cannot be satisfied and selectors that fight: each is told in words that say what is wrong, what can be done is done,
//! and nobody runs in circles over the rest.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, PersistentVolumeClaim, Pod, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, EvictParams, PostParams};
use serde_json::{Value, json};

use super::workload::{condition, create, job, keeps, serves, texts, until, until_all};
use super::world::Test;

/// The times that pods may be asked for beyond a quota, in the whole test: each waits twice as long as the one before.
const REFUSALS: u64 = 40;

/// The times that a watch may begin from one renewal of a lease to the next, about a second, when it ends at once each time.
const BEGINNINGS: u64 = 5;

/// Waits until people are told so.
async fn told(events: &Api<Event>, object: &str, reason: &str, text: &str) {
    let what = format!("{object} is told {reason}: {text}");
    until_all(events, "", &what, |events| {
        events.values().any(|event| {
            event["regarding"]["name"].as_str().is_some_and(|name| name.starts_with(object))
                && event["reason"] == reason
                && event["note"].as_str().is_some_and(|note| note.contains(text))
        })
    })
    .await;
}

/// Waits until a condition of an object says so.
fn says(kind: &str, status: &str, reason: &str, text: &str) -> impl Fn(&Value) -> bool {
    let [kind, status, reason, text] = [kind, status, reason, text].map(str::to_owned);
    move |object| {
        let found = condition(object, &kind);
        found["status"] == *status
            && found["reason"] == *reason
            && found["message"].as_str().is_some_and(|message| message.contains(&text))
    }
}

fn annotated(mut object: Value, annotations: &Value) -> Value {
    object["spec"]["template"]["metadata"]["annotations"] = annotations.clone();
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_told_and_nobody_runs_in_circles() {
    let test = Test::start(None).await;
    let (_manager, _scheduler) = (test.manager(), test.scheduler());
    let _near = test.agent("near", 3, "10.244.0.0/16");
    until(&test.api::<ServiceAccount>(), "default", "there is an account for pods", |_| true).await;

    // All of it at once.
    quota_is_made(&test).await;
    selectors_that_fight_are_made(&test).await;
    pods_that_fit_nowhere_are_made(&test).await;
    autoscalers_are_made(&test).await;
    let crashes = json!({"hollow.barque/run-for": "100ms", "hollow.barque/exit-code": "3"});
    let jobs = test.api::<Job>();
    create(&jobs, annotated(job("failing", &json!({"backoffLimit": 1})), &crashes)).await;
    let mut late = job("late", &json!({"activeDeadlineSeconds": 1}));
    late["spec"]["template"]["spec"]["nodeSelector"] = json!({"there": "none"});
    create(&jobs, late).await;
    let sets = test.api::<StatefulSet>();
    // Until it crashes, a pod is ready.
    let patient = json!({"replicas": 2, "serviceName": "none", "minReadySeconds": 600});
    create(&sets, annotated(keeps("crashing", &patient), &crashes)).await;
    let deployments = test.api::<Deployment>();
    let without_image = json!({"hollow.barque/pull-fails": "there is no such image"});
    create(&deployments, annotated(keeps("stuck", &json!({"progressDeadlineSeconds": 1})), &without_image))
        .await;
    let service = json!({"selector": {"app": "nobody"}, "ports": [{"port": 80}]});
    create(&test.api::<Service>(), json!({"metadata": {"name": "lonely"}, "spec": service})).await;

    let (pods, events) = (test.api::<Pod>(), test.api::<Event>());
    quota_is_told(&test).await;
    selectors_that_fight_come_to_rest(&test, &events).await;
    pods_that_fit_nowhere_are_told(&test, &events).await;
    autoscalers_are_told(&test, &events).await;
    let failed =
        says("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    assert_eq!(until(&jobs, "failing", "the job has failed", failed).await["status"]["failed"], 2);
    told(&events, "failing", "BackoffLimitExceeded", "Job has reached the specified backoff limit").await;
    let failed = says("Failed", "True", "DeadlineExceeded", "Job was active longer than specified deadline");
    until(&jobs, "late", "the job was late", failed).await;
    told(&events, "late", "DeadlineExceeded", "Job was active longer than specified deadline").await;
    let of_set = until_all(&pods, "app=crashing", "its first pod crashes", |pods| {
        pods.values().any(|pod| {
            pod.pointer("/status/containerStatuses/0/state/waiting/reason")
                == Some(&json!("CrashLoopBackOff"))
        })
    });
    assert!(of_set.await.keys().eq(["crashing-0"]), "it comes before the second one");
    told(&events, "crashing-0", "BackOff", "Back-off restarting failed container").await;
    let set = until(&sets, "crashing", "the set counts its pod", |set| set["status"]["replicas"] == 1).await;
    assert!(set["status"]["availableReplicas"].as_u64().is_none_or(|count| count == 0), "{set:#}");
    let deadline = says("Progressing", "False", "ProgressDeadlineExceeded", "has timed out progressing");
    until(&deployments, "stuck", "the rollout does not go on", deadline).await;
    told(&events, "stuck", "Failed", "there is no such image").await;
    nobody_is_behind_a_service(&test).await;
    zones_that_do_not_exist_are_refused(&test).await;

    let asked = test.is_quiet(60).await;
    let refusals = asked["manager"].get("POST /api/v1/namespaces/full/pods").copied().unwrap_or_default();
    assert!(refusals > 0 && refusals <= REFUSALS, "{refusals} pods were refused");
    test.is_patient_without_watches(BEGINNINGS).await;
}

async fn quota_is_made(test: &Test) {
    create(&Api::<Namespace>::all(test.client.clone()), json!({"metadata": {"name": "full"}})).await;
    let accounts = Api::<ServiceAccount>::namespaced(test.client.clone(), "full");
    until(&accounts, "default", "the namespace has an account", |_| true).await;
    let quotas = Api::<ResourceQuota>::namespaced(test.client.clone(), "full");
    create(&quotas, json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})).await;
    until(&quotas, "few", "the quota counts", |quota| quota["status"]["hard"]["pods"] == "1").await;
    let deployments = Api::<Deployment>::namespaced(test.client.clone(), "full");
    create(&deployments, keeps("web", &json!({"replicas": 3}))).await;
}

async fn quota_is_told(test: &Test) {
    let text = "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1";
    let deployments = Api::<Deployment>::namespaced(test.client.clone(), "full");
    until(&deployments, "web", "the quota is told", says("ReplicaFailure", "True", "FailedCreate", text))
        .await;
    told(&Api::<Event>::namespaced(test.client.clone(), "full"), "web-", "FailedCreate", text).await;
    let what = "what fits in the quota runs";
    let web = until(&deployments, "web", what, |web| web["status"]["availableReplicas"] == 1).await;
    assert_eq!(web["status"]["replicas"], 1);
}

async fn selectors_that_fight_are_made(test: &Test) {
    let sets = test.api::<ReplicaSet>();
    for (name, replicas) in [("one", 2), ("other", 3)] {
        let mut set = keeps("shared", &json!({"replicas": replicas}));
        set["metadata"]["name"] = json!(name);
        create(&sets, set).await;
    }
    for name in ["twin-a", "twin-b"] {
        let mut deployment = keeps("twin", &json!({"replicas": 2}));
        deployment["metadata"]["name"] = json!(name);
        create(&test.api::<Deployment>(), deployment).await;
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "twin"}}});
        create(&test.api::<PodDisruptionBudget>(), json!({"metadata": {"name": name}, "spec": spec})).await;
    }
}

async fn selectors_that_fight_come_to_rest(test: &Test, events: &Api<Event>) {
    let pods = test.api::<Pod>();
    let by = |pods: &std::collections::BTreeMap<String, Value>, owner: &str| {
        pods.values().filter(|pod| pod["metadata"]["ownerReferences"][0]["name"] == owner).count()
    };
    let rests = |pods: &std::collections::BTreeMap<String, Value>| {
        pods.len() == 5 && pods.values().all(serves) && by(pods, "one") == 2 && by(pods, "other") == 3
    };
    until_all(&pods, "app=shared", "each set has its own pods", rests).await;
    // One that belongs to nobody is taken by one of them, which has then one too many.
    let stray = json!({
        "metadata": {"name": "stray", "labels": {"app": "shared"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    create(&pods, stray).await;
    until_all(&pods, "app=shared", "each set has its own pods again", rests).await;

    let of_twins = until_all(&pods, "app=twin", "each Deployment has its own pods", |pods| {
        let owners = texts(pods, "/metadata/ownerReferences/0/name");
        pods.len() == 4 && pods.values().all(serves) && owners.iter().all(|owner| by(pods, owner) == 2)
    })
    .await;
    for name in ["twin-a", "twin-b"] {
        let what = "the Deployment is complete";
        until(&test.api::<Deployment>(), name, what, |web| web["status"]["availableReplicas"] == 2).await;
        until(&test.api::<PodDisruptionBudget>(), name, "both budgets count the pods of both", |budget| {
            budget["status"]["currentHealthy"] == 4
        })
        .await;
    }
    let victim = of_twins.keys().next().unwrap();
    told(events, victim, "MultiplePodDisruptionBudgets", "matches multiple PodDisruptionBudgets").await;
    let refused = pods.evict(victim, &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    let text = "more than one PodDisruptionBudget, which the eviction subresource does not support";
    assert!(status.code == 500 && status.message.contains(text), "{status:?}");
}

async fn pods_that_fit_nowhere_are_made(test: &Test) {
    let pods = test.api::<Pod>();
    let pod = |name: &str, more: &Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let large = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100"}}}]);
    create(&pods, pod("large", &json!({"containers": large}))).await;
    create(&pods, pod("nowhere", &json!({"nodeSelector": {"there": "none"}}))).await;
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "unclassed"}}]);
    create(&pods, pod("waits", &json!({"volumes": volumes}))).await;
    let class = json!({"metadata": {"name": "external"}, "provisioner": "example.com/none"});
    create(&Api::<StorageClass>::all(test.client.clone()), class).await;
    for (name, class) in
        [("unclassed", Value::Null), ("unknown", json!("unknown")), ("external", json!("external"))]
    {
        let spec = json!({
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class,
        });
        create(&test.api::<PersistentVolumeClaim>(), json!({"metadata": {"name": name}, "spec": spec})).await;
    }
}

async fn pods_that_fit_nowhere_are_told(test: &Test, events: &Api<Event>) {
    for (pod, text) in [
        ("large", "0/3 nodes are available: 3 Insufficient cpu."),
        ("nowhere", "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."),
        ("waits", "pod has unbound immediate PersistentVolumeClaims"),
    ] {
        told(events, pod, "FailedScheduling", text).await;
        let waits = says("PodScheduled", "False", "Unschedulable", text);
        until(&test.api::<Pod>(), pod, "the pod says why it waits", waits).await;
    }
    for (claim, reason, text) in [
        (
            "unclassed",
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        ("unknown", "ProvisioningFailed", "storageclass.storage.k8s.io \"unknown\" not found"),
        ("external", "ExternalProvisioning", "by the external provisioner 'example.com/none' or manually"),
    ] {
        told(events, claim, reason, text).await;
        let claims = test.api::<PersistentVolumeClaim>();
        until(&claims, claim, "the claim waits", |claim| claim["status"]["phase"] == "Pending").await;
    }
}

async fn autoscalers_are_made(test: &Test) {
    create(&test.api::<Deployment>(), keeps("idle", &json!({"replicas": 1}))).await;
    for target in ["idle", "absent"] {
        let metric = json!({
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
        });
        let spec = json!({
            "minReplicas": 1, "maxReplicas": 3, "metrics": [metric],
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
        });
        create(&test.api::<HorizontalPodAutoscaler>(), json!({"metadata": {"name": target}, "spec": spec}))
            .await;
    }
}

async fn autoscalers_are_told(test: &Test, events: &Api<Event>) {
    let autoscalers = test.api::<HorizontalPodAutoscaler>();
    let text = "failed to get cpu utilization";
    let inactive = says("ScalingActive", "False", "FailedGetResourceMetric", text);
    until(&autoscalers, "idle", "there are no metrics", inactive).await;
    told(events, "idle", "FailedGetResourceMetric", text).await;
    let unable = says("AbleToScale", "False", "FailedGetScale", "deployments.apps \"absent\" not found");
    until(&autoscalers, "absent", "there is no target", unable).await;
    told(events, "absent", "FailedGetScale", "deployments.apps \"absent\" not found").await;
}

async fn nobody_is_behind_a_service(test: &Test) {
    let of_service = "kubernetes.io/service-name=lonely";
    until_all(&test.api::<EndpointSlice>(), of_service, "one slice says that there is nobody", |slices| {
        slices.len() == 1
            && slices.values().all(|slice| slice["endpoints"].as_array().is_none_or(|all| all.is_empty()))
    })
    .await;
    until(&test.api::<Endpoints>(), "lonely", "so do the endpoints", |it| it.get("subsets").is_none()).await;
}

async fn zones_that_do_not_exist_are_refused(test: &Test) {
    let template = job("any", &json!({}))["spec"].clone();
    let made = serde_json::from_value(json!({
        "metadata": {"name": "odd"},
        "spec": {"schedule": "* * * * *", "timeZone": "Mars/Olympus", "jobTemplate": {"spec": template}},
    }));
    let refused = test.api::<CronJob>().create(&PostParams::default(), &made.unwrap()).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!(status.code, 422);
    assert!(status.message.contains("unknown time zone Mars/Olympus"), "{}", status.message);
}
