//! What a controller is: what it watches, and pure functions from what is to what is done. Must never act.

use std::future::Future;
use std::time::Duration;

use barque_api::labels::Selector;
use k8s_openapi::jiff::Timestamp;

use crate::act::KubeApi;
use crate::cache::{Caches, Change, Index};
use crate::kind::{Key, Kind, Object};
use crate::owners;
use crate::plan::{Outcome, Plan, Planned};
use crate::question::{Answer, Question};
use crate::queue::WorkQueue;
use crate::reconcile::Next;

/// A controller. It has no state of its own but what it has seen and when, and what [`performed`](Self::performed) remembers of its
/// own decisions; whatever it decides follows from the view.
pub(crate) trait Controller: Send + Sync + 'static {
    /// All that a decision about one key is made of.
    type View: Send;

    /// Says which kinds are watched, and which keys a change is about.
    fn watch(&self, watches: &mut Watches<'_>);

    /// Collects what a decision about a key needs; nothing when there is nothing to decide.
    fn observe(&self, key: &Key, caches: &Caches) -> Option<Self::View>;

    /// What is still to be asked of the API, past the caches, before a plan can be made. It is called again with the answers
    /// known, until nothing is left to ask.
    fn questions(&self, _view: &Self::View) -> Vec<Question> {
        Vec::new()
    }

    /// An answer came.
    fn learn(&self, _view: &mut Self::View, _question: Question, _answer: Answer) {}

    /// Decides. Made only of caches that have seen all that was written for the key before.
    fn plan(&self, view: &Self::View, now: Timestamp) -> Plan;

    /// What is written after the plan was performed, knowing how that went: the status, mostly.
    fn status(&self, _view: &Self::View, _outcome: &Outcome, _now: Timestamp) -> Option<Planned> {
        None
    }

    /// What was decided and how it went, for decisions to come that depend on it where the API does not keep it.
    fn performed(&self, _key: &Key, _view: &Self::View, _outcome: &Outcome, _now: Timestamp) {}

    /// There is nothing to decide about a key any more: what was remembered of it goes.
    fn forget(&self, _key: &Key) {}
}

/// A controller that must look past the caches, such as one that asks what the API serves. Its passes observe and act in turn;
/// what it decides is in pure functions of its own.
pub(crate) trait Walker: Send + Sync + 'static {
    /// Says which kinds are watched, and which keys a change is about.
    fn watch(&self, watches: &mut Watches<'_>);

    /// One pass over one key.
    fn pass(
        &self,
        key: &Key,
        caches: &Caches,
        api: &KubeApi,
        now: Timestamp,
    ) -> impl Future<Output = Next> + Send;
}

/// Finds all keys of a kind.
pub(crate) type AllKeys = fn(&Caches) -> Vec<Key>;

/// What a controller watches; filled by [`Controller::watch`].
pub(crate) struct Watches<'a> {
    caches: &'a mut Caches,
    queue: WorkQueue,
    kinds: Vec<Kind>,
    keys: Vec<AllKeys>,
}

impl<'a> Watches<'a> {
    /// Changes lead to keys in this queue.
    pub(crate) fn new(caches: &'a mut Caches, queue: WorkQueue) -> Self {
        Self { caches, queue, kinds: Vec::new(), keys: Vec::new() }
    }

    /// These objects are the keys: each change is to be looked at, and all of them now and then.
    pub(crate) fn objects<K: Object>(&mut self) {
        self.mapped::<K>(|change, _| vec![change.latest().key()]);
        self.keys.push(|caches| caches.of::<K>().all().iter().map(|object| object.key()).collect());
    }

    /// A change of an object is about its controller, if that is an `Owner`.
    pub(crate) fn controlled<K: Object, Owner: Object>(&mut self) {
        self.mapped::<K>(|change, _| {
            let mut keys: Vec<_> = change.both().filter_map(|object| owner_of::<K, Owner>(object)).collect();
            keys.dedup();
            keys
        });
    }

