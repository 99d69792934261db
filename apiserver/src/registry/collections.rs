//! The collections of a cluster with their caches, and every version in which they are served. Custom ones come and go while
//! requests run. Must never decide what may be done with an object.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use barque_api::kind::{GroupResource, GroupVersionKind, GroupVersionResource};
use barque_api::resources::{Builtin, Verb};
use barque_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::selectable;
use super::served::{Served, Shape};
use crate::storage::encryption::{Encrypted, Encryption};
use crate::storage::event_leases::EventLeases;
use crate::storage::keys::CollectionKeys;
use crate::storage::{LeaseId, Storage};
use crate::watch_cache::query::{At, ListQuery};
use crate::watch_cache::reader::ObjectReader;
use crate::watch_cache::registry::Selection;
use crate::watch_cache::{self, WatchCache};

/// Where and how everything is kept.
pub struct Settings<S> {
    /// The store.
    pub storage: S,
    /// What all keys begin with.
    pub root: String,
    /// What is encrypted, and how.
    pub encryption: Encryption,
    /// How long events are kept.
    pub event_ttl: Duration,
}

/// The objects of one collection, in whatever versions they are served.
pub struct Collection<S: Storage> {
    /// Its name.
    pub resource: GroupResource,
    /// Its keys.
    pub keys: CollectionKeys,
    /// The store with its encryption.
    pub storage: Encrypted<S>,
    /// What answers lists and watches.
    pub cache: WatchCache<Encrypted<S>>,
    leases: Option<(EventLeases<S>, Duration)>,
    stop: CancellationToken,
}

impl<S: Storage> Collection<S> {
    /// The lease on which a new version of an object hangs: events do not stay for ever.
    ///
    /// # Errors
    /// When the store grants none.
    pub async fn lease(&self) -> Result<Option<LeaseId>, Status> {
        match &self.leases {
            None => Ok(None),
            Some((leases, ttl)) => {
                let lease = leases.lease(*ttl).await.map_err(|error| error.to_status())?;
                Ok(Some(lease))
            }
        }
    }
}

/// A version of a collection, with its objects; those of collections without objects, such as reviews, have none.
pub struct Endpoint<S: Storage> {
    /// What it is.
    pub served: Arc<Served>,
    /// Its objects.
    pub collection: Option<Arc<Collection<S>>>,
}

impl<S: Storage> Clone for Endpoint<S> {
    fn clone(&self) -> Self {
        Self { served: Arc::clone(&self.served), collection: self.collection.clone() }
    }
}

/// Everything that is served now. Never changes; a new one takes its place.
pub struct Catalog<S: Storage> {
    by_name: HashMap<GroupVersionResource, Endpoint<S>>,
    /// In the order of discovery: built-in ones, then custom ones by name.
    pub endpoints: Vec<Endpoint<S>>,
    /// Counts catalogs, so that what is made of one is made again when it changed.
    pub generation: u64,
}

impl<S: Storage> Catalog<S> {
    /// The version of a collection with this name.
    #[must_use]
    pub fn named(&self, name: &GroupVersionResource) -> Option<&Endpoint<S>> {
        self.by_name.get(name)
    }

    /// The version that holds objects of this kind.
    #[must_use]
    pub fn of_kind(&self, kind: &GroupVersionKind) -> Option<&Endpoint<S>> {
        self.endpoints.iter().find(|one| one.served.kind == *kind && one.collection.is_some())
    }

    /// Any version of a collection.
    #[must_use]
    pub fn of_resource(&self, resource: &GroupResource) -> Option<&Endpoint<S>> {
        self.endpoints.iter().find(|one| one.served.group_resource() == *resource)
    }
}

struct Inner<S: Storage> {
    settings: Settings<S>,
    catalog: ArcSwap<Catalog<S>>,
    /// Held while a catalog takes another's place.
    changing: Mutex<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// See the module's description. Cloning copies a pointer.
pub struct Collections<S: Storage>(Arc<Inner<S>>);

impl<S: Storage> Clone for Collections<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> Collections<S> {
    /// The built-in ones; their caches are filled by `tasks` until `stop`.
    #[must_use]
    pub fn start(settings: Settings<S>, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let empty = Catalog { by_name: HashMap::new(), endpoints: Vec::new(), generation: 0 };
        let inner = Inner {
            settings,
            catalog: ArcSwap::from_pointee(empty),
            changing: Mutex::new(()),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let collections = Self(Arc::new(inner));
        let builtin = Builtin::table().all().iter().map(|row| Arc::new(Served::builtin(Arc::clone(row))));
        collections.replace(builtin.collect());
        collections
    }

    /// What is served now.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog<S>> {
        self.0.catalog.load_full()
    }

