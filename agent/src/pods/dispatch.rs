//! One watch of pods for all nodes of the process, and one worker for each pod of theirs. Owns the workers. Must never know
//! what becomes of a pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::allocation::{Allocation, Allocations, asks_the_same};
use super::index::Index;
use super::plan::Refusal;
use super::resize::{Grant, judge, order};
use super::spec;
use super::worker::{Place, Wanted, Worker};
use crate::eviction::signals::Pressures;
use crate::node::admission::{Amounts, admit, admit_under, asks};
use crate::node_shutdown::plan::{refused, terminated};
use crate::pod_api::{PodApi, lean};
use crate::runtime::Runtime;
use crate::static_pods::manifest::is_static;

/// A node of this process, as its pods see it.
pub struct Host<R, A> {
    /// What its workers share.
    pub place: Arc<Place<R, A>>,
    /// The node as it was seen last, or as it will be registered.
    pub node: watch::Receiver<Arc<Node>>,
    /// What it is short of.
    pub pressures: watch::Receiver<Pressures>,
    /// The machine goes down.
    pub shutting_down: watch::Receiver<bool>,
    /// What its pods were granted while they ran.
    pub allocations: Allocations,
}

/// A node with what the workers of its pods are told, by uid.
struct Kept<R, A> {
    host: Host<R, A>,
    pods: HashMap<String, Arc<watch::Sender<Wanted>>>,
    /// Those that ask for other resources than they were granted.
    unsettled: HashSet<String>,
}

/// The workers of all pods of some nodes.
pub struct Dispatcher<R, A> {
    /// By name.
    nodes: HashMap<String, Kept<R, A>>,
    /// Each ends with its node and its uid.
    workers: JoinSet<(String, String)>,
    /// What a list that has begun has told so far.
    listed: Option<Vec<Pod>>,
    /// Pods that wait until another has ended, by the uid of that one.
    waiting: HashMap<String, Pod>,
    index: Index,
    stop: CancellationToken,
}

impl<R: Runtime, A: PodApi> Dispatcher<R, A> {
    /// Without pods; those that come are found in the index.
    #[must_use]
    pub fn new(hosts: HashMap<String, Host<R, A>>, index: Index, stop: CancellationToken) -> Self {
        let kept = |(name, host)| (name, Kept { host, pods: HashMap::new(), unsettled: HashSet::new() });
        let nodes = hosts.into_iter().map(kept).collect();
        Self { nodes, workers: JoinSet::new(), listed: None, waiting: HashMap::new(), index, stop }
    }

