//! The workers of pods with the hollow runtime, on simulated time: what a file describes anew waits for what was before, and what is
//! asked for while others have it waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::ip::parse_cidr;
use barque_client::events::Note;
use futures::SinkExt as _;
use futures::channel::mpsc;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::allocation::Allocations;
use super::dispatch::{Dispatcher, Host};
use super::index::Index;
use super::worker::Place;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::pod_api::{PodApi, PodApiError};
use crate::runtime::Runtime as _;
use crate::runtime::hollow::HollowRuntime;
use crate::static_pods::mirrors::Mirrors;
use crate::tell::Teller;

struct Nobody;

impl Teller for Nobody {
    fn tell(&self, _: ObjectReference, _: Note) {}
}

/// Keeps what is said, and tells who has a sandbox when something is said of a pod that runs.
#[derive(Clone)]
struct Kept {
    mirrors: Mirrors,
    runtime: Arc<HollowRuntime>,
    pods: Vec<Pod>,
    running: Arc<watch::Sender<Vec<String>>>,
}

impl PodApi for Kept {
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Pod, PodApiError> {
        if patch["status"]["phase"] == "Running" {
            let mut there = Vec::new();
            for other in &self.pods {
                let observed = self.runtime.observe(other).await;
                there.extend(observed.sandbox.and(other.metadata.uid.clone()));
            }
            self.running.send_modify(|all| all.push(there.join(" ")));
        }
        Ok(self.mirrors.patch_status(pod, patch))
    }

    async fn delete(&self, _: &Pod) -> Result<(), PodApiError> {
        Ok(())
    }
}

