//! `etcd_*`: what the store was asked, and a storage that counts while it passes everything on. Kinds of objects are read
//! from keys. Must never change a request or an answer, nor make a series of a key that has no collection.

use std::collections::HashMap;
use std::sync::Arc;

use barque_api::kind::GroupResource;
use barque_api::resources::Builtin;
use bytes::Bytes;
use parking_lot::RwLock;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use tokio::time::Instant;

use super::register::{LATENCIES, Register};
use crate::storage::keys::CollectionKeys;
use crate::storage::members::StoreMember;
use crate::storage::{
    Action, Expected, Got, LeaseId, Listed, Page, Revision, Storage, StorageError, StorageWatch, WatchItem,
    Write, Written,
};

/// Custom collections that are told apart, at most, over a server's life.
const MOST_CUSTOM: usize = 500;

/// See the module's description.
#[derive(Debug)]
pub struct StorageMetrics {
    seconds: HistogramVec,
    requests: IntCounterVec,
    errors: IntCounterVec,
    events: IntCounterVec,
}

#[derive(Clone, Copy)]
enum Operation {
    Get,
    List,
    Create,
    Update,
    Delete,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Get, Self::List, Self::Create, Self::Update, Self::Delete];

    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn of(write: &Write) -> Self {
        match (&write.action, write.expected) {
            (Action::Delete, _) => Self::Delete,
            (Action::Put { .. }, Expected::Absent) => Self::Create,
            (Action::Put { .. }, Expected::At(_)) => Self::Update,
        }
    }
}

/// The series of one operation on one collection.
#[derive(Debug)]
struct Series {
    seconds: Histogram,
    requests: IntCounter,
    errors: IntCounter,
}

#[derive(Debug)]
struct Kind {
    operations: [Series; 5],
    events: IntCounter,
}

impl StorageMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let about = ["operation", "group", "resource"];
        Self {
            seconds: r.histograms(
                "etcd_request_duration_seconds",
                "How long the store took, by operation and collection.",
                &about,
                &LATENCIES,
            ),
            requests: r.counters("etcd_requests_total", "Requests to the store.", &about),
            errors: r.counters("etcd_request_errors_total", "Requests to the store that failed.", &about),
            events: r.counters(
                "apiserver_storage_events_received_total",
                "Changes that the store told.",
                &["group", "resource"],
            ),
        }
    }

    fn kind(&self, of: &GroupResource) -> Kind {
        let (group, resource) = (&*of.group, &*of.resource);
        Kind {
            operations: Operation::ALL.map(|operation| {
                let about = [operation.name(), group, resource];
                Series {
                    seconds: self.seconds.with_label_values(&about),
                    requests: self.requests.with_label_values(&about),
                    errors: self.errors.with_label_values(&about),
                }
            }),
            events: self.events.with_label_values(&[group, resource]),
        }
    }
}

struct Shared {
    metrics: Arc<StorageMetrics>,
    /// With a slash at its end.
    root: String,
    /// By what keys begin with below the root.
    builtin: HashMap<String, GroupResource>,
    /// By the same, once they were asked for.
    kinds: RwLock<HashMap<String, Arc<Kind>>>,
}

impl Shared {
    /// What a key, or the prefix of keys, is counted as.
    fn kind(&self, key: &[u8]) -> Option<Arc<Kind>> {
        let below = std::str::from_utf8(key.strip_prefix(self.root.as_bytes())?).ok()?;
        let mut slashes = below.match_indices('/').map(|(at, _)| at);
        let first = &below[..slashes.next()?];
        let two = slashes.next().map(|at| &below[..at]);
        // Two parts are a custom collection or one that shares its first part with another; a name has no collection.
        let named = two.filter(|two| self.builtin.contains_key(*two));
        let folder = named.or_else(|| self.builtin.contains_key(first).then_some(first));
        let folder = folder.or_else(|| two.filter(|_| first.contains('.')))?;
        if let Some(kind) = self.kinds.read().get(folder) {
            return Some(Arc::clone(kind));
        }
        let mut kinds = self.kinds.write();
        let resource = match self.builtin.get(folder) {
            Some(builtin) => builtin.clone(),
            None if kinds.len() >= self.builtin.len() + MOST_CUSTOM => return None,
            None => {
                let (group, resource) = folder.split_once('/')?;
                GroupResource::new(group, resource)
            }
        };
        let made = || Arc::new(self.metrics.kind(&resource));
        Some(Arc::clone(kinds.entry(folder.to_owned()).or_insert_with(made)))
    }