    /// As [`controlled`](Self::controlled); a change of an object that nobody controls is about every `Owner` in its namespace
    /// whose selector matches it, or did: one that was about to adopt it has counted it already, and must hear that it went.
    pub(crate) fn controlled_or_selected<K: Object, Owner: Object>(
        &mut self,
        selector: fn(&Owner) -> Option<Selector>,
    ) {
        self.controlled::<K, Owner>();
        self.mapped::<K>(move |change, caches| {
            let orphans: Vec<_> = change.both().filter(|object| object.controller().is_none()).collect();
            let Some(orphan) = orphans.first() else { return Vec::new() };
            let owners = caches.of::<Owner>().in_namespace(&orphan.key().namespace);
            let wants = |owner: &Owner| {
                selector(owner)
                    .is_some_and(|it| orphans.iter().any(|orphan| owners::matches(&it, &***orphan)))
            };
            owners.iter().filter(|owner| wants(owner)).map(|owner| owner.key()).collect()
        });
    }

    /// A change is about these keys.
    pub(crate) fn mapped<K: Object>(
        &mut self,
        keys: impl Fn(&Change<K>, &Caches) -> Vec<Key> + Send + Sync + 'static,
    ) {
        self.mapped_after(Duration::ZERO, keys);
    }

    /// A change is about these keys, which are looked at so much later.
    pub(crate) fn mapped_after<K: Object>(
        &mut self,
        delay: Duration,
        keys: impl Fn(&Change<K>, &Caches) -> Vec<Key> + Send + Sync + 'static,
    ) {
        self.caches.add::<K>();
        self.lead_to(delay, keys);
    }

    /// A change of one of the objects that a field selector selects is about these keys. Others may be told too: of the kind,
    /// that is all that this controller knows for sure.
    pub(crate) fn mapped_of<K: Object>(
        &mut self,
        fields: &'static str,
        keys: impl Fn(&Change<K>, &Caches) -> Vec<Key> + Send + Sync + 'static,
    ) {
        self.caches.add_selected::<K>(fields);
        self.lead_to(Duration::ZERO, keys);
    }

    fn lead_to<K: Object>(
        &mut self,
        delay: Duration,
        keys: impl Fn(&Change<K>, &Caches) -> Vec<Key> + Send + Sync + 'static,
    ) {
        self.kinds.push(Kind::of::<K>());
        let queue = self.queue.clone();
        self.caches.handle::<K>(Box::new(move |change, caches| {
            for key in keys(change, caches) {
                queue.add_after(key, delay);
            }
        }));
    }

    /// All of these are looked at now and then.
    pub(crate) fn all(&mut self, keys: AllKeys) {
        self.keys.push(keys);
    }

    /// A kind is only read.
    pub(crate) fn read<K: Object>(&mut self) {
        self.kinds.push(Kind::of::<K>());
        self.caches.add::<K>();
    }

    /// Objects of a kind are found by these values, with [`Cache::with`](crate::cache::Cache::with). The name says which values;
    /// the same name for the same kind is the same index for all controllers.
    pub(crate) fn index<K: Object>(&mut self, name: &'static str, index: Index<K>) {
        self.caches.index(name, index);
    }

    /// The kinds, and how all keys are found.
    pub(crate) fn into_parts(self) -> (Vec<Kind>, Vec<AllKeys>) {
        (self.kinds, self.keys)
    }
}

/// The key of an object's controller of this kind.
pub(crate) fn owner_of<K: Object, Owner: Object>(object: &K) -> Option<Key> {
    let owner = object.controller().filter(|owner| owner.kind == Owner::KIND)?;
    let (group, _) = owner.api_version.split_once('/').unwrap_or(("", ""));
    let namespace = if Kind::of::<Owner>().namespaced { object.key().namespace } else { String::new() };
    (group == Owner::GROUP).then(|| Key { namespace, name: owner.name.clone() })
}
