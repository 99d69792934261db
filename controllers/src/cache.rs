//! What the API has, as far as watches have told: one cache for each kind, shared by all controllers. Must never be written but
//! by what the API tells.

mod informer;
mod store;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub(crate) use informer::cannot_stream;
pub(crate) use store::{Change, Index, Seen};

use crate::kind::{Key, Kind, Object};
use store::Store;

/// What is done with a change; called by the kind's informer, one after the other, when the cache has it.
type Handler<K> = Box<dyn Fn(&Change<K>, &Caches) + Send + Sync>;

/// Called once, at the next news of a kind.
pub(crate) type Waker = Box<dyn FnOnce() + Send>;

/// Which objects of a kind are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Nobody has said yet.
    Unsaid,
    /// Those that this field selector selects.
    Selected(&'static str),
    /// All.
    All,
}

impl Wanted {
    /// What serves both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unsaid, one) | (one, Self::Unsaid) => one,
            (one, other) if one == other => one,
            _ => Self::All,
        }
    }
}

/// The cache of one kind.
pub(crate) struct Cache<K> {
    wanted: Mutex<Wanted>,
    store: RwLock<Store<K>>,
    handlers: Mutex<Vec<Arc<Handler<K>>>>,
    wakers: Mutex<Vec<Waker>>,
    synced: watch::Sender<bool>,
}

impl<K: Object> Cache<K> {
    fn new() -> Self {
        Self {
            wanted: Mutex::new(Wanted::Unsaid),
            store: RwLock::new(Store::new()),
            handlers: Mutex::default(),
            wakers: Mutex::default(),
            synced: watch::Sender::new(false),
        }
    }

    /// The object there.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.store.read().get(key)
    }

    /// All objects, in order of their keys.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.store.read().all().cloned().collect()
    }

    /// All objects of a namespace, in order of their names.
    #[must_use]
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.store.read().in_namespace(namespace).cloned().collect()
    }

    /// The objects that the object with this uid controls.
    #[must_use]
    pub(crate) fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.store.read().controlled_by(uid)
    }

    /// The objects of a namespace that nobody controls.
    #[must_use]
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.store.read().orphans(namespace)
    }

    /// The objects with this value in an index that [`Watches::index`](crate::controller::Watches::index) made.
    #[must_use]
    pub(crate) fn with(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.store.read().with(index, value)
    }

    /// Who waits for news is woken, when they are in the cache.
    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(|wake| wake());
    }

    fn tell(&self, change: &Change<K>, caches: &Caches) {
        // Copied, so that a handler may ask the caches.
        let handlers = self.handlers.lock().clone();
        for handler in handlers {
            handler(change, caches);
        }
    }

    /// The API told that it is so.
    pub(crate) fn apply(&self, object: K, caches: &Caches) {
        let change = self.store.write().apply(object);
        self.wake();
        if let Some(change) = change {
            self.tell(&change, caches);
        }
    }

    /// The API told that it is gone; as it was last.
    pub(crate) fn delete(&self, object: K, caches: &Caches) {
        let change = self.store.write().delete(object);
        self.wake();
        if let Some(change) = change {
            self.tell(&change, caches);
        }
    }

    /// The API told all that there is.
    pub(crate) fn replace(&self, objects: Vec<K>, caches: &Caches) {
        let changes = self.store.write().replace(objects);
        self.synced.send_replace(true);
        self.wake();
        for change in changes {
            self.tell(&change, caches);
        }
    }
}

/// A cache of whichever kind.
pub(crate) trait AnyCache: Send + Sync {
    fn as_any(&self) -> &(dyn Any + Send + Sync);
    fn seen(&self, key: &Key) -> Option<Seen>;
    fn latest(&self) -> u64;
    fn wake_at_news(&self, waker: Waker);
    fn synced(&self) -> watch::Receiver<bool>;
    fn follow<'a>(&'a self, client: Client, caches: &'a Caches) -> BoxFuture<'a, ()>;
    /// As [`Cache::apply`] and [`Cache::delete`], of an object as the simulated API has it.
    #[cfg(test)]
    fn told(&self, object: serde_json::Value, gone: bool, caches: &Caches);
    #[cfg(test)]
    fn told_all(&self, objects: Vec<serde_json::Value>, caches: &Caches);
}

impl<K: Object> AnyCache for Cache<K> {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn seen(&self, key: &Key) -> Option<Seen> {
        self.store.read().seen(key)
    }