    /// Serves these custom versions from now on, and no others. Objects of collections that stay are not read again, unless
    /// other fields of them are to be selectable.
    pub fn set_custom(&self, custom: Vec<Arc<Served>>) {
        let _changing = self.0.changing.lock();
        let now = self.catalog();
        let builtin = now.endpoints.iter().filter(|one| !one.served.is_custom());
        let mut all: Vec<_> = builtin.map(|one| Arc::clone(&one.served)).collect();
        all.extend(custom);
        self.replace(all);
    }

    fn replace(&self, served: Vec<Arc<Served>>) {
        let before = self.catalog();
        let mut collections: HashMap<GroupResource, Option<Arc<Collection<S>>>> = HashMap::new();
        let mut endpoints = Vec::with_capacity(served.len());
        for served in served {
            let stored = served.stored.group_resource();
            let collection = collections
                .entry(stored)
                .or_insert_with(|| kept(&before, &served).or_else(|| self.open(&served)))
                .clone();
            endpoints.push(Endpoint { served, collection });
        }
        let by_name = endpoints.iter().map(|one| (one.served.resource.name.clone(), one.clone())).collect();
        for gone in before.endpoints.iter().filter_map(|one| one.collection.as_ref()) {
            let stays = collections.values().flatten().any(|one| Arc::ptr_eq(one, gone));
            if !stays {
                gone.stop.cancel();
            }
        }
        let generation = before.generation + 1;
        self.0.catalog.store(Arc::new(Catalog { by_name, endpoints, generation }));
    }

    /// The objects of a collection that has none open yet; nothing for one that keeps no objects.
    fn open(&self, served: &Served) -> Option<Arc<Collection<S>>> {
        if !keeps_objects(served) {
            return None;
        }
        let Settings { storage, root, encryption, event_ttl } = &self.0.settings;
        let resource = served.stored.group_resource();
        let keys = CollectionKeys::new(root, &resource, served.resource.namespaced, served.is_custom());
        let encrypted = encryption.storage(storage.clone(), &resource);
        let (reader, indexed) = match &served.shape {
            Shape::Builtin(_) => {
                (ObjectReader::of(selectable::fields(&resource)), selectable::indexed(&resource))
            }
            Shape::Custom(shape) => {
                (ObjectReader::new(shape.selectable.iter().map(|path| (&**path, ""))), None)
            }
        };
        let stop = self.0.stop.child_token();
        let collection = watch_cache::Collection::new(keys.prefix().clone(), reader, indexed);
        let cache = WatchCache::start(encrypted.clone(), collection, &self.0.tasks, stop.clone());
        let is_events = resource == GroupResource::new("", "events");
        let leases = is_events.then(|| (EventLeases::new(storage.clone()), *event_ttl));
        Some(Arc::new(Collection { resource, keys, storage: encrypted, cache, leases, stop }))
    }

    /// The store, as it is without encryption.
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.0.settings.storage
    }

    /// The store with the encryption of a resource that is no collection.
    #[must_use]
    pub fn encrypted(&self, resource: &GroupResource) -> Encrypted<S> {
        self.0.settings.encryption.storage(self.0.settings.storage.clone(), resource)
    }

