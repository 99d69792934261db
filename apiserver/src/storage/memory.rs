//! A store in memory with revisions, history, compaction and leases, for tests and fuzzing. Must never answer what a real
//! store would not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::members::StoreMember;
use super::{
    Action, Change, Entry, Expected, Got, LeaseId, Listed, Page, Revision, Storage, StorageError,
    StorageWatch, WatchItem, Write, Written, prefix_end,
};

/// Revisions told in one go.
const REVISIONS_AT_ONCE: usize = 64;

/// One version of a key; without a value, its deletion.
#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    value: Option<Bytes>,
}

#[derive(Debug)]
struct State {
    revision: Revision,
    /// States before it are gone.
    compacted: Revision,
    /// All versions that are kept, the oldest first.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// All changes since the compacted revision.
    history: Vec<Change>,
    leases: BTreeMap<LeaseId, (Instant, Vec<Bytes>)>,
    granted: i64,
    /// Counts how often all watches were broken.
    breaks: u64,
}

impl State {
    fn current(&self, key: &[u8]) -> Option<Entry> {
        let (key, versions) = self.keys.get_key_value(key)?;
        let last = versions.last()?;
        Some(Entry { key: key.clone(), value: last.value.clone()?, revision: last.revision })
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let previous = self.current(&key);
        let revision = self.revision;
        self.keys.entry(key.clone()).or_default().push(Version { revision, value: value.clone() });
        for (_, keys) in self.leases.values_mut() {
            keys.retain(|attached| *attached != key);
        }
        self.history.push(Change { key, revision, value, previous });
    }

    /// Deletes what hangs on leases that have ended; when the next one ends.
    fn expire(&mut self, now: Instant) -> Option<Instant> {
        let ended: Vec<_> =
            self.leases.iter().filter(|(_, (ends, _))| *ends <= now).map(|(id, _)| *id).collect();
        for id in ended {
            let Some((_, keys)) = self.leases.remove(&id) else { continue };
            if !keys.is_empty() {
                self.revision = self.revision.next();
            }
            for key in keys {
                self.put(key, None);
            }
        }
        self.leases.values().map(|(ends, _)| *ends).min()
    }
}

/// See the module's description. Cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Told whenever something changed.
    changed: watch::Sender<()>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            revision: Revision(1),
            compacted: Revision(0),
            keys: BTreeMap::new(),
            history: Vec::new(),
            leases: BTreeMap::new(),
            granted: 0,
            breaks: 0,
        };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: watch::Sender::new(()) }))
    }

    /// Ends all watches, as a connection that breaks does.
    pub fn break_watches(&self) {
        self.0.state.lock().breaks += 1;
        self.0.changed.send_replace(());
    }

    /// Does something with the state, after leases that have ended are gone.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.state.lock();
        let before = state.revision;
        state.expire(Instant::now());
        let done = act(&mut state);
        let changed = state.revision != before;
        drop(state);
        if changed {
            self.0.changed.send_replace(());
        }
        done
    }
}

impl Storage for Memory {
    type Watch = MemoryWatch;

    async fn members(&self) -> Result<Vec<StoreMember>, StorageError> {
        Ok(Vec::new())
    }

    async fn get(&self, key: &Bytes) -> Result<Got, StorageError> {
        Ok(self.with(|state| Got { entry: state.current(key), revision: state.revision }))
    }

    async fn list(&self, page: &Page) -> Result<Listed, StorageError> {
        self.with(|state| {
            let revision = page.revision.unwrap_or(state.revision);
            if revision > state.revision {
                return Err(StorageError::Future { wanted: revision });
            }
            if revision < state.compacted {
                return Err(StorageError::Compacted { wanted: revision });
            }
            let from = page.start.clone().max(page.prefix.clone());
            let keys = state.keys.range(from..).take_while(|(key, _)| key.starts_with(&page.prefix));
            let mut standing = keys.filter_map(|(key, versions)| {
                let version = versions.iter().rev().find(|version| version.revision <= revision)?;
                let value = version.value.clone()?;
                Some(Entry { key: key.clone(), value, revision: version.revision })
            });
            let limit = if page.limit == 0 { usize::MAX } else { page.limit };
            let entries: Vec<_> = standing.by_ref().take(limit).collect();
            Ok(Listed { entries, revision, remaining: standing.count() as u64 })
        })
    }