    /// Follows the events until the token is cancelled. Pods are left as they are then.
    pub async fn run(mut self, mut events: impl Stream<Item = watcher::Result<Event<Pod>>> + Unpin) {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Ok(event)) => self.handle(event).await,
                    // The watcher asks again by itself.
                    Some(Err(error)) => tracing::warn!(%error, "the watch of pods broke off"),
                    None => break,
                },
                Some(ended) = self.workers.join_next() => match ended {
                    Ok((node, uid)) => {
                        if let Some(node) = self.nodes.get_mut(&node) {
                            node.ended(&uid);
                        }
                        self.index.remove(&uid);
                        if let Some(next) = self.waiting.remove(&uid) {
                            self.apply(next);
                        }
                    }
                    Err(error) => tracing::error!(%error, "the worker of a pod broke off"),
                },
            }
        }
        self.workers.shutdown().await;
    }

    async fn handle(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed = Some(Vec::new()),
            Event::InitApply(pod) => {
                if self.is_ours(&pod) {
                    self.listed.get_or_insert_default().push(lean(pod));
                }
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.replace(listed).await;
            }
            Event::Apply(pod) => {
                if self.is_ours(&pod) {
                    self.apply(lean(pod));
                }
            }
            Event::Delete(pod) => {
                self.waiting.retain(|_, waiting| spec::uid(waiting) != spec::uid(&pod));
                let node = node_name(&pod).and_then(|name| self.nodes.get(name));
                if let Some(wanted) = node.and_then(|node| node.pods.get(spec::uid(&pod))) {
                    wanted.send_modify(|wanted| {
                        wanted.pod = Arc::new(lean(pod));
                        wanted.gone = true;
                    });
                }
            }
        }
    }

    /// These pods are there and no others. What runs is looked at before anything is started, so that nothing that it has
    /// is given to another.
    async fn replace(&mut self, mut listed: Vec<Pod>) {
        listed.sort_by(|one, other| one.metadata.creation_timestamp.cmp(&other.metadata.creation_timestamp));
        for pod in &listed {
            if let Some(node) = node_name(pod).and_then(|name| self.nodes.get(name)) {
                node.host.place.runtime.observe(pod).await;
            }
        }
        let there: HashSet<_> = listed.iter().map(spec::uid).collect();
        for (uid, wanted) in self.nodes.values().flat_map(|node| &node.pods) {
            if !there.contains(uid.as_str()) {
                wanted.send_modify(|wanted| wanted.gone = true);
            }
        }
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.end_left_behind(&name, &listed).await;
        }
        let uids: Vec<String> = listed.iter().map(|pod| spec::uid(pod).to_owned()).collect();
        for pod in listed {
            self.apply(pod);
        }
        self.index.complete();
        for node in self.nodes.values_mut() {
            let there = node.pods.keys().chain(&uids).map(String::as_str);
            node.host.allocations.keep_only(&there.collect());
            node.settle();
        }
    }

    /// What runs of pods that were deleted while no agent was there ends.
    async fn end_left_behind(&mut self, node: &str, listed: &[Pod]) {
        let Some(kept) = self.nodes.get(node) else { return };
        let left = kept.host.place.runtime.left_behind().await;
        for pod in left {
            let uid = spec::uid(&pod).to_owned();
            let known =
                kept_by(&self.nodes, node, &uid) || listed.iter().any(|other| spec::uid(other) == uid);
            if !known {
                tracing::info!(pod = %spec::title(&pod), "nobody knows this pod any more: it is ended");
                self.work(
                    node,
                    uid,
                    Wanted { pod: Arc::new(pod), gone: true, refusal: None, grant: Grant::default() },
                );
            }
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        node_name(pod).is_some_and(|name| self.nodes.contains_key(name))
    }

    fn apply(&mut self, pod: Pod) {
        let Some(name) = node_name(&pod).map(str::to_owned) else { return };
        let Some(node) = self.nodes.get_mut(&name) else { return };
        let uid = spec::uid(&pod).to_owned();
        if let Some(before) = node.ends_before(&pod) {
            self.waiting.insert(before, pod);
            return;
        }
        let pod = Arc::new(pod);
        self.index.set(&pod);
        if node.pods.contains_key(&uid) {
            return node.seen(&uid, pod);
        }
        let refusal = node.admission(&pod).map(Arc::new);
        let grant = node.known_grant(&pod);
        let has_begun = has_begun(&pod);
        self.work(&name, uid.clone(), Wanted { pod, gone: false, refusal, grant });
        self.end_late(&name, &uid, has_begun);
        if let Some(node) = self.nodes.get_mut(&name)
            && node.is_unsettled(&uid)
            // Otherwise it is looked at when all pods are known.
            && self.index.is_complete()
        {
            node.settle();
        }
    }

    /// Who ended the pods of a machine that goes down did not see this one.
    fn end_late(&self, node: &str, uid: &str, has_begun: bool) {
        if self.nodes.get(node).is_some_and(|node| *node.host.shutting_down.borrow()) {
            self.index.end(uid, if has_begun { terminated(None) } else { refused() });
        }
    }

    /// A worker for a pod that has none.
    fn work(&mut self, name: &str, uid: String, wanted: Wanted) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let (wanted, inbox) = watch::channel(wanted);
        let wanted = Arc::new(wanted);
        let (ended, has_ended) = watch::channel(false);
        self.index.works(&uid, &wanted, has_ended);
        let worker = Worker::new(node.host.place.clone(), inbox, ended);
        node.pods.insert(uid.clone(), wanted);
        let name = name.to_owned();
        self.workers.spawn(async move {
            worker.run().await;
            (name, uid)
        });
    }
}

impl<R, A> Kept<R, A> {
    /// The uid of the pod that has to have ended before this one begins: itself, when it was gone and came again, or what its file
    /// described before.
    fn ends_before(&self, pod: &Pod) -> Option<String> {
        let itself = self.pods.get(spec::uid(pod));
        if itself.is_some_and(|wanted| wanted.borrow().gone) {
            return Some(spec::uid(pod).to_owned());
        }
        if itself.is_some() || !is_static(pod) {
            return None;
        }
        let names = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        let mut others = self.pods.iter().filter(|(uid, _)| uid.as_str() != spec::uid(pod));
        others.find(|(_, wanted)| names(&wanted.borrow().pod) == names(pod)).map(|(uid, _)| uid.clone())
    }

