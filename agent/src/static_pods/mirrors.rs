//! What the API server knows of pods of files: for each, one of the same name that stands for it and has its status. They are made,
//! replaced and removed here. Must never be what decides whether a pod runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::files::Described;
use super::manifest::{self, MIRROR};
use crate::containers::{name, namespace};
use crate::pods::spec;

/// The wait after a write that failed; what changes meanwhile is tried at once.
const RETRY: Duration = Duration::from_secs(5);

/// Namespace and name.
type Name = (String, String);

fn full_name(pod: &Pod) -> Name {
    (namespace(pod).to_owned(), name(pod).to_owned())
}

#[derive(Default)]
struct State {
    /// The uids of pods of files. What annotations say anybody may have written.
    of_files: BTreeSet<String>,
    /// What the pods' workers say, by the pods' uids.
    statuses: HashMap<String, Value>,
    /// What the API server has.
    mirrors: BTreeMap<Name, Arc<Pod>>,
    /// What was told of a mirror last, by its uid.
    told: HashMap<String, Value>,
    /// A list that has begun.
    listed: Option<BTreeMap<Name, Arc<Pod>>>,
    /// All mirrors are known.
    in_step: bool,
}

/// See the module's description. Clones are the same.
#[derive(Clone, Default)]
pub struct Mirrors {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Act {
    /// A pod gets one that stands for it.
    Create(Arc<Pod>),
    /// One that stands for nothing, for something else, or that somebody has deleted, goes.
    Delete(Arc<Pod>),
    /// One has another status.
    Tell(Arc<Pod>, Value),
}

impl Mirrors {
    /// These pods are of files.
    pub(super) fn are_of_files<'a>(&self, uids: impl Iterator<Item = &'a String>) {
        self.state.lock().of_files.extend(uids.cloned());
    }

    /// Whether a pod is of a file of this node.
    #[must_use]
    pub fn is_of_file(&self, pod: &Pod) -> bool {
        self.state.lock().of_files.contains(spec::uid(pod))
    }

    /// A list of all pods begins.
    pub(super) fn begin_list(&self) {
        self.state.lock().listed = Some(BTreeMap::new());
    }

    /// A mirror is there, or has changed.
    pub(super) fn is_there(&self, pod: Pod) {
        let mut state = self.state.lock();
        let (name, pod) = (full_name(&pod), Arc::new(pod));
        match &mut state.listed {
            Some(listed) => drop(listed.insert(name, pod)),
            None => {
                state.mirrors.insert(name, pod);
                self.changed.notify_one();
            }
        }
    }

    /// The list has ended.
    pub(super) fn end_list(&self) {
        let mut state = self.state.lock();
        state.mirrors = state.listed.take().unwrap_or_default();
        state.in_step = true;
        self.changed.notify_one();
    }

    /// A mirror is gone.
    pub(super) fn is_gone(&self, pod: &Pod) {
        let mut state = self.state.lock();
        let name = full_name(pod);
        if state.mirrors.get(&name).is_some_and(|there| there.metadata.uid == pod.metadata.uid) {
            state.mirrors.remove(&name);
        }
        state.told.remove(spec::uid(pod));
        self.changed.notify_one();
    }

    /// A pod of a file as its worker left it.
    pub(super) fn with_status(&self, pod: &Pod) -> Pod {
        let status = self.state.lock().statuses.get(spec::uid(pod)).cloned();
        let mut pod = pod.clone();
        pod.status = status.and_then(|status| serde_json::from_value(status).ok());
        pod
    }

    /// Takes in what the worker of a pod of a file says of it; the pod with its new status.
    #[must_use]
    pub fn patch_status(&self, pod: &Pod, patch: &Value) -> Pod {
        let mut state = self.state.lock();
        let status = state.statuses.entry(spec::uid(pod).to_owned()).or_insert_with(|| json!({}));
        merge(status, &patch["status"]);
        drop(state);
        self.changed.notify_one();
        self.with_status(pod)
    }

    /// Forgets a pod of a file that is gone.
    pub(super) fn forget(&self, pod: &Pod) {
        let mut state = self.state.lock();
        state.statuses.remove(spec::uid(pod));
        state.of_files.remove(spec::uid(pod));
        drop(state);
        self.changed.notify_one();
    }
}

