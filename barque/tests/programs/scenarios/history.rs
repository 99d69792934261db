//! All that ever happened to pods, in the order of the API, to be judged afterwards: what holds at every moment cannot be seen by
//! looking now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use barque_lint::Bindings;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::world::PATIENCE;

/// What was seen of a pod.
#[derive(Clone, Debug)]
enum Event {
    Is(Arc<Pod>),
    Gone(Arc<Pod>),
}

/// Writes down what happens, until it is dropped.
pub(crate) struct History {
    client: Client,
    seen: watch::Receiver<Vec<Event>>,
    writes: JoinHandle<()>,
}

impl Drop for History {
    fn drop(&mut self) {
        self.writes.abort();
    }
}

/// A pod that takes part: it is neither at its end nor asked to go.
pub(crate) fn is_live(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether it says that it is ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

impl History {
    pub(crate) fn start(client: Client) -> Self {
        let (send, seen) = watch::channel(Vec::new());
        let pods: Api<Pod> = Api::all(client.clone());
        let writes = tokio::spawn(async move {
            let mut changes = Box::pin(watcher(pods, watcher::Config::default()).default_backoff());
            loop {
                match changes.next().await {
                    Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                        send.send_modify(|seen| seen.push(Event::Is(Arc::new(pod))));
                    }
                    Some(Ok(watcher::Event::Delete(pod))) => {
                        send.send_modify(|seen| seen.push(Event::Gone(Arc::new(pod))));
                    }
                    // A list begins or ends, or a watch broke and is begun anew.
                    Some(_) => {}
                    None => return,
                }
            }
        });
        Self { client, seen, writes }
    }

    /// What happened in a namespace up to now.
    async fn of(&self, namespace: &str) -> Vec<Event> {
        // A pod that nobody runs marks the place, in a namespace without bounds: events come in the order of the API.
        let pods: Api<Pod> = Api::default_namespaced(self.client.clone());
        let mark = json!({
            "metadata": {"generateName": "mark-"},
            "spec": {"schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]},
        });
        let mark = serde_json::from_value(mark).unwrap();
        let mark = pods.create(&PostParams::default(), &mark).await.unwrap();
        let uid = mark.uid().unwrap();
        let mut seen = self.seen.clone();
        let here = |all: &Vec<Event>| {
            all.iter().any(|event| matches!(event, Event::Is(pod) if pod.uid().as_deref() == Some(&uid)))
        };
        let events = match timeout(PATIENCE, seen.wait_for(here)).await {
            Ok(events) => events.unwrap().clone(),
            Err(_) => panic!("the watch of pods does not go on"),
        };
        pods.delete(&mark.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
        let belongs = |event: &Event| {
            let (Event::Is(pod) | Event::Gone(pod)) = event;
            pod.namespace().as_deref() == Some(namespace)
        };
        events.into_iter().filter(belongs).collect()
    }

    /// Looks at the pods of a namespace as they were after each change; the answer is what was wrong first.
    pub(crate) async fn judge(&self, namespace: &str, judge: impl Fn(&[Arc<Pod>]) -> Result<(), String>) {
        let mut now: BTreeMap<String, Arc<Pod>> = BTreeMap::new();
        for event in self.of(namespace).await {
            match event {
                Event::Is(pod) => now.insert(pod.name_any(), pod),
                Event::Gone(pod) => now.remove(&pod.name_any()),
            };
            let pods: Vec<Arc<Pod>> = now.values().cloned().collect();
            if let Err(wrong) = judge(&pods) {
                panic!("in {namespace}: {wrong}");
            }
        }
    }

    /// The names of all pods that ever were in a namespace and had this label.
    pub(crate) async fn ever(&self, namespace: &str, key: &str, value: &str) -> BTreeSet<String> {
        let events = self.of(namespace).await;
        let pods = events.iter().map(|(Event::Is(pod) | Event::Gone(pod))| pod);
        let fitting = pods.filter(|pod| pod.labels().get(key).is_some_and(|it| it == value));
        fitting.map(|pod| pod.name_any()).collect()
    }

    /// No pod was ever bound to one node and later to another, changed its address, or ran again after its end.
    pub(crate) async fn is_sound(&self, namespace: &str) {
        let mut bindings = Bindings::default();
        let events = self.of(namespace).await;
        let pods = events.iter().map(|(Event::Is(pod) | Event::Gone(pod))| pod);
        let wrong: Vec<_> = pods.filter_map(|pod| bindings.observe(pod)).collect();
        assert!(wrong.is_empty(), "in {namespace}: {wrong:#?}");
    }
}
