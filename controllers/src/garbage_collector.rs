//! Objects whose owners are all gone go too. Owners and dependents of all kinds, custom ones too, are followed by their metadata
//! alone. Must never delete what has a living owner.
//!
//! `graph` keeps who names whom and says whom to look at; `attempt` looks at one object with the eyes of the API; `fate` decides.

mod absent;
mod attempt;
mod fate;
mod graph;
mod identity;
mod kube_objects;
mod patches;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use barque_client::events::{Kind as Gravity, Recorder};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::controller_manager::Parts;
use crate::discovery::{Collection, Discovered, Followed};
use crate::kind::Key;
use crate::metadata_watch::{self, Told};
use crate::plan::Told as Sentence;
use crate::queue::WorkQueue;
use crate::reconcile::{Next, Teller as _};
use attempt::{Collector, Looked};
use graph::{Effects, Graph, Work};
use identity::Identity;
use kube_objects::KubeObjects;

/// So long it is waited at the start for watches that have not told anything; then without them.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nobody is garbage who was told about: events have no owners and come in masses.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// The two ways of looking at a node; keys of the queue begin with them.
const DELETE: &str = "delete";
const ORPHAN: &str = "orphan";

/// Runs the garbage collector for ever.
pub(crate) async fn run(parts: Parts, mut discovered: Followed) {
    let queue = WorkQueue::new(parts.queue_metrics.clone());
    let follow_up = {
        let (queue, recorder) = (queue.clone(), parts.recorder.clone());
        Box::new(move |effects: Effects| follow_up(effects, &queue, &recorder))
    };
    let objects = KubeObjects { client: parts.client.clone(), discovered: discovered.clone() };
    let collector = Arc::new(Collector {
        graph: Mutex::new(Graph::default()),
        objects,
        follow_up,
        unserved: Mutex::default(),
    });
    // Ends with this future, and all of its tasks with it.
    let mut monitors = Monitors {
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        told: watch::Sender::new(BTreeSet::new()),
    };
    let mut workers = JoinSet::new();
    loop {
        let now = discovered.borrow_and_update().clone();
        if let Some(now) = now {
            monitors.follow(&now, &parts, &collector);
            let unserved = std::mem::take(&mut *collector.unserved.lock());
            unserved.iter().for_each(|uid| queue.add(Key::new(DELETE, uid)));
            if workers.is_empty() {
                monitors.wait().await;
                for _ in 0..parts.workers {
                    workers.spawn(work(collector.clone(), queue.clone()));
                }
            }
        }
        if discovered.changed().await.is_err() {
            // The process ends.
            return std::future::pending().await;
        }
    }
}

fn follow_up(effects: Effects, queue: &WorkQueue, recorder: &Recorder) {
    for (dependent, owner) in effects.strangers {
        recorder.tell(Sentence {
            regarding: dependent.reference(),
            gravity: Gravity::Warning,
            reason: "OwnerRefInvalidNamespace",
            text: format!("ownerRef {owner} does not exist in namespace \"{}\"", dependent.namespace),
        });
    }
    for work in effects.work {
        match work {
            Work::Delete(uid) => queue.add(Key::new(DELETE, &uid)),
            Work::DeleteLater(uid) => queue.retry(Key::new(DELETE, &uid)),
            Work::Orphan(uid) => queue.add(Key::new(ORPHAN, &uid)),
        }
    }
}

async fn work(collector: Arc<Collector<KubeObjects>>, queue: WorkQueue) {
    loop {
        let key = queue.take().await;
        let looked = if key.namespace == ORPHAN {
            collector.orphan(&key.name).await
        } else {
            collector.delete(&key.name).await
        };
        let next = match looked {
            Looked::Done => Next::Settled(None),
            Looked::Again => Next::Retry(None),
        };
        next.follow_up(&queue, &key);
    }
}

/// A collection, whichever its verbs.
type CollectionName = (String, String, String);

fn name(collection: &Collection) -> CollectionName {
    (collection.group.clone(), collection.version.clone(), collection.resource.clone())
}

/// The watches of all collections whose objects can be garbage.
struct Monitors {
    running: BTreeMap<CollectionName, AbortHandle>,
    tasks: JoinSet<()>,
    /// Those that have told all that there is.
    told: watch::Sender<BTreeSet<CollectionName>>,
}

impl Monitors {
    /// Watches what is served now, and nothing else.
    fn follow(&mut self, served: &Discovered, parts: &Parts, collector: &Arc<Collector<KubeObjects>>) {
        let wanted = wanted(served);
        let stale = served.stale();
        self.running.retain(|running, task| {
            let (group, version, _) = running;
            let silent = || {
                let own = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
                stale.contains(&own)
            };
            let stays = wanted.contains_key(running) || silent();
            if !stays {
                task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for (name, collection) in wanted {
            if self.running.contains_key(&name) {
                continue;
            }
            let (client, collector, told) = (parts.client.clone(), collector.clone(), self.told.clone());
            let own = name.clone();
            let task = self.tasks.spawn(async move {
                let mut members = HashSet::new();
                metadata_watch::follow(client, &collection, |change| {
                    let whole = matches!(change, Told::All(_));
                    take(&collector, &collection, &mut members, change);
                    if whole {
                        told.send_if_modified(|all| all.insert(own.clone()));
                    }
                })
                .await;
            });
            self.running.insert(name, task);
        }
    }

    /// Waits until all of them have told what there is, for a while.
    async fn wait(&self) {
        let mut told = self.told.subscribe();
        let all = told.wait_for(|told| self.running.keys().all(|name| told.contains(name)));
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("some collections cannot be watched; garbage is collected without them");
        }
    }
}

/// All collections that can be watched and deleted.
fn wanted(served: &Discovered) -> BTreeMap<CollectionName, Arc<Collection>> {
    let all = served.preferred().into_iter();
    all.filter(|one| one.can(&["delete", "list", "watch"]))
        .filter(|one| !IGNORED.contains(&(&*one.group, &*one.resource)))
        .map(|one| (name(&one), one))
        .collect()
}

/// Takes what a watch tells into the graph. `members` are the uids that are known of this collection.
fn take(
    collector: &Collector<KubeObjects>,
    collection: &Collection,
    members: &mut HashSet<String>,
    change: Told,
) {
    let is = |members: &mut HashSet<String>, meta: kube::core::ObjectMeta| {
        let Some(uid) = meta.uid.clone() else { return };
        members.insert(uid.clone());
        let identity = Identity {
            kind: collection.kind.clone(),
            api_version: collection.api_version(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid,
        };
        let effects = collector.graph.lock().observe(identity, &meta);
        (collector.follow_up)(effects);
    };
    let gone = |uid: &str| {
        let effects = collector.graph.lock().gone(uid);
        (collector.follow_up)(effects);
    };
    match change {
        Told::All(list) => {
            let there: HashSet<_> = list.iter().filter_map(|meta| meta.uid.clone()).collect();
            members.extract_if(|uid| !there.contains(uid)).for_each(|uid| gone(&uid));
            list.into_iter().for_each(|meta| is(members, meta));
        }
        Told::Is(meta) => is(members, meta),
        Told::Gone(meta) => {
            if let Some(uid) = meta.uid {
                members.remove(&uid);
                gone(&uid);
            }
        }
    }
}
