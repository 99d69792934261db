//! Lists and watches served without asking the store: one watch on the store per collection feeds an index of its objects
//! and a ring of recent events.
//!
//! ```text
//! task      ends when   what it does
//! feed      stop        lists the collection, follows its changes, hands events to watchers
//! ```
//! [`state`], [`ring`], [`index`], [`query`], [`continue_token`], [`reader`] and [`page`] are decisions and data alone;
//! [`registry`] is who watches what. Objects stay the bytes that the store holds. Must never tell a state older than the
//! one that was asked for, nor lose, repeat or reorder an event of a watch.

mod board;
pub mod continue_token;
pub mod counts;
pub mod event;
mod feed;
pub mod index;
pub mod object;
pub mod page;
pub mod query;
pub mod reader;
pub mod registry;
pub mod ring;
pub mod state;
pub mod watcher;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use barque_api::status::Status;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::storage::{Page, Revision, Storage, StorageError};
use board::Board;
use continue_token::Continue;
use counts::Counts;
use feed::Feed;
use object::{FieldIndex, Object};
use page::{ObjectList, cut, from_index};
use query::{At, Begin, ListPlan, ListQuery, WatchQuery, plan_list, plan_watch};
use reader::ObjectReader;
use registry::Selection;
use ring::RingLimits;
use watcher::{Start, Watcher, Wishes, too_old_error, unreadable};

/// A read waits so long for the cache to be as new as it wants it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Objects read from the store in one go, at least, when the cache cannot serve a list.
const STORE_PAGE: usize = 500;

/// What a cache is to hold.
#[derive(Debug)]
pub struct Collection {
    /// What the keys of all objects begin with, with a slash at the end.
    pub prefix: Bytes,
    /// How objects are read.
    pub reader: ObjectReader,
    /// The field by which many clients select, such as `spec.nodeName` of pods.
    pub indexed: Option<&'static str>,
    /// How much of the past is kept.
    pub limits: RingLimits,
    /// Events that may wait for one watcher; one that has more must catch up by itself.
    pub queue: usize,
}

impl Collection {
    /// With the usual limits.
    #[must_use]
    pub fn new(prefix: Bytes, reader: ObjectReader, indexed: Option<&'static str>) -> Self {
        Self { prefix, reader, indexed, limits: RingLimits::default(), queue: 100 }
    }
}

/// The cache of one collection. Cloning copies pointers.
#[derive(Clone)]
pub struct WatchCache<S> {
    storage: S,
    board: Arc<Board>,
    reader: Arc<ObjectReader>,
    prefix: Bytes,
}

impl<S: Storage> WatchCache<S> {
    /// Starts the feed; requests wait until it has listed the collection.
    #[must_use]
    pub fn start(storage: S, collection: Collection, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let field = collection.indexed.and_then(|path| collection.reader.field(path));
        let board = Arc::new(Board::new(collection.prefix.clone(), field, collection.queue));
        let reader = Arc::new(collection.reader);
        let feed = Feed {
            storage: storage.clone(),
            board: Arc::clone(&board),
            reader: Arc::clone(&reader),
            prefix: collection.prefix.clone(),
            limits: collection.limits,
            began: Instant::now(),
        };
        tasks.spawn(feed.run(stop));
        Self { storage, board, reader, prefix: collection.prefix }
    }