    async fn write(&self, write: &Write) -> Result<Written, StorageError> {
        self.with(|state| {
            let current = state.current(&write.key);
            let holds = match write.expected {
                Expected::Absent => current.is_none(),
                Expected::At(revision) => current.as_ref().is_some_and(|entry| entry.revision == revision),
            };
            if !holds {
                return Ok(Written::Differs(current));
            }
            let (value, lease) = match &write.action {
                Action::Put { value, lease } => (Some(value.clone()), *lease),
                Action::Delete => (None, None),
            };
            if lease.is_some_and(|lease| !state.leases.contains_key(&lease)) {
                return Err(StorageError::LeaseNotFound);
            }
            state.revision = state.revision.next();
            state.put(write.key.clone(), value);
            if let Some((_, keys)) = lease.and_then(|lease| state.leases.get_mut(&lease)) {
                keys.push(write.key.clone());
            }
            Ok(Written::Done(state.revision))
        })
    }

    async fn current_revision(&self) -> Result<Revision, StorageError> {
        Ok(self.with(|state| state.revision))
    }

    async fn tells_progress(&self) -> bool {
        true
    }

    async fn watch(&self, prefix: &Bytes, from: Revision) -> Result<MemoryWatch, StorageError> {
        let changed = self.0.changed.subscribe();
        let breaks = self.0.state.lock().breaks;
        Ok(MemoryWatch {
            memory: self.clone(),
            changed,
            prefix: prefix.clone(),
            next: from,
            told: None,
            breaks,
        })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        self.with(|state| {
            if revision > state.revision {
                return Err(StorageError::Future { wanted: revision });
            }
            if revision <= state.compacted {
                return Err(StorageError::Compacted { wanted: revision });
            }
            state.compacted = revision;
            state.history.retain(|change| change.revision >= revision);
            state.keys.retain(|_, versions| {
                let kept = versions.iter().rposition(|version| version.revision <= revision).unwrap_or(0);
                versions.drain(..kept);
                !(versions.len() == 1 && versions[0].value.is_none() && versions[0].revision <= revision)
            });
            Ok(())
        })
    }

    async fn grant_lease(&self, ttl_s: u64) -> Result<LeaseId, StorageError> {
        self.with(|state| {
            state.granted += 1;
            let id = LeaseId(state.granted);
            state.leases.insert(id, (Instant::now() + Duration::from_secs(ttl_s), Vec::new()));
            Ok(id)
        })
    }
}

/// A watch on a [`Memory`].
#[derive(Debug)]
pub struct MemoryWatch {
    memory: Memory,
    changed: watch::Receiver<()>,
    prefix: Bytes,
    /// The first revision that was not told.
    next: Revision,
    /// The last progress that was told.
    told: Option<Revision>,
    breaks: u64,
}

impl MemoryWatch {
    /// What can be told now.
    fn ready(&mut self) -> Result<Option<WatchItem>, StorageError> {
        let (prefix, next) = (self.prefix.clone(), self.next);
        let breaks = self.breaks;
        let (changes, revision) = self.memory.with(|state| {
            if state.breaks != breaks {
                return Err(StorageError::unavailable("the watch was broken"));
            }
            if next < state.compacted {
                return Err(StorageError::Compacted { wanted: next });
            }
            let from = state.history.partition_point(|change| change.revision < next);
            let mut revisions = 0;
            let mut last = Revision(0);
            let end = prefix_end(&prefix);
            let wanted = |key: &Bytes| *key >= prefix && (end.is_empty() || *key < end);
            let mut changes = Vec::new();
            for change in state.history[from..].iter().filter(|change| wanted(&change.key)) {
                if change.revision != last {
                    revisions += 1;
                    last = change.revision;
                }
                if revisions > REVISIONS_AT_ONCE {
                    break;
                }
                changes.push(change.clone());
            }
            Ok((changes, state.revision))
        })?;
        if let Some(last) = changes.last() {
            self.next = last.revision.next();
            return Ok(Some(WatchItem::Changes(changes)));
        }
        // A watch may begin in the future.
        self.next = self.next.max(revision.next());
        if revision.next() == self.next && self.told.is_none_or(|told| told < revision) {
            self.told = Some(revision);
            return Ok(Some(WatchItem::Progress(revision)));
        }
        Ok(None)
    }
}

impl StorageWatch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchItem, StorageError> {
        loop {
            self.changed.mark_unchanged();
            if let Some(item) = self.ready()? {
                return Ok(item);
            }
            let lease_ends = self.memory.with(|state| state.expire(Instant::now()));
            let lease_ended = async {
                match lease_ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changed.changed() => {
                    changed.map_err(|_| StorageError::unavailable("the store is gone"))?;
                }
                () = lease_ended => {}
            }
        }
    }

    async fn request_progress(&mut self) {
        self.told = None;
    }
}