    fn latest(&self) -> u64 {
        self.store.read().latest()
    }

    fn wake_at_news(&self, waker: Waker) {
        self.wakers.lock().push(waker);
    }

    fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn follow<'a>(&'a self, client: Client, caches: &'a Caches) -> BoxFuture<'a, ()> {
        let fields = match *self.wanted.lock() {
            Wanted::Selected(fields) => Some(fields),
            Wanted::All | Wanted::Unsaid => None,
        };
        Box::pin(informer::follow(self, client, caches, fields))
    }

    #[cfg(test)]
    fn told(&self, object: serde_json::Value, gone: bool, caches: &Caches) {
        let object: K = serde_json::from_value(object).unwrap();
        if gone { self.delete(object, caches) } else { self.apply(object, caches) }
    }

    #[cfg(test)]
    fn told_all(&self, objects: Vec<serde_json::Value>, caches: &Caches) {
        let read = |object| serde_json::from_value(object).unwrap();
        self.replace(objects.into_iter().map(read).collect(), caches);
    }
}

/// All caches of the process.
#[derive(Default)]
pub(crate) struct Caches {
    kinds: BTreeMap<Kind, Arc<dyn AnyCache>>,
}

impl Caches {
    /// The cache of a kind.
    ///
    /// # Panics
    /// When no controller of the process has declared in its `watch` that it watches the kind.
    #[must_use]
    pub(crate) fn of<K: Object>(&self) -> &Cache<K> {
        let kind = Kind::of::<K>();
        let cache = self.kinds.get(&kind).unwrap_or_else(|| panic!("nobody declared to watch {kind}"));
        cache.as_any().downcast_ref().expect("a kind has one type")
    }

    /// There is a cache of all objects of this kind, from here on.
    pub(crate) fn add<K: Object>(&mut self) {
        self.want::<K>(Wanted::All);
    }

    /// There is a cache with at least those objects of this kind that a field selector selects.
    pub(crate) fn add_selected<K: Object>(&mut self, fields: &'static str) {
        self.want::<K>(Wanted::Selected(fields));
    }

    fn want<K: Object>(&mut self, wanted: Wanted) {
        self.kinds.entry(Kind::of::<K>()).or_insert_with(|| Arc::new(Cache::<K>::new()));
        let mut all = self.of::<K>().wanted.lock();
        *all = all.and(wanted);
    }

    pub(crate) fn handle<K: Object>(&mut self, handler: Handler<K>) {
        self.want::<K>(Wanted::Unsaid);
        self.of::<K>().handlers.lock().push(Arc::new(handler));
    }

    pub(crate) fn index<K: Object>(&mut self, name: &'static str, index: Index<K>) {
        self.want::<K>(Wanted::Unsaid);
        self.of::<K>().store.write().index(name, index);
    }

    /// What is known of an object; nothing when it is not there or its kind is not watched.
    pub(crate) fn seen(&self, kind: &Kind, key: &Key) -> Option<Seen> {
        self.kinds.get(kind)?.seen(key)
    }

    /// The newest version that was told of any object of a kind; nothing when the kind is not watched.
    pub(crate) fn latest(&self, kind: &Kind) -> Option<u64> {
        Some(self.kinds.get(kind)?.latest())
    }

    /// Calls this at the next news of a kind.
    pub(crate) fn wake_at_news(&self, kind: &Kind, waker: Waker) {
        if let Some(cache) = self.kinds.get(kind) {
            cache.wake_at_news(waker);
        }
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, Arc<dyn AnyCache>)> {
        self.kinds.iter().map(|(kind, cache)| (*kind, cache.clone()))
    }

    /// Waits until each of these kinds has been told whole.
    pub(crate) async fn synced(&self, kinds: &[Kind]) {
        for kind in kinds {
            if let Some(cache) = self.kinds.get(kind) {
                // The sender is in the cache, which is here.
                let _ = cache.synced().wait_for(|synced| *synced).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn a_watch_serves_all_who_want_it() {
        let some = Wanted::Selected("type=a");
        assert_eq!(Wanted::Unsaid.and(some), some);
        assert_eq!(some.and(Wanted::Unsaid), some);
        assert_eq!(some.and(some), some);
        assert_eq!(some.and(Wanted::Selected("type=b")), Wanted::All);
        assert_eq!(some.and(Wanted::All), Wanted::All);
    }
}