    /// Whether the node takes a pod that it has not begun to run.
    fn admission(&self, pod: &Pod) -> Option<Refusal> {
        if has_begun(pod) || spec::is_deleted(pod) || spec::is_terminal(spec::phase(pod)) {
            return None;
        }
        if *self.host.shutting_down.borrow() {
            return Some(refused());
        }
        if let Some(refusal) = admit_under(&self.host.pressures.borrow(), pod) {
            return Some(refusal);
        }
        let node = self.host.node.borrow().clone();
        admit(pod, &node, &self.used(spec::uid(pod)))
    }

    /// What the pods of the node were granted, but for this one.
    fn used(&self, uid: &str) -> Amounts {
        let mut used = Amounts::default();
        for (_, other) in self.pods.iter().filter(|(other, _)| other.as_str() != uid) {
            let other = other.borrow();
            let is_refused = other.refusal.is_some() && !has_begun(&other.pod);
            if !is_refused && !spec::is_terminal(spec::phase(&other.pod)) {
                used.add(&asks(&other.grant.applied(&other.pod, &other.pod)));
            }
        }
        used
    }

    /// What an agent before this one granted a pod.
    fn known_grant(&self, pod: &Pod) -> Grant {
        if !has_begun(pod) || is_static(pod) {
            return Grant::default();
        }
        Grant::known(pod, self.host.allocations.of(spec::uid(pod)))
    }

    /// A pod is like this now.
    fn seen(&mut self, uid: &str, pod: Arc<Pod>) {
        let Some(wanted) = self.pods.get(uid) else { return };
        let is_over = spec::is_terminal(spec::phase(&pod));
        wanted.send_modify(|wanted| {
            if wanted.grant.allocated.is_none() && !asks_the_same(&wanted.pod, &pod) {
                wanted.grant.allocated = Some(Arc::new(Allocation::of(&wanted.pod)));
            }
            wanted.pod = pod;
        });
        if self.is_unsettled(uid) || is_over {
            self.settle();
        }
    }

    /// Whether the pod asks for something else than it was granted, which is remembered.
    fn is_unsettled(&mut self, uid: &str) -> bool {
        let asks = self.pods.get(uid).is_some_and(|wanted| {
            let Wanted { pod, grant, refusal, .. } = &*wanted.borrow();
            let differs = grant.allocated.as_ref().is_some_and(|allocated| !allocated.is_of(pod));
            refusal.is_none() && (differs || grant.pending.is_some())
        });
        if asks {
            self.unsettled.insert(uid.to_owned())
        } else {
            self.unsettled.remove(uid)
        };
        asks
    }

    /// Grants pods what they ask for, one after the other, as far as there is something.
    fn settle(&mut self) {
        let asking = self.unsettled.iter().filter_map(|uid| {
            let wanted = self.pods.get(uid)?.borrow();
            let order = order(&wanted.pod, &wanted.grant.applied(&wanted.pod, &wanted.pod));
            Some((order, uid.clone()))
        });
        let mut asking: Vec<_> = asking.collect();
        asking.sort();
        for (_, uid) in asking {
            self.regrant(&uid);
            self.is_unsettled(&uid);
        }
    }

    fn regrant(&self, uid: &str) {
        let Some(wanted) = self.pods.get(uid) else { return };
        let Wanted { pod, grant: before, .. } = wanted.borrow().clone();
        let differs = before.allocated.as_ref().is_some_and(|allocated| !allocated.is_of(&pod));
        let grant = if !differs {
            Grant { pending: None, ..before }
        } else if spec::is_deleted(&pod) || spec::is_terminal(spec::phase(&pod)) {
            before
        } else {
            let node = self.host.node.borrow().clone();
            match judge(&pod, &node, &self.used(uid)) {
                Some(pending) => Grant { pending: Some(pending), ..before },
                None => {
                    let allocated = Allocation::of(&pod);
                    if let Err(error) = self.host.allocations.keep(uid, &allocated) {
                        // Granted without that, it would be forgotten. It is looked at again with the next that asks.
                        tracing::warn!(pod = %spec::title(&pod), %error, "a resize is not written down");
                        return;
                    }
                    Grant { allocated: Some(Arc::new(allocated)), pending: None }
                }
            }
        };
        wanted.send_if_modified(|wanted| {
            let differs = wanted.grant != grant;
            wanted.grant = grant;
            differs
        });
    }

    /// Nothing of a pod is left: others can have what it had.
    fn ended(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.unsettled.remove(uid);
        self.host.allocations.forget(uid);
        self.settle();
    }
}

fn has_begun(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

fn kept_by<R, A>(nodes: &HashMap<String, Kept<R, A>>, node: &str, uid: &str) -> bool {
    nodes.get(node).is_some_and(|node| node.pods.contains_key(uid))
}

fn node_name(pod: &Pod) -> Option<&str> {
    spec::spec(pod)?.node_name.as_deref()
}