/// The status with what a worker says of it: conditions are told by their types, everything else whole.
fn merge(status: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return };
    for (field, value) in patch {
        let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
        status[field] = match field.as_str() {
            "conditions" => conditions(&status[field], list),
            "hostIPs" | "podIPs" => list.iter().filter(|one| one.get("$patch").is_none()).cloned().collect(),
            _ => value.clone(),
        };
    }
}

fn conditions(before: &Value, new: &[Value]) -> Value {
    let mut all: Vec<Value> = before.as_array().cloned().unwrap_or_default();
    for one in new {
        let fields = one.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let one: Value =
            fields.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>().into();
        match all.iter_mut().find(|there| there["type"] == one["type"]) {
            Some(there) => *there = one,
            None => all.push(one),
        }
    }
    all.into()
}

/// What is to be done; nothing before all is known.
fn plan(state: &State, pods: &Described) -> Vec<Act> {
    if !state.in_step {
        return Vec::new();
    }
    let by_name: BTreeMap<Name, &Arc<Pod>> = pods.values().map(|pod| (full_name(pod), pod)).collect();
    let mut acts = Vec::new();
    for (name, mirror) in &state.mirrors {
        let stands_for =
            by_name.get(name).filter(|pod| manifest::mirrored(mirror) == pod.metadata.uid.as_deref());
        match stands_for.filter(|_| !spec::is_deleted(mirror)) {
            None => acts.push(Act::Delete(mirror.clone())),
            Some(pod) => {
                let status = state.statuses.get(spec::uid(pod));
                if let Some(status) = status.filter(|it| state.told.get(spec::uid(mirror)) != Some(it)) {
                    acts.push(Act::Tell(mirror.clone(), status.clone()));
                }
            }
        }
    }
    let missing = by_name.iter().filter(|(name, _)| !state.mirrors.contains_key(*name));
    acts.extend(missing.map(|(_, pod)| Act::Create(Arc::clone(pod))));
    acts
}

/// The pod that stands for another one.
fn mirror_of(pod: &Pod, node: &Node) -> Option<Pod> {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        controller: Some(true),
        ..OwnerReference::default()
    };
    let mut mirror = pod.clone();
    mirror.status = None;
    let metadata = &mut mirror.metadata;
    let hash = metadata.uid.take()?;
    metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    metadata.owner_references = Some(vec![owner]);
    Some(mirror)
}

/// Keeps the mirrors of a node.
pub struct MirrorTask {
    /// By whom it speaks.
    pub client: Client,
    /// What is known.
    pub mirrors: Mirrors,
    /// What the files describe.
    pub described: watch::Receiver<Described>,
    /// The node as the cluster knows it.
    pub node: watch::Receiver<Arc<Node>>,
}

impl MirrorTask {
    /// Runs until the token is cancelled. Mirrors stay.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) {
        loop {
            let described = self.described.borrow_and_update().clone();
            let node = self.node.borrow_and_update().clone();
            let acts = plan(&self.mirrors.state.lock(), &described);
            let mut failed = false;
            for act in acts {
                if let Err(why) = self.act(act, &node).await {
                    tracing::warn!("a static pod is not told to the API server: {why}");
                    failed = true;
                }
            }
            let retry = async {
                match failed {
                    true => tokio::time::sleep(RETRY).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.mirrors.changed.notified() => {}
                Ok(()) = self.described.changed() => {}
                Ok(()) = self.node.changed() => {}
                () = retry => {}
            }
        }
    }