    async fn count<T>(
        &self,
        operation: Operation,
        key: &[u8],
        asked: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let began = Instant::now();
        let result = asked.await;
        if let Some(kind) = self.kind(key) {
            let series = &kind.operations[operation as usize];
            series.requests.inc();
            series.seconds.observe(began.elapsed().as_secs_f64());
            if result.is_err() {
                series.errors.inc();
            }
        }
        result
    }
}

/// A storage that counts what it is asked. Cloning copies pointers.
pub struct Measured<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S: Clone> Clone for Measured<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<S> Measured<S> {
    /// Counts what is asked of `inner`; keys begin with `root`.
    #[must_use]
    pub fn new(inner: S, root: &str, metrics: Arc<StorageMetrics>) -> Self {
        let root = format!("{}/", root.trim_end_matches('/'));
        let mut builtin = HashMap::new();
        for row in Builtin::table().all() {
            let stored = Builtin::stored_as(&row.name).group_resource();
            let keys = CollectionKeys::new("", &stored, row.namespaced, false);
            let folder = String::from_utf8_lossy(keys.prefix()).trim_matches('/').to_owned();
            builtin.insert(folder, stored);
        }
        Self { inner, shared: Arc::new(Shared { metrics, root, builtin, kinds: RwLock::default() }) }
    }
}

impl<S: Storage> Storage for Measured<S> {
    type Watch = MeasuredWatch<S::Watch>;

    async fn get(&self, key: &Bytes) -> Result<Got, StorageError> {
        self.shared.count(Operation::Get, key, self.inner.get(key)).await
    }

    async fn list(&self, page: &Page) -> Result<Listed, StorageError> {
        self.shared.count(Operation::List, &page.prefix, self.inner.list(page)).await
    }

    async fn write(&self, write: &Write) -> Result<Written, StorageError> {
        self.shared.count(Operation::of(write), &write.key, self.inner.write(write)).await
    }

    async fn current_revision(&self) -> Result<Revision, StorageError> {
        self.inner.current_revision().await
    }

    async fn tells_progress(&self) -> bool {
        self.inner.tells_progress().await
    }

    async fn watch(&self, prefix: &Bytes, from: Revision) -> Result<Self::Watch, StorageError> {
        let inner = self.inner.watch(prefix, from).await?;
        let events = self.shared.kind(prefix).map(|kind| kind.events.clone());
        Ok(MeasuredWatch { inner, events })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.inner.compact(revision).await
    }

    async fn grant_lease(&self, ttl_s: u64) -> Result<LeaseId, StorageError> {
        self.inner.grant_lease(ttl_s).await
    }

    async fn members(&self) -> Result<Vec<StoreMember>, StorageError> {
        self.inner.members().await
    }
}

/// A watch that counts what it tells.
pub struct MeasuredWatch<W> {
    inner: W,
    events: Option<IntCounter>,
}

impl<W: StorageWatch> StorageWatch for MeasuredWatch<W> {
    async fn next(&mut self) -> Result<WatchItem, StorageError> {
        let item = self.inner.next().await?;
        if let (Some(events), WatchItem::Changes(changes)) = (&self.events, &item) {
            events.inc_by(changes.len() as u64);
        }
        Ok(item)
    }

    async fn request_progress(&mut self) {
        self.inner.request_progress().await;
    }
}
