//! The objects of one kind with their indices: a data structure. Must never know where they come from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::kind::{Key, Object};

/// The values under which an object is found.
pub(crate) type Index<K> = fn(&K) -> Vec<String>;

/// An object came, changed or went.
#[derive(Debug, Clone)]
pub(crate) struct Change<K> {
    /// As it was; nothing when it came.
    pub(crate) old: Option<Arc<K>>,
    /// As it is; nothing when it went.
    pub(crate) new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// As it is, or was last.
    ///
    /// # Panics
    /// Never: one of both is there.
    #[must_use]
    pub(crate) fn latest(&self) -> &Arc<K> {
        self.new.as_ref().or(self.old.as_ref()).expect("a change has an object")
    }

    /// As it was and as it is.
    pub(crate) fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

/// What is known of an object, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its uid.
    pub(crate) uid: String,
    /// Its version.
    pub(crate) version: u64,
    /// Whether somebody has deleted it.
    pub(crate) deleting: bool,
}

/// Which objects have a value.
type Found = HashMap<String, BTreeSet<Key>>;

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Store<K> {
    objects: BTreeMap<Key, Arc<K>>,
    controlled: HashMap<String, BTreeSet<Key>>,
    orphans: BTreeSet<Key>,
    indices: Vec<(&'static str, Index<K>, Found)>,
    latest: u64,
}

/// A version as a number; one that is none is older than all.
fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

impl<K: Object> Store<K> {
    pub(super) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            controlled: HashMap::new(),
            orphans: BTreeSet::new(),
            indices: Vec::new(),
            latest: 0,
        }
    }

    /// One more index; the same name again is the same index.
    pub(super) fn index(&mut self, name: &'static str, index: Index<K>) {
        if self.indices.iter().any(|(known, ..)| *known == name) {
            return;
        }
        let mut values = Found::new();
        for (key, object) in &self.objects {
            for value in index(object) {
                values.entry(value).or_default().insert(key.clone());
            }
        }
        self.indices.push((name, index, values));
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    fn range<'a, V>(map: &'a BTreeMap<Key, V>, namespace: &'a str) -> impl Iterator<Item = &'a V> {
        map.range((Bound::Included(Key::new(namespace, "")), Bound::Unbounded))
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, value)| value)
    }

    pub(super) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        Self::range(&self.objects, namespace)
    }

    pub(super) fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.at(self.controlled.get(uid))
    }

    pub(super) fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = Bound::Included(Key::new(namespace, ""));
        let keys = self.orphans.range((from, Bound::Unbounded));
        keys.take_while(|key| key.namespace == namespace).filter_map(|key| self.get(key)).collect()
    }

    pub(super) fn with(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let found = self.indices.iter().find(|(name, ..)| *name == index);
        self.at(found.and_then(|(.., values)| values.get(value)))
    }

    fn at(&self, keys: Option<&BTreeSet<Key>>) -> Vec<Arc<K>> {
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    pub(super) fn seen(&self, key: &Key) -> Option<Seen> {
        let object = self.objects.get(key)?;
        Some(Seen {
            uid: object.uid().to_owned(),
            version: version(object.meta().resource_version.as_deref()),
            deleting: object.is_deleting(),
        })
    }

    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// It is so. Nothing when that was known.
    pub(super) fn apply(&mut self, mut object: K) -> Option<Change<K>> {
        // By far the largest part of many objects, and no controller reads it; updates are patches, which do not drop it.
        object.meta_mut().managed_fields = None;
        let told = object.meta().resource_version.clone();
        self.latest = self.latest.max(version(told.as_deref()));
        let key = object.key();
        let old = self.objects.get(&key).cloned();
        if let Some(old) = &old {
            if old.uid() == object.uid() && old.meta().resource_version == told {
                return None;
            }
            self.unlink(&key, old);
        }
        let new = Arc::new(object);
        self.link(&key, &new);
        self.objects.insert(key, new.clone());
        Some(Change { old, new: Some(new) })
    }

    /// It is gone. Nothing when that was known.
    pub(super) fn delete(&mut self, object: K) -> Option<Change<K>> {
        self.latest = self.latest.max(version(object.meta().resource_version.as_deref()));
        self.remove(&object.key())
    }

    fn remove(&mut self, key: &Key) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        self.unlink(key, &old);
        Some(Change { old: Some(old), new: None })
    }

    /// These are all.
    pub(super) fn replace(&mut self, objects: Vec<K>) -> Vec<Change<K>> {
        let told: BTreeSet<Key> = objects.iter().map(Object::key).collect();
        let gone: Vec<Key> = self.objects.keys().filter(|key| !told.contains(key)).cloned().collect();
        let mut changes: Vec<_> = gone.iter().filter_map(|key| self.remove(key)).collect();
        changes.extend(objects.into_iter().filter_map(|object| self.apply(object)));
        changes
    }

    fn link(&mut self, key: &Key, object: &K) {
        match object.controller() {
            Some(owner) => {
                self.controlled.entry(owner.uid.clone()).or_default().insert(key.clone());
            }
            None => {
                self.orphans.insert(key.clone());
            }
        }
        for (_, index, values) in &mut self.indices {
            for value in index(object) {
                values.entry(value).or_default().insert(key.clone());
            }
        }
    }

    fn unlink(&mut self, key: &Key, object: &K) {
        let forget = |map: &mut Found, value: &str| {
            if let Some(keys) = map.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    map.remove(value);
                }
            }
        };
        match object.controller() {
            Some(owner) => forget(&mut self.controlled, &owner.uid),
            None => {
                self.orphans.remove(key);
            }
        }
        for (_, index, values) in &mut self.indices {
            for value in index(object) {
                forget(values, &value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, version: u32, owner: Option<&str>, node: &str) -> Pod {
        let owners = owner.map(|uid| {
            json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": uid, "controller": true}])
        });
        serde_json::from_value(json!({
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"),
                "resourceVersion": version.to_string(), "ownerReferences": owners,
            },
            "spec": {"containers": [], "nodeName": node},
        }))
        .unwrap()
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|pod| pod.key().to_string()).collect()
    }

    fn nodes() -> Store<Pod> {
        let mut store = Store::new();
        store.index("node", |pod: &Pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
        store
    }

    #[test]
    fn indices_follow_what_changes() {
        let mut store = nodes();
        store.apply(pod("a", "1", 1, Some("u"), "n1"));
        store.apply(pod("a", "2", 2, None, "n1"));
        store.apply(pod("b", "3", 3, Some("u"), "n2"));
        assert_eq!(names(&store.controlled_by("u")), ["a/1", "b/3"]);
        assert_eq!(names(&store.orphans("a")), ["a/2"]);
        assert_eq!(names(&store.with("node", "n1")), ["a/1", "a/2"]);
        assert_eq!(store.in_namespace("a").count(), 2);
        let change = store.apply(pod("a", "1", 4, None, "n2")).unwrap();
        assert!(change.old.is_some() && change.new.is_some());
        assert_eq!(names(&store.controlled_by("u")), ["b/3"]);
        assert_eq!(names(&store.orphans("a")), ["a/1", "a/2"]);
        assert_eq!(names(&store.with("node", "n2")), ["a/1", "b/3"]);
        store.delete(pod("a", "1", 5, None, "n2"));
        assert_eq!(names(&store.with("node", "n2")), ["b/3"]);
        assert_eq!(store.latest(), 5);
    }

    #[test]
    fn a_list_tells_only_what_is_different() {
        let mut store = nodes();
        for number in 1..=3 {
            store.apply(pod("a", &number.to_string(), number, None, "n1"));
        }
        let changes = store.replace(vec![
            pod("a", "1", 1, None, "n1"),
            pod("a", "2", 7, None, "n1"),
            pod("a", "4", 8, None, "n1"),
        ]);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.latest().key().name, change.old.is_some(), change.new.is_some()))
            .collect();
        assert_eq!(
            told,
            [("3".to_owned(), true, false), ("2".to_owned(), true, true), ("4".to_owned(), false, true)]
        );
        assert_eq!(store.orphans("a").len(), 3);
    }
}
