//! Looks at one node: asks the API how things stand, decides by that, and acts. Must never act on what the graph says alone: it
//! says whom to look at.
//!
//! What is asked stays true until it is acted on, or the act is refused: an owner that is not there never comes back, since uids
//! are not given again, and what is deleted must be in the version that was judged.

use std::collections::HashSet;
use std::future::Future;

use futures::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::fate::{Fate, Live, OwnerState, fate};
use super::graph::{Effects, FOREGROUND, Graph, ORPHAN, Work};
use super::identity::Identity;
use super::patches::OwnersChange;
use crate::plan::{Failure, Propagation, Verdict};

/// How often a write is tried again that somebody else's got in the way of.
const TRIES: usize = 5;
/// How many objects wait for their owners' kinds at most; others wait for their back-off alone.
const UNSERVED: usize = 10_000;
/// How many dependents of one owner are orphaned at once.
const AT_ONCE: usize = 16;

/// The API, as far as it is needed here.
pub(super) trait Objects: Send + Sync {
    /// Whether objects of a kind are in namespaces; nothing when the kind is not served.
    fn namespaced(&self, api_version: &str, kind: &str) -> Option<bool>;

    /// The object of this kind, namespace and name, whichever its uid.
    fn get(&self, object: &Identity) -> impl Future<Output = Result<Option<Live>, Failure>> + Send;

