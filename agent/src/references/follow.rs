//! Watches of objects that pods name. Owns one task for each object; it ends with the last pod that names the object, or at the
//! stop. Must never answer from an object that it does not follow.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::named::{Kind, Reference, named};
use crate::pods::spec;

/// How long anybody waits for the first word about an object.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an object is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No pod that is held names it.
    #[error("object {namespace:?}/{name:?} not registered")]
    NotRegistered {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The server does not answer.
    #[error("failed to sync {0} cache: timed out waiting for the condition")]
    Slow(Kind),
    /// The server refuses.
    #[error("{0}")]
    Refused(String),
}

#[derive(Debug, Clone)]
enum Object {
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
}

/// What is known of an object.
#[derive(Debug, Clone)]
enum State {
    Unknown,
    Absent,
    Present(Object),
    /// Nothing is known, for this reason.
    Refused(String),
}

/// An object that is followed.
struct Followed {
    users: HashSet<String>,
    /// Somebody has given up waiting for the first word.
    is_late: bool,
    state: watch::Receiver<State>,
    stop: CancellationToken,
}

/// A pod that names objects.
struct Held {
    names: BTreeSet<Reference>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    pods: HashMap<String, Held>,
    objects: HashMap<Reference, Followed>,
}

impl Table {
    /// Tells the pods that name the object that it is another one. Its first word is waited for by who reads it, and is no
    /// change, unless it came too late.
    fn tell(&mut self, reference: &Reference, is_first: bool) {
        let Some(followed) = self.objects.get_mut(reference) else { return };
        if is_first && !std::mem::take(&mut followed.is_late) {
            return;
        }
        for held in followed.users.iter().filter_map(|uid| self.pods.get(uid)) {
            held.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// One user less; nobody is followed for nobody.
    fn release(&mut self, uid: &str, reference: &Reference) {
        let Some(followed) = self.objects.get_mut(reference) else { return };
        followed.users.remove(uid);
        if followed.users.is_empty() {
            followed.stop.cancel();
            self.objects.remove(reference);
        }
    }
}

/// The objects that pods of the node name. Clones are the same.
#[derive(Clone)]
pub struct References {
    client: Client,
    stop: CancellationToken,
    tasks: TaskTracker,
    table: Arc<Mutex<Table>>,
}

impl References {
    /// Nothing is followed yet; everything ends at the stop.
    #[must_use]
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        Self { client, stop, tasks: TaskTracker::new(), table: Arc::default() }
    }

    /// From now on what the pod names is followed, and what it has named before and does not name any more is not. The answer
    /// counts changes of these objects.
    pub fn hold(&self, pod: &Pod) -> watch::Receiver<u64> {
        let uid = spec::uid(pod);
        let names = named(pod);
        let mut table = self.table.lock();
        let held = table
            .pods
            .entry(uid.to_owned())
            .or_insert_with(|| Held { names: BTreeSet::new(), changed: watch::channel(0).0 });
        let before = std::mem::replace(&mut held.names, names.clone());
        let changed = held.changed.subscribe();
        for gone in before.difference(&names) {
            table.release(uid, gone);
        }
        for reference in names {
            let followed = table.objects.entry(reference);
            followed.or_insert_with_key(|reference| self.follow(reference)).users.insert(uid.to_owned());
        }
        changed
    }

    /// Nothing is followed for the pod any more.
    pub fn release(&self, uid: &str) {
        let mut table = self.table.lock();
        let Some(held) = table.pods.remove(uid) else { return };
        for reference in &held.names {
            table.release(uid, reference);
        }
    }

    /// How many objects are followed.
    #[must_use]
    pub fn followed(&self) -> usize {
        self.table.lock().objects.len()
    }

    /// Waits until all watches have ended; for after the stop.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A secret that a pod names; nothing when there is none.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ReferenceError> {
        match self.get(Kind::Secret, namespace, name).await? {
            Some(Object::Secret(secret)) => Ok(Some(secret)),
            _ => Ok(None),
        }
    }

    /// A config map that a pod names; nothing when there is none.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, ReferenceError> {
        match self.get(Kind::ConfigMap, namespace, name).await? {
            Some(Object::ConfigMap(map)) => Ok(Some(map)),
            _ => Ok(None),
        }
    }

    async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Object>, ReferenceError> {
        let reference = Reference { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let state = self.table.lock().objects.get(&reference).map(|followed| followed.state.clone());
        let Some(mut state) = state else {
            let Reference { namespace, name, .. } = reference;
            return Err(ReferenceError::NotRegistered { namespace, name });
        };
        let known = state.wait_for(|state| !matches!(state, State::Unknown));
        match tokio::time::timeout(PATIENCE, known).await {
            Ok(Ok(known)) => match &*known {
                State::Present(object) => Ok(Some(object.clone())),
                State::Refused(why) => Err(ReferenceError::Refused(why.clone())),
                State::Absent | State::Unknown => Ok(None),
            },
            Ok(Err(_)) | Err(_) => {
                if let Some(followed) = self.table.lock().objects.get_mut(&reference) {
                    followed.is_late = true;
                }
                Err(ReferenceError::Slow(kind))
            }
        }
    }

    fn follow(&self, reference: &Reference) -> Followed {
        let (sender, state) = watch::channel(State::Unknown);
        let stop = self.stop.child_token();
        let task =
            Task { reference: reference.clone(), table: self.table.clone(), sender, stop: stop.clone() };
        let (client, namespace) = (self.client.clone(), reference.namespace.clone());
        match reference.kind {
            Kind::ConfigMap => self.tasks.spawn(task.run(
                Api::<ConfigMap>::namespaced(client, &namespace),
                |map| map.immutable == Some(true),
                |map| Object::ConfigMap(Arc::new(map)),
            )),
            Kind::Secret => self.tasks.spawn(task.run(
                Api::<Secret>::namespaced(client, &namespace),
                |secret| secret.immutable == Some(true),
                |secret| Object::Secret(Arc::new(secret)),
            )),
        };
        Followed { users: HashSet::new(), is_late: false, state, stop }
    }
}

/// Follows one object.
struct Task {
    reference: Reference,
    table: Arc<Mutex<Table>>,
    sender: watch::Sender<State>,
    stop: CancellationToken,
}

impl Task {
    async fn run<K>(self, api: Api<K>, is_final: fn(&K) -> bool, object: fn(K) -> Object)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let mut events = Box::pin(watcher::watch_object(api, &self.reference.name).default_backoff());
        while let Some(Some(event)) = self.stop.run_until_cancelled(events.next()).await {
            let (state, ends) = match event {
                Ok(Some(found)) => {
                    let ends = is_final(&found);
                    (State::Present(object(found)), ends)
                }
                Ok(None) => (State::Absent, false),
                Err(error) => {
                    tracing::debug!(%error, reference = ?self.reference, "a watch of an object broke off");
                    // What is known stays known while the server is away.
                    if !matches!(*self.sender.borrow(), State::Unknown | State::Refused(_)) {
                        continue;
                    }
                    (State::Refused(error.to_string()), false)
                }
            };
            let before = self.sender.send_replace(state);
            self.table.lock().tell(&self.reference, matches!(before, State::Unknown));
            if ends {
                // Nothing new will be told of it; what is known is kept until the last pod lets it go.
                drop(events);
                self.stop.cancelled().await;
                return;
            }
        }
    }
}