    /// What all keys begin with.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.0.settings.root
    }

    /// The objects of a built-in or custom collection.
    #[must_use]
    pub fn collection(&self, resource: &GroupResource) -> Option<Arc<Collection<S>>> {
        self.catalog().of_resource(resource)?.collection.clone()
    }

    /// An object as the cache has it, with its resource version; nothing when there is none. `namespace` is not looked at
    /// for collections without namespaces.
    ///
    /// # Errors
    /// When the cache is not ready, or the object cannot be read.
    pub async fn object(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        self.read(resource, namespace, name, At::Any).await
    }

    /// The same, as the store has it now.
    ///
    /// # Errors
    /// When the store cannot be read, or the object.
    pub async fn newest_object(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Status> {
        self.read(resource, namespace, name, At::Newest).await
    }

    async fn read(
        &self,
        resource: &GroupResource,
        namespace: &str,
        name: &str,
        at: At,
    ) -> Result<Option<Value>, Status> {
        let Some(collection) = self.collection(resource) else { return Ok(None) };
        let key = collection.keys.object(namespace, name);
        match collection.cache.get(&key, at).await? {
            None => Ok(None),
            Some(object) => parse(&object).map(Some),
        }
    }

    /// All objects of a namespace (of all, where it is empty) as the cache has them.
    ///
    /// # Errors
    /// When the cache is not ready, or an object cannot be read.
    pub async fn objects(&self, resource: &GroupResource, namespace: &str) -> Result<Vec<Value>, Status> {
        self.listed(resource, namespace, "0").await
    }

    /// The same, as the store has them now.
    ///
    /// # Errors
    /// When neither the cache nor the store can tell, or an object cannot be read.
    pub async fn newest_objects(
        &self,
        resource: &GroupResource,
        namespace: &str,
    ) -> Result<Vec<Value>, Status> {
        self.listed(resource, namespace, "").await
    }

    async fn listed(
        &self,
        resource: &GroupResource,
        namespace: &str,
        version: &str,
    ) -> Result<Vec<Value>, Status> {
        let Some(collection) = self.collection(resource) else { return Ok(Vec::new()) };
        let query = ListQuery { resource_version: version.to_owned(), ..ListQuery::default() };
        let prefix = collection.keys.namespace_prefix(namespace);
        let selection = Selection { prefix, ..Selection::default() };
        let list = collection.cache.list(&query, &selection).await?;
        list.objects.iter().map(|object| parse(object)).collect()
    }
}

/// An object of the cache, with its resource version.
///
/// # Errors
/// When it cannot be read.
pub fn parse(object: &watch_cache::object::Object) -> Result<Value, Status> {
    let mut text = Vec::new();
    object.write_json(object.revision(), &mut text);
    serde_json::from_slice(&text).map_err(|error| {
        let key = String::from_utf8_lossy(object.key()).into_owned();
        Status::internal(format!("the stored object {key} cannot be read: {error}"))
    })
}

/// The collection as it was, if a version with the same needs was open.
fn kept<S: Storage>(before: &Catalog<S>, served: &Served) -> Option<Arc<Collection<S>>> {
    let stored = served.stored.group_resource();
    let found = before.endpoints.iter().find(|one| one.served.stored.group_resource() == stored)?;
    let same = match (&found.served.shape, &served.shape) {
        (Shape::Custom(old), Shape::Custom(new)) => {
            old.selectable == new.selectable && found.served.resource.namespaced == served.resource.namespaced
        }
        _ => true,
    };
    found.collection.clone().filter(|_| same)
}

fn keeps_objects(served: &Served) -> bool {
    served.is_custom() || served.resource.can(Verb::Watch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviews_and_statuses_keep_no_objects() {
        let keeps = |resource: &str, group: &str, version: &str| {
            let name = GroupVersionResource::new(group, version, resource);
            keeps_objects(&Served::builtin(Arc::clone(Builtin::table().named(&name).unwrap())))
        };
        assert!(keeps("pods", "", "v1"));
        assert!(!keeps("componentstatuses", "", "v1"));
        assert!(!keeps("bindings", "", "v1"));
        assert!(!keeps("tokenreviews", "authentication.k8s.io", "v1"));
    }

    #[tokio::test]
    async fn versions_of_one_kind_share_their_objects() {
        use crate::storage::memory::Memory;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let settings = Settings {
            storage: Memory::new(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let collections = Collections::start(settings, &tasks, &stop);
        let of = |group: &str, version: &str, resource: &str| {
            let name = GroupVersionResource::new(group, version, resource);
            collections.catalog().named(&name).unwrap().collection.clone().unwrap()
        };
        assert!(Arc::ptr_eq(&of("", "v1", "events"), &of("events.k8s.io", "v1", "events")));
        let autoscalers = |version| of("autoscaling", version, "horizontalpodautoscalers");
        assert!(Arc::ptr_eq(&autoscalers("v1"), &autoscalers("v2")));
        assert_eq!(collections.object(&GroupResource::new("", "pods"), "a", "b").await, Ok(None));
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