    /// A field for selectors, if objects are read with it.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<FieldIndex> {
        self.reader.field(path)
    }

    /// How new the cache is; `None` before it has listed the collection.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        let revision = *self.board.revision.borrow();
        (revision > Revision(0)).then_some(revision)
    }

    /// How many watchers wait for events.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.board.registry.lock().len()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.board.state.read().as_ref().map_or(0, |state| state.index.len())
    }

    /// What it holds and did.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let watchers = self.watchers() as u64;
        let (received, initializations) = self.board.counts.look();
        let counts = Counts { watchers, received, initializations, ..Counts::default() };
        match self.board.state.read().as_ref() {
            None => counts,
            Some(state) => Counts {
                objects: state.index.len() as u64,
                bytes: state.index.bytes(),
                capacity: state.ring.capacity() as u64,
                revision: state.revision,
                dispatched: state.ring.end(),
                ..counts
            },
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One object.
    ///
    /// # Errors
    /// 504 when the cache is not as new as that in time, 500 when the object cannot be read, 503 without a store.
    pub async fn get(&self, key: &Bytes, at: At) -> Result<Option<Arc<Object>>, Status> {
        let object = match at {
            At::Newest | At::Exactly(_) => {
                // One key of the newest state costs the store as little as the question for its revision would.
                let got = self.storage.get(key).await.map_err(|error| error.to_status())?;
                got.entry.map(|entry| Arc::new(self.reader.read(entry)))
            }
            At::Any | At::NotOlderThan(_) => {
                self.ready().await?;
                if let At::NotOlderThan(revision) = at {
                    self.fresh(revision).await?;
                }
                self.board.state.read().as_ref().and_then(|state| state.index.get(key).cloned())
            }
        };
        match object.as_ref().and_then(|object| object.unreadable().map(|why| unreadable(object, why))) {
            Some(status) => Err(status),
            None => Ok(object),
        }
    }

    /// A list, or a part of it.
    ///
    /// # Errors
    /// What does not fit together (400, 422), is too old (410, with how to go on in `continue_token`) or too new (504);
    /// 500 when an object in it cannot be read; 429 before the cache has listed, 503 without a store.
    pub async fn list(&self, query: &ListQuery, selection: &Selection) -> Result<ObjectList, Status> {
        let selection = self.complete(selection);
        let plan = plan_list(query, &selection.prefix)?;
        self.ready().await?;
        match plan.at {
            At::Any => self.list_now(&plan, query.limit, &selection),
            At::NotOlderThan(revision) => match self.fresh(revision).await {
                Ok(()) => self.list_now(&plan, query.limit, &selection),
                Err(status) if self.storage.tells_progress().await => Err(status),
                Err(status) => {
                    // The cache cannot know how new it is; the store may be new enough.
                    let list = self.list_from_store(&plan, query.limit, &selection).await?;
                    if list.revision >= revision { Ok(list) } else { Err(status) }
                }
            },
            At::Newest => {
                if self.caught_up().await? {
                    self.list_now(&plan, query.limit, &selection)
                } else {
                    self.list_from_store(&plan, query.limit, &selection).await
                }
            }
            At::Exactly(revision) => {
                let fresh = self.fresh(revision).await.is_ok();
                let index = self.board.state.read().as_ref().map(|state| state.at(revision));
                match index {
                    Some(Ok(index)) if fresh => {
                        let field = self.board.field;
                        from_index(&index, &selection, field, &plan.start, query.limit, revision)
                    }
                    _ => self.list_from_store(&plan, query.limit, &selection).await,
                }
            }
        }
    }

    /// A watch. What is too old or too new is told as its first and last item, as Kubernetes does.
    ///
    /// # Errors
    /// What does not fit together (422); 429 before the cache has listed.
    pub async fn watch(
        &self,
        query: &WatchQuery,
        selection: &Selection,
        deadline: Option<Instant>,
    ) -> Result<Watcher, Status> {
        let selection = self.complete(selection);
        let begin = plan_watch(query)?;
        self.ready().await?;
        let start = self.begin(begin).await.unwrap_or_else(Start::Failed);
        let wishes = Wishes { bookmarks: query.bookmarks, deadline };
        Ok(Watcher::new(Arc::clone(&self.board), selection, wishes, start))
    }

    async fn begin(&self, begin: Begin) -> Result<Start, Status> {
        let behind = match begin {
            Begin::Objects { at, .. } => {
                match at {
                    At::Newest => {
                        let newest = self.storage.current_revision().await;
                        self.fresh(newest.map_err(|error| error.to_status())?).await?;
                    }
                    At::NotOlderThan(revision) => self.fresh(revision).await?,
                    At::Any | At::Exactly(_) => {}
                }
                None
            }
            Begin::Behind(revision) => Some(revision),
            Begin::BehindNewest => {
                Some(self.storage.current_revision().await.map_err(|error| error.to_status())?)
            }
            Begin::Next => self.revision(),
        };
        let state = self.board.state.read();
        let state = state.as_ref().ok_or_else(not_ready)?;
        match (begin, behind) {
            (Begin::Objects { marked, .. }, _) => Ok(Start::Objects {
                index: state.index.clone(),
                revision: state.revision,
                sequence: state.ring.end(),
                marked,
            }),
            (_, Some(after)) => {
                let sequence = state.ring.after(after).map_err(|too_old| too_old_error(after, too_old))?;
                Ok(Start::Events { sequence, after })
            }
            (_, None) => Err(not_ready()),
        }
    }

    fn complete(&self, selection: &Selection) -> Selection {
        let mut selection = selection.clone();
        if selection.prefix.is_empty() {
            selection.prefix = self.prefix.clone();
        }
        selection
    }

    /// Waits until the collection was listed.
    async fn ready(&self) -> Result<(), Status> {
        let reached = tokio::time::timeout(PATIENCE, self.board.reached(Revision(1))).await;
        reached.map_err(|_| not_ready())
    }

    /// Waits until the cache is as new as that.
    async fn fresh(&self, revision: Revision) -> Result<(), Status> {
        let reached = tokio::time::timeout(PATIENCE, self.board.reached(revision)).await;
        reached.map_err(|_| self.too_new(revision))
    }

    fn too_new(&self, wanted: Revision) -> Status {
        let current = *self.board.revision.borrow();
        Status::too_large_resource_version(wanted.0, current.0)
    }

    /// Waits until every write is in the cache that was answered before this was called; false when it cannot be known.
    async fn caught_up(&self) -> Result<bool, Status> {
        let newest = self.storage.current_revision().await.map_err(|error| error.to_status())?;
        if self.revision().is_some_and(|revision| revision >= newest) {
            return Ok(true);
        }
        Ok(self.storage.tells_progress().await && self.fresh(newest).await.is_ok())
    }

    fn list_now(&self, plan: &ListPlan, limit: usize, selection: &Selection) -> Result<ObjectList, Status> {
        let now = self.board.state.read().as_ref().map(|state| (state.index.clone(), state.revision));
        let (index, revision) = now.ok_or_else(not_ready)?;
        from_index(&index, selection, self.board.field, &plan.start, limit, revision)
    }

    /// What the cache cannot serve: the store reads it, at the plan's revision or the newest.
    async fn list_from_store(
        &self,
        plan: &ListPlan,
        limit: usize,
        selection: &Selection,
    ) -> Result<ObjectList, Status> {
        let mut page = Page {
            prefix: selection.prefix.clone(),
            start: plan.start.clone(),
            limit: if limit == 0 { 0 } else { limit.saturating_add(1).max(STORE_PAGE) },
            revision: match plan.at {
                At::Exactly(revision) => Some(revision),
                _ => None,
            },
        };
        let mut objects = Vec::new();
        let mut wanted = 0;
        loop {
            let listed = self.storage.list(&page).await.map_err(|error| match error {
                StorageError::Future { wanted } => self.too_new(wanted),
                error => too_old(&error, plan, selection),
            })?;
            let here = listed.entries.len() as u64;
            for entry in listed.entries {
                let object = Arc::new(self.reader.read(entry));
                wanted += usize::from(selection.wants(&object, self.board.field));
                objects.push(object);
            }
            let enough = limit > 0 && wanted > limit;
            let last = objects.last().map(|object| object.key().clone());
            match last {
                // One more than is wanted shows that there is a rest.
                Some(last) if !enough && listed.remaining > 0 && here > 0 => {
                    page.start = [&last[..], &[0]].concat().into();
                    page.revision = Some(listed.revision);
                }
                _ => {
                    let count = objects.len() as u64 + listed.remaining;
                    let field = self.board.field;
                    return cut(objects.iter(), selection, field, limit, count, listed.revision);
                }
            }
        }
    }
}

fn not_ready() -> Status {
    Status::too_many_requests("storage is (re)initializing", 1)
}

/// A list at a revision that is gone: one that was cut can go on at another one.
fn too_old(error: &StorageError, plan: &ListPlan, selection: &Selection) -> Status {
    if !matches!(error, StorageError::Compacted { .. }) {
        return error.to_status();
    }
    if !plan.continues {
        return Status::expired("The resourceVersion for the provided list is too old.");
    }
    let newest = Continue { start: plan.start.clone(), revision: None };
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
    .go_on_with(newest.encode(&selection.prefix))
}
