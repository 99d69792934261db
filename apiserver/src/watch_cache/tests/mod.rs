//! The cache over a store in memory: what clients see.

mod lists;
mod property;
mod threads;
mod watches;

use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupResource;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::event::Kind;
use super::object::Object;
use super::query::{ListQuery, WatchQuery};
use super::reader::ObjectReader;
use super::registry::Selection;
use super::ring::RingLimits;
use super::watcher::{Told, Watcher};
use super::{Collection, WatchCache};
use crate::storage::keys::CollectionKeys;
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Revision, Storage, Write, Written};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A cache of pods and the store under it.
pub(super) struct Fixture {
    pub(super) memory: Memory,
    pub(super) cache: WatchCache<Memory>,
    pub(super) keys: CollectionKeys,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(RingLimits::default(), 100)
    }

    pub(super) fn with(limits: RingLimits, queue: usize) -> Self {
        let memory = Memory::new();
        let keys = CollectionKeys::new("/registry", &GroupResource::new("", "pods"), true, false);
        let reader = ObjectReader::new([("spec.nodeName", "")]);
        let collection = Collection {
            limits,
            queue,
            ..Collection::new(keys.prefix().clone(), reader, Some("spec.nodeName"))
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let cache = WatchCache::start(memory.clone(), collection, &tasks, stop.clone());
        Self { memory, cache, keys, stop, tasks }
    }

    /// Writes a pod whatever stands there; its revision.
    pub(super) async fn put(&self, namespace: &str, name: &str, node: &str, app: &str) -> Revision {
        let value = format!(
            r#"{{"metadata":{{"labels":{{"app":"{app}"}},"name":"{name}","namespace":"{namespace}"}},"spec":{{"nodeName":"{node}"}}}}"#
        );
        let key = self.keys.object(namespace, name);
        self.write(key, Action::Put { value: value.into(), lease: None }).await
    }

    pub(super) async fn write(&self, key: Bytes, action: Action) -> Revision {
        let stands = self.memory.get(&key).await.unwrap().entry;
        let expected = stands.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
        match self.memory.write(&Write { key, expected, action }).await.unwrap() {
            Written::Done(revision) => revision,
            differs @ Written::Differs(_) => panic!("{differs:?}"),
        }
    }

    pub(super) async fn delete(&self, namespace: &str, name: &str) -> Option<Revision> {
        let key = self.keys.object(namespace, name);
        self.memory.get(&key).await.unwrap().entry?;
        Some(self.write(key, Action::Delete).await)
    }

    /// Waits until the cache has everything.
    pub(super) async fn settle(&self) {
        let newest = self.memory.current_revision().await.unwrap();
        self.cache.board.reached(newest).await;
    }

    /// All changes until now are lost to the cache.
    pub(super) async fn lose_changes(&self) {
        let newest = self.memory.current_revision().await.unwrap();
        // Refused when nothing happened since the last time.
        let _ = self.memory.compact(newest).await;
        self.memory.break_watches();
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

pub(super) fn at(version: impl ToString, matching: &str) -> ListQuery {
    ListQuery {
        resource_version: version.to_string(),
        resource_version_match: matching.to_owned(),
        ..ListQuery::default()
    }
}

pub(super) fn behind(revision: Revision) -> WatchQuery {
    WatchQuery { resource_version: revision.to_string(), ..WatchQuery::default() }
}

pub(super) fn app(wanted: &'static str) -> Selection {
    let filter = move |object: &Object| object.label("app") == Some(wanted);
    Selection { filter: Some(Arc::new(filter)), ..Selection::default() }
}

/// Names of objects, in short.
pub(super) fn names(objects: &[Arc<Object>]) -> String {
    let short = |object: &Arc<Object>| {
        let key = String::from_utf8(object.key().to_vec()).unwrap();
        key.rsplit('/').next().unwrap().to_owned()
    };
    objects.iter().map(short).collect::<Vec<_>>().join(" ")
}

/// What is told, in short, until nothing comes for a second of the test's time.
pub(super) async fn told(watcher: &mut Watcher) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(Some(told)) = tokio::time::timeout(SECOND, watcher.next()).await {
        all.push(match told {
            Told::Object { kind, object, revision, .. } => {
                let sign = match kind {
                    Kind::Added => '+',
                    Kind::Modified => '~',
                    Kind::Deleted => '-',
                };
                format!("{sign}{}@{revision}", names(&[object]))
            }
            Told::Bookmark { revision, initial_events_end } => {
                format!("{}@{revision}", if initial_events_end { "end" } else { "bookmark" })
            }
            Told::Error(status) => format!("{} {}", status.reason.code(), status.message),
        });
    }
    all
}