    async fn act(&self, act: Act, node: &Node) -> Result<(), kube::Error> {
        let api = |pod: &Pod| -> Api<Pod> { Api::namespaced(self.client.clone(), namespace(pod)) };
        match act {
            Act::Create(pod) => {
                // A node that is not registered yet is told of when it is.
                let Some(mirror) = mirror_of(&pod, node) else { return Ok(()) };
                let made = api(&pod).create(&PostParams::default(), &mirror).await?;
                self.mirrors.is_there(made);
            }
            Act::Delete(mirror) => {
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions {
                        uid: mirror.metadata.uid.clone(),
                        resource_version: None,
                    }),
                    ..DeleteParams::default()
                };
                match api(&mirror).delete(name(&mirror), &params).await {
                    Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                    other => drop(other?),
                }
                self.mirrors.is_gone(&mirror);
            }
            Act::Tell(mirror, status) => {
                let uid = spec::uid(&mirror);
                let patch = json!({"metadata": {"uid": uid}, "status": status});
                let params = PatchParams::default();
                let told = api(&mirror).patch_status(name(&mirror), &params, &Patch::Merge(patch)).await;
                match told {
                    // The next event tells.
                    Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                    other => drop(other?),
                }
                self.mirrors.state.lock().told.insert(uid.to_owned(), status);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn of_file(uid: &str) -> Arc<Pod> {
        Arc::new(object(json!({"metadata": {"name": "web-n1", "namespace": "default", "uid": uid,
            "annotations": {"kubernetes.io/config.source": "file"}}})))
    }

    fn node() -> Node {
        object(json!({"metadata": {"name": "n1", "uid": "node"}}))
    }

    fn known(mirror: Option<Value>) -> State {
        let mirrors = mirror.into_iter().map(|value| {
            let pod: Pod = object(value);
            (full_name(&pod), Arc::new(pod))
        });
        State { mirrors: mirrors.collect(), in_step: true, ..State::default() }
    }

    fn mirror(hash: &str) -> Value {
        json!({"metadata": {"name": "web-n1", "namespace": "default", "uid": "m",
            "annotations": {"kubernetes.io/config.mirror": hash}}})
    }

    #[test]
    fn each_pod_of_a_file_has_one_that_stands_for_it() {
        let pods: Described = [("u".to_owned(), of_file("u"))].into();
        let acts = |state: &State, pods: &Described| -> Vec<&'static str> {
            let name = |act: &Act| match act {
                Act::Create(_) => "create",
                Act::Delete(_) => "delete",
                Act::Tell(..) => "tell",
            };
            plan(state, pods).iter().map(name).collect()
        };
        assert_eq!(acts(&State::default(), &pods), [""; 0], "nothing is known yet");
        assert_eq!(acts(&known(None), &pods), ["create"]);
        assert_eq!(acts(&known(Some(mirror("u"))), &pods), [""; 0]);
        assert_eq!(
            acts(&known(Some(mirror("old"))), &pods),
            ["delete"],
            "the next one follows when it is gone"
        );
        assert_eq!(acts(&known(Some(mirror("u"))), &Described::new()), ["delete"]);
        let mut deleted = mirror("u");
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(acts(&known(Some(deleted)), &pods), ["delete"], "somebody wants it gone: it comes again");
        let mut state = known(Some(mirror("u")));
        state.statuses.insert("u".into(), json!({"phase": "Running"}));
        assert_eq!(acts(&state, &pods), ["tell"]);
        state.told.insert("m".into(), json!({"phase": "Running"}));
        assert_eq!(acts(&state, &pods), [""; 0]);
        let made = mirror_of(&of_file("u"), &node()).unwrap();
        assert_eq!((manifest::mirrored(&made), made.metadata.uid.as_ref()), (Some("u"), None));
        assert_eq!(mirror_of(&of_file("u"), &Node::default()), None);
    }

    #[test]
    fn what_a_worker_says_is_kept() {
        let (mirrors, pod) = (Mirrors::default(), of_file("u"));
        let first = json!({"status": {"phase": "Pending", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "R"}]}});
        let _ = mirrors.patch_status(&pod, &first);
        let second = json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "reason": null}, {"type": "Initialized", "status": "True"}]}});
        let status = mirrors.patch_status(&pod, &second).status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Running"));
        assert_eq!(status.pod_ips.unwrap().len(), 1);
        let conditions = status.conditions.unwrap();
        assert_eq!(
            (conditions.len(), conditions[0].status.as_str(), &conditions[0].reason),
            (2, "True", &None)
        );
        mirrors.forget(&pod);
        assert_eq!(mirrors.with_status(&pod).status, None);
    }
}
