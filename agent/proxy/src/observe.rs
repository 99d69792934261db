//! The watches that a proxy follows, as changes of its state. Must never forget what a new list leaves out.

use std::collections::HashSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{SelectAll, StreamExt as _};
use futures::{Stream, stream};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::watcher::{self, Event};

use crate::pods::{Labels, pod};
use crate::policy::policy;
use crate::services::{endpoints, key, service};
use crate::state::State;

/// What a watch tells.
pub type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// The watches of a proxy. Each asks again by itself when it breaks off.
pub struct Streams {
    /// All services.
    pub services: Events<core::Service>,
    /// All slices.
    pub slices: Events<EndpointSlice>,
    /// All pods if policies are enforced, else those of this node.
    pub pods: Events<core::Pod>,
    /// What policies take besides; none, if they are not enforced.
    pub policies: Option<PolicyStreams>,
}

/// The watches of policies.
pub struct PolicyStreams {
    /// All policies.
    pub policies: Events<NetworkPolicy>,
    /// All namespaces.
    pub namespaces: Events<core::Namespace>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("policies", &self.policies.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PolicyStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyStreams").finish_non_exhaustive()
    }
}

/// On the heap: objects are large.
type Told<K> = Box<watcher::Result<Event<K>>>;

/// One thing that was told.
pub(crate) enum Change {
    Service(Told<core::Service>),
    Slice(Told<EndpointSlice>),
    Pod(Told<core::Pod>),
    Namespace(Told<core::Namespace>),
    Policy(Told<NetworkPolicy>),
}

pub(crate) type Changes = SelectAll<Pin<Box<dyn Stream<Item = Change> + Send>>>;

/// All of them as one.
pub(crate) fn changes(streams: Streams) -> Changes {
    let mut all: Vec<Pin<Box<dyn Stream<Item = Change> + Send>>> = vec![
        streams.services.map(|event| Change::Service(Box::new(event))).boxed(),
        streams.slices.map(|event| Change::Slice(Box::new(event))).boxed(),
        streams.pods.map(|event| Change::Pod(Box::new(event))).boxed(),
    ];
    if let Some(policies) = streams.policies {
        all.push(policies.policies.map(|event| Change::Policy(Box::new(event))).boxed());
        all.push(policies.namespaces.map(|event| Change::Namespace(Box::new(event))).boxed());
    }
    stream::select_all(all)
}

/// Which lists are known, and what those under way have told so far.
#[derive(Debug)]
pub(crate) struct Lists {
    services: List,
    slices: List,
    pods: List,
    namespaces: List,
    policies: List,
}

#[derive(Debug, Default)]
struct List {
    complete: bool,
    listed: HashSet<Arc<str>>,
}

/// What was observed by a change, for who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Service,
    Slice(Option<Timestamp>),
    Other,
}

impl Lists {
    pub(crate) fn new(policies: bool) -> Self {
        let of = |complete| List { complete, listed: HashSet::new() };
        Self {
            services: of(false),
            slices: of(false),
            pods: of(false),
            namespaces: of(!policies),
            policies: of(!policies),
        }
    }

    /// Whether every list was told completely once.
    pub(crate) const fn are_complete(&self) -> bool {
        self.services.complete
            && self.slices.complete
            && self.pods.complete
            && self.namespaces.complete
            && self.policies.complete
    }

    /// Takes a change over into the state.
    pub(crate) fn observe(&mut self, state: &mut State, change: Change) -> Counted {
        match change {
            Change::Service(event) => {
                let set = |state: &mut State, name: &Arc<str>, object: Option<core::Service>| {
                    state.set_service(name, object.as_ref().and_then(service));
                };
                self.services.take(state, *event, "services", State::service_names, set);
                Counted::Service
            }
            Change::Slice(event) => {
                let mut triggered = None;
                let set = |state: &mut State, name: &Arc<str>, object: Option<EndpointSlice>| {
                    triggered = object.as_ref().and_then(trigger);
                    state.set_slice(name, object.as_ref().and_then(endpoints));
                };
                // What was there before this proxy began says nothing of its speed.
                let listed = matches!(*event, Ok(Event::InitApply(_)));
                self.slices.take(state, *event, "endpoint slices", State::slice_names, set);
                Counted::Slice(triggered.filter(|_| !listed))
            }
            Change::Pod(event) => {
                let set = |state: &mut State, name: &Arc<str>, object: Option<core::Pod>| {
                    state.set_pod(name, object.as_ref().and_then(pod));
                };
                self.pods.take(state, *event, "pods", State::pod_names, set);
                Counted::Other
            }
            Change::Namespace(event) => {
                let set = |state: &mut State, name: &Arc<str>, object: Option<core::Namespace>| {
                    let name: Arc<str> = name.trim_start_matches('/').into();
                    state.set_namespace(&name, object.map(|object| labels(&object)));
                };
                let names =
                    |state: &State| state.namespace_names().iter().map(|name| key(None, name)).collect();
                self.namespaces.take(state, *event, "namespaces", names, set);
                Counted::Other
            }
            Change::Policy(event) => {
                let set = |state: &mut State, name: &Arc<str>, object: Option<NetworkPolicy>| {
                    let read = object.as_ref().map(policy);
                    if let Some(Err(error)) = &read {
                        // The old one stays: no policy at all would open everything.
                        tracing::warn!(policy = &**name, %error, "a network policy cannot be enforced");
                        return;
                    }
                    state.set_policy(name, read.and_then(Result::ok));
                };
                self.policies.take(state, *event, "network policies", State::policy_names, set);
                Counted::Other
            }
        }
    }
}

impl List {
    fn take<K: kube::Resource>(
        &mut self,
        state: &mut State,
        event: watcher::Result<Event<K>>,
        what: &str,
        known: impl FnOnce(&State) -> Vec<Arc<str>>,
        mut set: impl FnMut(&mut State, &Arc<str>, Option<K>),
    ) {
        let name = |object: &K| key(object.meta().namespace.as_deref(), &object.name_any());
        match event {
            Ok(Event::Init) => self.listed.clear(),
            Ok(Event::InitApply(object)) => {
                let name = name(&object);
                set(state, &name, Some(object));
                self.listed.insert(name);
            }
            Ok(Event::InitDone) => {
                for name in known(state).into_iter().filter(|name| !self.listed.contains(name)) {
                    set(state, &name, None);
                }
                self.listed = HashSet::new();
                self.complete = true;
            }
            Ok(Event::Apply(object)) => set(state, &name(&object), Some(object)),
            Ok(Event::Delete(object)) => set(state, &name(&object), None),
            // The watcher asks again by itself.
            Err(error) => tracing::warn!(%error, "the watch of {what} broke off"),
        }
    }
}

fn labels(namespace: &core::Namespace) -> Labels {
    namespace.labels().clone()
}

/// When the change of endpoints happened that a slice tells of.
fn trigger(slice: &EndpointSlice) -> Option<Timestamp> {
    slice.annotations().get("endpoints.kubernetes.io/last-change-trigger-time")?.parse().ok()
}
