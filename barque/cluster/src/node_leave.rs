//! A node leaves its cluster: no pods come to it any more, those that are there go elsewhere, its object goes. Evictions respect
//! PodDisruptionBudgets and times of grace. Must never delete a pod, nor evict one that would be lost unless that was said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::discovery::told;
use crate::drain::{Fate, Next, fate, next};
use crate::files;
use crate::leaf;

/// Why a node does not leave.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// The API server.
    #[error("{what}: {}", told(error))]
    Asked {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        error: Box<kube::Error>,
    },
    /// Pods are not watched.
    #[error("the pods of the node cannot be watched: {0}")]
    Watch(#[from] Box<watcher::Error>),
    /// Pods would be lost.
    #[error(
        "{0}: nothing makes these pods again elsewhere, so they would be lost; --force evicts them as well"
    )]
    Lost(String),
    /// Pods that may not be evicted.
    #[error("{0} cannot be evicted: {1}")]
    Refused(String, String),
    /// Time is over.
    #[error(
        "{pods} did not go within {} s (--timeout); a PodDisruptionBudget may hold them, or nobody ends them because no agent \
         runs on the node", within.as_secs()
    )]
    Late {
        /// Which ones.
        pods: String,
        /// The time.
        within: Duration,
    },
    /// This machine is no node.
    #[error("{}: this machine has not joined a cluster as a node; --kubeconfig and --hostname-override name one that has", .0.display())]
    NoNode(PathBuf),
    /// A file.
    #[error(transparent)]
    File(#[from] files::FileError),
}

fn asked(what: &'static str) -> impl FnOnce(kube::Error) -> LeaveError {
    move |error| LeaveError::Asked { what, error: Box::new(error) }
}

/// The name of the node that a machine became, by the certificate in its directory.
///
/// # Errors
/// When it has not become one, or its files cannot be read.
pub fn node_name(directory: &Path) -> Result<String, LeaveError> {
    let path = directory.join("client.pem");
    let text = files::read(&path)?.ok_or_else(|| LeaveError::NoNode(path.clone()))?;
    let facts = leaf::facts(&text).map_err(|_| LeaveError::NoNode(path.clone()))?;
    facts.common_name.strip_prefix("system:node:").map(str::to_owned).ok_or(LeaveError::NoNode(path))
}

/// No pods come to the node any more; to one that is not there none do.
///
/// # Errors
/// When the API server refuses, or cannot be reached.
pub async fn cordon(client: &Client, node: &str) -> Result<(), LeaveError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let wanted = json!({"spec": {"unschedulable": true}});
    match nodes.patch(node, &PatchParams::default(), &Patch::Merge(wanted)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(asked("the node cannot be cordoned")(error)),
    }
}

/// How pods leave.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long that may take.
    pub within: Duration,
    /// How long each has to end, in seconds, instead of what it says itself.
    pub grace_s: Option<u32>,
    /// Those that nothing makes again are evicted as well.
    pub force: bool,
}

/// Waits until all pods have gone that do not belong to the node; `tell` is called with each that has gone.
///
/// # Errors
/// When some would be lost, may not go, or do not go in time.
pub async fn drain(
    client: &Client,
    node: &str,
    how: Drain,
    mut tell: impl FnMut(&str),
) -> Result<(), LeaveError> {
    // Whom it concerns, for who reads why it took too long.
    let mut left: BTreeMap<String, Pod> = BTreeMap::new();
    let draining = emptied(client, node, how, &mut left, &mut tell);
    match tokio::time::timeout(how.within, draining).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LeaveError::Late { pods: listed(&left), within: how.within }),
    }
}

fn called(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

fn listed(pods: &BTreeMap<String, Pod>) -> String {
    let names: BTreeSet<String> = pods.values().map(called).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

async fn emptied(
    client: &Client,
    node: &str,
    how: Drain,
    left: &mut BTreeMap<String, Pod>,
    tell: &mut impl FnMut(&str),
) -> Result<(), LeaveError> {
    let of_node = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = Box::pin(watcher::watcher(Api::<Pod>::all(client.clone()), of_node));
    let mut evictions = FuturesUnordered::new();
    let mut known = false;
    loop {
        if known && left.is_empty() {
            return Ok(());
        }
        tokio::select! {
            event = events.try_next() => match event.map_err(Box::new)? {
                None => return Ok(()),
                Some(Event::Init) => left.clear(),
                Some(Event::InitApply(pod) | Event::Apply(pod)) => {
                    let uid = pod.uid().unwrap_or_default();
                    if fate(&pod) == Fate::Stays {
                        continue;
                    }
                    let is_new = left.insert(uid, pod.clone()).is_none();
                    // The first picture is judged as a whole, before anything is evicted.
                    if known && is_new {
                        evictions.push(evict(client, pod, how.grace_s, Duration::ZERO));
                    }
                }
                Some(Event::InitDone) => {
                    let lost: BTreeMap<_, _> =
                        left.iter().filter(|(_, pod)| fate(pod) == Fate::Lost).map(|(uid, pod)| (uid.clone(), pod.clone())).collect();
                    if !lost.is_empty() && !how.force {
                        return Err(LeaveError::Lost(listed(&lost)));
                    }
                    if !known {
                        evictions.extend(left.values().map(|pod| evict(client, pod.clone(), how.grace_s, Duration::ZERO)));
                    }
                    known = true;
                }
                Some(Event::Delete(pod)) => {
                    if left.remove(&pod.uid().unwrap_or_default()).is_some() {
                        tell(&called(&pod));
                    }
                }
            },
            Some((pod, next)) = evictions.next() => match next {
                Next::Wait => {}
                Next::Ask(after) if left.contains_key(&pod.uid().unwrap_or_default()) => {
                    evictions.push(evict(client, pod, how.grace_s, after));
                }
                Next::Ask(_) => {}
                Next::GiveUp(why) => return Err(LeaveError::Refused(called(&pod), why)),
            },
        }
    }
}

/// Asks for an eviction, after a while.
async fn evict(client: &Client, pod: Pod, grace_s: Option<u32>, after: Duration) -> (Pod, Next) {
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let mut options = json!({"preconditions": {"uid": pod.uid()}});
    if let Some(seconds) = grace_s {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": namespace, "name": name}, "deleteOptions": options,
    });
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(eviction.to_string().into_bytes());
    let answer = match request {
        Ok(request) => client.request::<serde_json::Value>(request).await,
        Err(error) => return (pod, Next::GiveUp(error.to_string())),
    };
    let next = match answer {
        Ok(_) => Next::Wait,
        Err(kube::Error::Api(status)) => {
            let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            next(status.code, after, &status.message)
        }
        // Another server may answer.
        Err(error) => next(503, 0, &told(&error)),
    };
    (pod, next)
}

/// Whether the node's object is gone; a node itself may not delete it.
///
/// # Errors
/// When the API server cannot be reached, or refuses for another reason.
pub async fn forget(client: &Client, node: &str) -> Result<bool, LeaveError> {
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.delete(node, &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(false),
        Err(error) => Err(asked("the node's object cannot be deleted")(error)),
    }
}