    /// Deletes it if it has this uid and this version.
    fn delete(
        &self,
        object: &Identity,
        version: &str,
        propagation: Propagation,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Changes its owners if it has this uid.
    fn change_owners(
        &self,
        object: &Identity,
        change: &OwnersChange,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Gives it these finalizers if it has this uid and this version.
    fn set_finalizers(
        &self,
        object: &Identity,
        version: &str,
        finalizers: &[String],
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// How looking at a node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing is left to do.
    Done,
    /// It is to be looked at again.
    Again,
}

/// The graph, the API, and where what follows from a change goes.
pub(super) struct Collector<O> {
    pub(super) graph: Mutex<Graph>,
    pub(super) objects: O,
    pub(super) follow_up: Box<dyn Fn(Effects) + Send + Sync>,
    /// Those that could not be looked at because a kind is not served.
    pub(super) unserved: Mutex<HashSet<String>>,
}

/// What is known without asking.
enum Known {
    /// Where the object is.
    At(Identity),
    /// Nobody serves its kind, or not yet.
    Unserved,
    /// It cannot be: it would be in a namespace, and none is told.
    Impossible,
}

impl<O: Objects> Collector<O> {
    fn place(&self, object: &Identity) -> Known {
        match self.objects.namespaced(&object.api_version, &object.kind) {
            None => Known::Unserved,
            Some(true) if object.namespace.is_empty() => Known::Impossible,
            Some(true) => Known::At(object.clone()),
            Some(false) => Known::At(Identity { namespace: String::new(), ..object.clone() }),
        }
    }

    /// Whether an object goes.
    pub(super) async fn delete(&self, uid: &str) -> Looked {
        let Some(node) = self.graph.lock().node(uid).cloned() else { return Looked::Done };
        if node.deleting && !node.deleting_dependents {
            // It is on its way; its dependents are looked at when it is gone.
            return Looked::Done;
        }
        let object = match self.place(&node.identity) {
            Known::At(object) => object,
            Known::Unserved => return self.until_served(uid),
            Known::Impossible => return Looked::Done,
        };
        let live = match self.objects.get(&object).await {
            Ok(Some(live)) if live.uid == uid => live,
            Ok(_) => {
                let effects = self.graph.lock().absent(&node.identity);
                (self.follow_up)(effects);
                return Looked::Done;
            }
            Err(failure) => return again(&node.identity, &failure),
        };
        let looked = if node.deleting_dependents {
            self.finish(&object).await
        } else if live.deleting {
            // The watch will tell, and whoever deleted it said what becomes of its dependents.
            Looked::Done
        } else {
            match self.judge(&object, &live).await {
                Ok(looked) => looked,
                Err(failure) => again(&node.identity, &failure),
            }
        };
        // One that no watch has told of may be gone before any does.
        if looked == Looked::Done && node.is_virtual { self.unless_gone(uid) } else { looked }
    }

    /// It is looked at again when other kinds are served, too.
    fn until_served(&self, uid: &str) -> Looked {
        let mut unserved = self.unserved.lock();
        if unserved.len() < UNSERVED {
            unserved.insert(uid.to_owned());
        }
        Looked::Again
    }

    fn unless_gone(&self, uid: &str) -> Looked {
        match self.graph.lock().node(uid) {
            Some(node) if node.is_virtual => Looked::Again,
            _ => Looked::Done,
        }
    }

    async fn judge(&self, object: &Identity, live: &Live) -> Result<Looked, Failure> {
        let mut states = Vec::with_capacity(live.owners.len());
        for reference in &live.owners {
            let owner = Identity::of_owner(reference, &object.namespace);
            let Some(state) = self.state(&owner).await? else {
                let known = self.objects.namespaced(&owner.api_version, &owner.kind).is_some();
                // An object of no namespace that names an owner of one: nothing will change that.
                return Ok(if known { Looked::Done } else { self.until_served(&object.uid) });
            };
            states.push(state);
        }
        let waiting: Vec<bool> = {
            let graph = self.graph.lock();
            graph.dependents(&object.uid).map(|node| node.deleting_dependents).collect()
        };
        match fate(live, &states, &waiting) {
            Fate::Stays => Ok(Looked::Done),
            Fate::Unlink(owners) => {
                tracing::debug!(%object, ?owners, "owners that are gone are named no more");
                self.objects.change_owners(object, &OwnersChange::Remove(owners)).await?;
                Ok(Looked::Done)
            }
            Fate::Goes { propagation, unblock } => {
                let mut version = live.version.clone();
                if unblock {
                    self.objects.change_owners(object, &OwnersChange::Unblock).await?;
                    // Who deleted it meanwhile said what becomes of its dependents; a second deletion would say otherwise.
                    match self.objects.get(object).await? {
                        Some(newer)
                            if newer.uid == live.uid && !newer.deleting && same_owners(&newer, live) =>
                        {
                            version = newer.version;
                        }
                        _ => return Ok(Looked::Again),
                    }
                }
                self.remove(object, live, version, propagation).await
            }
        }
    }

    /// What an owner is; nothing when that cannot be known.
    async fn state(&self, owner: &Identity) -> Result<Option<OwnerState>, Failure> {
        let nowhere = Identity { namespace: String::new(), ..owner.clone() };
        {
            let mut graph = self.graph.lock();
            if graph.absent.has(&nowhere) || graph.absent.has(owner) {
                return Ok(Some(OwnerState::Dangling));
            }
        }
        let Known::At(place) = self.place(owner) else { return Ok(None) };
        match self.objects.get(&place).await? {
            Some(live) if live.uid == owner.uid => Ok(Some(OwnerState::of(&live))),
            _ => {
                self.graph.lock().absent.add(place);
                Ok(Some(OwnerState::Dangling))
            }
        }
    }

    /// Deletes what was judged. Changes that leave the owners alone do not save it.
    async fn remove(
        &self,
        object: &Identity,
        judged: &Live,
        mut version: String,
        propagation: Propagation,
    ) -> Result<Looked, Failure> {
        for _ in 0..TRIES {
            tracing::debug!(%object, ?propagation, "an object whose owners are gone is deleted");
            match self.objects.delete(object, &version, propagation).await {
                Ok(()) => return Ok(Looked::Done),
                Err(Failure { verdict: Verdict::Gone, .. }) => break,
                Err(Failure { verdict: Verdict::Outdated, .. }) => {}
                Err(failure) => return Err(failure),
            }
            match self.objects.get(object).await? {
                Some(newer) if newer.uid == judged.uid && newer.deleting => return Ok(Looked::Done),
                Some(newer) if newer.uid == judged.uid && same_owners(&newer, judged) => {
                    version = newer.version;
                }
                Some(newer) if newer.uid == judged.uid => return Ok(Looked::Again),
                _ => break,
            }
        }
        // Gone, or changed all the time: the next look tells which.
        let still = self.objects.get(object).await?.is_some_and(|live| live.uid == judged.uid);
        if still {
            return Ok(Looked::Again);
        }
        let effects = self.graph.lock().absent(object);
        (self.follow_up)(effects);
        Ok(Looked::Done)
    }

    /// One that waits for its dependents: it goes when none is left that it waits for.
    async fn finish(&self, object: &Identity) -> Looked {
        let (none, work) = {
            let graph = self.graph.lock();
            let blocking = graph.blocking(&object.uid);
            let moving = blocking.iter().filter(|node| !node.deleting_dependents);
            (blocking.is_empty(), moving.map(|node| Work::Delete(node.identity.uid.clone())).collect())
        };
        if none {
            return self.drop_finalizer(object, FOREGROUND).await;
        }
        (self.follow_up)(Effects { work, strangers: Vec::new() });
        Looked::Done
    }

    /// Its dependents do not name it any more; then it goes.
    pub(super) async fn orphan(&self, uid: &str) -> Looked {
        let Some((owner, dependents)) = ({
            let graph = self.graph.lock();
            let dependents = graph.dependents(uid).map(|node| node.identity.clone()).collect::<Vec<_>>();
            graph.node(uid).map(|node| (node.identity.clone(), dependents))
        }) else {
            return Looked::Done;
        };
        let change = OwnersChange::Remove(vec![uid.to_owned()]);
        let change = &change;
        let freed = stream::iter(dependents).map(|dependent| async move {
            match self.place(&dependent) {
                Known::At(object) => match self.objects.change_owners(&object, change).await {
                    Ok(()) | Err(Failure { verdict: Verdict::Gone, .. }) => Looked::Done,
                    Err(failure) => again(&object, &failure),
                },
                Known::Unserved => Looked::Again,
                Known::Impossible => Looked::Done,
            }
        });
        let freed: Vec<_> = freed.buffer_unordered(AT_ONCE).collect().await;
        if freed.contains(&Looked::Again) {
            return Looked::Again;
        }
        match self.place(&owner) {
            Known::At(object) => self.drop_finalizer(&object, ORPHAN).await,
            Known::Unserved => Looked::Again,
            Known::Impossible => Looked::Done,
        }
    }

    async fn drop_finalizer(&self, object: &Identity, finalizer: &str) -> Looked {
        for _ in 0..TRIES {
            let live = match self.objects.get(object).await {
                Ok(Some(live)) if live.uid == object.uid && live.has(finalizer) => live,
                Ok(_) => return Looked::Done,
                Err(failure) => return again(object, &failure),
            };
            let kept: Vec<_> = live.finalizers.iter().filter(|one| *one != finalizer).cloned().collect();
            match self.objects.set_finalizers(object, &live.version, &kept).await {
                Ok(()) | Err(Failure { verdict: Verdict::Gone, .. }) => return Looked::Done,
                Err(Failure { verdict: Verdict::Outdated, .. }) => {}
                Err(failure) => return again(object, &failure),
            }
        }
        Looked::Again
    }
}

/// Whether nothing has changed about who owns it.
fn same_owners(one: &Live, other: &Live) -> bool {
    let names = |live: &Live| {
        let named = live.owners.iter().map(|owner| {
            (owner.api_version.clone(), owner.kind.clone(), owner.name.clone(), owner.uid.clone())
        });
        named.collect::<Vec<_>>()
    };
    names(one) == names(other)
}

fn again(object: &Identity, failure: &Failure) -> Looked {
    tracing::debug!(%object, message = failure.message, "an object is looked at again");
    Looked::Again
}