fn described(uid: &str) -> Pod {
    let value = json!({
        "metadata": {"name": "web-n1", "namespace": "default", "uid": uid,
            "annotations": {"kubernetes.io/config.source": "file"}},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "c", "image": "i"}]},
    });
    serde_json::from_value(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_file_described_ends_before_what_it_describes_begins() {
    let clock = Clock::of_tokio(Timestamp::from_second(1_000_000).unwrap());
    let runtime = Arc::new(HollowRuntime::new(clock.clone(), Arc::new(Nobody)));
    runtime.set_pod_networks(&[parse_cidr("10.0.0.0/24").unwrap()]);
    let (old, new) = (described("old"), described("new"));
    let (running, mut seen) = watch::channel(Vec::new());
    let api = Kept {
        mirrors: Mirrors::default(),
        runtime: runtime.clone(),
        pods: vec![old.clone(), new.clone()],
        running: Arc::new(running),
    };
    let place = Place {
        runtime,
        api,
        teller: Arc::new(Nobody),
        clock,
        host: vec!["192.168.0.1".parse().unwrap()],
        metrics: Metrics::new(),
    };
    let allocatable = json!({"cpu": "1", "memory": "1Gi", "pods": "10"});
    let node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": allocatable}});
    let node: Node = serde_json::from_value(node).unwrap();
    let host = Host {
        place: Arc::new(place),
        node: watch::channel(Arc::new(node)).1,
        pressures: watch::channel(Default::default()).1,
        shutting_down: watch::channel(false).1,
        allocations: Allocations::default(),
    };
    let stop = CancellationToken::new();
    let dispatcher = Dispatcher::new([("n1".to_owned(), host)].into(), Index::default(), stop.clone());
    let (mut events, told) = mpsc::channel::<watcher::Result<Event<Pod>>>(8);
    let dispatching = tokio::spawn(dispatcher.run(told));

    events.send(Ok(Event::Apply(old.clone()))).await.unwrap();
    seen.wait_for(|all| all.len() == 1).await.unwrap();
    // Another pod in its place, and then the first one again.
    events.send(Ok(Event::Delete(old.clone()))).await.unwrap();
    events.send(Ok(Event::Apply(new.clone()))).await.unwrap();
    seen.wait_for(|all| all.len() == 2).await.unwrap();
    events.send(Ok(Event::Delete(new.clone()))).await.unwrap();
    events.send(Ok(Event::Apply(new))).await.unwrap();
    seen.wait_for(|all| all.len() == 3).await.unwrap();
    assert_eq!(*seen.borrow(), ["old", "new", "new"], "never two of them at once");
    stop.cancel();
    dispatching.await.unwrap();
}

/// Keeps what is said of pods, by uid.
#[derive(Clone)]
struct Noted(Arc<watch::Sender<BTreeMap<String, Value>>>);

impl PodApi for Noted {
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Pod, PodApiError> {
        let mut pod = pod.clone();
        let mut status = json!(pod.status.clone().unwrap_or_default());
        for (name, value) in patch["status"].as_object().unwrap() {
            let mut value = value.clone();
            if let Some(list) = value.as_array_mut() {
                list.retain(|item| item.get("$patch").is_none());
            }
            status[name] = value;
        }
        self.0.send_modify(|all| drop(all.insert(pod.metadata.uid.clone().unwrap(), status.clone())));
        pod.status = Some(serde_json::from_value(status).unwrap());
        Ok(pod)
    }

    async fn delete(&self, _: &Pod) -> Result<(), PodApiError> {
        Ok(())
    }
}

fn asking(uid: &str, generation: i64, cpu: &str) -> Pod {
    let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
    let value = json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid, "generation": generation,
            "resourceVersion": generation.to_string()},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "i", "resources": resources}]},
    });
    serde_json::from_value(value).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_is_granted_when_another_pod_has_ended() {
    let clock = Clock::of_tokio(Timestamp::from_second(1_000_000).unwrap());
    let runtime = Arc::new(HollowRuntime::new(clock.clone(), Arc::new(Nobody)));
    runtime.set_pod_networks(&[parse_cidr("10.0.0.0/24").unwrap()]);
    let (said, mut seen) = watch::channel(BTreeMap::new());
    let api = Noted(Arc::new(said));
    let metrics = Metrics::new();
    let host = vec!["192.168.0.1".parse().unwrap()];
    let place = Place { runtime, api, teller: Arc::new(Nobody), clock, host, metrics };
    let node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}});
    let node: Node = serde_json::from_value(node).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let allocations = Allocations::open(directory.path().to_owned()).unwrap();
    let node = watch::channel(Arc::new(node)).1;
    let host = Host {
        place: Arc::new(place),
        node,
        pressures: watch::channel(Default::default()).1,
        allocations: allocations.clone(),
        shutting_down: watch::channel(false).1,
    };
    let stop = CancellationToken::new();
    let dispatcher = Dispatcher::new([("n1".to_owned(), host)].into(), Index::default(), stop.clone());
    let (mut events, told) = mpsc::channel::<watcher::Result<Event<Pod>>>(8);
    let dispatching = tokio::spawn(dispatcher.run(told));
    let apply = |pod: &Pod| Ok(Event::Apply(pod.clone()));
    let has = |all: &BTreeMap<String, Value>, uid: &str, cpu: &str, pending: &str| {
        let Some(status) = all.get(uid) else { return false };
        let conditions = status["conditions"].to_string();
        status["containerStatuses"][0]["resources"]["limits"]["cpu"] == json!(cpu)
            && if pending.is_empty() {
                !conditions.contains("PodResize")
            } else {
                conditions.contains(pending)
            }
    };

    let other = asking("other", 1, "400m");
    events.send(Ok(Event::Init)).await.unwrap();
    events.send(Ok(Event::InitDone)).await.unwrap();
    events.send(apply(&asking("grows", 1, "500m"))).await.unwrap();
    events.send(apply(&other)).await.unwrap();
    seen.wait_for(|all| has(all, "grows", "500m", "") && has(all, "other", "400m", "")).await.unwrap();

    // There is too little until the other one has gone.
    events.send(apply(&asking("grows", 1001, "800m"))).await.unwrap();
    let deferred = "Node didn't have enough resource: cpu, requested: 800, used: 400, capacity: 1000";
    seen.wait_for(|all| has(all, "grows", "500m", deferred)).await.unwrap();
    assert_eq!(allocations.of("grows"), None);
    events.send(Ok(Event::Delete(other))).await.unwrap();
    seen.wait_for(|all| has(all, "grows", "800m", "")).await.unwrap();
    assert_eq!(allocations.of("grows").unwrap().generation, Some(1001));

    // There is never enough, until it takes that back.
    events.send(apply(&asking("grows", 2001, "3"))).await.unwrap();
    seen.wait_for(|all| has(all, "grows", "800m", "Infeasible")).await.unwrap();
    events.send(apply(&asking("grows", 3001, "800m"))).await.unwrap();
    seen.wait_for(|all| has(all, "grows", "800m", "")).await.unwrap();
    stop.cancel();
    dispatching.await.unwrap();
}
